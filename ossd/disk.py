"""The seam to files. Journals and volumes touch disks only through this.

Production binds `SystemDisk`; power-cut and failure tests bind a simulated one with the
same contract (tests/fakes/disk.py, held to it by tests/ossd/test_disk_contract.py).
All calls block: run large ones off the event loop. Every call may raise OSError.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Space:
    """Room on the file system of a path, as a process without privileges sees it."""

    total_bytes: int
    free_bytes: int


class DiskFile(Protocol):
    """One open file. Not safe for concurrent writers; `pread` may run beside a writer."""

    def pread(self, size_bytes: int, offset: int) -> bytes:
        """Up to that many bytes; fewer only at the end of the file."""

    def pwrite(self, pieces: Sequence[Bytes], offset: int) -> int:
        """Write all pieces one behind the other; answers their total size.

        After an error any part of them may be in the file.
        """

    def sync(self) -> None:
        """Make all earlier writes and the size durable. After an error nothing is known of
        them: never retry, treat the file as read-only (SAFETY rule 13)."""

    def truncate(self, size_bytes: int) -> None:
        """Cut or extend (with zeros)."""

    def size_bytes(self) -> int:
        """Present length."""

    def close(self) -> None:
        """Release it; implies no sync. Closing twice is harmless."""


class Disk(Protocol):
    """A file system. Names become durable only by `sync_directory`."""

    def open(self, path: Path, *, create: bool = False, write: bool = True) -> DiskFile:
        """Open a file; `create`: make it with mode 0600, it must not exist (FileExistsError)."""

    def exists(self, path: Path) -> bool:
        """Whether a file or folder of that name exists."""

    def names(self, directory: Path) -> list[str]:
        """Names in a folder, sorted."""

    def make_directory(self, path: Path) -> None:
        """Make a folder and its parents, mode 0700; existing is fine."""

    def replace(self, source: Path, target: Path) -> None:
        """Rename atomically over whatever is there."""

    def unlink(self, path: Path) -> None:
        """Remove a file; FileNotFoundError if there is none."""

    def remove_directory(self, path: Path) -> None:
        """Remove an empty folder; OSError if it is not empty or not there."""

    def sync_directory(self, path: Path) -> None:
        """Make names made, renamed or removed in that folder durable."""

    def space(self, path: Path) -> Space:
        """Room on the file system that holds `path`."""

    def lock(self, path: Path) -> DiskFile:
        """Create if needed and lock a file for this process until it is closed or the
        process dies. BlockingIOError if another holds it."""


def read_file(disk: Disk, path: Path) -> bytes:
    """A whole small file."""
    file = disk.open(path, write=False)
    try:
        return file.pread(file.size_bytes(), 0)
    finally:
        file.close()


def write_file_atomically(disk: Disk, path: Path, data: bytes) -> None:
    """Replace `path` by `data`, durable on return: a crash leaves the old or the new."""
    temporary = path.with_name(path.name + ".tmp")
    if disk.exists(temporary):
        disk.unlink(temporary)
    file = disk.open(temporary, create=True)
    try:
        file.pwrite([data], 0)
        file.sync()
    finally:
        file.close()
    disk.replace(temporary, path)
    # The rename is durable only once the directory is.
    disk.sync_directory(path.parent)


class SystemFile:
    """A DiskFile over a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pread(self, size_bytes: int, offset: int) -> bytes:
        """See DiskFile."""
        data = os.pread(self._descriptor, size_bytes, offset)
        if len(data) == size_bytes or not data:
            return data
        parts = [data]  # signals and network file systems may give less than asked
        got = len(data)
        while got < size_bytes:
            data = os.pread(self._descriptor, size_bytes - got, offset + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def pwrite(self, pieces: Sequence[Bytes], offset: int) -> int:
        """See DiskFile."""
        views = [memoryview(piece) for piece in pieces if len(piece)]
        total = sum(len(view) for view in views)
        done = 0
        while views:
            written = os.pwritev(self._descriptor, views[:512], offset + done)
            done += written
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if views and written:
                views[0] = views[0][written:]
        return total

    def sync(self) -> None:
        """See DiskFile."""
        if self._descriptor < 0:  # os.fdatasync would raise ValueError
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        os.fdatasync(self._descriptor)

    def truncate(self, size_bytes: int) -> None:
        """See DiskFile."""
        os.ftruncate(self._descriptor, size_bytes)

    def size_bytes(self) -> int:
        """See DiskFile."""
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """See DiskFile."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SystemDisk:
    """The machine's file systems."""

    def open(self, path: Path, *, create: bool = False, write: bool = True) -> SystemFile:
        """See Disk."""
        flags = os.O_RDWR if write or create else os.O_RDONLY
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return SystemFile(os.open(path, flags | os.O_CLOEXEC, 0o600))

    def exists(self, path: Path) -> bool:
        """See Disk."""
        return path.exists()

    def names(self, directory: Path) -> list[str]:
        """See Disk."""
        return sorted(os.listdir(directory))

    def make_directory(self, path: Path) -> None:
        """See Disk."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def replace(self, source: Path, target: Path) -> None:
        """See Disk."""
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        """See Disk."""
        os.unlink(path)

    def remove_directory(self, path: Path) -> None:
        """See Disk."""
        os.rmdir(path)

    def sync_directory(self, path: Path) -> None:
        """See Disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def space(self, path: Path) -> Space:
        """See Disk."""
        found = os.statvfs(path)
        return Space(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def lock(self, path: Path) -> SystemFile:
        """See Disk."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return SystemFile(descriptor)
