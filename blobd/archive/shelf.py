"""One disk's archive: whole snapshots of the catalog and files of the log, in a folder of its own.

Nothing is ever changed in place, and no file is cut: a log file is appended to until it is long,
or until its end cannot be read, and then another goes on; a snapshot has its name only once every
byte of it was verified and synced. Everything is durable when the call returns. All calls block.
"""

import errno
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from blake3 import blake3

from osscore.errors import (
    BadDigest,
    Conflict,
    CorruptCatalog,
    DiskFailing,
    DiskFull,
    InvalidArgument,
    NotFound,
)
from ossd.disk import Bytes, Disk, DiskFile
from raftmeta.archive.pieces import (
    HEADER_BYTES,
    LogName,
    PieceHead,
    SnapshotName,
    check_piece,
    pack_header,
    parse_name,
    scan_log,
)
from raftmeta.archive.wire import READ_BYTES, ArchivedFile, DiskArchive, Forget

FOLDER_NAME = "archive"
LOG_BYTES = 8 * 1024 * 1024
"""A log file that is longer is not appended to: what is needed no longer goes file by file."""
_PART = ".part"
_NEW = ".new"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True)
class _Log:
    """The newest log file of a generation. `end`: its last good entry, or the one before its
    first; `size_bytes` None: it cannot be appended to."""

    name: LogName
    end: int
    size_bytes: int | None


class Shelf:
    """Used by one thread at a time."""

    def __init__(
        self, folder: Path, *, cluster_id: bytes, disk: Disk, log_bytes: int = LOG_BYTES
    ) -> None:
        self._folder = folder
        self._cluster_id = cluster_id
        self._disk = disk
        self._log_bytes = log_bytes
        self._logs: dict[int, _Log] = {}
        self._failure = ""
        self._damaged: set[str] = set()

    # --- looking ------------------------------------------------------------------------

    def show(self, uuid: bytes) -> DiskArchive:
        """What is there. Raises OSError."""
        names = self._names()
        generations = {name.generation for name in names if isinstance(name, LogName)}
        files = tuple(ArchivedFile(str(name), self._size_bytes(name)) for name in names)
        return DiskArchive(
            disk=uuid,
            cluster_id=self._cluster_id,
            files=files,
            ends={str(generation): self.end(generation) for generation in sorted(generations)},
            damaged=tuple(file.name for file in files if file.name in self._damaged),
            problem=self._failure,
        )

    def end(self, generation: int) -> int:
        """The last good entry of the newest run of that generation; 0: there is no log."""
        log = self._log(generation)
        return 0 if log is None else log.end

    def size_bytes(self) -> int:
        """All files together. Raises OSError."""
        if not self._disk.exists(self._folder):
            return 0
        return sum(self._size_bytes(name) for name in self._disk.names(self._folder))

    def read(self, name: str, offset: int) -> bytes:
        """At most READ_BYTES of a file. Raises NotFound, OSError."""
        if parse_name(name) is None or not self._disk.exists(self._folder / name):
            raise NotFound("The archive has no such file.")
        with closing(self._disk.open(self._folder / name, write=False)) as file:
            return file.pread(READ_BYTES, offset)

    def is_sound(self, name: LogName) -> bool:
        """Whether all entries that a log file should hold can be read: up to the next file of its
        run, whatever a crash left at its end. Raises NotFound, OSError."""
        if not self._disk.exists(self._folder / str(name)):
            raise NotFound("The archive has no such file.")
        with closing(self._disk.open(self._folder / str(name), write=False)) as file:
            pieces = scan_log(file, self._cluster_id, name).pieces
        end = name.first - 1
        for piece in pieces:
            if piece.head.first != end + 1:
                return False
            end = piece.head.last
        own = (each for each in self._names() if isinstance(each, LogName) and each > name)
        following = min((each for each in own if each.run == name.run), default=None)
        if following is not None and following.generation == name.generation:
            return end >= following.first - 1
        log = self._logs.get(name.generation)
        return log is None or log.name != name or end >= log.end

    def note_damage(self, name: LogName | SnapshotName) -> None:
        """That file is not what it was: it is told, and not appended to any more."""
        self._damaged.add(str(name))
        if isinstance(name, LogName):
            self._logs.pop(name.generation, None)

    # --- the log ------------------------------------------------------------------------

    def append(self, generation: int, piece: Bytes, *, begins: bool) -> int:
        """Keep a piece that continues the log of that generation, or `begins` a new run; answers
        the last entry that is durable then.

        One that does neither, or that lies in what is there, changes nothing. Raises BadDigest,
        DiskFull, DiskFailing.
        """
        try:
            head = check_piece(piece)
        except CorruptCatalog as error:
            raise BadDigest(error.message) from error
        log = self._log(generation)
        self._require_sound()  # else what a failed sync left behind would pass for kept
        end = 0 if log is None else log.end
        continues = log is not None and head.first == end + 1
        if not continues and (not begins or head.first <= end):
            return end
        with self._changing():
            if continues and log is not None and log.size_bytes is not None:
                self._logs[generation] = self._append(log, log.size_bytes, piece, head)
            else:
                run = log.name.run if continues and log is not None else head.first
                self._logs[generation] = self._begin(
                    LogName(generation, run, head.first), piece, head
                )
        return head.last

    def _append(self, log: _Log, size_bytes: int, piece: Bytes, head: PieceHead) -> _Log:
        with closing(self._disk.open(self._folder / str(log.name))) as file:
            file.pwrite([piece], size_bytes)
            file.sync()
        return self._continued(log.name, head, size_bytes + len(piece))

    def _begin(self, name: LogName, piece: Bytes, head: PieceHead) -> _Log:
        """A file gets its name only once its first piece is durable. One of that name is one of
        which not even the first piece can be read."""
        self._make_folder()
        new = self._folder / (str(name) + _NEW)
        self._remove_if_there(new)
        header = pack_header(self._cluster_id, name)
        with closing(self._disk.open(new, create=True)) as file:
            file.pwrite([header, piece], 0)
            file.sync()
        self._disk.replace(new, self._folder / str(name))
        self._damaged.discard(str(name))
        self._disk.sync_directory(self._folder)
        return self._continued(name, head, HEADER_BYTES + len(piece))

    def _continued(self, name: LogName, head: PieceHead, size_bytes: int) -> _Log:
        return _Log(name, head.last, size_bytes if size_bytes < self._log_bytes else None)

    def _log(self, generation: int) -> _Log | None:
        """The newest log file, read once: what a crash left unfinished in it is not believed."""
        if generation not in self._logs:
            names = [
                name
                for name in self._names()
                if isinstance(name, LogName) and name.generation == generation
            ]
            if not names:
                return None
            self._logs[generation] = self._scanned(max(names))
        return self._logs[generation]

    def _scanned(self, name: LogName) -> _Log:
        path = self._folder / str(name)
        try:
            # A process that was killed may have written what it never synced: it counts from
            # here on, so it is made durable first.
            with closing(self._disk.open(path)) as file:
                file.sync()
        except OSError as error:
            self.fail(error)  # a disk that can only be read is still of use for that
        with closing(self._disk.open(path, write=False)) as file:
            found = scan_log(file, self._cluster_id, name)
        end = found.pieces[-1].head.last if found.pieces else name.first - 1
        may_grow = not found.damage and found.size_bytes < self._log_bytes
        return _Log(name, end, found.size_bytes if may_grow else None)

    # --- snapshots ----------------------------------------------------------------------

    def take_snapshot_piece(self, name: str, offset: int, data: Bytes) -> int:
        """Bytes of a snapshot that is not whole yet; 0 begins it, in the place of any other.
        Answers how many are there; of one that is whole: all. Raises InvalidArgument, Conflict
        (`offset` is another than that), DiskFull, DiskFailing."""
        wanted = _snapshot_name(name)
        self._require_sound()
        if self._disk.exists(self._folder / name):
            return self._size_bytes(wanted)
        part = self._folder / (name + _PART)
        with self._changing():
            if not offset:
                self._make_folder()
                self._remove_unfinished()
                self._disk.open(part, create=True).close()
            elif not self._disk.exists(part):
                raise Conflict("That snapshot was not begun.")
            with closing(self._disk.open(part)) as file:
                if file.size_bytes() != offset:
                    raise Conflict(f"The next bytes begin at {file.size_bytes()}.")
                file.pwrite([data], offset)
                return offset + len(data)

    def drop_unfinished(self) -> None:
        """Give the room of a snapshot back that will not be finished. Raises DiskFailing."""
        with self._changing():
            self._remove_unfinished()

    def finish_snapshot(self, name: str) -> int:
        """Verify it, make it durable and only then give it its name; answers its bytes. Raises
        InvalidArgument, Conflict (not begun), BadDigest (other bytes than its name tells; they
        are removed), DiskFull, DiskFailing."""
        wanted = _snapshot_name(name)
        self._require_sound()
        path, part = self._folder / name, self._folder / (name + _PART)
        if self._disk.exists(path):
            return self._size_bytes(wanted)
        if not self._disk.exists(part):
            raise Conflict("That snapshot was not begun.")
        with self._changing():
            with closing(self._disk.open(part)) as file:
                file.sync()
                is_it = digest_of(file) == wanted.blake3
            if not is_it:
                self._disk.unlink(part)
                raise BadDigest("The snapshot's bytes are others than its name tells.")
            self._disk.replace(part, path)
            self._disk.sync_directory(self._folder)
        return self._size_bytes(wanted)

    # --- what is not needed any more ----------------------------------------------------

    def forget(self, order: Forget) -> None:
        """Remove snapshots before that one and log files that end before it. Raises DiskFailing."""
        self._require_sound()
        names = self._names()
        logs = sorted(name for name in names if isinstance(name, LogName))
        needless: list[LogName | SnapshotName] = [
            name
            for name in names
            if isinstance(name, SnapshotName)
            and (_is_before(name.generation, name.index, order) or _is_another(name, order))
        ]
        needless += [
            name
            for name, following in zip_longest(logs, logs[1:])
            if _is_before(name.generation, self._last_of(name, following) - 1, order)
            and name != self._grows(order, names)
        ]
        with self._changing():
            self._remove_unfinished()
            for name in needless:
                self._disk.unlink(self._folder / str(name))
                if isinstance(name, LogName) and self._logs.get(name.generation) is not None:
                    self._logs.pop(name.generation)
            if needless:
                self._disk.sync_directory(self._folder)

    def _grows(self, order: Forget, names: list[LogName | SnapshotName]) -> LogName | None:
        """The log file that goes on behind a snapshot kept here, be all in it needless by now."""
        is_keeper = any(
            isinstance(name, SnapshotName)
            and name.generation == order.generation
            and name.index >= order.index
            for name in names
        )
        log = self._log(order.generation) if is_keeper else None
        return None if log is None else log.name

    def _last_of(self, name: LogName, following: LogName | None) -> int:
        """Nothing behind this entry is in that file."""
        if following is not None and following.generation == name.generation:
            return following.first - 1
        return self.end(name.generation)

    # --- inside -------------------------------------------------------------------------

    def _require_sound(self) -> None:
        if self._failure:
            raise DiskFailing(self._failure)

    def _changing(self) -> "_Changing":
        self._require_sound()
        return _Changing(self)

    def fail(self, error: OSError) -> None:
        """After a failed write nothing is known of the newest files: they are read again, and a
        disk that failed otherwise than by being full keeps nothing more (SAFETY rule 13)."""
        self._logs.clear()
        if error.errno not in _FULL:
            self._failure = f"keeping the archive failed: {error.strerror}"

    def _make_folder(self) -> None:
        if not self._disk.exists(self._folder):
            self._disk.make_directory(self._folder)
            self._disk.sync_directory(self._folder.parent)

    def _names(self) -> list[LogName | SnapshotName]:
        if not self._disk.exists(self._folder):
            return []
        found = (parse_name(text) for text in self._disk.names(self._folder))
        return [name for name in found if name is not None]

    def _size_bytes(self, name: object) -> int:
        with closing(self._disk.open(self._folder / str(name), write=False)) as file:
            return file.size_bytes()

    def _remove_unfinished(self) -> None:
        if not self._disk.exists(self._folder):
            return
        for text in self._disk.names(self._folder):
            if text.endswith((_PART, _NEW)):
                self._disk.unlink(self._folder / text)

    def _remove_if_there(self, path: Path) -> None:
        if self._disk.exists(path):
            self._disk.unlink(path)


class _Changing:
    """Turns what a disk fails with into what a caller can act on, and remembers it."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            self._shelf.fail(error)
            if error.errno in _FULL:
                raise DiskFull("The disk has no room for the archive.") from error
            raise DiskFailing(f"keeping the archive failed: {error.strerror}") from error


def digest_of(file: DiskFile) -> str:
    """BLAKE3-256 of a file, in hex."""
    hasher, offset = blake3(), 0
    while data := file.pread(READ_BYTES, offset):
        hasher.update(data)
        offset += len(data)
    return hasher.hexdigest()


def _snapshot_name(text: str) -> SnapshotName:
    found = parse_name(text)
    if not isinstance(found, SnapshotName):
        raise InvalidArgument("That is no name of a snapshot.")
    return found


def _is_before(generation: int, index: int, order: Forget) -> bool:
    if generation != order.generation:
        return generation < order.generation and not order.spares_earlier
    return index < order.index


def _is_another(name: SnapshotName, order: Forget) -> bool:
    """Whether it is as of the same entry as the one that is kept, which then is enough."""
    same = (name.generation, name.index) == (order.generation, order.index)
    return same and order.snapshot not in ("", str(name))
