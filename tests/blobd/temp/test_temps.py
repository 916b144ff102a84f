"""Where a temp goes, how it is found, and when it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from blobd.record import NO_CODING, RecordType
from blobd.temp.records import Kind, TempId, identity_of
from blobd.temp.shelf import Shelf
from blobd.temp.temps import AHEAD_MS_MAX, Temps, time_near
from osscore.digests import crc32c
from osscore.errors import CorruptShard, DiskFailing, DiskFull, NoSuchUpload, StoreError
from osscore.model import ShardIdentity
from osscore.names import StripeId
from ossd.clock import system_random
from tests.blobd.parts import MIB, Node, node, run, until
from tests.blobd.temp.shelf_story import check_whole, done, head, put_pieces, put_temp, temp
from tests.fakes.clock import ManualClock

EXPIRY_S = 100.0


@asynccontextmanager
async def temps_of(it: Node) -> AsyncIterator[Temps]:
    temps = Temps(
        it.disks, clock=it.clock, now_ms=it.clock.now_ms, random=system_random, expiry_s=EXPIRY_S
    )
    try:
        yield temps
    finally:
        await temps.close()


def in_s(it: Node, seconds: float) -> int:
    return it.clock.now_ms() + round(seconds * 1000)


async def gone(temps: Temps, *numbers: int) -> None:
    for number in numbers:
        with pytest.raises(NoSuchUpload):
            await temps.find(temp(number))


def held(shelf: Shelf) -> set[TempId]:
    return {traces.temp for traces in shelf.traces()}


def test_ids_differ_and_are_found_by_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path) as it, temps_of(it) as temps:
            ids = {temps.fresh_id() for _ in range(100)}
            assert len(ids) == 100
            for each in (None, *ids):
                with pytest.raises(NoSuchUpload):
                    await temps.find(each)

    run(story)


def test_a_temp_expires_with_all_its_pieces_and_no_other_does(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path) as it, temps_of(it) as temps:
            shelf = Shelf(it.first)
            await put_temp(shelf, 1, 3, expires_at_ms=in_s(it, 10))
            await put_temp(shelf, 2, 3, expires_at_ms=in_s(it, 20))
            it.clock.advance(9.9)
            await temps.sweep()
            assert (await temps.find(temp(1))).content.name == "temp 1"
            it.clock.advance(0.2)
            await gone(temps, 1)
            await check_whole(shelf, 1, 3)  # refused, not removed yet
            await temps.sweep()
            assert held(shelf) == {temp(2)}
            await check_whole(shelf, 2, 3)

    run(story)


def test_pieces_without_a_head_go_unless_they_are_still_coming(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path) as it, temps_of(it) as temps:
            shelf = Shelf(it.first)
            await put_pieces(shelf, 1, 3)
            await put_pieces(shelf, 2, 3)
            with temps.busy(temp(2)), temps.busy(temp(2)):
                await temps.sweep()
                assert held(shelf) == {temp(2)}
            await temps.sweep()
            assert held(shelf) == set()

    run(story)


def test_a_body_whose_outcome_is_known_goes_and_the_outcome_stays_its_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path) as it, temps_of(it) as temps:
            shelf = Shelf(it.first)
            await put_temp(shelf, 1, 3, expires_at_ms=in_s(it, 5))
            await shelf.put_done(temp(1), done(1, expires_at_ms=in_s(it, 50)))
            await temps.sweep()
            assert await shelf.head(temp(1)) is None
            assert [(t.has_done, t.has_pieces) for t in shelf.traces()] == [(True, False)]
            it.clock.advance(49)
            await temps.sweep()
            found = await temps.find(temp(1))
            assert found.head is None and found.done is not None and found.done.number == 1
            it.clock.advance(2)
            await gone(temps, 1)
            await temps.sweep()
            assert held(shelf) == set()

    run(story)


def test_what_is_being_confirmed_does_not_expire(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path) as it, temps_of(it) as temps:
            shelf = Shelf(it.first)
            await put_temp(shelf, 1, 2, expires_at_ms=in_s(it, 5))
            with temps.busy(temp(1)):
                it.clock.advance(100)
                await temps.sweep()
                await check_whole(shelf, 1, 2)
                assert (await temps.find(temp(1))).head == head(1, 2, expires_at_ms=in_s(it, -95))
            await temps.sweep()
            assert held(shelf) == set()

    run(story)


def test_an_unreadable_head_gets_a_whole_life_from_when_it_was_seen(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path) as it, temps_of(it) as temps:
            shelf = Shelf(it.first)
            await put_pieces(shelf, 1, 2)
            torn = b"not a head"
            await it.first.store.put(
                identity_of(temp(1), Kind.HEAD),
                NO_CODING,
                crc32c(torn),
                torn,
                kind=RecordType.TEMP_HEAD,
            )
            with pytest.raises(CorruptShard):
                await temps.find(temp(1))
            await temps.sweep()
            it.clock.advance(EXPIRY_S - 1)
            await temps.sweep()
            assert held(shelf) == {temp(1)}
            it.clock.advance(2)
            await temps.sweep()
            assert held(shelf) == set()

    run(story)


def test_the_sweep_runs_by_itself_and_leaves_unregistered_disks_alone(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path, "one", "two") as it, temps_of(it) as temps:
            one, two = (Shelf(disk) for disk in it.disks)
            for number, shelf in enumerate((one, two)):
                await put_temp(shelf, number, 1, expires_at_ms=in_s(it, 1))
            two.disk.refuse("it is a copy")
            sweeping = asyncio.create_task(temps.run())
            await until(lambda: not held(one), clock=it.clock)
            sweeping.cancel()
            assert held(two) == {temp(1)}

    run(story)


def test_what_failed_is_dropped_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path) as it, temps_of(it) as temps:
            shelf = Shelf(it.first)
            await put_pieces(shelf, 1, 3)
            temps.drop(shelf, temp(1))
            await until(lambda: not held(shelf))
            await until(lambda: not temps.is_busy(temp(1)))

    run(story)


def test_a_new_temp_goes_where_most_room_is(tmp_path: Path, monkeypatch) -> None:
    async def story() -> None:
        async with node(tmp_path, "one", "two", "three") as it, temps_of(it) as temps:
            one, two, three = it.disks
            room = {one: 5 * MIB, two: 9 * MIB, three: 7 * MIB}
            for disk in it.disks:
                limit_room(monkeypatch, disk.store, room, disk)
            assert (await temps.roomiest(0)).disk is two
            assert (await temps.roomiest(8 * MIB)).disk is two
            with pytest.raises(DiskFull):
                await temps.roomiest(9 * MIB)
            room[two] = 0
            assert (await temps.roomiest(0)).disk is three
            three.refuse("it smokes")
            assert (await temps.roomiest(0)).disk is one
            room[one] = 0
            with pytest.raises(DiskFull):
                await temps.roomiest(0)

    run(story)


def limit_room(monkeypatch, store, room, disk) -> None:
    room_of_disk = store._room
    monkeypatch.setattr(room_of_disk, "writable_bytes", lambda: room[disk])


def test_without_any_disk_the_reason_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path, registered=False) as it, temps_of(it) as temps:
            with pytest.raises(DiskFailing, match="not formatted"):
                await temps.roomiest(0)
            it.first.refuse("the metanodes refuse it")
            with pytest.raises(StoreError, match="refuse it"):
                await temps.roomiest(0)

    run(story)


def test_nothing_is_called_unknown_while_a_disk_cannot_be_asked(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path, "one", "two") as it, temps_of(it) as temps:
            one, two = it.disks
            await put_temp(Shelf(two), 1, 1, expires_at_ms=in_s(it, 10))
            await one.close()
            assert (await temps.find(temp(1))).shelf.disk is two
            with pytest.raises(DiskFailing):
                await temps.find(temp(2))

    run(story)


def test_a_temp_is_found_after_a_restart_of_the_daemon(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path) as it:
            await put_temp(Shelf(it.first), 1, 3, expires_at_ms=in_s(it, 10))
            rpc, clock = it.rpc, it.clock
        async with node(tmp_path, rpc=rpc, clock=clock) as it, temps_of(it) as temps:
            await temps.sweep()
            found = await temps.find(temp(1))
            await check_whole(found.shelf, 1, 3)

    run(story)


def test_a_clock_that_leaps_ahead_of_the_catalog_ends_no_temp() -> None:
    clock, catalog_ms = ManualClock(), [0]
    now_ms = time_near(lambda: catalog_ms[0], clock)
    clock.advance(1e9)
    assert now_ms() == AHEAD_MS_MAX  # nothing was heard of the catalog yet
    catalog_ms[0] = clock.now_ms() - 400_000
    assert now_ms() == clock.now_ms()  # an idle catalog lies behind
    clock.advance(86_400)
    assert now_ms() == catalog_ms[0] + AHEAD_MS_MAX
    catalog_ms[0] = clock.now_ms() + 10_000
    assert now_ms() == clock.now_ms()  # one that lies behind ends temps later


def test_what_a_newer_program_keeps_is_not_swept(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path) as it, temps_of(it) as temps:
            shelf = Shelf(it.first)
            await put_pieces(shelf, 1, 2)
            await put_pieces(shelf, 2, 2)
            unknown = ShardIdentity(StripeId(temp(1)), 7, 0)
            kind = RecordType.TEMP_HEAD
            await it.first.writable_store.put(unknown, NO_CODING, crc32c(b"n"), b"n", kind=kind)
            it.clock.advance(10 * EXPIRY_S)
            await temps.sweep()
            assert held(shelf) == {temp(1)}
            assert [shelf.piece_bytes(temp(1), n) for n in (0, 1)] == [300, 300]

    run(story)
