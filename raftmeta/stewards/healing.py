"""The leader's plan: which shards are written anew, and where. The targets do the work.

Level-triggered: every round looks at the disks, the open tasks and the damage as they are now.
Few tasks are open at a time, so that a target always has work and no plan grows old; those that
are of no use any more are closed, and what they were for is planned anew.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from osscore.errors import StoreError
from ossd.clock import Clock
from raftmeta.healing import REBALANCING, REPAIRS, HealingState
from raftmeta.moving import (
    REBALANCE,
    REPAIR,
    TASKS_AT_ONCE,
    CloseTasks,
    DamagedObjectsCounted,
    ListTasks,
    OpenTasks,
    StripesAt,
    StripesPlanned,
    TaskDraft,
    TaskInfo,
    TasksListed,
    TasksOpened,
)
from raftmeta.queries import CatalogCounted, ClusterDescribed
from raftmeta.stewards.fleet import Budget, Fleet
from raftmeta.stewards.rate import Rate
from raftmeta.stewards.relocating import Relocating
from raftmeta.stewards.repairs import Underway, plan_repairs
from raftmeta.stewards.survey import ReadPage, Survey
from raftmeta.stewards.turns import in_turns
from raftmeta.stewards.useless import why_useless

IDLE_S = 1.0
BUSY_S = 0.5
PAGES_PER_ROUND = 20
ROWS_AT_ONCE = 100
LOOKS_PER_ROUND = 2000
"""Stripes that one round looks at, whatever becomes of them."""
WAITING_MAX = 200
"""A round ends after so many whose targets have enough to do; the next begins with others."""

OBJECTS_REST_S, OBJECTS_REST_S_MAX = 2.0, 15.0
"""Between two counts of the objects that damaged stripes belong to, and where these are many."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealingSeams:
    """`described`: the cluster as this leader knows it now. `count`, `read`, `look_up`,
    `list_tasks` and `count_objects` look at the local catalog, the others replicate."""

    described: Callable[[], ClusterDescribed]
    count: Callable[[], Awaitable[CatalogCounted]]
    read: ReadPage
    look_up: Callable[[StripesAt], Awaitable[StripesPlanned]]
    list_tasks: Callable[[ListTasks], Awaitable[TasksListed]]
    count_objects: Callable[[], Awaitable[DamagedObjectsCounted]]
    open_tasks: Callable[[OpenTasks], Awaitable[TasksOpened]]
    close_tasks: Callable[[CloseTasks], Awaitable[object]]


class Healing:
    """One steward."""

    def __init__(self, seams: HealingSeams, clock: Clock) -> None:
        self._seams = seams
        self._clock = clock
        self._survey = Survey(seams.read, clock)
        self._relocating = Relocating(seams.read, clock)
        self._rate = Rate()
        self._tasks: tuple[TaskInfo, ...] = ()
        self._rebalance_bytes = self._drain_bytes = 0
        self._objects = DamagedObjectsCounted(by_missing={})
        self._objects_due_s = clock.monotonic_s()

    @property
    def state(self) -> HealingState:
        """What there is to do, as far as known."""
        found = self._survey.shown
        return HealingState(
            is_surveyed=self._survey.is_whole,
            missing=dict(sorted(found.missing.items())),
            unreadable=found.unreadable,
            repair_bytes=found.repair_bytes,
            tasks=dict(Counter(task.reason for task in self._tasks)),
            task_bytes=sum(task.size_bytes for task in self._tasks),
            bytes_per_s=self._rate.per_s,
            rebalance_bytes=self._rebalance_bytes,
            drain_bytes=self._drain_bytes,
            objects=dict(self._objects.by_missing),
            objects_partial=self._objects.is_partial,
        )

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            pause_s = IDLE_S
            try:
                if await self.round():
                    pause_s = BUSY_S
            except StoreError as error:
                # No leader any more, or not sure: the next leader plans by itself.
                log.info("healing_waits", extra={"reason": error.message})
            await self._clock.sleep(pause_s)

    async def round(self) -> bool:
        """Close what is of no use, open what is most urgent; whether tasks are open. Raises
        StoreError."""
        moved_bytes = (await self._seams.count()).moved_bytes
        self._rate.note(moved_bytes, now_s=self._clock.monotonic_s())
        described = self._seams.described()
        fleet, paused = Fleet(described.nodes), described.paused
        tasks = await self._close_useless(fleet, await self._open_now(), paused)
        self._tasks = tuple(tasks)
        await self._survey.advance(fleet, pages_max=PAGES_PER_ROUND)
        budget = Budget(tasks)
        underway = {(task.row, task.index): task.target for task in tasks}
        if REPAIRS not in paused:
            await self._open(await self._repairs(fleet, budget, underway))
        if REBALANCING not in paused:
            drafts = await self._relocating.plan(fleet, budget, underway)
            if not drafts and self._is_calm(tasks):
                drafts = await self._relocating.rebalance(fleet, budget, underway, tasks)
            await self._open(drafts)
        self._rebalance_bytes = self._relocating.left_bytes(fleet)
        disks = (disk for node in described.nodes for disk in node.disks)
        self._drain_bytes = sum(disk.slot_bytes for disk in disks if disk.state == "draining")
        await self._count_objects()
        return bool(tasks) or self._survey.has_rows

    async def _count_objects(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s >= self._objects_due_s:
            self._objects = await self._seams.count_objects()
            is_much = self._objects.is_partial  # a tenth of a second of reading
            self._objects_due_s = now_s + (OBJECTS_REST_S_MAX if is_much else OBJECTS_REST_S)

    def _is_calm(self, tasks: Sequence[TaskInfo]) -> bool:
        """Whether nothing is under way that changes how full disks are, but balancing itself."""
        return not self._survey.has_rows and all(task.reason == REBALANCE for task in tasks)

    async def _open_now(self) -> list[TaskInfo]:
        page = await self._seams.list_tasks(ListTasks())
        tasks = list(page.tasks)
        while page.next:
            page = await self._seams.list_tasks(ListTasks(after=page.next))
            tasks += page.tasks
        return tasks

    async def _close_useless(
        self, fleet: Fleet, tasks: Sequence[TaskInfo], paused: Collection[str]
    ) -> list[TaskInfo]:
        """Answers those that stay."""
        now_ms = self._clock.now_ms()
        why = {task.task: why_useless(task, fleet, now_ms=now_ms, paused=paused) for task in tasks}
        useless = [task for task in tasks if why[task.task]]
        for start in range(0, len(useless), TASKS_AT_ONCE):
            some = useless[start:][:TASKS_AT_ONCE]
            await self._seams.close_tasks(CloseTasks(tasks=tuple(task.task for task in some)))
            rows = tuple(task.row for task in some if task.reason == REPAIR)
            for planned in (await self._seams.look_up(StripesAt(rows=rows))).stripes:
                self._survey.put_back(planned, fleet)
        reasons = Counter(reason for reason in why.values() if reason)
        if reasons:
            log.info("tasks_closed", extra=dict(reasons))
        return [task for task in tasks if not why[task.task]]

    async def _repairs(self, fleet: Fleet, budget: Budget, underway: Underway) -> list[TaskDraft]:
        drafts: list[TaskDraft] = []
        looked = waiting = 0
        while not budget.is_spent and looked < LOOKS_PER_ROUND and waiting < WAITING_MAX:
            rows = self._survey.take(ROWS_AT_ONCE)
            if not rows:
                break
            looked += len(rows)
            page = await self._seams.look_up(StripesAt(rows=tuple(rows)))
            async for planned in in_turns(page.stripes):
                repairs = plan_repairs(planned, fleet, budget, underway)
                drafts += repairs.drafts
                if repairs.waits:
                    self._survey.put_back(planned, fleet)
                    waiting += 1
        return drafts

    async def _open(self, drafts: Sequence[TaskDraft]) -> None:
        opened = 0
        for start in range(0, len(drafts), TASKS_AT_ONCE):
            some = tuple(drafts[start:][:TASKS_AT_ONCE])
            opened += (await self._seams.open_tasks(OpenTasks(tasks=some))).opened
        if drafts:
            log.info("tasks_opened", extra={"opened": opened, "planned": len(drafts)})
