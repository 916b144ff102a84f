import asyncio
import errno
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blobd.labels import LABEL_NAME, read_label
from osscore.errors import DiskRefused, NoLeader, OutcomeUnknown, StoreError
from ossd.disk import SystemDisk
from raftmeta.commands import Done, SetDiskState
from raftmeta.queries import ClusterDescribed, GetCluster
from tests.blobd.parts import ADDRESS, Node, identity, node, put, run, until


async def catalog_disks(found: Node) -> dict[bytes, int]:
    described = await found.meta.query(GetCluster(), ClusterDescribed)
    return {disk.uuid: disk.disk for each in described.nodes for disk in each.disks}


def epoch_on_disk(folder: Path) -> int:
    label = read_label(SystemDisk(), folder)
    assert label is not None
    return label.epoch


def test_registering_makes_every_disk_known_and_writable(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path, "disk-1", "disk-2") as found:
            assert found.membership.is_registered
            numbers = {disk.uuid: disk.number for disk in found.disks}
            assert await catalog_disks(found) == numbers
            assert all(disk.writable and not disk.problem for disk in found.disks)

    run(story)


def test_each_start_raises_the_epoch_on_the_disk_before_it_takes_writes(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as first:
            began = epoch_on_disk(tmp_path / "disk-1")
        async with node(tmp_path, rpc=first.rpc, clock=first.clock) as second:
            assert second.first.writable
            assert epoch_on_disk(tmp_path / "disk-1") > began

    run(story)


def test_a_disk_rolled_back_behind_a_later_start_is_read_only(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as first:
            await put(first.first, identity(1))
        shutil.copytree(tmp_path / "disk-1", tmp_path / "backup")
        async with node(tmp_path, rpc=first.rpc, clock=first.clock):
            pass
        shutil.rmtree(tmp_path / "disk-1")
        shutil.copytree(tmp_path / "backup", tmp_path / "disk-1")
        async with node(tmp_path, rpc=first.rpc, clock=first.clock) as third:
            assert "older copy" in third.first.problem
            assert (await third.first.store.get(identity(1))).body == b"body"
            with pytest.raises(DiskRefused):
                _ = third.first.writable_store

    run(story)


def test_a_rolled_back_disk_stays_read_only_however_often_its_daemon_starts(tmp_path: Path):
    """Each start raises the epoch on the disk; refused ones must not add up to a pardon."""

    async def story() -> None:
        async with node(tmp_path) as first:
            pass
        shutil.copytree(tmp_path / "disk-1", tmp_path / "backup")
        async with node(tmp_path, rpc=first.rpc, clock=first.clock):
            pass
        shutil.rmtree(tmp_path / "disk-1")
        shutil.copytree(tmp_path / "backup", tmp_path / "disk-1")
        began = epoch_on_disk(tmp_path / "disk-1")
        for _ in range(4):
            async with node(tmp_path, rpc=first.rpc, clock=first.clock) as again:
                assert "older copy" in again.first.problem
            assert epoch_on_disk(tmp_path / "disk-1") == began

    run(story)


def test_a_registration_that_surely_did_not_happen_does_not_raise_the_epoch(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as first:
            pass
        began = epoch_on_disk(tmp_path / "disk-1")
        async with node(tmp_path, rpc=first.rpc, clock=first.clock, registered=False) as found:
            for error, raised in ((NoLeader(), 0), (OutcomeUnknown(), 1)):

                async def fails(*_: object, error: StoreError = error, **__: object) -> None:
                    raise error

                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(found.meta, "propose", fails)
                    with pytest.raises(type(error)):
                        await found.membership.register()
                assert epoch_on_disk(tmp_path / "disk-1") == began + raised

    run(story)


def test_a_disk_that_was_emptied_or_unmounted_under_its_daemon_is_told(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await found.membership.heartbeat()
            (tmp_path / "disk-1" / LABEL_NAME).unlink()
            await found.membership.heartbeat()
            before, after = (beat.disks[0] for beat in found.rpc.heartbeats[-4::3])
            assert before.readable and before.writable and not before.problem
            assert not after.readable and not after.writable and "label is gone" in after.problem

    run(story)


def test_a_copy_started_later_makes_the_running_original_read_only(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as first:
            pass
        shutil.copytree(tmp_path / "disk-1", tmp_path / "copy")
        async with node(tmp_path, rpc=first.rpc, clock=first.clock) as original:
            await original.membership.confirm_ownership()
            assert original.first.writable
            # The copy must be as new as the original for the catalog to believe it.
            shutil.copy(tmp_path / "disk-1" / LABEL_NAME, tmp_path / "copy" / LABEL_NAME)
            other = replace(ADDRESS, node="blob-2", url="http://blob-2:9201")
            async with node(
                tmp_path, "copy", rpc=first.rpc, clock=first.clock, address=other
            ) as copy:
                assert copy.first.writable
                await original.membership.confirm_ownership()
                assert "blob-2" in original.first.problem
                with pytest.raises(DiskRefused):
                    _ = original.first.writable_store

    run(story)


def test_a_crash_between_the_catalogs_grant_and_the_disk_does_not_refuse_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class CutOff(SystemDisk):
        """Loses power when the granted epoch is about to be written."""

        writes = 0

        def replace(self, source: Path, target: Path) -> None:
            CutOff.writes += 1
            if CutOff.writes > 1:  # the first is the disk's own step
                raise OSError(errno.EIO, "power cut")
            super().replace(source, target)

    async def story() -> None:
        async with node(tmp_path) as first:
            pass
        for _ in range(3):
            with monkeypatch.context() as patch:
                CutOff.writes = 0
                patch.setattr("tests.blobd.parts.SystemDisk", CutOff)
                async with node(tmp_path, rpc=first.rpc, clock=first.clock) as cut:
                    assert not cut.first.writable
        async with node(tmp_path, rpc=first.rpc, clock=first.clock) as after:
            assert after.first.writable, after.first.problem

    run(story)


def test_an_unreachable_metadata_cluster_is_waited_for_while_reads_go_on(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as first:
            await put(first.first, identity(1))
        first.rpc.is_reachable = False
        async with node(tmp_path, rpc=first.rpc, clock=first.clock, registered=False) as found:
            life = asyncio.create_task(found.membership.run())
            await until(lambda: found.clock.sleeper_count > 0)
            assert (await found.first.store.get(identity(1))).body == b"body"
            assert not found.membership.is_registered
            found.rpc.is_reachable = True
            await until(lambda: found.first.writable, clock=found.clock)
            life.cancel()

    run(story)


def test_heartbeats_tell_every_metanode_room_and_problems(tmp_path: Path):
    (tmp_path / "disk-1").mkdir()

    async def story() -> None:
        async with node(tmp_path, "disk-1", "disk-2") as found:
            good, bad = found.disks
            bad.refuse("it smokes")
            await found.membership.heartbeat()
            assert len(found.rpc.heartbeats) == 3  # one to each metanode
            heartbeat = found.rpc.heartbeats[0]
            assert (heartbeat.node, heartbeat.url, heartbeat.zone) == ("blob-1", ADDRESS.url, "z1")
            first, second = heartbeat.disks
            assert first.uuid == good.uuid and first.writable and not first.problem
            assert 0 < first.free_bytes < first.capacity_bytes
            assert second.uuid == bad.uuid and not second.writable
            assert second.problem == "it smokes"

    run(story)


def test_heartbeats_go_on_each_second_while_a_metanode_is_silent(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path, registered=False) as found:
            life = asyncio.create_task(found.membership.run())
            await until(lambda: len(found.rpc.heartbeats) >= 3)
            hanging = asyncio.Event()
            calls = 0
            answer = found.rpc.call

            async def call(method: str, url: str, **rest: object) -> object:
                nonlocal calls
                if "meta-3" in url:
                    await hanging.wait()
                calls += "heartbeat" in url
                return await answer(method, url, **rest)  # type: ignore[arg-type]

            found.rpc.call = call  # type: ignore[method-assign,assignment]
            await until(lambda: calls >= 6, clock=found.clock)
            life.cancel()

    run(story)


def test_a_removed_disk_is_not_granted_again(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as first:
            await first.meta.propose(SetDiskState(disk=first.first.number, state="removed"), Done)
        async with node(tmp_path, rpc=first.rpc, clock=first.clock) as second:
            assert "removed" in second.first.problem and not second.first.writable

    run(story)


def test_a_disk_that_is_granted_while_its_owner_is_asked_for_is_not_judged_by_the_answer(
    tmp_path: Path,
):
    """It was readmitted meanwhile, from another daemon that is gone."""

    async def story() -> None:
        async with node(tmp_path) as found:
            query, number = found.meta.query, found.first.number
            found.first.number = 0
            found.membership._address = replace(ADDRESS, node="blob-2", url="http://blob-2:9201")

            async def late(*given: Any, **named: Any) -> Any:
                answer = await query(*given, **named)
                found.first.number = number
                return answer

            found.meta.query = late  # type: ignore[method-assign]
            await found.membership.confirm_ownership()
            assert found.first.writable
            await found.membership.confirm_ownership()
            assert "blob-1" in found.first.problem

    run(story)
