"""Disks that fail, fill up or turn read-only: typed errors, nothing lost, reads go on."""

import asyncio
import errno
from pathlib import Path

import pytest

from blobd.shardstore import StoreSettings
from osscore.digests import crc32c
from osscore.errors import CorruptShard, DiskFailing, DiskFull, ShardConflict
from tests.blobd.disk_story import (
    CODING,
    FOLDER,
    body,
    compact_all,
    failing,
    opened,
    put,
    run,
    shard,
    volumes,
)
from tests.fakes.disk import SimulatedDisk

RESERVED = StoreSettings(volume_bytes=16 * 1024, reserve_volumes=2, reserve_fraction=0.01)


def test_failed_sync_is_never_retried_and_ends_writing() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            await put(store, 1)
            heal = disk.fail(failing("sync"))
            outcomes = await asyncio.gather(
                *(put(store, number) for number in (2, 3, 4)), return_exceptions=True
            )
            assert all(isinstance(found, DiskFailing) for found in outcomes)
            heal()
            syncs = disk.operation_count
            with pytest.raises(DiskFailing):
                await put(store, 5)
            with pytest.raises(DiskFailing):
                await store.delete([shard(1)])
            assert await store.compact(bytes_max=1000) == 0
            assert disk.operation_count == syncs
            assert "sync" in store.stats().problem
            assert not store.stats().writable
            assert (await store.get(shard(1))).body == body(1)
            assert store.head(shard(2)) is None
        async with opened(disk) as store:
            assert store.stats().writable
            assert await put(store, 5) is True

    run(story)


def test_record_of_a_failed_sync_is_not_acknowledged_from_the_page_cache() -> None:
    """After a restart it may be read, so it must be durable before it counts."""

    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            await put(store, 1)
            heal = disk.fail(failing("sync"))
            with pytest.raises(DiskFailing):
                await put(store, 2)
        syncing = []
        async with opened(disk) as store:
            assert not store.stats().writable
            with pytest.raises(DiskFailing):
                await put(store, 2)
        heal()
        disk.fail(lambda operation: syncing.append(operation.kind))  # type: ignore[func-returns-value]
        async with opened(disk) as store:
            assert "sync" in syncing
            assert await put(store, 2) in (True, False)

    run(story)


@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS])
def test_failed_write_ends_writing_but_not_reading(error: int) -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            await put(store, 1)
            disk.fail(failing("pwrite", error))
            for _ in range(2):
                with pytest.raises(DiskFailing):
                    await put(store, 2)
            assert store.stats().problem
            assert (await store.get(shard(1))).body == body(1)

    run(story)


def test_read_only_disk_opens_and_serves() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            await put(store, 1)
            await put(store, 2)
            disk.read_only = True  # even sealing at the end fails
        async with opened(disk) as store:
            assert (await store.get(shard(1))).body == body(1)
            assert (await store.get(shard(2))).body == body(2)
            with pytest.raises(DiskFailing):
                await put(store, 3)
            with pytest.raises(DiskFailing):
                await store.delete([shard(1)])
            assert not store.stats().writable

    run(story)


def test_shards_put_together_are_written_and_synced_once() -> None:
    """SAFETY rule 29: small objects are cheap because one sync covers many of their shards."""

    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            await put(store, 1)
            kinds: list[str] = []
            disk.fail(lambda operation: kinds.append(operation.kind))
            items = [(shard(n), CODING, crc32c(body(n)), body(n)) for n in range(2, 12)]
            assert await store.put_many(items) == [True] * 10
            assert [kind for kind in kinds if kind != "pread"] == ["pwrite", "sync"]

    run(story)


def test_folder_is_synced_before_the_first_acknowledgement_from_a_volume() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            disk.fail(failing("sync_directory"))
            with pytest.raises(DiskFailing):
                await put(store, 1)
            assert store.head(shard(1)) is None

    run(story)


def test_full_disk_refuses_and_serves_again_once_there_is_room() -> None:
    async def story() -> None:
        disk = SimulatedDisk(capacity_bytes=64 * 1024)
        async with opened(disk) as store:
            stored = []
            with pytest.raises(DiskFull):
                for number in range(100):
                    await put(store, number)
                    stored.append(number)
            assert len(stored) > 20
            assert not store.stats().problem
            for number in stored:
                assert (await store.get(shard(number))).body == body(number)
            disk.capacity_bytes *= 2
            assert await put(store, 100) is True
        async with opened(disk) as store:
            for number in [*stored, 100]:
                assert (await store.get(shard(number))).body == body(number)

    run(story)


def test_write_that_ends_on_a_full_disk_leaves_nothing_behind() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            await put(store, 1)
            size_bytes = len(disk.content(volumes(disk)[0]))
            heal = disk.fail(failing("pwrite", errno.ENOSPC))
            with pytest.raises(DiskFull):
                await put(store, 2)
            assert len(disk.content(volumes(disk)[0])) == size_bytes
            heal()
            assert await put(store, 3) is True
        async with opened(disk) as store:
            assert (await store.get(shard(3))).body == body(3)
            assert store.head(shard(2)) is None

    run(story)


def test_half_batch_that_cannot_be_cut_off_ends_writing() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            await put(store, 1)
            disk.fail(failing("pwrite", errno.ENOSPC))
            disk.fail(failing("truncate"))
            with pytest.raises(DiskFailing):
                await put(store, 2)
            assert "cut off" in store.stats().problem

    run(story)


def test_deletes_in_the_batch_of_a_put_that_finds_no_room_are_done() -> None:
    async def story() -> None:
        disk = SimulatedDisk(capacity_bytes=32 * 1024)
        async with opened(disk) as store:
            await put(store, 1)
            disk.capacity_bytes = disk.used_bytes() + 200

            async def too_large() -> None:
                await put(store, 2, 20_000)

            blocked = put(store, 3, 1)  # opens the first batch; the others gather behind
            outcomes = await asyncio.gather(
                blocked, too_large(), store.delete([shard(1)]), return_exceptions=True
            )
            assert isinstance(outcomes[1], DiskFull)
            assert outcomes[2] == 1

    run(story)


def test_puts_stop_at_the_reserve_but_deletes_and_compaction_go_on() -> None:
    async def story() -> None:
        disk = SimulatedDisk(capacity_bytes=1024 * 1024)
        async with opened(disk, settings=RESERVED) as store:
            count = 0
            with pytest.raises(DiskFull):
                for number in range(2000):
                    await put(store, number)
                    count += 1
            reserve_bytes = 2 * 16 * 1024
            free_bytes = disk.capacity_bytes - disk.used_bytes()
            assert reserve_bytes < free_bytes < reserve_bytes + 16 * 1024 + 4096
            assert store.stats().free_bytes < 4096
            for first in range(0, count, 100):  # what fits into the reserve at a time
                assert await store.delete(shard(n) for n in range(first, first + 100) if n % 10)
                await compact_all(store)
            assert disk.used_bytes() < disk.capacity_bytes / 4
            assert await put(store, 5000) is True

    run(story)


def test_small_disk_keeps_at_most_a_quarter_in_reserve() -> None:
    async def story() -> None:
        disk = SimulatedDisk(capacity_bytes=64 * 1024 * 1024)
        async with opened(disk, settings=StoreSettings()) as store:
            assert store.stats().free_bytes >= 48 * 1024 * 1024
            assert await put(store, 1, 1024 * 1024) is True

    run(story)


def test_unreadable_sector_is_reported_and_costs_only_its_shard() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            await put(store, 1)
            await put(store, 2)
            heal = disk.fail(failing("pread"))
            with pytest.raises(DiskFailing):
                await store.get(shard(1))
            heal()
            assert store.damaged() == [shard(1)]
            assert (await store.get(shard(2))).body == body(2)
            assert await put(store, 1) is True
            assert store.damaged() == []

    run(story)


def test_damage_found_at_start_is_remembered_and_never_served() -> None:
    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            for number in (1, 2, 3):
                await put(store, number)
            path = volumes(disk)[0]
            disk.flip_bit(path, disk.content(path).index(body(2)) + 7)
            disk.read_only = True  # so that it is not sealed, and the next start scans
        disk.read_only = False
        async with opened(disk) as store:
            assert store.damaged() == [shard(2)]
            with pytest.raises(CorruptShard):
                store.head(shard(2))
            with pytest.raises(CorruptShard):
                await store.get(shard(2))
            for number in (1, 3):
                assert (await store.get(shard(number))).body == body(number)
            assert store.stats().damaged == 1
        async with opened(disk) as store:  # by the seal, which says so too
            assert store.damaged() == [shard(2)]
            assert await put(store, 2) is True
        async with opened(disk) as store:
            assert store.damaged() == []
            assert (await store.get(shard(2))).body == body(2)

    run(story)


def test_tombstone_holds_against_a_replaced_shard_in_an_older_volume() -> None:
    """The damaged record lies in an older volume than the one that replaced it."""

    async def story() -> None:
        disk = SimulatedDisk()
        async with opened(disk) as store:
            await put(store, 1)
            await put(store, 2)
            path = volumes(disk)[0]
            disk.flip_bit(path, disk.content(path).index(body(1)) + 7)
        async with opened(disk) as store:
            assert await put(store, 1) is True
            for number in range(10, 40):
                await put(store, number)
            await store.delete([shard(1)])
            await store.delete(shard(number) for number in range(10, 40))
            await compact_all(store)
        async with opened(disk) as store:
            assert store.head(shard(1)) is None
            with pytest.raises(ShardConflict):
                await put(store, 1)
            assert (await store.get(shard(2))).body == body(2)

    run(story)


def test_missing_folder_is_made(tmp_path: Path) -> None:
    async def story() -> None:
        disk = SimulatedDisk(directories=())
        async with opened(disk) as store:
            await put(store, 1)
        assert disk.exists(FOLDER)
        async with opened(disk) as store:
            assert (await store.get(shard(1))).body == body(1)

    run(story)
