"""The volume files of one disk: which exist, and open descriptors to read them.

A file that is unlinked while someone reads it stays open until that reader is done.
"""

import threading
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blobd.volume import VolumeName
from ossd.disk import Disk, DiskFile

OPEN_FILES_MAX = 256


@dataclass(slots=True)
class VolumeInfo:
    """One volume as the store knows it. `foreign`: holds records of a later version."""

    name: VolumeName
    size_bytes: int = 0
    sealed: bool = False
    foreign: bool = False


class VolumeGone(Exception):
    """The volume was compacted away; look the shard up again."""


@dataclass(slots=True)
class _Open:
    file: DiskFile
    readers: int = 0
    doomed: bool = False


class VolumeFiles:
    """All volumes in a folder. Thread-safe."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        self.directory = directory
        self.infos: dict[int, VolumeInfo] = {}
        self._disk = disk
        self._numbers: list[int] = []
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _Open] = OrderedDict()

    def discover(self) -> None:
        """Learn which volumes lie in the folder. Raises OSError."""
        for text in self._disk.names(self.directory):
            name = VolumeName.parse(text)
            if name is not None:
                file = self._disk.open(self.directory / text, write=False)
                self.add(VolumeInfo(name, size_bytes=file.size_bytes()))
                file.close()

    def add(self, info: VolumeInfo) -> None:
        """A volume now exists."""
        with self._lock:
            self.infos[info.name.number] = info
            insort(self._numbers, info.name.number)

    def first_within(self, first: int, last: int) -> int | None:
        """The lowest number of an existing volume in [first, last], if any."""
        with self._lock:
            at = bisect_left(self._numbers, first)
            found = self._numbers[at] if at < len(self._numbers) else last + 1
        return found if found <= last else None

    def any_within(self, first: int, last: int, *, but: int) -> bool:
        """Whether a volume other than `but` has a number in [first, last]."""
        found = self.first_within(first, last)
        if found == but:
            found = self.first_within(but + 1, last)
        return found is not None

    def next_number(self) -> int:
        """A number above that of every volume."""
        with self._lock:
            return self._numbers[-1] + 1 if self._numbers else 1

    def path(self, number: int) -> Path:
        """Where volume `number` lies."""
        return self.infos[number].name.path(self.directory)

    def open_for_writing(self, number: int) -> DiskFile:
        """A descriptor of its own, to append with. Raises OSError."""
        return self._disk.open(self.path(number))

    @contextmanager
    def reading(self, number: int) -> Iterator[tuple[DiskFile, bytes]]:
        """A file to read from and its salt. Raises VolumeGone, OSError."""
        entry, salt = self._acquire(number)
        try:
            yield entry.file, salt
        finally:
            self._release(entry)

    def remove(self, number: int) -> None:
        """Unlink a volume, durably. Readers inside it finish. Raises OSError."""
        self._disk.unlink(self.path(number))
        # Until the folder is synced a power cut may bring the file back, and with it
        # records whose tombstones could be dropped meanwhile.
        self._disk.sync_directory(self.directory)
        with self._lock:
            del self.infos[number]
            self._numbers.remove(number)
            entry = self._open.pop(number, None)
            if entry is not None:
                self._retire(entry)

    def close(self) -> None:
        """Close what nobody reads."""
        with self._lock:
            while self._open:
                self._retire(self._open.popitem()[1])

    def _acquire(self, number: int) -> tuple[_Open, bytes]:
        with self._lock:
            info = self.infos.get(number)
            if info is None:
                raise VolumeGone(number)
            entry = self._open.get(number)
            if entry is None:
                entry = _Open(self._disk.open(self.path(number), write=False))
                self._open[number] = entry
                self._shrink()
            self._open.move_to_end(number)
            entry.readers += 1
            return entry, info.name.salt

    def _release(self, entry: _Open) -> None:
        with self._lock:
            entry.readers -= 1
            if entry.doomed and entry.readers == 0:
                entry.file.close()

    def _shrink(self) -> None:
        while len(self._open) > OPEN_FILES_MAX:
            self._retire(self._open.popitem(last=False)[1])

    def _retire(self, entry: _Open) -> None:
        entry.doomed = True
        if entry.readers == 0:
            entry.file.close()
