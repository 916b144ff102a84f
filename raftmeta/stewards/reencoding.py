"""The leader's eye on stripes that are to be encoded anew: those of jobs, and replicas.

Level-triggered: walk after walk looks at the stripes as they are now, so nothing is kept that the
next leader would need, and a job ends when a whole walk finds nothing left for it. Few tasks are
open at a time; which daemon carries one out does not matter, only that it lives.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from osscore.errors import StoreError
from ossd.clock import Clock
from raftmeta.healing import REENCODING, ReencodingState
from raftmeta.moving import StripesAt, StripesPlanned
from raftmeta.queries import ClusterDescribed
from raftmeta.reencoding import (
    REPLICAS,
    RUNNING,
    TASKS_AT_ONCE,
    CloseReencodes,
    FindReencodable,
    FinishReencode,
    OpenReencodes,
    ReencodableFound,
    ReencodeDraft,
    ReencodeJob,
    ReencodesListed,
    ReencodesOpened,
    ReencodeTask,
)
from raftmeta.stewards.fleet import Fleet
from raftmeta.stewards.rate import Rate
from raftmeta.stewards.recoding import Wish, Workers, plan_reencode
from raftmeta.stewards.rewalk import Rewalk
from raftmeta.stewards.useless import TASK_AGE_MS

IDLE_S = 2.0
BUSY_S = 0.25
PAGES_PER_ROUND = 8
ROWS_AT_ONCE = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReencodingSeams:
    """`described`: the cluster as this leader knows it now. `listed`, `find` and `look_up` look
    at the local catalog, the others replicate."""

    described: Callable[[], ClusterDescribed]
    listed: Callable[[], Awaitable[ReencodesListed]]
    find: Callable[[FindReencodable], Awaitable[ReencodableFound]]
    look_up: Callable[[StripesAt], Awaitable[StripesPlanned]]
    open_tasks: Callable[[OpenReencodes], Awaitable[ReencodesOpened]]
    close_tasks: Callable[[CloseReencodes], Awaitable[object]]
    finish: Callable[[FinishReencode], Awaitable[object]]


class Reencoding:
    """One steward."""

    def __init__(self, seams: ReencodingSeams, clock: Clock) -> None:
        self._seams = seams
        self._clock = clock
        self._walks: dict[int, Rewalk] = {}
        self._rate = Rate()
        self._tasks: tuple[ReencodeTask, ...] = ()

    @property
    def state(self) -> ReencodingState:
        """What there is to do, as far as known."""
        return ReencodingState(
            progress=tuple(walk.progress for walk in self._walks.values()),
            tasks=len(self._tasks),
            bytes_per_s=self._rate.per_s,
        )

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            pause_s = IDLE_S
            try:
                if await self.round():
                    pause_s = BUSY_S
            except StoreError as error:
                # No leader any more, or not sure: the next leader goes on by itself.
                log.info("reencoding_waits", extra={"reason": error.message})
            await self._clock.sleep(pause_s)

    async def round(self) -> bool:
        """Close what is of no use, walk on, open what may be; whether anything is under way.
        Raises StoreError."""
        listed = await self._seams.listed()
        self._rate.note(listed.total_bytes, now_s=self._clock.monotonic_s())
        described = self._seams.described()
        fleet, is_paused = Fleet(described.nodes), REENCODING in described.paused
        jobs = {job.job: job for job in listed.jobs if job.state == RUNNING}
        self._tasks = await self._close_useless(listed.tasks, fleet, jobs, is_paused=is_paused)
        self._follow(jobs, listed)
        workers = Workers(fleet, self._tasks)
        for number, walk in list(self._walks.items()):
            done = jobs[number].stripes if number in jobs else listed.total_stripes
            await walk.advance(self._seams.find, done_stripes=done, pages_max=PAGES_PER_ROUND)
            if not is_paused:
                await self._open(walk, jobs.get(number), fleet, workers)
            if number in jobs and walk.is_clean and not self._has_tasks(number):
                await self._seams.finish(
                    FinishReencode(job=number, kept_stripes=walk.progress.kept_stripes)
                )
                log.info("reencoded", extra={"bucket": jobs[number].bucket, "job": number})
        return bool(jobs) or bool(self._tasks)

    def _follow(self, jobs: dict[int, ReencodeJob], listed: ReencodesListed) -> None:
        """One walk for each job that runs, and one for replicas."""
        now_ms = self._clock.now_ms()
        self._walks = {
            number: self._walks.get(number)
            or Rewalk(number, self._clock, begun_ms_ago=now_ms - jobs[number].begun_at_ms)
            if number
            else self._walks.get(REPLICAS) or Rewalk(REPLICAS, self._clock)
            for number in (REPLICAS, *sorted(jobs))
        }

    def _has_tasks(self, job: int) -> bool:
        return any(task.job == job for task in self._tasks)

    async def _close_useless(
        self,
        tasks: Sequence[ReencodeTask],
        fleet: Fleet,
        jobs: dict[int, ReencodeJob],
        *,
        is_paused: bool,
    ) -> tuple[ReencodeTask, ...]:
        """Answers those that stay."""
        now_ms = self._clock.now_ms()

        def why(task: ReencodeTask) -> str:
            worker = fleet.disks.get(task.worker)
            if worker is None or worker.is_unfit:
                return "unfit"
            if now_ms - task.opened_at_ms > TASK_AGE_MS:
                return "old"
            if is_paused:
                return "paused"
            return "ended" if task.job != REPLICAS and task.job not in jobs else ""

        useless = [task.task for task in tasks if why(task)]
        for start in range(0, len(useless), TASKS_AT_ONCE):
            some = tuple(useless[start:][:TASKS_AT_ONCE])
            await self._seams.close_tasks(CloseReencodes(tasks=some))
        if useless:
            log.info("reencodes_closed", extra=dict(Counter(filter(None, map(why, tasks)))))
        return tuple(task for task in tasks if not why(task))

    async def _open(
        self, walk: Rewalk, job: ReencodeJob | None, fleet: Fleet, workers: Workers
    ) -> None:
        drafts: list[ReencodeDraft] = []
        obstacles: Counter[str] = Counter()
        looked = 0
        while workers.has_room and len(drafts) < TASKS_AT_ONCE and looked < 4 * ROWS_AT_ONCE:
            rows = walk.take(ROWS_AT_ONCE)
            if not rows:
                break
            looked += len(rows)
            for planned in (await self._seams.look_up(StripesAt(rows=tuple(rows)))).stripes:
                stripe = planned.stripe
                wish = Wish(stripe, job.profile if job else stripe.profile, walk.job)
                if not workers.has_room or len(drafts) == TASKS_AT_ONCE:
                    walk.put_back(stripe.row)
                    continue
                plan = plan_reencode(wish, fleet, workers)
                if isinstance(plan, str):
                    obstacles[plan] += 1
                elif plan is not None:
                    drafts.append(plan)
        walk.note_obstacles(obstacles)
        if drafts:
            opened = (await self._seams.open_tasks(OpenReencodes(tasks=tuple(drafts)))).opened
            log.info("reencodes_opened", extra={"opened": opened, "planned": len(drafts)})
