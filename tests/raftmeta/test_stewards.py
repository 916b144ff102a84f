"""The standing work: quiet when there is nothing, bounded when there is."""

import asyncio

import pytest

from osscore.errors import NotLeader, NotReady
from raftmeta.commands import Collect, Collected
from raftmeta.queries import CatalogCounted
from raftmeta.stewards.collection import Collection, has_work
from raftmeta.stewards.logcutting import cut_for_ever, cut_if_due
from raftmeta.stewards.othersroom import would_lose_majority
from tests.fakes.clock import ManualClock
from tests.raftmeta.waiting import until

QUIET = CatalogCounted(
    buckets=3,
    versions=9,
    markers=1,
    stripes=4,
    dead_stripes=0,
    segments=4,
    uploads=0,
    trash=0,
    graveyard=0,
    sessions=0,
    logical_bytes=1,
    stored_bytes=1,
    missing={},
)


def counted(**changes: int) -> CatalogCounted:
    fields = {name: getattr(QUIET, name) for name in QUIET.__struct_fields__}
    return CatalogCounted(**{**fields, **changes})


class Log:
    """What was proposed, and what to answer."""

    def __init__(self) -> None:
        self.commands: list[Collect] = []
        self.answers: list[Collected | Exception] = []

    async def propose(self, command: Collect) -> Collected:
        self.commands.append(command)
        answer = self.answers.pop(0) if self.answers else Collected()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("what", ["dead_stripes", "uploads", "graveyard", "sessions", "trash"])
def test_whatever_may_fall_due_is_work(what: str) -> None:
    assert has_work(counted(**{what: 1}))
    assert not has_work(QUIET)


def test_an_idle_cluster_logs_nothing() -> None:
    log = Log()
    steward = Collection(
        count=lambda: QUIET, propose=log.propose, clock=ManualClock(), grace_ms=3_600_000
    )
    assert not asyncio.run(steward.step())
    assert log.commands == []


def test_collection_goes_on_while_it_finds_something_and_survives_a_lost_leader() -> None:
    async def story() -> None:
        log, clock = Log(), ManualClock()
        log.answers = [Collected(stripes=5), NotLeader(), Collected()]
        steward = Collection(
            count=lambda: counted(dead_stripes=5),
            propose=log.propose,
            clock=clock,
            grace_ms=3_600_000,
        )
        running = asyncio.ensure_future(steward.run())
        for step in (1, 2, 3):
            await until(lambda step=step: len(log.commands) == step and clock.sleeper_count)  # type: ignore[misc]
            clock.advance(0.3 if step == 1 else 31)
        await until(lambda: len(log.commands) == 4)
        assert log.commands[0] == Collect(grace_ms=3_600_000, rows_max=500)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(story())


class PretendedReplica:
    """Due until cut."""

    def __init__(self, *, stopped: bool = False) -> None:
        self.cut_due, self.stopped = True, stopped
        self.cuts: list[int] = []

    def cut_log(self, applied_index_durable: int) -> None:
        if self.stopped:
            raise NotReady()
        self.cut_due = False
        self.cuts.append(applied_index_durable)


def test_the_log_is_cut_only_behind_what_the_checkpoint_made_durable() -> None:
    async def checkpoint() -> int:
        return 41

    replica = PretendedReplica()
    assert asyncio.run(cut_if_due(replica, checkpoint))
    assert replica.cuts == [41]
    assert not asyncio.run(cut_if_due(replica, checkpoint))
    assert not asyncio.run(cut_if_due(PretendedReplica(stopped=True), checkpoint))


def test_a_failed_checkpoint_cuts_nothing_and_is_final() -> None:
    async def checkpoint() -> int:
        raise OSError("disk failed")

    async def story() -> None:
        replica, clock = PretendedReplica(), ManualClock()
        running = asyncio.ensure_future(cut_for_ever(replica, checkpoint, clock=clock))
        await until(lambda: clock.sleeper_count)
        clock.advance(1)
        with pytest.raises(OSError):
            await running
        assert replica.cuts == []

    asyncio.run(story())


@pytest.mark.parametrize(
    ("others", "is_reason"),
    [
        ((True, True), False),
        ((False, True), False),
        ((False, False), True),
        ((False, None), True),
        ((None, None), False),
        ((), False),
        ((False, False, True, True), False),
        ((False, False, None, True), True),
    ],
)
def test_growth_is_refused_before_a_majority_could_be_full(
    others: tuple[bool | None, ...], is_reason: bool
) -> None:
    assert would_lose_majority(others) == is_reason
