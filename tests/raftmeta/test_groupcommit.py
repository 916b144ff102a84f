"""Group commit in front of a replica that the test controls."""

import asyncio

import msgspec
import pytest

from osscore.errors import NotLeader, OutcomeUnknown, Overloaded, StoreError
from raftmeta import groupcommit
from raftmeta.admission import rows_of
from raftmeta.commands import CreateBucket, Done, Refused
from raftmeta.engine import Applied
from raftmeta.entries import Batch, Entry
from raftmeta.groupcommit import GroupCommit
from tests.fakes.clock import ManualClock
from tests.raftmeta.waiting import until


class HeldReplica:
    """Implements groupcommit.Proposer; answers when the test says so."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._answers: list[asyncio.Future[Applied]] = []

    async def propose_entry(self, blob: bytes) -> Applied:
        self.batches.append(msgspec.msgpack.decode(blob, type=Batch))
        self._answers.append(asyncio.get_running_loop().create_future())
        return await self._answers[-1]

    def answer(self, at: int, outcome: StoreError | None = None) -> None:
        if outcome is not None:
            self._answers[at].set_exception(outcome)
            return
        results = [
            Refused(refusal="Conflict", message=entry.command.bucket)
            for entry in self.batches[at].entries
        ]
        self._answers[at].set_result(Applied(100 + at, results))


def entry(name: str) -> Entry:
    return Entry(session=1, seq=1, command=CreateBucket(bucket=name))


def names(batch: Batch) -> list[str]:
    return [item.command.bucket for item in batch.entries]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_commands_that_arrive_while_batches_are_in_flight_form_the_next():
    replica = HeldReplica()
    commits = GroupCommit(replica, ManualClock(now_ms=77))
    calls = []
    for name in "abcde":
        calls.append(asyncio.ensure_future(commits.submit([entry(name)])))
        await settle()
    assert [names(batch) for batch in replica.batches] == [["a"], ["b"]]
    replica.answer(0)
    await settle()
    assert names(replica.batches[2]) == ["c", "d", "e"]
    assert replica.batches[2].time_ms == 77
    replica.answer(1)
    replica.answer(2)
    outcomes = await asyncio.gather(*calls)
    assert [(index, results[0].message) for index, results in outcomes] == [
        (100, "a"),
        (101, "b"),
        (102, "c"),
        (102, "d"),
        (102, "e"),
    ]


async def test_batch_is_bounded_in_commands_and_bytes_and_submissions_stay_whole(monkeypatch):
    monkeypatch.setattr(groupcommit, "BATCH_ROWS_MAX", 1 << 30)
    replica = HeldReplica()
    commits = GroupCommit(replica, ManualClock())
    calls = [asyncio.ensure_future(commits.submit([entry("first")])) for _ in range(2)]
    await settle()
    for count in (500, 10, 5, 1):
        calls.append(asyncio.ensure_future(commits.submit([entry("x")] * count)))
    big = [entry("y" * 600_000)]
    calls += [asyncio.ensure_future(commits.submit(big)) for _ in range(2)]
    await settle()
    for at in range(6):
        if at < len(replica.batches):
            replica.answer(at)
        await settle()
    sizes = [len(batch.entries) for batch in replica.batches]
    assert sizes == [1, 1, 510, 7, 1]
    await asyncio.gather(*calls)


@pytest.mark.parametrize("error", [NotLeader(), OutcomeUnknown()])
async def test_failed_batch_fails_all_of_its_callers_and_the_next_goes_on(error):
    replica = HeldReplica()
    commits = GroupCommit(replica, ManualClock())
    first = asyncio.ensure_future(commits.submit([entry("a")]))
    await settle()
    replica.answer(0, error)
    with pytest.raises(type(error)):
        await first
    second = asyncio.ensure_future(commits.submit([entry("b")]))
    await settle()
    replica.answer(1)
    assert (await second)[0] == 101


async def test_cancelled_caller_disturbs_nobody_in_its_batch():
    replica = HeldReplica()
    commits = GroupCommit(replica, ManualClock())
    blockers = [asyncio.ensure_future(commits.submit([entry("z")])) for _ in range(2)]
    await settle()
    calls = [asyncio.ensure_future(commits.submit([entry(name)])) for name in "abc"]
    await settle()
    calls[1].cancel()
    replica.answer(0)
    await settle()
    replica.answer(1)
    replica.answer(2)
    assert [results[0].message for _, results in await asyncio.gather(calls[0], calls[2])] == [
        "a",
        "c",
    ]
    await asyncio.gather(*blockers)


async def test_too_much_waiting_is_refused_before_anything_is_logged(monkeypatch):
    monkeypatch.setattr(groupcommit, "WAITING_BYTES_MAX", 100)
    commits = GroupCommit(HeldReplica(), ManualClock())
    with pytest.raises(Overloaded):
        await commits.submit([entry("x" * 200)])


async def test_batch_is_what_the_catalog_decodes():
    replica = HeldReplica()
    commits = GroupCommit(replica, ManualClock(now_ms=5))
    call = asyncio.ensure_future(commits.submit([entry("a"), entry("b")]))
    await settle()
    assert replica.batches == [Batch(time_ms=5, entries=(entry("a"), entry("b")))]
    replica.answer(0)
    index, results = await call
    assert index == 100 and len(results) == 2 and Done() not in results


@pytest.mark.parametrize("lost", [False, True])
async def test_no_batch_is_more_work_than_apply_may_do_at_once(monkeypatch, lost):
    monkeypatch.setattr(groupcommit, "BATCH_ROWS_MAX", 3 * rows_of(entry("a").command))
    replica = HeldReplica()
    commit = GroupCommit(replica, ManualClock())
    names = [f"b{number}" for number in range(7)]
    running = asyncio.create_task(commit.submit([entry(name) for name in names]))
    await until(lambda: len(replica.batches) == 2)
    replica.answer(0)
    await until(lambda: len(replica.batches) == 3)
    replica.answer(1)
    replica.answer(2, NotLeader() if lost else None)
    assert [len(batch.entries) for batch in replica.batches] == [3, 3, 1]
    if lost:
        # Some were applied: "surely not applied" would be a lie.
        with pytest.raises(OutcomeUnknown):
            await running
        return
    index, results = await running
    assert index == 102
    assert [result.message for result in results] == names
