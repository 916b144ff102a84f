"""An older state of a disk is compared with the catalog and takes writes again (SAFETY rule 15)."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blobd import rejoin as rejoin_module
from blobd.disks import DataDisk
from blobd.membership import NodeAddress
from blobd.rejoin import QUIET_BEATS, Rejoin
from osscore.errors import DiskRefused, NoLeader, OutcomeUnknown, StoreError
from osscore.model import ShardIdentity, SlotState
from raftmeta.catalog.soft import DiskSoft, NodeSoft, SoftState
from raftmeta.commands import Done
from raftmeta.healing import JudgeDisk
from raftmeta.queries import ExpectedSlots, SlotsExpected
from raftmeta.rejoining import BeginRejoin, CompareSlots, FinishRejoin
from tests.blobd.parts import ADDRESS, Node, identity, node, put, run, until
from tests.blobd.slots import name_objects, store_shard
from tests.blobd.test_membership import epoch_on_disk

GOOD, BAD = SlotState.GOOD, SlotState.BAD
ELSEWHERE = replace(ADDRESS, node="blob-2", url="http://blob-2:9201")
KEPT, LATER, OTHER, FOUND_AGAIN = range(4)
"""Objects: whose shard is in the older state; was written since; is of other bytes there; is
there, and the catalog believes it is bad."""


def rejoin_of(found: Node, address: NodeAddress = ADDRESS) -> Rejoin:
    numbers = iter(range(1, 1 << 20))
    return Rejoin(
        found.first,
        disks=found.disks,
        address=address,
        meta=found.meta,
        clock=found.clock,
        random=lambda size: next(numbers).to_bytes(size, "big"),
        heartbeat_s=1.0,
    )


@asynccontextmanager
async def set_back(
    folder: Path, *names: str, address: NodeAddress = ADDRESS
) -> AsyncIterator[tuple[Node, list[ShardIdentity]]]:
    """A daemon whose disk was rolled back behind a later start; and the objects' shards."""
    async with node(folder) as first:
        shards = await name_objects(first, [GOOD, GOOD, GOOD, BAD])
        await store_shard(first, shards[KEPT], KEPT)
        await store_shard(first, shards[OTHER], OTHER, is_other=True)
        await store_shard(first, shards[FOUND_AGAIN], FOUND_AGAIN)
        await put(first.first, identity(90))  # deleted since
    shutil.copytree(folder / "disk-1", folder / "backup")
    async with node(folder, rpc=first.rpc, clock=first.clock) as second:
        await store_shard(second, shards[LATER], LATER)
        await second.first.store.delete([identity(90)])
    shutil.move(folder / "disk-1", folder / "newer")
    shutil.copytree(folder / "backup", folder / "disk-1")
    async with node(folder, *names, rpc=first.rpc, clock=first.clock, address=address) as third:
        assert "older copy" in third.first.problem and not third.first.writable
        yield third, shards


async def states(found: Node, disk: int = 1) -> list[SlotState]:
    told = await found.meta.query(ExpectedSlots(disk=disk), SlotsExpected)
    return [SlotState(slot.state) for slot in told.slots]


async def nothing_believed_is_absent(found: Node, target: DataDisk) -> None:
    told = await found.meta.query(ExpectedSlots(disk=1), SlotsExpected)
    believed = [slot for slot in told.slots if slot.state == GOOD]
    held = target.store.held([slot.identity for slot in believed])
    assert all(held.get(slot.identity, (0, 0))[1] == slot.crc for slot in believed)


@asynccontextmanager
async def living(worker: Rejoin) -> AsyncIterator[None]:
    life = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)


def listen(found: Node) -> list[Any]:
    """Commands from now on, as they are proposed."""
    seen: list[Any] = []
    propose = found.meta.propose

    async def heard(command: Any, *rest: Any, **named: Any) -> Any:
        seen.append(command)
        return await propose(command, *rest, **named)

    found.meta.propose = heard  # type: ignore[method-assign]
    return seen


async def for_a_while(found: Node, seconds: float = 4 * QUIET_BEATS) -> None:
    until_s = found.clock.monotonic_s() + seconds
    await until(lambda: found.clock.monotonic_s() >= until_s, clock=found.clock)


@pytest.mark.parametrize(("page_rows", "absent"), [(200, 200), (1, 1), (3, 1)])
def test_what_it_lacks_becomes_bad_and_then_it_takes_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page_rows: int, absent: int
):
    monkeypatch.setattr(rejoin_module, "PAGE_ROWS", page_rows)
    monkeypatch.setattr(rejoin_module, "ABSENT_AT_ONCE", absent)

    async def story() -> None:
        async with set_back(tmp_path) as (found, shards):
            seen = listen(found)
            async with living(rejoin_of(found)):
                await until(lambda: found.first.writable, clock=found.clock)
            assert await states(found) == [GOOD, BAD, BAD, BAD]
            assert not found.first.problem and found.first.number == 1
            found.first.require_generation(1)
            pages = [c for c in seen if isinstance(c, CompareSlots)]
            assert sum(page.slot_count for page in pages) == len(shards)
            assert all(len(page.absent) <= absent for page in pages)
            assert found.first.store.head(identity(90)) is not None  # left to the sweep
            assert found.rpc.catalog.contradictions() == []
        async with node(tmp_path, rpc=found.rpc, clock=found.clock) as again:
            assert again.first.writable

    run(story)


def test_it_serves_reads_and_nothing_else_until_all_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rejoin_module, "PAGE_ROWS", 1)

    async def story() -> None:
        async with set_back(tmp_path) as (found, shards):
            worker, told = rejoin_of(found), []
            assert worker.progress is None
            while not found.first.writable:
                with pytest.raises(DiskRefused):
                    _ = found.first.writable_store
                assert (await found.first.store.get(shards[KEPT])).body
                assert epoch_on_disk(tmp_path / "disk-1") < 1000
                await asyncio.gather(worker.step(), turning(found))
                told.append((worker.progress, found.first.problem))
            progress = [each for each, _ in told if each is not None]
            assert sorted(set(progress)) == [(number, 4) for number in range(5)]
            assert any("2 of about 4 slots, 1 not there" in problem for _, problem in told)

    run(story)


async def turning(found: Node) -> None:
    for _ in range(4):
        await asyncio.sleep(0.002)
        found.clock.advance(0.5)


def test_it_is_not_claimed_while_somebody_is_heard_writing_to_it(tmp_path: Path):
    async def story() -> None:
        async with set_back(tmp_path) as (found, _):
            seen = listen(found)
            alive = NodeSoft(ADDRESS.url, "up", 1, disks={found.first.uuid: DiskSoft(9, 9, True)})
            found.rpc.soft = SoftState(nodes={ADDRESS.node: alive})
            async with living(rejoin_of(found)):
                await for_a_while(found)
                assert not seen and "takes writes" in found.first.problem
                found.rpc.soft = SoftState()
                began_s = found.clock.monotonic_s()
                await until(lambda: found.first.writable, clock=found.clock)
                assert found.clock.monotonic_s() - began_s >= QUIET_BEATS - 1
            assert isinstance(seen[0], BeginRejoin)

    run(story)


def test_an_original_heard_in_the_midst_ends_the_attempt(tmp_path: Path):
    async def story() -> None:
        async with set_back(tmp_path) as (found, _):
            worker, seen = rejoin_of(found), listen(found)
            while not any(isinstance(each, CompareSlots) for each in seen):
                await asyncio.gather(worker.step(), turning(found))
            alive = NodeSoft(ADDRESS.url, "up", 1, disks={found.first.uuid: DiskSoft(9, 9, True)})
            found.rpc.soft = SoftState(nodes={ADDRESS.node: alive})
            async with living(worker):
                await for_a_while(found)
                assert not found.first.writable
                assert not any(isinstance(each, FinishRejoin) for each in seen)
                found.rpc.soft, began_s = SoftState(), found.clock.monotonic_s()
                await until(lambda: found.first.writable, clock=found.clock)
                assert found.clock.monotonic_s() - began_s >= QUIET_BEATS - 1

    run(story)


def test_it_is_not_readmitted_beside_another_folder_of_its_uuid(tmp_path: Path):
    async def story() -> None:
        async with set_back(tmp_path, "disk-1", "newer") as (found, _):
            seen = listen(found)
            async with living(rejoin_of(found)):
                await for_a_while(found)
            assert not seen and "same uuid" in found.first.problem

    run(story)


def test_a_clone_elsewhere_waits_until_the_original_is_lost_for_good(tmp_path: Path):
    async def story() -> None:
        async with set_back(tmp_path, address=ELSEWHERE) as (found, _):
            async with living(rejoin_of(found, ELSEWHERE)):
                await for_a_while(found)
                assert "belongs to blob-1 at http://blob-1" in found.first.problem
                assert await states(found) == [GOOD, GOOD, GOOD, BAD]
                await found.meta.propose(JudgeDisk(disk=1, is_lost=True), Done)
                await until(lambda: found.first.writable, clock=found.clock)
            await nothing_believed_is_absent(found, found.first)
            async with node(tmp_path, "newer", rpc=found.rpc, clock=found.clock) as original:
                assert "older copy" in original.first.problem
                async with living(rejoin_of(original)):
                    await for_a_while(original)
                    assert "belongs to blob-2" in original.first.problem
                await found.membership.confirm_ownership()
                assert found.first.writable

    run(story)


def test_a_crash_between_the_grant_and_the_label_compares_all_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def story() -> None:
        async with set_back(tmp_path) as (found, _):
            began = epoch_on_disk(tmp_path / "disk-1")

            async def power_cut(_: int) -> None:
                raise OSError("power cut")

            seen = listen(found)
            monkeypatch.setattr(found.first, "keep_epoch", power_cut)
            async with living(rejoin_of(found)):
                await until(
                    lambda: any(isinstance(c, FinishRejoin) for c in seen), clock=found.clock
                )
                await for_a_while(found)
            assert not found.first.writable and "cannot be written" in found.first.problem
            assert epoch_on_disk(tmp_path / "disk-1") == began
        async with node(tmp_path, rpc=found.rpc, clock=found.clock) as again:
            assert "older copy" in again.first.problem
            async with living(rejoin_of(again)):
                await until(lambda: again.first.writable, clock=again.clock)
            assert await states(again) == [GOOD, BAD, BAD, BAD]

    run(story)


@pytest.mark.parametrize("cut_at", range(6))
@pytest.mark.parametrize(
    ("error", "is_applied"),
    [(NoLeader(), False), (OutcomeUnknown(), False), (OutcomeUnknown(), True)],
)
def test_whatever_answer_is_lost_nothing_believed_is_absent_once_it_takes_writes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: StoreError,
    cut_at: int,
    is_applied: bool,
):
    """A leader that changes in the middle: the command was applied, or was not."""
    monkeypatch.setattr(rejoin_module, "PAGE_ROWS", 1)
    monkeypatch.setattr(rejoin_module, "QUIET_BEATS", 1)

    async def story() -> None:
        async with set_back(tmp_path) as (found, _):
            propose, count = found.meta.propose, 0

            async def lossy(*given: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count == cut_at + 1:
                    if is_applied:
                        await propose(*given, **named)
                    raise error
                return await propose(*given, **named)

            found.meta.propose = lossy  # type: ignore[method-assign]
            async with living(rejoin_of(found)):
                await until(lambda: found.first.writable, clock=found.clock)
            assert count > cut_at
            assert await states(found) == [GOOD, BAD, BAD, BAD]
            await nothing_believed_is_absent(found, found.first)

    run(story)


def test_under_another_generation_it_begins_anew(tmp_path: Path):
    async def story() -> None:
        async with set_back(tmp_path) as (found, _):
            seen = listen(found)
            found.rpc.order = (2, 1)  # what pages are told of, while the claim is of the first
            async with living(rejoin_of(found)):
                await until(
                    lambda: sum(isinstance(c, BeginRejoin) for c in seen) > 1, clock=found.clock
                )
                assert not any(isinstance(c, CompareSlots | FinishRejoin) for c in seen)
                found.rpc.order = None
                await until(lambda: found.first.writable, clock=found.clock)

    run(story)


def test_a_disk_refused_for_another_reason_meanwhile_stays_so(tmp_path: Path):
    async def story() -> None:
        async with set_back(tmp_path) as (found, _):
            assert found.first.is_set_back
            found.first.refuse("the disk's label cannot be written")
            found.first.readmit(1)
            found.first.refuse("an older copy", is_set_back=True)
            assert not found.first.is_set_back and not found.first.writable

    run(story)
