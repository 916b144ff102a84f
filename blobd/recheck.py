"""Following a hint: the owner rereads its shards and tells the catalog what is there.

A damage report is a hint (SAFETY rule 11). Which shards a stripe has on this disk, in which
state and with which CRC is asked of the catalog, so whoever hints need not be believed. A
shard that is as it should be makes its slot good, anything else makes it bad; both commands
compare (index, gen, disk), so a slot that moved meanwhile is left alone.
"""

import asyncio
import logging
from collections.abc import Sequence

from blobd.disks import DataDisk, Disks
from blobd.shardstore import INLINE_BYTES_MAX
from blobd.wire import SHARD_BYTES_MAX, Rechecked, RecheckedShard
from osscore.digests import crc32c
from osscore.errors import CorruptShard, DiskFailing, NoSuchShard
from osscore.model import SlotState
from ossd.budget import ByteBudget
from raftmeta.client import MetaClient
from raftmeta.commands import Done, MarkBad, MarkGood
from raftmeta.queries import ExpectedSlot, ExpectedSlots, SlotsExpected

GOOD = "good"
MISSING = "missing"
CORRUPT = "corrupt"
OTHER = "other"
"""Whole by its own checksums, but not the bytes the catalog knows."""
UNREADABLE = "unreadable"
"""The disk could not say; its scrub will."""
READS = 2
"""A shard is corrupt when it fails this often: a cable may flip a bit that the disk did not."""

log = logging.getLogger(__name__)


class Rechecker:
    """Follows hints on the disks of one daemon."""

    def __init__(self, disks: Disks, *, meta: MetaClient, budget: ByteBudget) -> None:
        self._disks = disks
        self._meta = meta
        self._budget = budget

    async def recheck(self, disk_uuid: bytes, rows: Sequence[int]) -> Rechecked:
        """Reread the shards of these stripes on that disk and report what differs.

        Raises NoSuchNode, DiskRefused, DiskFailing (not open), NotReady, Overloaded, and those
        of the way to the catalog.
        """
        target = self._disks.by_uuid(disk_uuid)
        shards = []
        for row in rows:
            # A disk that is refused must claim nothing: another copy of it may be the real one.
            _ = target.writable_store
            number = target.number
            head, expected = await self._meta.query_with_head(
                ExpectedSlots(disk=number, after_row=row - 1, limit=1), SlotsExpected
            )
            target.require_generation(head.generation)
            for slot in expected.slots:
                if slot.row == row and slot.is_needed:
                    found = await self._look(target, slot)
                    await self._report(target, slot, found)
                    shards.append(RecheckedShard(row, slot.identity, found))
        return Rechecked(shards=tuple(shards))

    async def _look(self, target: DataDisk, slot: ExpectedSlot) -> str:
        async with self._budget.hold(_bytes_to_read(target, slot)):
            for _ in range(READS):
                try:
                    body = (await target.store.get(slot.identity)).body
                except NoSuchShard:
                    return MISSING
                except CorruptShard:
                    continue
                except DiskFailing:
                    return UNREADABLE
                is_small = len(body) <= INLINE_BYTES_MAX
                crc = crc32c(body) if is_small else await asyncio.to_thread(crc32c, body)
                return GOOD if crc == slot.crc else OTHER
        return CORRUPT

    async def _report(self, target: DataDisk, slot: ExpectedSlot, found: str) -> None:
        if found == UNREADABLE or (found == GOOD) == (slot.state == SlotState.GOOD):
            return
        kind = MarkGood if found == GOOD else MarkBad
        await self._meta.propose(kind(identity=slot.identity, disk=target.number), Done)
        log.log(
            logging.INFO if found == GOOD else logging.ERROR,
            "shard_good_again" if found == GOOD else "shard_bad",
            extra={
                "stripe": slot.identity.stripe.hex(),
                "index": slot.identity.index,
                "gen": slot.identity.gen,
                "reason": found,
                "disk": target.number,
            },
        )


def _bytes_to_read(target: DataDisk, slot: ExpectedSlot) -> int:
    """How many bytes rereading holds, at most. Raises DiskFailing."""
    try:
        found = target.store.head(slot.identity)
    except CorruptShard:  # its index no longer vouches for its size
        return SHARD_BYTES_MAX
    return found[0] if found is not None else 0
