"""The archives of all disks of a daemon, one request at a time on each, off the event loop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from blobd.archive.shelf import FOLDER_NAME, Shelf
from blobd.disks import DataDisk, Disks
from osscore.errors import DiskFull, NotReady, StaleOrder, StoreError
from ossd.disk import Disk
from raftmeta.archive.wire import ArchiveHeld, DiskArchive

T = TypeVar("T")


class Shelves:
    """Made once for a daemon; a disk has its shelf from the first request on."""

    def __init__(self, disks: Disks, disk: Disk) -> None:
        self._disks = disks
        self._disk = disk
        self._shelves: dict[bytes, Shelf] = {}
        self._turns: dict[bytes, asyncio.Lock] = {}

    async def show(self) -> ArchiveHeld:
        """What every labelled disk keeps. Raises NotReady while the disks are being opened."""
        if not self._disks.is_open:
            raise NotReady("The disks are being opened.")
        labelled = [disk for disk in self._disks if disk.label is not None]
        return ArchiveHeld(disks=tuple(await asyncio.gather(*map(self.show_one, labelled))))

    async def show_one(self, disk: DataDisk) -> DiskArchive:
        """What one disk keeps, and why it keeps no more; as far as it can be read."""
        uuid = disk.uuid
        try:
            found: DiskArchive = await self.use(uuid, lambda shelf: shelf.show(uuid))
        except (OSError, StoreError) as error:
            label = disk.label
            cluster_id = label.cluster_id if label is not None else b""
            return DiskArchive(disk=uuid, cluster_id=cluster_id, problem=str(error))
        return found

    async def keep(
        self, uuid: bytes, generation: int, size_bytes: int, work: Callable[[Shelf], T]
    ) -> T:
        """Have a disk keep so many bytes for that generation of the catalog, or remove some.

        Raises NoSuchNode, DiskRefused, NotReady, DiskFailing, StaleOrder (it obeys a later
        generation), DiskFull (it would have to be taken from the reserve), and what `work` does.
        """
        disk = self._disks.by_uuid(uuid)
        stats = await asyncio.to_thread(disk.writable_store.stats)
        label = disk.label
        assert label is not None, "a disk that takes writes has a label"
        if generation < label.order[0]:
            raise StaleOrder("The archive goes on in a later generation of the catalog.")
        if size_bytes and stats.free_bytes < size_bytes:
            raise DiskFull("The disk has no room for the archive.")
        return await self.use(uuid, work)

    async def use(self, uuid: bytes, work: Callable[[Shelf], T]) -> T:
        """Raises NotReady, NoSuchNode, and what `work` does."""
        disk = self._disks.by_uuid(uuid)
        async with self._turns.setdefault(uuid, asyncio.Lock()):
            return await asyncio.to_thread(work, self._shelf(disk))

    def size_bytes(self, disk: DataDisk) -> int:
        """Bytes of a disk's archive. Raises OSError. Blocks for a moment."""
        return self._shelf(disk).size_bytes() if disk.label is not None else 0

    def _shelf(self, disk: DataDisk) -> Shelf:
        shelf = self._shelves.get(disk.uuid)
        if shelf is None:
            assert disk.label is not None, "a disk that is found by its uuid has a label"
            shelf = self._shelves.setdefault(
                disk.uuid,
                Shelf(
                    disk.folder / FOLDER_NAME,
                    cluster_id=disk.label.cluster_id,
                    disk=self._disk,
                ),
            )
        return shelf
