"""Space is given back, nothing that lives is lost, nothing deleted comes back."""

import asyncio
import contextlib
import errno
import sqlite3
from pathlib import Path

import pytest

from blobd.shardstore import StoreSettings
from osscore.errors import CorruptShard, DiskFailing, DiskFull, ShardConflict
from tests.blobd.disk_story import (
    SMALL,
    body,
    compact_all,
    failing,
    number_of,
    opened,
    put,
    run,
    shard,
    volumes,
)
from tests.fakes.disk import SimulatedDisk


def test_deleting_everything_empties_the_folder() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            for number in range(200):
                await put(store, number)
            assert len(volumes(disk)) > 10
            assert await store.delete(shard(number) for number in range(200)) == 200
            await compact_all(store)
            assert disk.used_bytes() < 4096
            assert store.stats().shards == store.stats().live_bytes == 0
        async with opened(disk) as store:
            await compact_all(store)
            assert store.inventory(b"", 10) == []

    run(story)


def test_what_lives_moves_in_bounded_steps_and_stays_readable_throughout() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            for number in range(100):
                await put(store, number)
            await store.delete(shard(number) for number in range(100) if number % 4)
            before_bytes = store.stats().used_bytes
            steps = 0
            while moved_bytes := await store.compact(bytes_max=3000):
                steps += 1
                assert moved_bytes <= 3000 + 1100
                for number in range(0, 100, 4):
                    assert (await store.get(shard(number))).body == body(number)
                assert steps < 1000
            assert steps > 3
            assert store.stats().used_bytes < before_bytes / 2
            assert store.stats().shards == 25
        async with opened(disk) as store:
            found = [number_of(identity) for identity, _, _ in store.inventory(b"", 200)]
            assert found == list(range(0, 100, 4))
            for number in found:
                assert (await store.get(shard(number))).body == body(number)

    run(story)


def test_volume_that_is_mostly_alive_is_left_alone() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            for number in range(60):
                await put(store, number)
            await store.delete(shard(number) for number in range(0, 60, 4))
            files = volumes(disk)
            await compact_all(store)
            assert set(files) <= set(volumes(disk))

    run(story)


def test_tombstone_stays_while_the_volume_of_its_record_does() -> None:
    """Its own volume dies first; the record must not come back with the index lost."""

    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            for number in range(14):  # the first volume: only shard 0 of it will die
                await put(store, number)
            first = volumes(disk)[0]
            for number in range(100, 130):
                await put(store, number)
            await store.delete([shard(0)])
            for number in range(130, 160):
                await put(store, number)
            await store.delete(shard(number) for number in range(100, 160))
            await compact_all(store)
            assert first in volumes(disk)
            assert len(volumes(disk)) <= 3
        for _ in range(3):
            async with opened(disk) as store:  # the index is made anew each time
                await compact_all(store)
                assert store.head(shard(0)) is None
                with pytest.raises(ShardConflict):
                    await put(store, 0)
                assert (await store.get(shard(1))).body == body(1)

    run(story)


def test_tombstones_that_must_stay_are_not_copied_for_ever() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        settings = StoreSettings(
            volume_bytes=64 * 1024, reserve_volumes=0, reserve_fraction=0, live_fraction_min=0.3
        )
        async with opened(disk, settings=settings) as store:
            for number in range(600):
                await put(store, number)
            # Each volume keeps a little over the limit alive.
            await store.delete(shard(number) for number in range(600) if number % 5 > 1)
            await compact_all(store, bytes_max=1 << 20)
            operations = disk.operation_count
            assert await store.compact(bytes_max=1 << 20) == 0
            assert disk.operation_count == operations

    run(story)


def test_reader_of_an_unlinked_volume_gets_its_bytes() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        settings = StoreSettings(volume_bytes=256 * 1024, reserve_volumes=0, reserve_fraction=0)
        async with opened(disk, settings=settings) as store:
            for number in range(8):
                await put(store, number, 100_000)
            await store.delete(shard(number) for number in range(1, 8))

            async def read_on() -> None:
                while compacting:
                    assert (await store.get(shard(0))).body == body(0, 100_000)

            compacting = True
            reader = asyncio.create_task(read_on())
            await compact_all(store)
            compacting = False
            await reader
            assert len(volumes(disk)) <= 2

    run(story)


def test_delete_and_replacement_during_a_move_win() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            for number in range(30):
                await put(store, number)
            await store.delete(shard(number) for number in range(30) if number % 5)

            async def delete_meanwhile() -> None:
                for number in range(0, 30, 10):
                    await store.delete([shard(number)])

            await asyncio.gather(compact_all(store, bytes_max=500), delete_meanwhile())
            await compact_all(store)
        async with opened(disk) as store:
            found = [number_of(identity) for identity, _, _ in store.inventory(b"", 99)]
            assert found == [5, 15, 25]

    run(story)


def test_damaged_shard_is_moved_as_it_is_and_stays_known() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            for number in range(14):
                await put(store, number)
            path = volumes(disk)[0]
            disk.flip_bit(path, disk.content(path).index(body(3)) + 7)
            await store.delete(shard(number) for number in range(14) if number not in (3, 4))
            for number in range(100, 120):
                await put(store, number)
            await compact_all(store)
            assert path not in volumes(disk)
            assert store.damaged() == [shard(3)]
        async with opened(disk) as store:
            assert store.damaged() == [shard(3)]
            with pytest.raises(CorruptShard):
                await store.get(shard(3))
            assert (await store.get(shard(4))).body == body(4)
            assert await put(store, 3) is True

    run(story)


def test_shard_whose_header_is_lost_is_reported_before_its_volume_goes() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            for number in range(30):
                await put(store, number)
            path = volumes(disk)[0]
            disk.flip_bit(path, disk.content(path).index(body(3)) - 9)
            await store.delete(shard(number) for number in range(14) if number != 3)
            await compact_all(store)
            assert path not in volumes(disk)
            assert store.damaged() == [shard(3)]
            assert store.head(shard(3)) is None

    run(story)


def test_compaction_on_a_full_or_failing_disk_loses_nothing() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            for number in range(30):
                await put(store, number)
            await store.delete(shard(number) for number in range(30) if number % 5)
            heal = disk.fail(failing("pwrite", errno.ENOSPC))
            with pytest.raises(DiskFull):
                await compact_all(store)
            heal()
            heal = disk.fail(failing("unlink"))
            with pytest.raises(DiskFailing):
                await compact_all(store)
            heal()
            for number in range(0, 30, 5):
                assert (await store.get(shard(number))).body == body(number)
        async with opened(disk) as store:
            await compact_all(store)
            for number in range(0, 30, 5):
                assert (await store.get(shard(number))).body == body(number)

    run(story)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM shards WHERE offset = 0",
        "UPDATE shards SET volume = volume + 1 WHERE offset = 0",
        "UPDATE shards SET offset = offset + 8 WHERE offset = 0",
        "UPDATE shards SET state = 2, target = 1 WHERE offset = 0",
    ],
)
def test_wrong_index_makes_compaction_stop_not_lose(tmp_path: Path, damage: str) -> None:
    async def story() -> None:
        disk, path = SimulatedDisk(), tmp_path / "index.sqlite"
        async with opened(disk, index_path=path) as store:
            for number in range(30):
                await put(store, number)
            await store.delete(shard(number) for number in range(30) if number % 14)
        with contextlib.closing(sqlite3.connect(path)) as index:
            index.execute(damage)
            index.commit()
        async with opened(disk, index_path=path) as store:
            with pytest.raises(DiskFailing):
                await compact_all(store)
            assert "index" in store.stats().problem
        async with opened(disk, index_path=path) as store:
            await compact_all(store)
            for number in (0, 14, 28):
                assert (await store.get(shard(number))).body == body(number)

    run(story)


def test_volume_of_a_later_version_is_never_rewritten() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk, settings=SMALL) as store:
            for number in range(3):
                await put(store, number)
            disk.read_only = True
        disk.read_only = False
        path = volumes(disk)[0]
        at = disk.content(path).index(body(1)) - 80 + 16  # the version of its header
        disk.flip_bit(path, at, 1)
        async with opened(disk) as store:
            await store.delete([shard(0), shard(1), shard(2)])
            await compact_all(store)
            assert path in volumes(disk)
        async with opened(disk) as store:
            await compact_all(store)
            assert path in volumes(disk)

    run(story)
