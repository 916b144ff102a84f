"""What a metanode does while it leads: its stewards, begun and ended with a leadership."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from osscore.errors import OutcomeUnknown
from osscore.model import Profile
from ossd.clock import Clock
from ossd.rpc import AioRpc
from ossd.run import Stopper
from raftmeta.archive.client import ArchiveClient
from raftmeta.archived import ArchiveState
from raftmeta.client import read_status
from raftmeta.commands import (
    Collect,
    Collected,
    ConfirmTime,
    Done,
    PruneVersions,
    Refused,
    VersionsPruned,
)
from raftmeta.entries import AnyResult, Entry
from raftmeta.expiring import ExpiringFound
from raftmeta.healing import HealingState, JudgeDisk
from raftmeta.lifecycle import Expired, ExpireObject, ExpireVersions, LifecycleState
from raftmeta.moving import (
    CloseTasks,
    CountDamagedObjects,
    DamagedObjectsCounted,
    OpenTasks,
    StripesOfDisk,
    StripesPlanned,
    TasksListed,
    TasksOpened,
)
from raftmeta.nodes import NodeWatch
from raftmeta.queries import (
    BucketInfo,
    BucketsListed,
    CatalogCounted,
    ClusterDescribed,
    CountCatalog,
    ListBuckets,
    PrunableFound,
    PruningState,
)
from raftmeta.questions import AnyQuery
from raftmeta.reencoding import (
    CloseReencodes,
    FinishReencode,
    ListReencodes,
    OpenReencodes,
    ReencodableFound,
    ReencodesListed,
    ReencodesOpened,
)
from raftmeta.snapshots import SnapshotDesk
from raftmeta.stewards.archiveseams import ArchivingSeams
from raftmeta.stewards.archiving import Archiving
from raftmeta.stewards.collection import Collection
from raftmeta.stewards.healing import Healing, HealingSeams
from raftmeta.stewards.judging import Judging, Limits
from raftmeta.stewards.lifecycle import Expiring
from raftmeta.stewards.othersroom import OthersRoom
from raftmeta.stewards.pruning import Pruning
from raftmeta.stewards.reencoding import Reencoding, ReencodingSeams
from raftmeta.stewards.timekeeping import Timekeeping, gather_clocks
from raftmeta.voter import Voter

R = TypeVar("R")
Unremembered = (
    Collect
    | ConfirmTime
    | PruneVersions
    | ExpireObject
    | ExpireVersions
    | JudgeDisk
    | OpenTasks
    | CloseTasks
    | OpenReencodes
    | CloseReencodes
    | FinishReencode
)
"""Commands that need no session: repeating one is harmless."""


class Leading:
    """Owns the stewards' tasks. `begin` and `end` may be called at every tick."""

    def __init__(
        self,
        *,
        rpc: AioRpc,
        clock: Clock,
        stopper: Stopper,
        watch: NodeWatch,
        grace_ms: int,
        repair_delay_s: float,
        may_copy: Callable[[], bool],
    ) -> None:
        self._rpc = rpc
        self._clock = clock
        self._stopper = stopper
        self._watch = watch
        self._grace_ms = grace_ms
        self._repair_delay_s = repair_delay_s
        self._may_copy = may_copy
        self._others_room = OthersRoom()
        self._archiving: Archiving | None = None
        self._pruning: Pruning | None = None
        self._expiring: Expiring | None = None
        self._judging: Judging | None = None
        self._healing: Healing | None = None
        self._reencoding: Reencoding | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def allows_growth(self) -> bool:
        """Whether enough of the other metanodes have room (SAFETY rule 14)."""
        return self._others_room.allows_growth

    @property
    def pruning(self) -> PruningState | None:
        """How far pruning is; None unless this metanode leads."""
        if self._pruning is None:
            return None
        progress = self._pruning.progress
        return PruningState(
            buckets=progress.buckets,
            buckets_done=progress.buckets_done,
            keys_visited=progress.keys_visited,
            removed=progress.removed,
            last_round_s_ago=self._ago_s(progress.finished_at_s),
        )

    @property
    def lifecycle(self) -> LifecycleState | None:
        """How far expiry is; None unless this metanode leads."""
        if self._expiring is None:
            return None
        progress = self._expiring.progress
        return LifecycleState(
            buckets=progress.buckets,
            buckets_done=progress.buckets_done,
            objects=progress.objects,
            removed=progress.removed,
            last_round_s_ago=self._ago_s(progress.finished_at_s),
        )

    def _ago_s(self, finished_s: float | None) -> float:
        return -1.0 if finished_s is None else self._clock.monotonic_s() - finished_s

    @property
    def healing(self) -> HealingState | None:
        """What is to be healed; None unless this metanode leads."""
        if self._judging is None or self._healing is None or self._reencoding is None:
            return None
        return msgspec.structs.replace(
            self._healing.state, alarm=self._judging.alarm, reencoding=self._reencoding.state
        )

    @property
    def archive(self) -> ArchiveState | None:
        """How far the catalog is archived; None unless this metanode leads."""
        return None if self._archiving is None else self._archiving.state

    def begin(self, voter: Voter, desk: SnapshotDesk) -> None:
        """Start the stewards unless they run. `desk`: where copies of this catalog are made."""
        if self._tasks:
            return
        me = voter.identity.id

        def urls() -> list[str]:
            members = voter.replica.state.configuration.members
            return [member.url for member in members if member.id != me]

        self._others_room = OthersRoom()
        ask = partial(read_status, self._rpc)
        self._spawn(self._others_room.watch(urls, ask, clock=self._clock), "others-room")
        self._spawn(self._collection(voter).run(), "collection")
        self._spawn(self._timekeeping(voter, urls).run(), "timekeeping")
        self._pruning = self._make_pruning(voter)
        self._spawn(self._pruning.run(), "pruning")
        self._expiring = self._make_expiring(voter)
        self._spawn(self._expiring.run(), "lifecycle")
        self._judging = self._make_judging(voter)
        self._spawn(self._judging.run(), "judging")
        self._healing = self._make_healing(voter)
        self._spawn(self._healing.run(), "healing")
        self._archiving = self._make_archiving(voter, desk)
        self._spawn(self._archiving.run(), "archiving")
        self._reencoding = self._make_reencoding(voter)
        self._spawn(self._reencoding.run(), "reencoding")

    async def end(self) -> None:
        """Stop them and wait for their end."""
        tasks, self._tasks = self._tasks, []
        self._pruning = self._expiring = self._judging = self._healing = self._archiving = None
        self._reencoding = None
        for task in tasks:
            await end_task(task)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(self._stopper.tasks.spawn(work, name=name))

    def _collection(self, voter: Voter) -> Collection:
        return Collection(
            count=voter.count,
            propose=expecting(Collected, proposing(voter)),
            clock=self._clock,
            grace_ms=self._grace_ms,
        )

    def _timekeeping(self, voter: Voter, urls: Callable[[], list[str]]) -> Timekeeping:
        return Timekeeping(
            catalog_time_ms=lambda: voter.catalog.head.catalog_time_ms,
            has_jumped=lambda: voter.count().time_jumped,
            other_clocks_ms=lambda: gather_clocks(urls(), self._ask_clock),
            propose=proposing(voter),
            clock=self._clock,
            grace_ms=self._grace_ms,
        )

    def _make_pruning(self, voter: Voter) -> Pruning:
        return Pruning(
            buckets=partial(all_buckets, voter),
            find=lambda query: asking(voter, query, PrunableFound),
            propose=expecting(VersionsPruned, proposing(voter)),
            clock=self._clock,
        )

    def _make_expiring(self, voter: Voter) -> Expiring:
        return Expiring(
            buckets=partial(all_buckets, voter),
            find=lambda query: asking(voter, query, ExpiringFound),
            propose=partial(propose_together, voter),
            clock=self._clock,
        )

    def _described(self, voter: Voter) -> ClusterDescribed:
        return voter.describe(self._watch.soft_state(now_s=self._clock.monotonic_s()))

    def _make_judging(self, voter: Voter) -> Judging:
        async def is_repaired(disk: int) -> bool:
            question = StripesOfDisk(disk=disk, limit=1)
            return not (await asking(voter, question, StripesPlanned)).stripes

        return Judging(
            nodes=lambda: self._described(voter).nodes,
            silences=self._watch.silences,
            is_repaired=is_repaired,
            propose=expecting(Done, proposing(voter)),
            clock=self._clock,
            limits=Limits(
                suspect_s=self._watch.suspect_s,
                down_s=self._watch.down_s,
                lost_s=max(self._repair_delay_s, self._watch.down_s),
            ),
        )

    def _make_healing(self, voter: Voter) -> Healing:
        seams = HealingSeams(
            described=lambda: self._described(voter),
            count=lambda: asking(voter, CountCatalog(), CatalogCounted),
            read=lambda query: asking(voter, query, StripesPlanned),
            look_up=lambda query: asking(voter, query, StripesPlanned),
            list_tasks=lambda query: asking(voter, query, TasksListed),
            count_objects=lambda: asking(voter, CountDamagedObjects(), DamagedObjectsCounted),
            open_tasks=expecting(TasksOpened, proposing(voter)),
            close_tasks=expecting(Done, proposing(voter)),
        )
        return Healing(seams, self._clock)

    def _make_archiving(self, voter: Voter, desk: SnapshotDesk) -> Archiving:
        async def profiles() -> Sequence[Profile | None]:
            listed = await asking(voter, ListBuckets(), BucketsListed)
            return [bucket.profile for bucket in listed.buckets]

        seams = ArchivingSeams(
            described=lambda: self._described(voter),
            profiles=profiles,
            applied_index=lambda: voter.replica.applied_index,
            read_log=lambda first, bytes_max: voter.replica.applied_entries(
                first, bytes_max=bytes_max
            ),
            packed=desk.packed,
            may_copy=self._may_copy,
            client=ArchiveClient(self._rpc),
        )
        return Archiving(seams, self._clock)

    def _make_reencoding(self, voter: Voter) -> Reencoding:
        seams = ReencodingSeams(
            described=lambda: self._described(voter),
            listed=lambda: asking(voter, ListReencodes(), ReencodesListed),
            find=lambda query: asking(voter, query, ReencodableFound),
            look_up=lambda query: asking(voter, query, StripesPlanned),
            open_tasks=expecting(ReencodesOpened, proposing(voter)),
            close_tasks=expecting(Done, proposing(voter)),
            finish=expecting(Done, proposing(voter)),
        )
        return Reencoding(seams, self._clock)

    async def _ask_clock(self, url: str) -> int:
        return (await read_status(self._rpc, url)).clock_ms


def proposing(voter: Voter) -> Callable[[Unremembered], Awaitable[AnyResult]]:
    """A function that has one command applied through this leader's own log."""

    async def propose(command: Unremembered) -> AnyResult:
        entry = Entry(session=0, seq=0, command=command)
        return (await voter.propose([entry], admits_writes=True)).results[0]

    return propose


def expecting(
    kind: type[R], propose: Callable[[Unremembered], Awaitable[AnyResult]]
) -> Callable[[Unremembered], Awaitable[R]]:
    """The same for commands with one kind of result; a refusal is raised."""

    async def expect(command: Unremembered) -> R:
        return _expected(command, await propose(command), kind)

    return expect


async def propose_together(
    voter: Voter, commands: Sequence[ExpireObject | ExpireVersions]
) -> list[Expired]:
    """Have several commands applied, in this order. Raises the first refusal."""
    entries = [Entry(session=0, seq=0, command=command) for command in commands]
    results = (await voter.propose(entries, admits_writes=True)).results
    return [_expected(*each, Expired) for each in zip(commands, results, strict=True)]


def _expected(command: Unremembered, result: AnyResult, kind: type[R]) -> R:
    if isinstance(result, Refused):
        raise result.error()
    if not isinstance(result, kind):
        raise OutcomeUnknown(f"{type(command).__name__} answered {result}.")
    return result


async def all_buckets(voter: Voter) -> Sequence[BucketInfo]:
    """Buckets as this replica knows them."""
    return (await asking(voter, ListBuckets(), BucketsListed)).buckets


async def asking(voter: Voter, query: AnyQuery, kind: type[R]) -> R:
    """What this replica's catalog answers now. Raises the refusal."""
    answer = await voter.ask(query)
    if isinstance(answer, Refused):
        raise answer.error()
    assert isinstance(answer, kind)
    return answer


async def end_task(task: asyncio.Task[None] | None) -> None:
    """Cancel a task and wait for its end. What it raised is reported by its owner."""
    if task is not None:
        task.cancel()
        await asyncio.wait({task})
