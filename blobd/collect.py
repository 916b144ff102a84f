"""Making room: the only ways a shard is ever deleted, and compaction after them.

1. Trash: rows the catalog wrote for this disk (SAFETY rule 3).
2. Sweep: shards on the disk that can never be named again (SAFETY rule 1), page by page
   through the disk's own inventory.

Both are orders of the catalog, read linearizably, and both carry (generation, applied
index): the disk remembers the highest on disk before it obeys and refuses lower ones
(SAFETY rule 16). A refused or unregistered disk deletes nothing, nor does one that has not
registered with the generation that orders: its number may be another disk's there.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from blobd.disks import DataDisk
from blobd.record import identity_key
from blobd.wire import ShardCount, SweepPage
from osscore.errors import NotReady, StaleOrder, StoreError
from osscore.model import ShardIdentity
from osscore.names import birth_ms
from ossd.clock import Clock
from raftmeta.client import MetaClient, QueryHead
from raftmeta.commands import Done, TrashDone
from raftmeta.queries import FindUnwanted, ReadTrash, TrashRead, Unwanted

TRASH_INTERVAL_S_MAX = 5.0
TRASH_ROWS = 500
SWEEP_PAGE = 1000
SWEEP_PAGES_PER_ROUND = 10
COMPACT_STEP_BYTES = 4 * 1024 * 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CollectSettings:
    """`grace_s`: how long an unnamed shard may still be named. `compact_bytes_per_s`:
    bound on what compaction moves on one disk."""

    grace_s: float
    compact_bytes_per_s: int

    @property
    def sweep_interval_s(self) -> float:
        """Seconds between two rounds of a sweep."""
        return min(max(self.grace_s / 10, 0.2), 60.0)

    @property
    def trash_interval_s(self) -> float:
        """Seconds between two looks at the trash."""
        return min(self.sweep_interval_s, TRASH_INTERVAL_S_MAX)


class Collector:
    """Collects on one disk. `run` never ends; cancel it."""

    def __init__(
        self, disk: DataDisk, *, meta: MetaClient, clock: Clock, settings: CollectSettings
    ) -> None:
        self._disk = disk
        self._meta = meta
        self._clock = clock
        self._settings = settings
        self._sweep_after = b""
        self._swept_at_s = clock.monotonic_s()
        self.deleted_count = 0
        self.compacted_bytes = 0

    @property
    def disk(self) -> DataDisk:
        """What it collects on."""
        return self._disk

    async def run(self) -> None:
        """Round after round; what fails is logged and tried again in the next."""
        while True:
            if self._disk.number:
                await self._round()
            await self._clock.sleep(self._settings.trash_interval_s)

    async def empty_trash(self) -> int:
        """Delete what the catalog put into this disk's trash; answers how many rows.

        Raises StaleOrder, DiskFailing, DiskRefused, NotReady, Unavailable, OSError.
        """
        done_count = 0
        while True:
            number, granted_by = self._disk.number, self._disk.generation
            head, read = await self._meta.query_with_head(
                ReadTrash(disk=number, limit=TRASH_ROWS), TrashRead
            )
            if not read.rows:
                return done_count
            await self._delete(head, [row.identity for row in read.rows], granted_by)
            rows = tuple(row.row for row in read.rows)
            await self._meta.propose(TrashDone(disk=number, rows=rows), Done)
            done_count += len(rows)

    async def sweep(self, pages: int = SWEEP_PAGES_PER_ROUND) -> int:
        """Look at the next pages of the inventory and delete what nobody can name any more.

        Starts again at the beginning behind the end. Raises like empty_trash.
        """
        deleted_count = 0
        for _ in range(pages):
            page = await self.sweep_page(self._sweep_after)
            deleted_count += page.removed.shards
            self._sweep_after = bytes.fromhex(page.next)
            if not page.next:
                break
        return deleted_count

    async def sweep_page(
        self, after: bytes, *, is_dry_run: bool = False, tells_shared: bool = False
    ) -> SweepPage:
        """Look at one page of the inventory, behind the identity `after`; delete what nobody
        can name any more unless `is_dry_run`. Raises like empty_trash."""
        rows = await asyncio.to_thread(self._disk.store.inventory, after, SWEEP_PAGE)
        sizes = {identity: size_bytes for identity, size_bytes, _ in rows}
        # Only those past their grace by the catalog time seen last are asked about.
        horizon_ms = self._meta.catalog_time_ms - self._grace_ms
        old = {identity for identity in sizes if birth_ms(identity.stripe) < horizon_ms}
        removed: set[ShardIdentity] = set()
        shared: set[ShardIdentity] = set()
        if old:
            granted_by = self._disk.generation
            head, unwanted = await self._find_unwanted(old, tells_shared=tells_shared)
            # Only what was asked about: an answer can never make this disk delete more.
            removed = old & set(unwanted.identities)
            shared = old & set(unwanted.shared)
            if removed and not is_dry_run:
                await self._delete(head, list(removed), granted_by)
        return SweepPage(
            examined=_count(sizes, sizes),
            young=_count(sizes, sizes.keys() - old),
            kept=_count(sizes, old - removed),
            shared=_count(sizes, shared),
            removed=_count(sizes, removed),
            next=identity_key(rows[-1][0]).hex() if len(rows) == SWEEP_PAGE else "",
        )

    async def compact(self) -> int:
        """Rewrite mostly dead volumes until none is left, at a bounded rate; answers bytes."""
        moved_bytes = 0
        while step_bytes := await self._disk.writable_store.compact(bytes_max=COMPACT_STEP_BYTES):
            moved_bytes += step_bytes
            self.compacted_bytes += step_bytes
            await self._clock.sleep(step_bytes / self._settings.compact_bytes_per_s)
        return moved_bytes

    async def _round(self) -> None:
        try:
            await self.empty_trash()
            if self._clock.monotonic_s() - self._swept_at_s >= self._settings.sweep_interval_s:
                await self.sweep()
                self._swept_at_s = self._clock.monotonic_s()
            await self.compact()
        except StaleOrder as error:
            # Somebody restored an old catalog, or reads are not linearizable: a person
            # must look. Nothing was deleted.
            log.error("delete_order_refused", extra={"reason": error.message, **self._where()})
        except (StoreError, OSError) as error:
            log.warning("collect_paused", extra={"reason": str(error), **self._where()})

    async def _delete(
        self, head: QueryHead, identities: Sequence[ShardIdentity], granted_by: int
    ) -> int:
        """Obey one order. The order is on the disk before the first shard goes. `granted_by`:
        the generation that gave the disk the number which it was asked for under."""
        store = self._disk.writable_store
        if head.generation > granted_by:
            raise NotReady(f"The disk is not registered with generation {head.generation} yet.")
        await self._disk.keep_order((head.generation, head.applied_index))
        deleted_count = await store.delete(identities)
        self.deleted_count += deleted_count
        return deleted_count

    async def _find_unwanted(
        self, old: Iterable[ShardIdentity], *, tells_shared: bool
    ) -> tuple[QueryHead, Unwanted]:
        query = FindUnwanted(
            disk=self._disk.number,
            grace_ms=self._grace_ms,
            identities=tuple(old),
            tells_shared=tells_shared,
        )
        return await self._meta.query_with_head(query, Unwanted)

    @property
    def _grace_ms(self) -> int:
        return int(self._settings.grace_s * 1000)

    def _where(self) -> dict[str, object]:
        return {"disk": self._disk.number, "folder": str(self._disk.folder)}


def _count(sizes: Mapping[ShardIdentity, int], identities: Iterable[ShardIdentity]) -> ShardCount:
    found = [sizes[identity] for identity in identities]
    return ShardCount(len(found), sum(found))
