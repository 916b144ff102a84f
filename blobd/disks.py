"""All data folders of one daemon: opened, locked, labelled, and what each may do now.

A folder that cannot be opened makes that one disk unusable and says why; the others go
on. A disk serves reads as soon as it is open, and takes writes and delete orders only
once the catalog has granted it an epoch (SAFETY rule 15).
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from blobd.labels import LOCK_NAME, Label, format_disk, read_label, write_label
from blobd.shardstore import ShardStore
from osscore.errors import (
    DiskFailing,
    DiskRefused,
    NoSuchNode,
    NotReady,
    StoreError,
)
from ossd.clock import RandomBytes
from ossd.disk import Disk, DiskFile

VOLUMES_NAME = "volumes"

log = logging.getLogger(__name__)

OpenStore = Callable[[Path], ShardStore]
"""Opens the store of a folder's volumes; blocks; may raise StoreError or OSError."""


class DataDisk:
    """One data folder.

    `number`: the catalog's number, 0 until granted. `generation`: of the catalog that granted
    it; a restored one may give that number to another disk.
    """

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        *,
        lock: DiskFile | None = None,
        may_read_unlocked: bool = False,
    ) -> None:
        self.folder = folder
        self.number = 0
        self.generation = 0
        self._disk = disk
        self._lock = lock
        self._may_open = lock is not None or may_read_unlocked
        self._label: Label | None = None
        self._store: ShardStore | None = None
        self._refusal = ""
        self._is_set_back = False
        self._note = ""
        self._label_turn = asyncio.Lock()

    # --- what it is -----------------------------------------------------------------

    @property
    def label(self) -> Label | None:
        """Its label; None while unformatted or unreadable."""
        return self._label

    @property
    def uuid(self) -> bytes:
        """Its 16 bytes, or b'' while unknown."""
        return self._label.uuid if self._label else b""

    @property
    def is_unformatted(self) -> bool:
        """An empty folder that waits to learn which cluster it belongs to."""
        return self._label is None and not self._refusal

    @property
    def is_eligible(self) -> bool:
        """Open and not refused: it may be registered."""
        return self._store is not None and not self._refusal

    @property
    def store(self) -> ShardStore:
        """Its shards, for reading. Raises DiskFailing when it could not be opened."""
        if self._store is None:
            raise DiskFailing(self.problem)
        return self._store

    @property
    def writable_store(self) -> ShardStore:
        """Its shards, for writing and deleting. Raises DiskFailing, DiskRefused, NotReady."""
        store = self.store
        if self._refusal:
            raise DiskRefused(self._refusal)
        if not self.number:
            raise NotReady("The disk is not registered with the metanodes yet.")
        return store

    @property
    def is_set_back(self) -> bool:
        """Open, and refused by the catalog alone: it may be readmitted (SAFETY rule 15)."""
        return self._is_set_back and self._store is not None

    @property
    def problem(self) -> str:
        """Why it takes no writes, for people; empty when it does."""
        if self._refusal:
            return f"{self._refusal} Read-only; {self._note}" if self._note else self._refusal
        if self._label is None:
            return "not formatted yet: the metanodes have not told the cluster's id"
        if self._store is None:
            return "not open"
        if not self.number:
            return "not registered with the metanodes yet"
        return self._store.stats().problem

    @property
    def writable(self) -> bool:
        """Whether a PUT may succeed."""
        if self._refusal or not self.number or self._store is None:
            return False
        return self._store.stats().writable

    # --- how it changes ---------------------------------------------------------------

    def open(self, open_store: OpenStore) -> None:
        """Read the label and open the volumes; blocks. Failing, it keeps the reason."""
        if not self._may_open:
            return
        try:
            self._label = read_label(self._disk, self.folder)
            if self._label is not None:
                self._open_store(open_store)
        except (OSError, StoreError) as error:
            self.refuse(_reason(error))

    def format(self, cluster_id: bytes, random: RandomBytes, open_store: OpenStore) -> None:
        """Make an empty folder a disk of that cluster and open it; blocks."""
        try:
            self._label = format_disk(self._disk, self.folder, cluster_id, random)
            self._open_store(open_store)
        except (OSError, StoreError) as error:
            self.refuse(_reason(error))

    def refuse(self, reason: str, *, is_set_back: bool = False) -> None:
        """Take no more writes until the daemon restarts; what is open stays readable.
        `is_set_back`: or until the catalog readmits it, if nothing else is in the way."""
        was_set_back, self._note = self._is_set_back, ""
        self._is_set_back = is_set_back and not self._refusal
        # The first reason is the cause; but what ends its way back counts more.
        self._refusal = reason if was_set_back else self._refusal or reason
        self.number = 0
        log.error("disk_refused", extra={"folder": str(self.folder), "reason": reason})

    def note(self, text: str) -> bool:
        """Say how far a refused disk is on its way back; answers whether that is news."""
        former, self._note = self._note, text
        return former != text

    def readmit(self, number: int) -> None:
        """Take writes again, under that number; its label says so already. No change for a disk
        that was refused for another reason meanwhile."""
        if self.is_set_back:
            self._refusal = self._note = ""
            self._is_set_back = False
            self.number = number

    async def keep_epoch(self, epoch: int) -> None:
        """Write the epoch on the disk; durable on return. Raises OSError."""
        await self._change_label(lambda label: replace(label, epoch=epoch))

    async def keep_order(self, order: tuple[int, int]) -> None:
        """Remember a delete order before it is obeyed (SAFETY rule 16).

        Raises StaleOrder if this disk has seen a higher one, OSError.
        """
        await self._change_label(lambda label: label.raised(order))

    async def obey(self, generation: int) -> None:
        """From now on orders of earlier generations of the catalog are refused, also those of a
        lost cluster that comes back (SAFETY rule 16); durable on return. Raises OSError."""
        await self._change_label(
            lambda label: replace(label, order=max(label.order, (generation, 0)))
        )
        self.generation = generation

    def require_generation(self, generation: int) -> None:
        """Raises NotReady unless this disk is registered with that generation of the catalog:
        under another its number may be another disk's."""
        if generation != self.generation:
            raise NotReady(f"The disk is not registered with generation {generation} yet.")

    async def close(self) -> None:
        """Close the store and let the folder go."""
        if self._store is not None:
            await self._store.close()
            self._store = None
            self._refusal = self._refusal or "closed"
        if self._lock is not None:
            self._lock.close()

    def _open_store(self, open_store: OpenStore) -> None:
        volumes = self.folder / VOLUMES_NAME
        if not self._disk.exists(volumes):
            self._disk.make_directory(volumes)
            self._disk.sync_directory(self.folder)
        self._store = open_store(volumes)

    async def _change_label(self, change: Callable[[Label], Label]) -> None:
        async with self._label_turn:
            assert self._label is not None, "only a labelled disk is changed"
            changed = change(self._label)
            if changed != self._label:
                await asyncio.to_thread(write_label, self._disk, self.folder, changed)
                self._label = changed


def lock_folder(folder: Path, disk: Disk) -> DataDisk:
    """A data folder, made if need be and locked for this process, not yet open; blocks."""
    try:
        if not disk.exists(folder):
            disk.make_directory(folder)
            disk.sync_directory(folder.parent)
        return DataDisk(folder, disk, lock=disk.lock(folder / LOCK_NAME))
    except BlockingIOError:
        found, reason = DataDisk(folder, disk), "another process uses this folder"
    except OSError as error:
        # Nobody writes to a read-only file system: it may be read without a lock.
        read_only = error.errno == errno.EROFS
        found, reason = DataDisk(folder, disk, may_read_unlocked=read_only), _reason(error)
    found.refuse(reason)
    return found


class Disks:
    """The data folders of this daemon, in the order they were named."""

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        disk: Disk,
        open_store: OpenStore,
        random: RandomBytes,
    ) -> None:
        self._folders = tuple(folders)
        self._disk = disk
        self._open_store = open_store
        self._random = random
        self._all: tuple[DataDisk, ...] = ()
        self._is_open = False

    def __iter__(self) -> Iterator[DataDisk]:
        return iter(self._all)

    @property
    def is_open(self) -> bool:
        """Whether every folder has been opened or found unusable."""
        return self._is_open

    def open_all(self) -> None:
        """Lock and open every folder; blocks, and raises for none of them."""
        self._all = tuple(lock_folder(folder, self._disk) for folder in self._folders)
        for found in self._all:
            found.open(self._open_store)
        self._refuse_twins()
        self._is_open = True

    def format_new(self, cluster_id: bytes) -> None:
        """Make the empty folders disks of that cluster, and refuse those of another; blocks."""
        for found in self._all:
            if found.is_unformatted:
                found.format(cluster_id, self._random, self._open_store)
            elif found.label and found.label.cluster_id != cluster_id:
                found.refuse(f"the disk belongs to cluster {found.label.cluster_id.hex()}")

    def by_uuid(self, uuid: bytes) -> DataDisk:
        """The disk of that uuid. Raises NotReady while folders are opened, then NoSuchNode."""
        if not self._is_open:
            raise NotReady("The disks are being opened.")
        for found in self._all:
            if uuid and found.uuid == uuid:
                return found
        raise NoSuchNode(f"This daemon has no disk {uuid.hex()}.")

    async def close(self) -> None:
        """Close every store and let the folders go."""
        self._is_open = False
        for found in self._all:
            await found.close()

    def _refuse_twins(self) -> None:
        """A copied folder has its original's uuid: only the first named is served."""
        seen: set[bytes] = set()
        for found in self._all:
            if found.uuid and found.uuid in seen:
                found.refuse(f"another folder here has the same uuid {found.uuid.hex()}")
            seen.add(found.uuid)


def _reason(error: OSError | StoreError) -> str:
    return error.message if isinstance(error, StoreError) else str(error)
