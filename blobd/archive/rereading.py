"""Rereads what this daemon keeps of the catalog, so that rot is found while there are others.

A file that is not what it was is told to the leader, who sends a new snapshot; what that makes
needless goes as ever.
"""

import logging
from collections.abc import Callable
from functools import partial

from blake3 import blake3

from blobd.archive.shelf import LOG_BYTES, Shelf
from blobd.archive.shelves import Shelves
from blobd.disks import DataDisk, Disks
from osscore.errors import NotFound, StoreError
from ossd.clock import Clock
from raftmeta.archive.pieces import LogName, SnapshotName, parse_name

log = logging.getLogger(__name__)


class Rereading:
    """One task of the daemon: a pass over all disks, then `rest_s`; `bytes_per_s` at most."""

    def __init__(
        self, disks: Disks, shelves: Shelves, *, clock: Clock, bytes_per_s: int, rest_s: float
    ) -> None:
        self._disks = disks
        self._shelves = shelves
        self._clock = clock
        self._bytes_per_s = bytes_per_s
        self._rest_s = rest_s

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for disk in self._disks:
                if disk.label is not None:
                    await self.reread(disk)
            await self._clock.sleep(self._rest_s)

    async def reread(self, disk: DataDisk) -> None:
        """One disk; a disk that cannot be read is noticed by whoever else reads it."""
        for file in (await self._shelves.show_one(disk)).files:
            name = parse_name(file.name)
            assert name is not None, "only such files are shown"
            try:
                is_good = await self._is_good(disk, name)
            except (OSError, StoreError) as error:
                log.info("archive_not_reread", extra={"file": file.name, "reason": str(error)})
                continue
            if not is_good:
                log.error("archive_damaged", extra={"folder": str(disk.folder), "file": file.name})
                await self._shelves.use(disk.uuid, partial(_note_damage, name))

    async def _is_good(self, disk: DataDisk, name: LogName | SnapshotName) -> bool:
        try:
            if isinstance(name, LogName):
                is_sound = await self._shelves.use(disk.uuid, lambda shelf: shelf.is_sound(name))
                await self._clock.sleep(LOG_BYTES / self._bytes_per_s)
                return is_sound
            return await self._digest(disk, name) == name.blake3
        except NotFound:
            return True  # it went meanwhile, as it should

    async def _digest(self, disk: DataDisk, name: SnapshotName) -> str:
        """In parts: pieces of the log are kept in between."""
        hasher, offset = blake3(), 0
        while data := await self._shelves.use(disk.uuid, _part(name, offset)):
            hasher.update(data)
            offset += len(data)
            await self._clock.sleep(len(data) / self._bytes_per_s)
        return hasher.hexdigest()


def _note_damage(name: LogName | SnapshotName, shelf: Shelf) -> None:
    shelf.note_damage(name)


def _part(name: SnapshotName, offset: int) -> Callable[[Shelf], bytes]:
    return lambda shelf: shelf.read(str(name), offset)
