"""A file system in memory that can lose power, fail and fill up.

::

    disk = SimulatedDisk()
    store = open_store(Path("/data"), disk)
    store.put(...)                                     # acknowledged
    after = disk.power_cut(random.Random(7))           # what a restart would find
    open_store(Path("/data"), after)

What a power cut does (it may be drawn many times from one state):

- A file keeps what was there at its last `sync`. Of each later write all, nothing, a
  prefix, some 512-byte sectors, or only the length (as zeros) survives, each write for
  itself, so later ones may survive where earlier ones do not.
- A folder keeps its names as of its last `sync_directory`. Of later changes a part survives.
- After a failed sync the writes before it stay visible but never become durable, even if a
  later sync succeeds: that is how Linux treats pages it could not write.

Folders given as `directories` exist durably; every other must be made, and the folder above
it synced.
"""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from ossd.disk import Bytes, Space
from tests.fakes.survival import Change, File, Folder, Node


class PowerCut(BaseException):
    """The machine is off. No Exception, so that no error handling may survive it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What is about to happen; `number` counts the changing ones from 0."""

    kind: str  # create pwrite sync truncate replace unlink sync_directory make_directory pread
    path: Path
    number: int
    offset: int = 0
    size_bytes: int = 0


Fault = Callable[[Operation], int | None]
"""The errno an operation fails with, or None to let it pass."""


class SimulatedFile:
    """Implements ossd.disk.DiskFile."""

    def __init__(self, disk: "SimulatedDisk", path: Path, file: File, *, write: bool) -> None:
        self._disk = disk
        self._path = path
        self._file: File | None = file
        self._write = write
        self.locked = False

    def _open_file(self, *, write: bool = False) -> File:
        if self._file is None or (write and not self._write):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._file

    def pread(self, size_bytes: int, offset: int) -> bytes:
        """See DiskFile."""
        with self._disk.operation("pread", self._path, offset=offset, size_bytes=size_bytes):
            return bytes(self._open_file().content[offset : offset + size_bytes])

    def pwrite(self, pieces: Sequence[Bytes], offset: int) -> int:
        """See DiskFile. A failing one leaves its first half in the file."""
        data = b"".join(bytes(piece) for piece in pieces)

        def half() -> None:
            file.change(Change(offset, data[: len(data) // 2]))

        def whole() -> None:
            file.change(Change(offset, data))

        file = self._open_file(write=True)
        with self._disk.operation(
            "pwrite",
            self._path,
            offset=offset,
            size_bytes=len(data),
            when_failing=half,
            when_cut=whole,
        ):
            growth = max(0, offset + len(data) - len(file.content))
            if self._disk.used_bytes() + growth > self._disk.capacity_bytes:
                half()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            whole()
            return len(data)

    def sync(self) -> None:
        """See DiskFile."""
        file = self._open_file()
        with self._disk.operation("sync", self._path, when_failing=file.unsynced.clear):
            file.sync()

    def truncate(self, size_bytes: int) -> None:
        """See DiskFile."""
        file = self._open_file(write=True)

        def cut() -> None:
            file.change(Change(size_bytes, None))

        with self._disk.operation("truncate", self._path, size_bytes=size_bytes, when_cut=cut):
            cut()

    def size_bytes(self) -> int:
        """See DiskFile."""
        return len(self._open_file().content)

    def close(self) -> None:
        """See DiskFile."""
        if self.locked:
            self._disk.unlock(self._path)
        self._file = None


class _Guard:
    """Runs one operation under the disk's lock, after its faults had their say."""

    def __init__(self, disk: "SimulatedDisk", before: Callable[[], None]) -> None:
        self._disk = disk
        self._before = before

    def __enter__(self) -> None:
        self._disk.mutex.acquire()
        try:
            self._before()
        except BaseException:
            self._disk.mutex.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._disk.mutex.release()


def _nothing() -> None:
    """No trace of the operation stays."""


class SimulatedDisk:
    """Implements ossd.disk.Disk.

    `cut_after`: the number of changing operations that pass; the next one and all later
    ones raise PowerCut, the next one having been begun.
    """

    def __init__(
        self,
        *,
        directories: Sequence[Path] = (Path("/data"),),
        capacity_bytes: int = 1 << 40,
        cut_after: int | None = None,
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self.cut_after = cut_after
        self.read_only = False
        self.operation_count = 0
        self.mutex = threading.RLock()
        self.faults: list[Fault] = []
        self._root = Folder()
        self._locks: set[Path] = set()
        for path in directories:
            self._make_durable(path)

    # --- what tests do to it ----------------------------------------------------------

    def fail(self, fault: Fault) -> Callable[[], None]:
        """Let `fault` decide over every operation from now on; call the result to end it."""
        self.faults.append(fault)
        return lambda: self.faults.remove(fault)

    def power_cut(self, random: Random) -> "SimulatedDisk":
        """The disk a restart would find; one of many possible. This one is unchanged."""
        after = SimulatedDisk(directories=(), capacity_bytes=self.capacity_bytes)
        with self.mutex:
            after._root = self._root.survivor(random, {})
        return after

    def release_locks(self) -> None:
        """The process that held them was killed."""
        self._locks.clear()

    def flip_bit(self, path: Path, offset: int, bit: int = 0) -> None:
        """Decay: change one stored bit, durably."""
        file = self._file(path)
        file.content[offset] ^= 1 << bit
        if offset < len(file.durable):
            file.durable[offset] ^= 1 << bit

    def content(self, path: Path) -> bytes:
        """A whole file as the running process sees it."""
        return bytes(self._file(path).content)

    def used_bytes(self) -> int:
        """Sum of the lengths of all named files."""
        return sum(len(file.content) for file in _files(self._root))

    # --- Disk ---------------------------------------------------------------------------

    def open(self, path: Path, *, create: bool = False, write: bool = True) -> SimulatedFile:
        """See Disk."""
        if not create:
            return SimulatedFile(self, path, self._file(path), write=write)
        folder = self._folder(path.parent)
        if path.name in folder.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        file = File()
        with self.operation("create", path, when_cut=lambda: folder.bind(path.name, file)):
            folder.bind(path.name, file)
        return SimulatedFile(self, path, file, write=True)

    def exists(self, path: Path) -> bool:
        """See Disk."""
        return self._find(path) is not None

    def names(self, directory: Path) -> list[str]:
        """See Disk."""
        return sorted(self._folder(directory).names)

    def make_directory(self, path: Path) -> None:
        """See Disk."""
        folder = self._root
        for part in _parts(path):
            child = folder.names.get(part)
            if child is None:
                child = Folder()
                with self.operation("make_directory", path):
                    folder.bind(part, child)
            if not isinstance(child, Folder):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            folder = child

    def replace(self, source: Path, target: Path) -> None:
        """See Disk."""
        before, after = self._folder(source.parent), self._folder(target.parent)
        node = before.names.get(source.name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))

        def rename() -> None:
            after.bind(target.name, node)
            before.bind(source.name, None)

        with self.operation("replace", target, when_cut=rename):
            rename()

    def unlink(self, path: Path) -> None:
        """See Disk."""
        self._file(path)
        folder = self._folder(path.parent)

        def remove() -> None:
            folder.bind(path.name, None)

        with self.operation("unlink", path, when_cut=remove):
            remove()

    def remove_directory(self, path: Path) -> None:
        """See Disk."""
        if self._folder(path).names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        parent = self._folder(path.parent)

        def remove() -> None:
            parent.bind(path.name, None)

        with self.operation("remove_directory", path, when_cut=remove):
            remove()

    def sync_directory(self, path: Path) -> None:
        """See Disk."""
        folder = self._folder(path)
        with self.operation("sync_directory", path):
            folder.sync()

    def space(self, path: Path) -> Space:
        """See Disk."""
        if not self.exists(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return Space(self.capacity_bytes, max(0, self.capacity_bytes - self.used_bytes()))

    def lock(self, path: Path) -> SimulatedFile:
        """See Disk."""
        if path in self._locks:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))
        file = self.open(path, create=not self.exists(path))
        self._locks.add(path)
        file.locked = True
        return file

    # --- inside ---------------------------------------------------------------------------

    def operation(
        self,
        kind: str,
        path: Path,
        *,
        offset: int = 0,
        size_bytes: int = 0,
        when_failing: Callable[[], None] = _nothing,
        when_cut: Callable[[], None] = _nothing,
    ) -> _Guard:
        """Guard one operation: count it, cut the power, or make it fail."""

        def before() -> None:
            number = self.operation_count
            if self.cut_after is not None and number >= self.cut_after:
                if number == self.cut_after and kind != "pread":
                    self.operation_count += 1
                    when_cut()
                raise PowerCut
            asked = Operation(kind, path, number, offset, size_bytes)
            if kind != "pread":
                self.operation_count += 1
            error = self._fault(asked)
            if error is not None:
                when_failing()
                raise OSError(error, os.strerror(error), str(path))

        return _Guard(self, before)

    def _fault(self, asked: Operation) -> int | None:
        if self.read_only and asked.kind not in ("pread", "sync", "sync_directory"):
            return errno.EROFS
        for fault in list(self.faults):
            error = fault(asked)
            if error is not None:
                return error
        return None

    def unlock(self, path: Path) -> None:
        """The lock file was closed."""
        self._locks.discard(path)

    def _make_durable(self, path: Path) -> None:
        folder = self._root
        for part in _parts(path):
            child = folder.names.setdefault(part, Folder())
            folder.durable[part] = child
            assert isinstance(child, Folder)
            folder = child

    def _find(self, path: Path) -> Node | None:
        node: Node | None = self._root
        for part in _parts(path):
            if not isinstance(node, Folder):
                return None
            node = node.names.get(part)
        return node

    def _folder(self, path: Path) -> Folder:
        found = self._find(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if not isinstance(found, Folder):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        return found

    def _file(self, path: Path) -> File:
        found = self._find(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if not isinstance(found, File):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        return found


def _parts(path: Path) -> tuple[str, ...]:
    return path.parts[1:] if path.is_absolute() else path.parts


def _files(folder: Folder) -> Iterator[File]:
    for node in folder.names.values():
        if isinstance(node, Folder):
            yield from _files(node)
        else:
            yield node


def run_until_the_cut(work: Coroutine[Any, Any, None]) -> None:
    """asyncio.run for a process that may lose its power.

    Tasks that died with it are not worth a report each, in the middle of some later test.
    """

    async def alone() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        await work

    asyncio.run(alone())


def crash_points(
    scenario: Callable[[SimulatedDisk], object],
    *,
    make: Callable[[], SimulatedDisk] = SimulatedDisk,
    cuts_each: int = 3,
    seed: int = 0,
) -> Iterator[tuple[int, SimulatedDisk]]:
    """Run `scenario` again and again, with the power going at its 1st, 2nd, ... change.

    Yields (operation count, a disk that may be found afterwards), `cuts_each` a point, and
    ends after the first run that came to its own end. The scenario notes outside the disk
    what was acknowledged; the caller checks each disk against that.
    """
    point = 0
    while True:
        disk = make()
        disk.cut_after = disk.operation_count + point
        try:
            scenario(disk)
            ended = True
        except PowerCut:
            ended = False
        for draw in range(cuts_each):
            yield point, disk.power_cut(Random(f"{seed}/{point}/{draw}"))
        if ended:
            return
        point += 1
