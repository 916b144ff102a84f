"""Stripes encoded anew: k shards gathered, verified, coded, sent to their places, and named.

The new shards lie under a fresh id until one command puts them into the stripe's row; whatever
dies before that leaves the stripe as it was, and shards that nobody will ever name (SAFETY rules
1, 8). If one of them cannot be stored, the catalog is told all the same: it has the others deleted.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from blobd.client import BlobClient
from blobd.described import Described
from blobd.disks import DataDisk
from blobd.repair.pace import Pace
from blobd.repair.peers import Peers
from blobd.repair.pull import Puller
from blobd.repair.recode import Recoded, draft_of, memory_bytes, recode, write_bytes
from blobd.repair.spare import take_spare
from osscore.erasure import Codec
from osscore.errors import PeerUnreachable, StoreError, TooFewNodes
from osscore.model import ShardIdentity, Slot, SlotState, reed_solomon
from osscore.names import StripeId, stripe_id
from osscore.placement import Target, place
from ossd.budget import ByteBudget
from ossd.clock import Clock, RandomBytes
from raftmeta.client import MetaClient
from raftmeta.reencoding import (
    OpenReencode,
    ReadReencodes,
    Reencode,
    Reencoded,
    ReencodesRead,
)
from raftmeta.targets import targets_of

IDLE_S = 1.0
AT_ONCE = 2
"""Stripes of one disk under way together: one is gathered while another is sent."""
TRY_AGAIN_S = 5.0
AVOID_S = 10.0
"""A disk that has just refused a shard gets none for so long."""
SHARD_DEADLINE_S = 30.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Recodings:
    """What was done. `written_bytes`: of new shards, those of no use included."""

    stripes: int = 0
    plain_bytes: int = 0
    written_bytes: int = 0
    useless_stripes: int = 0
    failed_count: int = 0


class Reencoder:
    """Works on the tasks given to one disk's daemon. `run` never ends; cancel it."""

    def __init__(
        self,
        disk: DataDisk,
        puller: Puller,
        blobs: BlobClient,
        codec: Callable[[], Codec],
        *,
        described: Described,
        meta: MetaClient,
        budget: ByteBudget,
        clock: Clock,
        random: RandomBytes,
        pace: Pace,
    ) -> None:
        self._disk = disk
        self._puller = puller
        self._blobs = blobs
        self._codec = codec
        self._described = described
        self._meta = meta
        self._budget = budget
        self._clock = clock
        self._random = random
        self._pace = pace
        self._again_at_s: dict[int, float] = {}
        self._avoided_until_s: dict[int, float] = {}
        self.done = Recodings()

    async def run(self) -> None:
        """Page after page; what fails is logged and tried again."""
        while True:
            try:
                ended_count = await self.step()
            except (StoreError, OSError) as error:
                log.warning("reencoding_paused", extra={"reason": str(error), **self._where()})
                ended_count = 0
            if not ended_count:
                await self._clock.sleep(IDLE_S)

    async def step(self) -> int:
        """Work on the tasks that are due; answers how many ended.

        Raises StoreError while the catalog cannot be asked.
        """
        if not self._disk.number or not self._disk.writable:
            return 0
        query = ReadReencodes(worker=self._disk.number)
        head, read = await self._meta.query_with_head(query, ReencodesRead)
        self._disk.require_generation(head.generation)
        now_s = self._clock.monotonic_s()
        open_now = {task.task for task in read.tasks}
        self._again_at_s = {n: s for n, s in self._again_at_s.items() if n in open_now}
        due = [task for task in read.tasks if self._again_at_s.get(task.task, 0.0) <= now_s]
        if not due:
            return 0
        free = asyncio.Semaphore(AT_ONCE)
        return sum(await asyncio.gather(*(self._one(task, free) for task in due)))

    async def _one(self, task: OpenReencode, free: asyncio.Semaphore) -> bool:
        """Whether the task has ended."""
        async with free:
            try:
                await self._carry_out(task)
            except (StoreError, OSError) as error:
                self.done.failed_count += 1
                self._again_at_s[task.task] = self._clock.monotonic_s() + TRY_AGAIN_S
                log.warning(
                    "reencode_failed",
                    extra={"task": task.task, "reason": str(error), **self._where()},
                )
                return False
        return True

    async def _carry_out(self, task: OpenReencode) -> None:
        await self._pace.pass_bytes(write_bytes(task))
        cost_bytes = memory_bytes(task)
        await take_spare(self._budget, cost_bytes, self._clock)
        try:
            peers = await Peers.now(self._described)
            good = await self._puller.shards(task.stripe, peers)
            recoded = await asyncio.to_thread(self._recoded, task, good)
            del good
            stripe, slots = await self._send(task, recoded, peers)
        finally:
            self._budget.give(cost_bytes)
        draft = draft_of(task, stripe, recoded, slots)
        self._count(
            await self._meta.propose(Reencode(task=task.task, draft=draft), Reencoded), task
        )

    def _recoded(self, task: OpenReencode, good: Mapping[int, bytes]) -> Recoded:
        return recode(self._codec(), task, good)

    async def _send(
        self, task: OpenReencode, recoded: Recoded, peers: Peers
    ) -> tuple[StripeId, tuple[Slot, ...]]:
        """Its birth is taken before the first shard leaves (SAFETY rule 1)."""
        stripe = stripe_id(self._meta.catalog_time_ms, self._random(10))
        placement = place(stripe, task.profile, await self._targets())
        coding = reed_solomon(task.profile)
        if placement.coding != coding:
            raise TooFewNodes(f"Too few living nodes take shards for {task.profile}.")
        slots = [Slot(index, 0, disk) for index, disk in enumerate(placement.disks)]
        states = await asyncio.gather(
            *(self._put(task, stripe, slot, recoded, peers) for slot in slots)
        )
        return stripe, tuple(
            Slot(slot.index, 0, slot.disk, state) for slot, state in zip(slots, states, strict=True)
        )

    async def _put(
        self, task: OpenReencode, stripe: StripeId, slot: Slot, recoded: Recoded, peers: Peers
    ) -> SlotState:
        shard, crc = recoded.shards[slot.index], recoded.shard_crcs[slot.index]
        peer = peers.of(slot)
        try:
            if peer is None:
                raise PeerUnreachable(f"Disk {slot.disk} is not known.")
            await self._blobs.put_shard(
                peer.url,
                peer.uuid,
                ShardIdentity(stripe, slot.index, 0),
                reed_solomon(task.profile),
                shard,
                crc,
                deadline_s=SHARD_DEADLINE_S,
            )
        except StoreError as error:
            self._avoided_until_s[slot.disk] = self._clock.monotonic_s() + AVOID_S
            log.warning(
                "shard_not_stored",
                extra={"task": task.task, "on_disk": slot.disk, "reason": error.message},
            )
            return SlotState.MISSING
        self.done.written_bytes += len(shard)
        return SlotState.GOOD

    async def _targets(self) -> Sequence[Target]:
        now_s = self._clock.monotonic_s()
        avoided = {disk for disk, until_s in self._avoided_until_s.items() if now_s < until_s}
        described = await self._described.newest()
        return [
            replace(target, weight=0.0) if target.disk in avoided else target
            for target in targets_of(described.nodes)
        ]

    def _count(self, result: Reencoded, task: OpenReencode) -> None:
        if result.done:
            self.done.stripes += 1
            self.done.plain_bytes += task.stripe.plain_bytes
            return
        self.done.useless_stripes += 1
        log.info("reencode_useless", extra={"task": task.task, "why": result.why, **self._where()})

    def _where(self) -> dict[str, object]:
        return {"disk": self._disk.number, "folder": str(self._disk.folder)}
