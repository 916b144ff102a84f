"""Opening a disk: bring the index up to what the volumes hold, cutting nothing.

Volumes that the index has taken in whole are not read. Of a sealed one the seal is enough;
an unsealed one is scanned, behind what is known to be synced with every body, and then
sealed (SAFETY rule 12).
"""

import logging
from pathlib import Path

from blobd.appender import NO_ROOM
from blobd.index import (
    FLUSH_ROWS,
    IN_MEMORY,
    Index,
    IndexUnusable,
    Location,
    State,
    VolumeRow,
    remove_index,
)
from blobd.record import LIVE_TYPES, Entry, RecordType, align, pack_entry
from blobd.volume import Contents, encode_seal, read_contents
from blobd.volumefiles import VolumeFiles, VolumeInfo
from ossd.clock import Clock
from ossd.disk import Bytes, DiskFile

log = logging.getLogger(__name__)


def open_index(path: Path) -> Index:
    """The index at `path`; a corrupt one is removed first, on a read-only disk memory does."""
    try:
        return Index.open(path)
    except IndexUnusable as error:
        log.warning("index_unusable", extra={"reason": str(error)})
    return renewed_index(path)


def renewed_index(path: Path) -> Index:
    """An empty index at `path` in place of the one there, if any."""
    try:
        if path != IN_MEMORY:
            remove_index(path)
        return Index.open(path)
    except (OSError, IndexUnusable) as error:
        log.warning("index_kept_in_memory", extra={"reason": str(error)})
        return Index.open(IN_MEMORY)


def matches(index: Index, files: VolumeFiles) -> bool:
    """Whether every volume the index speaks of is there, is the same and not shorter."""
    for number, row in index.volumes.items():
        info = files.infos.get(number)
        if info is None or info.name.salt != row.salt or info.size_bytes < row.scanned_to:
            return False
    return index.use.keys() <= index.volumes.keys()


class Recovery:
    """One start of one disk. `problem`: why nothing may be written, or empty."""

    def __init__(self, files: VolumeFiles, index: Index, *, clock: Clock) -> None:
        self.problem = ""
        self._files = files
        self._index = index
        self._clock = clock

    def run(self) -> None:
        """Take in every volume. Raises OSError if one cannot be read, IndexUnusable."""
        for number in sorted(self._files.infos):
            self._take_in(self._files.infos[number])
        self._index.flush()

    def _take_in(self, info: VolumeInfo) -> None:
        number = info.name.number
        if info.size_bytes == 0 and self._discarded(number):
            return
        row = self._index.volumes.get(number)
        if row is not None and row.sealed and row.scanned_to == info.size_bytes:
            info.sealed, info.foreign = True, row.foreign
            return
        known_bytes = row.scanned_to if row is not None else 0
        with self._files.reading(number) as (file, salt):
            contents = read_contents(file, salt, verify_from=known_bytes)
        info.foreign = contents.foreign
        for gap in contents.gaps:
            log.warning(
                "volume_gap", extra={"volume": number, "offset": gap.offset, "end": gap.end}
            )
        if contents.sealed:
            info.sealed = True
        else:
            self._settle(info, contents)
        self._index_entries(number, contents, known_bytes)
        self._index.publish(
            (), VolumeRow(number, info.name.salt, info.size_bytes, info.sealed, info.foreign)
        )

    def _discarded(self, number: int) -> bool:
        """Remove a volume that a crash left before its first record, if the disk lets us."""
        try:
            self._files.remove(number)
        except OSError as error:
            log.warning("empty_volume_kept", extra={"volume": number, "reason": str(error)})
            return False
        self._index.forget_volume(number)
        return True

    def _index_entries(self, number: int, contents: Contents, known_bytes: int) -> None:
        for entry in contents.entries:
            if entry.offset >= known_bytes and entry.type in _STATES:
                self._index.merge(entry.key, _location(number, entry))
                if self._index.fresh_count >= FLUSH_ROWS:
                    self._index.flush()

    def _settle(self, info: VolumeInfo, contents: Contents) -> None:
        """Sync and seal what a crash left open.

        What a killed process wrote may be in the page cache only: a PUT repeated now would
        be answered 'already durable' from there, so it is synced before anything is served.
        """
        table = b"".join(pack_entry(entry) for entry in contents.entries)
        try:
            file = self._files.open_for_writing(info.name.number)
            try:
                file.sync()
                offset = align(info.size_bytes)
                pieces = encode_seal(
                    table,
                    salt=info.name.salt,
                    offset=offset,
                    written_at_ms=self._clock.now_ms(),
                )
                # A seal of ours would not list the records of a later version.
                written = 0 if info.foreign else _write_unless_full(file, pieces, offset)
                file.sync()
            finally:
                file.close()
        except OSError as error:
            self.problem = self.problem or f"a volume could not be sealed: {error.strerror}"
            log.error("volume_not_sealed", extra={"problem": self.problem})
            return
        info.sealed = written > 0
        info.size_bytes = offset + written if written else info.size_bytes


def _write_unless_full(file: DiskFile, pieces: list[Bytes], offset: int) -> int:
    """Bytes written, 0 on a full disk: a seal only saves the next start a scan."""
    try:
        return file.pwrite(pieces, offset)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        log.warning("volume_left_unsealed", extra={"reason": "the disk is full"})
        return 0


_STATES = {**dict.fromkeys(LIVE_TYPES, State.LIVE), RecordType.TOMBSTONE: State.DELETED}


def _location(number: int, entry: Entry) -> Location:
    state = _STATES[RecordType(entry.type)]
    return Location(
        volume=number,
        offset=entry.offset,
        size_bytes=entry.size_bytes,
        crc=entry.crc,
        state=State.DAMAGED if entry.damaged and state == State.LIVE else state,
        since=entry.since,
        target=entry.target,
    )
