"""The end of a disk's volumes: append, sync, roll, seal. One thread at a time.

A failed sync or write error makes the disk read-only until its daemon restarts (SAFETY
rule 13); a full disk does not: what was half written is cut off again and others go on.
"""

import errno
import logging
from collections.abc import Sequence

from blobd.record import align
from blobd.volume import VolumeName, encode_seal, new_name
from blobd.volumefiles import VolumeFiles, VolumeInfo
from osscore.errors import DiskFailing, DiskFull, StoreError
from ossd.clock import Clock, RandomBytes
from ossd.disk import Bytes, Disk, DiskFile

log = logging.getLogger(__name__)

RECORDS_MAX = 100_000
"""Records after which a volume rolls: bounds the seal's table, kept in memory till then."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""What a full disk or quota says; everything else is a failing disk."""


class Appender:
    """The active volume of one disk; it is made when the first record needs it."""

    def __init__(
        self,
        files: VolumeFiles,
        *,
        disk: Disk,
        clock: Clock,
        random: RandomBytes,
        volume_bytes: int,
    ) -> None:
        self.problem = ""
        self._files = files
        self._disk = disk
        self._clock = clock
        self._random = random
        self._volume_bytes = volume_bytes
        self._file: DiskFile | None = None
        self._info: VolumeInfo | None = None
        self._table = bytearray()
        self._record_count = 0
        # Numbers of compacted volumes are not used again while this process lives.
        self._last_number = 0

    @property
    def active(self) -> VolumeInfo | None:
        """The volume that records go to, if there is one."""
        return self._info

    def prepare(self) -> VolumeInfo:
        """The volume the next records go to, rolled if it is full.

        Raises DiskFull, DiskFailing.
        """
        self.check()
        if self._info is not None and (
            self._info.size_bytes >= self._volume_bytes or self._record_count >= RECORDS_MAX
        ):
            self.roll()
        if self._info is None:
            self._begin()
        assert self._info is not None
        return self._info

    def check(self) -> None:
        """Raises DiskFailing if nothing more may be written."""
        if self.problem:
            raise DiskFailing(f"The disk is read-only: {self.problem}")

    def append(self, pieces: Sequence[Bytes], table: Bytes, record_count: int) -> None:
        """Write records to the prepared volume's end and sync them; all durable on return.

        `table`: their entries for the seal, packed.

        Raises DiskFull (none of them counts), DiskFailing (nothing is known of them).
        """
        self._write(pieces)
        self._table += table
        self._record_count += record_count

    def roll(self) -> None:
        """Seal the active volume; the next record begins another. Raises DiskFailing."""
        info, file = self._info, self._file
        if info is None or file is None:
            return
        self.check()
        table = bytes(self._table)
        try:
            self._write(
                encode_seal(
                    table,
                    salt=info.name.salt,
                    offset=info.size_bytes,
                    written_at_ms=self._clock.now_ms(),
                )
            )
            info.sealed = True
        except DiskFull:
            # A seal only saves the next start a scan.
            log.warning("volume_left_unsealed", extra={"volume": info.name.number})
        self._release()

    def fail(self, what: str, error: OSError) -> StoreError:
        """Turn read-only after an error of the disk; answers what the caller is to raise."""
        return self.stop(f"{what}: {error.strerror or error}")

    def stop(self, problem: str) -> StoreError:
        """Turn read-only until the daemon restarts; the first problem is the one kept."""
        if not self.problem:
            self.problem = problem
            log.error("disk_failing", extra={"problem": problem})
        return DiskFailing(f"The disk is read-only: {self.problem}")

    def close(self) -> None:
        """Let the active volume go, unsealed."""
        self._release()

    def _begin(self) -> None:
        number = max(self._files.next_number(), self._last_number + 1)
        name = new_name(number, self._random(8))
        path = name.path(self._files.directory)
        try:
            self._file = self._disk.open(path, create=True)
            # Without this a power cut could lose the whole file with all it acknowledged.
            self._disk.sync_directory(self._files.directory)
        except OSError as error:
            self._abandon(name)
            if error.errno in NO_ROOM:
                raise DiskFull("The disk has no room for another volume.") from error
            raise self.fail("a volume could not be made", error) from error
        self._last_number = number
        self._info = VolumeInfo(name)
        self._table, self._record_count = bytearray(), 0
        self._files.add(self._info)

    def _abandon(self, name: VolumeName) -> None:
        """Best effort: an empty volume left behind is removed at the next start."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        try:
            self._disk.unlink(name.path(self._files.directory))
        except OSError:
            log.warning("empty_volume_left", extra={"volume": name.number})

    def _write(self, pieces: Sequence[Bytes]) -> None:
        info, file = self._info, self._file
        assert info is not None and file is not None, "prepare() comes first"
        try:
            size_bytes = file.pwrite(pieces, info.size_bytes)
        except OSError as error:
            if error.errno in NO_ROOM:
                self._cut_back(info, file)
                raise DiskFull("The disk is full.") from error
            raise self.fail("a write failed", error) from error
        try:
            file.sync()
        except OSError as error:
            raise self.fail("a sync failed", error) from error
        assert size_bytes == align(size_bytes), "records end on a border"
        info.size_bytes += size_bytes

    def _cut_back(self, info: VolumeInfo, file: DiskFile) -> None:
        """Remove what a full disk took of a batch that nobody was promised.

        Left there, a whole record of it could surface at the next start, unknown to the
        tombstones written meanwhile; so if it cannot be removed, writing ends.
        """
        try:
            file.truncate(info.size_bytes)
        except OSError as error:
            raise self.fail("a half-written batch could not be cut off", error) from error

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._info = None
        self._table, self._record_count = bytearray(), 0
