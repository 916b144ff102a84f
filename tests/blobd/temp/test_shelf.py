"""The temps of one disk: kept, apart from shards, through restarts and compaction."""

import errno
from pathlib import Path

import pytest

from blobd.index import IN_MEMORY
from blobd.record import NO_CODING, RecordType, record_bytes
from blobd.shardstore import StoreSettings
from blobd.temp.records import Kind, identity_of
from osscore.digests import crc32c
from osscore.errors import CorruptShard, DiskFailing, DiskFull, NoSuchShard
from osscore.model import ShardIdentity
from osscore.names import StripeId
from tests.blobd.disk_story import compact_all, failing, number_of, opened, put, run, shard
from tests.blobd.temp.shelf_story import (
    check_whole,
    done,
    opened_shelf,
    piece,
    put_pieces,
    put_temp,
    shelf_of,
    temp,
)
from tests.fakes.disk import SimulatedDisk


@pytest.mark.parametrize("keeps_index", [True, False])
def test_a_temp_is_there_after_a_restart(tmp_path: Path, keeps_index: bool) -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        index_path = tmp_path / "index.sqlite"
        async with opened_shelf(disk, index_path=index_path) as shelf:
            await put_temp(shelf, 1, 3)
            await put_temp(shelf, 2, 0)
            await shelf.put_done(temp(3), done(3))
        async with opened_shelf(disk, index_path=index_path if keeps_index else IN_MEMORY) as shelf:
            await check_whole(shelf, 1, 3)
            await check_whole(shelf, 2, 0)
            assert await shelf.done(temp(3)) == done(3)
            assert await shelf.done(temp(1)) is None and await shelf.head(temp(3)) is None
            with pytest.raises(NoSuchShard):
                shelf.piece_bytes(temp(1), 3)
            with pytest.raises(NoSuchShard):
                await shelf.piece(temp(2), 0)

    run(story)


def test_no_inventory_shows_a_temp_and_no_count_takes_it_for_a_shard() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        for _ in range(2):  # the second time counted by the recovery of the index
            async with opened(disk) as store:
                shelf = shelf_of(store)
                if store.stats().shards == 0:
                    await put(store, 7)
                    await put_temp(shelf, 1, 2)
                rows = store.inventory(b"", 100)
                assert [number_of(identity) for identity, *_ in rows] == [7]
                assert store.inventory(b"\xff" * 6, 100) == []
                stats = store.stats()
                assert stats.shards == 1
                assert stats.temp_bytes > 2 * record_bytes(300)
                assert stats.live_bytes == stats.temp_bytes + record_bytes(1000)
                assert stats.used_bytes >= stats.live_bytes

    run(story)


def test_counts_are_the_same_from_a_stored_index(tmp_path: Path) -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        index_path = tmp_path / "index.sqlite"
        async with opened(disk, index_path=index_path) as store:
            await put(store, 7)
            await put_temp(shelf_of(store), 1, 2)
            await put_temp(shelf_of(store), 2, 1)
            await shelf_of(store).remove(temp(2))
            before = store.stats()
        async with opened(disk, index_path=index_path) as store:
            after = store.stats()
            assert (after.shards, after.temp_bytes) == (before.shards, before.temp_bytes)
            assert after.live_bytes == before.live_bytes

    run(story)


def test_a_damaged_temp_is_not_reported_as_a_shard() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened_shelf(disk) as shelf:
            await put_temp(shelf, 1, 2)
            flip(disk, piece(1, 1))
            with pytest.raises(CorruptShard):
                await shelf.piece(temp(1), 1)
            assert shelf.disk.store.damaged() == []
            assert shelf.disk.store.stats().damaged == 0
            assert (await shelf.piece(temp(1), 0)).body == piece(1, 0)

    run(story)


def flip(disk: SimulatedDisk, body: bytes) -> None:
    """Damage the stored copy of `body`."""
    for name in disk.names(Path("/data")):
        path = Path("/data") / name
        at = disk.content(path).find(body) if name.endswith(".volume") else -1
        if at >= 0:
            disk.open(path).pwrite([bytes([body[0] ^ 1])], at)
            return
    raise AssertionError("it is in no volume")


def test_removing_gives_the_space_back_and_keeps_what_became_of_it() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened_shelf(disk) as shelf:
            for number in range(20):
                await put_temp(shelf, number, 10)
            full_bytes = disk.used_bytes()
            await shelf.put_done(temp(3), done(3))
            for number in range(20):
                if number != 5:
                    await shelf.remove(temp(number))
            await compact_all(shelf.disk.store)
            assert disk.used_bytes() < full_bytes / 5
            await check_whole(shelf, 5, 10)
            assert await shelf.done(temp(3)) == done(3)
            await shelf.remove_done(temp(3))
            await shelf.remove(temp(5))
            await compact_all(shelf.disk.store)
            assert shelf.disk.store.stats().temp_bytes == 0
            assert shelf.traces() == []
        async with opened_shelf(disk) as shelf:
            await compact_all(shelf.disk.store)
            assert disk.used_bytes() < 4096
            assert await shelf.head(temp(5)) is None

    run(story)


def test_compaction_moves_a_living_temp_beside_dead_shards() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            shelf = shelf_of(store)
            for number in range(60):
                await put(store, number)
                if number % 20 == 0:
                    await put_temp(shelf, number, 2)
            before = set(disk.names(Path("/data")))
            await store.delete(shard(number) for number in range(60))
            await compact_all(store)
            assert not before & set(disk.names(Path("/data")))
            for number in (0, 20, 40):
                await check_whole(shelf, number, 2)
        async with opened(disk) as store:
            for number in (0, 20, 40):
                await check_whole(shelf_of(store), number, 2)

    run(story)


def test_traces_tell_every_temp_once_however_many_pieces_it_has() -> None:
    async def story() -> None:
        async with opened_shelf(SimulatedDisk(), settings=ROOMY) as shelf:
            await put_pieces(shelf, 1, 600)
            await put_temp(shelf, 2, 300)
            await put_temp(shelf, 3, 0)
            await shelf.put_done(temp(3), done(3))
            await shelf.put_done(temp(4), done(4))
            for number in range(5, 300):
                await put_temp(shelf, number, 1)
            found = {each.temp: each for each in shelf.traces()}
            assert len(found) == 299
            facts = {
                number: (each.has_head, each.has_done, each.has_pieces)
                for number in (1, 2, 3, 4, 299)
                for each in (found[temp(number)],)
            }
            assert facts == {
                1: (False, False, True),
                2: (True, False, True),
                3: (True, True, False),
                4: (False, True, False),
                299: (True, False, True),
            }

    run(story)


ROOMY = StoreSettings(volume_bytes=1 << 20, reserve_volumes=0, reserve_fraction=0.0)


def test_a_temp_of_many_pieces_goes_whole() -> None:
    async def story() -> None:
        async with opened_shelf(SimulatedDisk(), settings=ROOMY) as shelf:
            await put_temp(shelf, 1, 1500)
            await put_temp(shelf, 2, 1)
            await shelf.remove(temp(1))
            assert [each.temp for each in shelf.traces()] == [temp(2)]
            await check_whole(shelf, 2, 1)

    run(story)


def test_a_full_disk_refuses_pieces_and_still_lets_go() -> None:
    async def story() -> None:
        disk = SimulatedDisk(capacity_bytes=1024 * 1024)
        settings = StoreSettings(volume_bytes=64 * 1024)
        body = bytes(30_000)
        async with opened_shelf(disk, settings=settings) as shelf:
            with pytest.raises(DiskFull):
                for number in range(100):
                    await shelf.put_piece(temp(1), number, body, crc32c(body))
            await shelf.remove(temp(1))
            await compact_all(shelf.disk.store)
            await put_temp(shelf, 2, 10)
            await check_whole(shelf, 2, 10)

    run(story)


def test_nothing_is_kept_by_a_disk_that_cannot_sync() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened_shelf(disk) as shelf:
            await put_temp(shelf, 1, 1)
            disk.faults.append(failing("sync", errno.EIO, suffix=".volume"))
            with pytest.raises(DiskFailing):
                await put_temp(shelf, 2, 1)
            with pytest.raises(DiskFailing):
                await shelf.remove(temp(1))
            await check_whole(shelf, 1, 1)

    run(story)


def test_a_head_of_other_bytes_is_corrupt() -> None:
    async def story() -> None:
        async with opened_shelf(SimulatedDisk()) as shelf:
            for number, body in enumerate((b"", b"\xc1", b"\x80", b'{"name": 1}')):
                await shelf.disk.store.put(
                    identity_of(temp(number), Kind.HEAD),
                    NO_CODING,
                    crc32c(body),
                    body,
                    kind=RecordType.TEMP_HEAD,
                )
                with pytest.raises(CorruptShard):
                    await shelf.head(temp(number))

    run(story)


def test_records_of_a_kind_that_is_not_known_are_left_alone() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened_shelf(disk) as shelf:
            await put_temp(shelf, 1, 2)
            await put_pieces(shelf, 2, 2)
            others = [
                ShardIdentity(StripeId(temp(number)), kind, n)
                for number, kind in ((1, 3), (2, 9), (3, 255))
                for n in range(2)
            ]
            for identity in others:
                store = shelf.disk.store
                await store.put(
                    identity, NO_CODING, crc32c(b"new"), b"new", kind=RecordType.TEMP_PIECE
                )
            for size in (1, 2, 256):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("blobd.temp.shelf.PAGE", size)
                    found = {traces.temp: traces for traces in shelf.traces()}
                assert set(found) == {temp(1), temp(2), temp(3)}
                assert found[temp(1)].has_head and all(t.has_others for t in found.values())
                assert found[temp(2)].has_pieces and not found[temp(2)].has_head
            for number in (1, 2, 3):
                await shelf.remove(temp(number))
            assert [identity for identity, _ in store.temp_records(b"", 100)] == others

    run(story)
