"""One disk's tasks: each shard is pulled, stored under the task's number, and named.

The task was written before a byte was pulled and stays until the catalog has ended it, so
whatever dies in between, the next look goes on: a shard that is stored already is not stored
again, and one that will never be named is in trash (SAFETY rules 3, 10).
"""

import asyncio
import logging
from dataclasses import dataclass

from blobd.described import Described
from blobd.disks import DataDisk
from blobd.repair.pace import Pace
from blobd.repair.peers import Peers
from blobd.repair.pull import Pulled, Puller
from blobd.repair.spare import take_spare
from osscore.digests import crc32c
from osscore.errors import StoreError
from osscore.model import ShardIdentity
from ossd.budget import ByteBudget
from ossd.clock import Clock
from ossd.disk import Bytes
from raftmeta.client import MetaClient
from raftmeta.moving import REPAIR, MoveSlot, OpenTask, ReadTasks, SlotMoved, TasksRead

IDLE_S = 1.0
AT_ONCE = 4
"""Tasks of one disk under way together: one is fetched while another is synced."""
PAGE = 32
TRY_AGAIN_S = 5.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Moved:
    """What one disk did. `read_bytes`: fetched for it from other disks."""

    rebuilt_shards: int = 0
    rebuilt_bytes: int = 0
    copied_shards: int = 0
    copied_bytes: int = 0
    read_bytes: int = 0
    useless_shards: int = 0
    failed_count: int = 0


class Mover:
    """Works on the tasks whose target is one disk. `run` never ends; cancel it.

    `pace`: shared by all that is written to that disk beside requests.
    """

    def __init__(
        self,
        disk: DataDisk,
        puller: Puller,
        *,
        described: Described,
        meta: MetaClient,
        budget: ByteBudget,
        clock: Clock,
        pace: Pace,
    ) -> None:
        self._disk = disk
        self._puller = puller
        self._described = described
        self._meta = meta
        self._budget = budget
        self._clock = clock
        self._pace = pace
        self._moving = asyncio.Lock()
        self._again_at_s: dict[int, float] = {}
        self.moved = Moved()

    async def run(self) -> None:
        """Page after page; what fails is logged and tried again."""
        while True:
            try:
                did_count = await self.step()
            except (StoreError, OSError) as error:
                log.warning("moves_paused", extra={"reason": str(error), **self._where()})
                did_count = 0
            if not did_count:
                await self._clock.sleep(IDLE_S)

    async def step(self) -> int:
        """Work on a page of tasks that are due; answers how many ended.

        Raises StoreError while the catalog cannot be asked or the disk takes no writes.
        """
        if not self._disk.number or not self._disk.writable:
            return 0
        query = ReadTasks(target=self._disk.number, limit=PAGE)
        head, read = await self._meta.query_with_head(query, TasksRead)
        self._disk.require_generation(head.generation)
        now_s = self._clock.monotonic_s()
        open_now = {task.task for task in read.tasks}
        self._again_at_s = {n: s for n, s in self._again_at_s.items() if n in open_now}
        due = [task for task in read.tasks if self._again_at_s.get(task.task, 0.0) <= now_s]
        if not due:
            return 0
        peers = await Peers.now(self._described)
        free = asyncio.Semaphore(AT_ONCE)
        return sum(await asyncio.gather(*(self._one(task, peers, free) for task in due)))

    async def _one(self, task: OpenTask, peers: Peers, free: asyncio.Semaphore) -> bool:
        """Whether the task has ended."""
        async with free:
            try:
                await self._carry_out(task, peers)
            except (StoreError, OSError) as error:
                self.moved.failed_count += 1
                self._again_at_s[task.task] = self._clock.monotonic_s() + TRY_AGAIN_S
                log.warning(
                    "task_failed",
                    extra={"task": task.task, "reason": str(error), **self._where()},
                )
                return False
        return True

    async def _carry_out(self, task: OpenTask, peers: Peers) -> None:
        stripe = task.stripe
        cost_bytes = stripe.shard_bytes * (stripe.coding.data_count + 1)
        await take_spare(self._budget, cost_bytes, self._clock)
        try:
            await self._write(task, peers)
        finally:
            self._budget.give(cost_bytes)
        done = await self._meta.propose(MoveSlot(task=task.task), SlotMoved)
        if not done.moved:
            self.moved.useless_shards += 1
            log.info("task_useless", extra={"task": task.task, "why": done.why, **self._where()})

    async def _write(self, task: OpenTask, peers: Peers) -> None:
        stripe = task.stripe
        identity = ShardIdentity(stripe.stripe, task.index, task.task)
        store, crc = self._disk.writable_store, stripe.shard_crcs[task.index]
        body = await self._earlier(identity, crc)
        if body is None:
            pulled = await self._pulled(task, peers)
            body = pulled.body
            self._count(len(body), pulled.read_bytes, is_copy=pulled.is_copy)
        # Also what an earlier attempt left: durable is what the store says now.
        await store.put(identity, stripe.coding, crc, body)

    async def _pulled(self, task: OpenTask, peers: Peers) -> Pulled:
        """What is moved is fetched one by one: shards whose pieces take turns would all be whole,
        and written and synced, in the same moment."""
        if task.reason == REPAIR:
            return await self._puller.pull(task, peers, self._pace)
        async with self._moving:
            return await self._puller.pull(task, peers, self._pace)

    async def _earlier(self, identity: ShardIdentity, crc: int) -> Bytes | None:
        """What an attempt before a crash has stored, reread."""
        try:
            body = (await self._disk.store.get(identity)).body
        except StoreError:
            return None
        return body if crc32c(body) == crc else None

    def _count(self, size_bytes: int, read_bytes: int, *, is_copy: bool) -> None:
        moved = self.moved
        moved.read_bytes += read_bytes
        if is_copy:
            moved.copied_shards += 1
            moved.copied_bytes += size_bytes
        else:
            moved.rebuilt_shards += 1
            moved.rebuilt_bytes += size_bytes

    def _where(self) -> dict[str, object]:
        return {"disk": self._disk.number, "folder": str(self._disk.folder)}
