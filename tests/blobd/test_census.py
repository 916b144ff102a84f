"""Slots against inventory: what is counted, what is told to the catalog, and when (rule 11)."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blobd import census as census_module
from blobd.census import AGAIN_S, Census, CensusSettings, Confirm, agrees
from blobd.recheck import Rechecker
from osscore.errors import Conflict, CorruptShard, NoLeader, NotReady, StoreError
from osscore.model import ShardIdentity, SlotState
from ossd.budget import ByteBudget
from raftmeta.commands import Collect, Collected, DeleteVersion, Done, ObjectDeleted, SetDiskState
from raftmeta.moving import OpenTasks, ReadTasks, TaskDraft, TasksOpened, TasksRead
from raftmeta.queries import (
    ClusterDescribed,
    ExpectedSlot,
    ExpectedSlots,
    FindStrays,
    GetCluster,
    SlotsExpected,
)
from raftmeta.upkeep import DiskCensus
from raftmeta.wire import QUERY, QueryRequest
from tests.blobd.parts import Node, identity, node, put, run, until
from tests.blobd.slots import body_of, name_objects, states_of, store_shard
from tests.blobd.test_scrub import flip_bit_of

GRACE_S = 3600.0
GOOD, MISSING, BAD = SlotState.GOOD, SlotState.MISSING, SlotState.BAD
RARELY = CensusSettings(interval_s=1000.0, grace_s=GRACE_S, reread_bytes_per_s=10**9)


def census_of(
    found: Node, chosen: CensusSettings = RARELY, *, confirm: Confirm | None = None
) -> Census:
    rechecker = Rechecker(found.disks, meta=found.meta, budget=ByteBudget(1 << 24, wait_s=1))
    made = Census(
        found.first,
        rechecker=rechecker,
        meta=found.meta,
        clock=found.clock,
        settings=chosen,
        confirm=confirm,
    )
    found.upkeep.add_census(found.first, made)
    return made


async def walk(found: Node, worker: Census) -> DiskCensus:
    """One whole walk."""
    life = asyncio.create_task(_walk(worker))
    await until(life.done, clock=found.clock)
    return life.result()


async def _walk(worker: Census) -> DiskCensus:
    await worker.step()
    while worker.is_running:
        await worker.step()
    assert worker.last is not None
    return worker.last


def counts(told: DiskCensus) -> tuple[int, int, int]:
    return told.expected, told.present, told.missing


conditions = st.sampled_from(["good", "gone", "other", "corrupt"])
slots = st.lists(st.tuples(st.sampled_from([GOOD, MISSING, BAD]), conditions), max_size=7)


@given(slots=slots, page=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_slots_become_what_is_there_and_are_counted_so(
    slots: list[tuple[SlotState, str]], page: int
) -> None:
    async def story(folder: Path) -> None:
        async with node(folder) as found:
            shards = await name_objects(found, [state for state, _ in slots])
            for number, (shard, (_, condition)) in enumerate(zip(shards, slots, strict=True)):
                if condition != "gone":
                    await store_shard(found, shard, number, is_other=condition == "other")
                if condition == "corrupt":
                    flip_bit_of(found.first, body_of(number))
                    with pytest.raises(CorruptShard):
                        await found.first.store.get(shard)
            worker = census_of(found)
            whole = sum(condition == "good" for _, condition in slots)
            wanted = (len(slots), whole, len(slots) - whole)
            assert counts(await walk(found, worker)) == wanted
            for shard, (before, condition) in zip(shards, slots, strict=True):
                lost = MISSING if before is MISSING else BAD
                state = (await states_of(found))[shard]
                assert state == (GOOD if condition == "good" else lost)
            index = found.rpc.catalog.applied_index
            assert counts(await walk(found, worker)) == wanted
            assert found.rpc.catalog.applied_index == index  # nothing is said twice
            assert found.rpc.catalog.contradictions() == []

    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(census_module, "PAGE_ROWS", page)
        run(lambda: story(Path(folder)))


def test_nothing_is_read_that_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def story() -> None:
        async with node(tmp_path) as found:
            (shard,) = await name_objects(found, [GOOD])
            await store_shard(found, shard, 0)
            monkeypatch.setattr(type(found.first.store), "get", None)
            worker = census_of(found)
            assert counts(await walk(found, worker)) == (1, 1, 0)
            assert worker.rechecked_count == 0

    run(story)


def test_a_shard_of_another_size_is_not_the_one_expected():
    shard = identity(1)
    slot = ExpectedSlot(row=1, identity=shard, state=GOOD, crc=7, size_bytes=5)
    assert agrees(slot, {shard: (5, 7)})
    assert not agrees(slot, {shard: (6, 7)}) and not agrees(slot, {})
    untold = msgspec.structs.replace(slot, size_bytes=-1)  # by a metanode that knows none
    assert agrees(untold, {shard: (6, 7)})


def questions(found: Node, kind: type) -> list[msgspec.Struct]:
    """Questions of that kind from now on, as they are asked."""
    seen: list[msgspec.Struct] = []
    answer = found.rpc.answer

    def listen(path: str, body: bytes) -> msgspec.Struct:
        if path == QUERY:
            queries = msgspec.msgpack.decode(body, type=QueryRequest).queries
            seen.extend(query for query in queries if isinstance(query, kind))
        return answer(path, body)

    found.rpc.answer = listen  # type: ignore[method-assign]
    return seen


def test_a_walk_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(census_module, "PAGE_ROWS", 2)

    async def story() -> None:
        async with node(tmp_path) as found:
            for number, shard in enumerate(await name_objects(found, [GOOD] * 6)):
                await store_shard(found, shard, number)
            worker = census_of(found)
            asked = questions(found, ExpectedSlots)
            step = asyncio.create_task(worker.step())
            await until(step.done, clock=found.clock)
            query = found.meta.query_with_head

            async def fail(*_: object, **__: object) -> object:
                raise NoLeader("The test says so.")

            monkeypatch.setattr(found.meta, "query_with_head", fail)
            for _ in range(3):
                with pytest.raises(NoLeader):
                    await worker.step()
            monkeypatch.setattr(found.meta, "query_with_head", query)
            assert counts(await walk(found, worker)) == (6, 6, 0)
            assert [each.after_row for each in asked if isinstance(each, ExpectedSlots)] == [
                0, 2, 4, 6,
            ]  # fmt: skip

    run(story)


def test_a_page_whose_reports_did_not_arrive_is_counted_once(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await name_objects(found, [GOOD, GOOD])
            worker = census_of(found)
            propose = found.meta.propose

            async def lose(*_: object, **__: object) -> None:
                raise NoLeader("The test says so.")

            found.meta.propose = lose  # type: ignore[method-assign, assignment]
            with pytest.raises(NoLeader):
                await worker.step()
            assert worker.last is None
            found.meta.propose = propose  # type: ignore[method-assign]
            assert counts(await walk(found, worker)) == (2, 0, 2)

    run(story)


def test_another_generation_begins_the_walk_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(census_module, "PAGE_ROWS", 1)

    async def story() -> None:
        async with node(tmp_path) as found:
            for number, shard in enumerate(await name_objects(found, [GOOD] * 3)):
                await store_shard(found, shard, number)
            confirmed: list[tuple[int, int]] = []

            async def confirm(disk: int, generation: int) -> None:
                confirmed.append((disk, generation))

            worker = census_of(found, confirm=confirm)
            life = asyncio.create_task(worker.step())
            await until(life.done, clock=found.clock)
            found.rpc.order = (7, found.rpc.catalog.applied_index)
            with pytest.raises(NotReady):  # the disk's number may be another's there
                await worker.step()
            await found.first.obey(7)
            life = asyncio.create_task(worker.run())
            await until(lambda: worker.last is not None, clock=found.clock)
            life.cancel()
            assert worker.last is not None
            assert (worker.last.generation, counts(worker.last)) == (7, (3, 3, 0))
            assert confirmed == [(found.first.number, 7)]

    run(story)


def test_an_unconfirmed_census_is_not_told(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            fails = [True]

            async def confirm(*_: int) -> None:
                if fails:
                    raise NoLeader(str(fails.pop()))

            worker = census_of(found, confirm=confirm)
            with pytest.raises(NoLeader):
                await walk(found, worker)
            assert worker.last is None
            assert counts(await walk(found, worker)) == (0, 0, 0)

    run(story)


def test_a_census_that_is_refused_is_taken_anew(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            asked: list[int] = []

            async def confirm(_: int, generation: int) -> None:
                asked.append(generation)
                if len(asked) == 1:
                    raise Conflict("The catalog's generation is another by now.")

            pages = questions(found, ExpectedSlots)
            worker = census_of(found, confirm=confirm)
            life = asyncio.create_task(worker.run())
            await until(lambda: worker.last is not None, clock=found.clock)
            life.cancel()
            assert (len(asked), len(pages)) == (2, 2)

    run(story)


async def delete_and_claim(found: Node, number: int) -> None:
    """Object `number` and its slots are gone from the catalog; what is on disks is trash."""
    command = DeleteVersion(bucket="bucket", key=f"key-{number}", number=1)
    await found.meta.propose(command, ObjectDeleted)
    for _ in range(3):
        found.clock.advance(0.9 * GRACE_S)
        await found.meta.propose(Collect(grace_ms=int(GRACE_S * 1000)), Collected)


def test_a_slot_that_goes_while_it_is_looked_up_is_not_missing(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await name_objects(found, [GOOD, GOOD])
            worker = census_of(found)
            recheck = worker._rechecker.recheck

            async def late(uuid: bytes, rows: list[int]) -> object:
                if rows == [1]:
                    await delete_and_claim(found, 0)
                return await recheck(uuid, rows)

            worker._rechecker.recheck = late  # type: ignore[method-assign, assignment]
            assert counts(await walk(found, worker)) == (1, 0, 1)

    run(story)


def test_surplus_is_what_is_neither_slot_nor_task_nor_young(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path, "a") as found:
            shards = await name_objects(found, [GOOD, GOOD])
            for number, shard in enumerate(shards):
                await store_shard(found, shard, number)
            await put(found.first, identity(9, birth_ms=1000))
            await put(found.first, identity(10, birth_ms=found.clock.now_ms()))
            told = await walk(found, census_of(found))
            assert (counts(told), told.surplus, told.young) == ((2, 2, 0), 1, 1)
            # The shards of a dead stripe are its slots until it is claimed, but nobody's loss.
            command = DeleteVersion(bucket="bucket", key="key-0", number=1)
            await found.meta.propose(command, ObjectDeleted)
            told = await walk(found, census_of(found))
            assert (counts(told), told.surplus) == ((1, 1, 0), 1)
            await delete_and_claim(found, 1)
            told = await walk(found, census_of(found))
            assert (counts(told), told.surplus, told.young) == ((0, 0, 0), 4, 0)

    run(story)


def test_what_an_open_task_writes_is_no_surplus(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            (shard,) = await name_objects(found, [MISSING])
            draft = TaskDraft(
                row=1, index=0, gen=0, disk=found.first.number, target=found.first.number,
                reason="repair",
            )  # fmt: skip
            opened = await found.meta.propose(OpenTasks(tasks=(draft,)), TasksOpened)
            assert opened.opened == 1
            tasks = await found.meta.query(ReadTasks(target=found.first.number), TasksRead)
            gen = tasks.tasks[0].task
            await store_shard(found, ShardIdentity(shard.stripe, 0, gen), 0)
            told = await walk(found, census_of(found))
            assert (counts(told), told.surplus, told.young) == ((1, 0, 1), 0, 0)

    run(story)


def test_a_refused_disk_judges_nothing_and_has_no_census(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            (shard,) = await name_objects(found, [GOOD])
            worker = census_of(found)
            assert counts(await walk(found, worker)) == (1, 0, 1)
            await store_shard(found, shard, 0)
            number = found.first.number
            found.first.refuse("a copy registered later")
            assert worker.last is None
            with pytest.raises(StoreError):
                await worker.step()
            asked = [questions(found, kind) for kind in (ExpectedSlots, FindStrays)]
            life = asyncio.create_task(worker.run())
            for _ in range(20):
                found.clock.advance(1000)
                await asyncio.sleep(0.002)
            life.cancel()
            assert asked == [[], []]
            told = await found.meta.query(ExpectedSlots(disk=number), SlotsExpected)
            assert [slot.state for slot in told.slots] == [BAD]

    run(story)


def test_it_rests_and_comes_sooner_when_asked_or_when_shards_are_missing(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            worker = census_of(found)
            life = asyncio.create_task(worker.run())

            async def next_begun_after(begun_ms: int) -> tuple[float, DiskCensus]:
                since_s = found.clock.monotonic_s()
                await until(
                    lambda: worker.last is not None and worker.last.begun_at_ms > begun_ms,
                    clock=found.clock,
                )
                assert worker.last is not None
                return found.clock.monotonic_s() - since_s, worker.last

            _, first = await next_begun_after(0)
            found.clock.advance(20)
            asked_at_ms = found.upkeep.ask_census(found.first.uuid)
            passed_s, second = await next_begun_after(first.begun_at_ms)
            assert passed_s < 10 and second.begun_at_ms >= asked_at_ms
            shards = await name_objects(found, [GOOD])
            passed_s, third = await next_begun_after(second.begun_at_ms)
            assert passed_s > RARELY.interval_s / 2 and third.missing == 1
            passed_s, _ = await next_begun_after(third.begun_at_ms)
            assert passed_s < 10 * AGAIN_S
            await store_shard(found, shards[0], 0)
            await until(lambda: worker.last is not None and not worker.last.missing,
                        clock=found.clock)  # fmt: skip
            life.cancel()

    run(story)


def test_a_disk_that_came_back_is_walked_at_once(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            worker = census_of(found)
            life = asyncio.create_task(worker.run())
            await until(lambda: worker.last is not None, clock=found.clock)
            assert worker.last is not None
            for state in ("lost", "in"):
                await found.membership.confirm_ownership()
                begun_ms = worker.last.begun_at_ms
                command = SetDiskState(disk=found.first.number, state=state)
                await found.meta.propose(command, Done)
                found.clock.advance(1)
                await found.membership.confirm_ownership()
                since_s = found.clock.monotonic_s()
                await until(
                    lambda begun=begun_ms: worker.last.begun_at_ms > begun,  # type: ignore[union-attr, misc]
                    clock=found.clock,
                )
                assert found.clock.monotonic_s() - since_s < RARELY.interval_s / 2
            life.cancel()

    run(story)


def test_the_rate_is_bounded(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            for number, shard in enumerate(await name_objects(found, [GOOD] * 20)):
                await store_shard(found, shard, number)
            slow = CensusSettings(
                interval_s=1.0, grace_s=GRACE_S, reread_bytes_per_s=10**9, slots_per_s=10
            )
            worker = census_of(found, slow)
            began_s = found.clock.monotonic_s()
            await walk(found, worker)
            assert found.clock.monotonic_s() - began_s >= 2 * 20 / 10  # slots, then inventory

    run(story)


def test_heartbeats_carry_the_census_and_how_old_it_is(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await found.membership.heartbeat()
            assert found.rpc.heartbeats[-1].disks[0].census is None
            await name_objects(found, [GOOD])
            told = await walk(found, census_of(found))
            found.clock.advance(30)
            await found.membership.heartbeat()
            beat = found.rpc.heartbeats[-1].disks[0].census
            assert beat is not None and beat.finished_ms_ago >= 30_000
            assert msgspec.structs.replace(beat, finished_ms_ago=told.finished_ms_ago) == told
            described = await found.meta.query(GetCluster(), ClusterDescribed)
            assert described.nodes[0].disks[0].census is None  # what heartbeats say is soft

    run(story)
