"""A daemon whose catalog was restored from a backup (SAFETY rule 16): its disks are ahead of the
catalog, and the new generation wins over everything they have seen."""

import asyncio
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from blobd.collect import Collector, CollectSettings
from blobd.labels import read_label
from osscore.errors import NotReady, StaleOrder
from osscore.names import stripe_id
from ossd.disk import SystemDisk
from raftmeta.catalog import copies, restored
from raftmeta.catalog.catalog import Catalog
from raftmeta.commands import Done
from raftmeta.generations import AdoptGeneration, BeginGeneration
from raftmeta.queries import ClusterDescribed, GetCluster
from tests.blobd.parts import Node, node, run, until
from tests.blobd.test_collect import GRACE_S, held, one_object_in_trash, put_object

T = TypeVar("T")
SETTINGS = CollectSettings(grace_s=GRACE_S, compact_bytes_per_s=10**9)


def collector(found: Node) -> Collector:
    return Collector(found.first, meta=found.meta, clock=found.clock, settings=SETTINGS)


def back_up(found: Node, folder: Path) -> Path:
    found.rpc.catalog.copy_to(folder / "backup.db")
    copies.settle(folder / "backup.db")
    return folder / "backup.db"


def restore(found: Node, backup: Path, name: str = "restored") -> int:
    """From now on every metanode has what was restored of that backup; its generation."""
    path = backup.with_name(f"{name}.db")
    shutil.copy(backup, path)
    found.clock.advance(1.0)
    begun = restored.prepare(path, now_ms=found.clock.now_ms())
    found.rpc.catalog = Catalog(path)
    found.rpc.apply(BeginGeneration(generation=begun.generation))
    return begun.generation


async def turned(found: Node, story: Coroutine[Any, Any, T]) -> T:
    """A story's outcome, while the clock runs: a client whose session ended with the lost cluster
    pauses before it opens another."""
    task = asyncio.create_task(story)
    while not task.done():
        found.clock.advance(0.1)
        await asyncio.sleep(0.001)
    return task.result()


async def adopt(found: Node, generation: int) -> None:
    await found.meta.propose(AdoptGeneration(generation=generation, force=True), Done)


async def numbers(found: Node) -> dict[bytes, int]:
    described = await found.meta.query(GetCluster(), ClusterDescribed)
    return {disk.uuid: disk.disk for each in described.nodes for disk in each.disks}


def test_a_disk_ahead_of_the_restored_catalog_takes_writes_again(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as first:
            await one_object_in_trash(first)
            backup = back_up(first, tmp_path)
        for _ in range(3):  # the lost cluster goes on: epochs and orders grow
            async with node(tmp_path, rpc=first.rpc, clock=first.clock) as ahead:
                await ahead.first.keep_order((1, 10**9))
        generation = restore(first, backup)
        async with node(tmp_path, rpc=first.rpc, clock=first.clock) as after:
            assert after.first.writable and after.first.number == 1
            label = read_label(SystemDisk(), tmp_path / "disk-1")
            assert label is not None and label.order == (generation, 0)
            assert await collector(after).empty_trash() == 0  # frozen
            await turned(after, adopt(after, generation))
            assert await collector(after).empty_trash() == 1

    run(story)


def test_a_daemon_that_runs_on_registers_with_the_restored_catalog(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path, "disk-1") as found:
            backup = back_up(found, tmp_path)
        async with node(tmp_path, "disk-1", "disk-2", rpc=found.rpc, clock=found.clock) as found:
            known = {disk.uuid: disk.number for disk in found.disks}
            assert sorted(known.values()) == [1, 2]
            generation = restore(found, backup)
            assert found.first.uuid in await numbers(found) and len(await numbers(found)) == 1
            running = asyncio.create_task(found.membership._confirm_for_ever())
            try:
                await until(
                    lambda: all(d.generation == generation for d in found.disks),
                    clock=found.clock,
                )
            finally:
                running.cancel()
            # Disk 2 was unknown at the backup: its former number is nobody's now.
            assert await numbers(found) == {disk.uuid: disk.number for disk in found.disks}
            assert sorted(disk.number for disk in found.disks) == [1, (1 << 16) + 1]
            assert all(disk.writable for disk in found.disks)

    run(story)


def test_orders_for_a_number_of_an_earlier_generation_are_not_obeyed(tmp_path: Path):
    """The restored catalog may have given the number to another disk."""

    async def story() -> None:
        async with node(tmp_path) as found:
            await one_object_in_trash(found)
            generation = restore(found, back_up(found, tmp_path))
            await turned(found, adopt(found, generation))
            with pytest.raises(NotReady, match="not registered with generation"):
                await collector(found).empty_trash()
            assert len(held(found.first)) == 1
            await turned(found, found.membership.confirm_ownership())
            assert await collector(found).empty_trash() == 1

    run(story)


def test_what_was_written_after_the_backup_stays_until_the_catalog_is_adopted(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            backup = back_up(found, tmp_path)
            await put_object(found, "later", stripe_id(found.clock.now_ms(), b"0123456789"))
            generation = restore(found, backup)
            await turned(found, found.membership.confirm_ownership())
            for _ in range(5):
                found.clock.advance(GRACE_S)
                found.rpc.apply(BeginGeneration(generation=generation))  # moves catalog time
                await numbers(found)
                assert await collector(found).sweep() == 0
            assert len(held(found.first)) == 1
            await turned(found, adopt(found, generation))
            assert await collector(found).sweep() == 1 and held(found.first) == []

    run(story)


def test_the_lost_cluster_gets_no_disk_back_and_its_orders_are_refused(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            lost = found.rpc.catalog
            await one_object_in_trash(found)
            backup = back_up(found, tmp_path)
            restore(found, backup)
            await turned(found, found.membership.confirm_ownership())
            found.rpc.catalog = lost  # its metanodes come back
            with pytest.raises(StaleOrder):
                await collector(found).empty_trash()
            assert len(held(found.first)) == 1
            await turned(found, found.membership.confirm_ownership())
            assert "generation" in found.first.problem and not found.first.writable

    run(story)


def test_of_two_restores_of_one_backup_the_later_wins(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            backup = back_up(found, tmp_path)
            for name in ("first", "second"):
                generation = restore(found, backup, name)
                await turned(found, found.membership.confirm_ownership())
                assert found.first.writable and found.first.generation == generation

    run(story)
