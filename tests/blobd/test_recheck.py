"""A hint makes the owner look; what it finds, and nothing else, changes the catalog (rule 11)."""

import asyncio
from pathlib import Path

import pytest

from blobd.disks import DataDisk
from blobd.reading import ShardRead
from blobd.recheck import Rechecker
from blobd.shardstore import ShardStore
from osscore.digests import crc32c
from osscore.errors import CorruptShard, DiskFailing, DiskRefused, NotReady
from osscore.model import (
    ObjectAttributes,
    Profile,
    ShardIdentity,
    Slot,
    SlotState,
    StripeDraft,
    replicas,
)
from osscore.names import StripeId, stripe_id
from ossd.budget import ByteBudget
from raftmeta.commands import (
    CreateBucket,
    Done,
    MarkBad,
    ObjectPut,
    PutObject,
    StripesBody,
)
from raftmeta.queries import CatalogCounted, CountCatalog, ExpectedSlots, SlotsExpected
from tests.blobd.parts import CODING, Node, node, run
from tests.blobd.test_collect import elsewhere
from tests.blobd.test_scrub import flip_bit_of

BODY = b"as it was written " * 10_000


def rechecker(found: Node) -> Rechecker:
    return Rechecker(found.disks, meta=found.meta, budget=ByteBudget(1 << 24, wait_s=1))


async def name_stripe(found: Node, state: SlotState = SlotState.GOOD) -> ShardIdentity:
    """Three copies of BODY, the first of them meant to be here."""
    stripe = stripe_id(found.clock.now_ms(), b"0123456789")
    disks = [found.first.number] + [await elsewhere(found, number) for number in (2, 3)]
    states = (state, SlotState.GOOD, SlotState.GOOD)
    draft = StripeDraft(
        stripe=stripe,
        profile=Profile(2, 1),
        domain=b"",
        digest=bytes(32),
        plain_bytes=len(BODY),
        stored_bytes=len(BODY),
        stored_crc=1,
        frames=(),
        coding=replicas(3),
        shard_bytes=len(BODY),
        shard_crcs=(crc32c(BODY),) * 3,
        slots=tuple(Slot(i, 0, d, s) for i, (d, s) in enumerate(zip(disks, states, strict=True))),
    )
    command = PutObject(
        bucket="bucket",
        key="key",
        attributes=ObjectAttributes(size_bytes=len(BODY)),
        body=StripesBody(stripes=(draft,)),
    )
    await found.meta.propose(CreateBucket(bucket="bucket"), Done)
    await found.meta.propose(command, ObjectPut)
    return ShardIdentity(StripeId(stripe), 0, 0)


async def store_shard(disk: DataDisk, shard: ShardIdentity, body: bytes = BODY) -> None:
    await disk.store.put(shard, CODING, crc32c(body), body)


async def state_of(found: Node) -> SlotState:
    """What the catalog believes of the one slot here."""
    query = ExpectedSlots(disk=found.first.number)
    (slot,) = (await found.meta.query(query, SlotsExpected)).slots
    return SlotState(slot.state)


async def recheck(found: Node) -> str:
    (shard,) = (await rechecker(found).recheck(found.first.uuid, [1])).shards
    return shard.found


@pytest.mark.parametrize("before", [SlotState.GOOD, SlotState.MISSING, SlotState.BAD])
@pytest.mark.parametrize("there", ["good", "missing", "corrupt", "other"])
def test_the_slot_becomes_what_the_owner_finds(
    tmp_path: Path, there: str, before: SlotState
) -> None:
    async def story() -> None:
        async with node(tmp_path) as found:
            is_missing = before is SlotState.MISSING
            shard = await name_stripe(found, SlotState.MISSING if is_missing else SlotState.GOOD)
            if before is SlotState.BAD:
                await found.meta.propose(MarkBad(identity=shard, disk=found.first.number), Done)
            if there != "missing":
                body = BODY if there != "other" else BODY[::-1]
                await store_shard(found.first, shard, body)
            if there == "corrupt":
                flip_bit_of(found.first, BODY)
            index = found.rpc.catalog.applied_index
            assert await recheck(found) == there
            stays = {SlotState.MISSING: SlotState.MISSING}.get(before, SlotState.BAD)
            assert await state_of(found) == (SlotState.GOOD if there == "good" else stays)
            counted = await found.meta.query(CountCatalog(), CatalogCounted)
            assert counted.missing == ({} if there == "good" else {1: 1})
            is_news = (there == "good") != (before is SlotState.GOOD)
            assert (found.rpc.catalog.applied_index > index) == is_news
            assert await recheck(found) == there  # and again, nothing to add
            assert found.rpc.catalog.contradictions() == []

    run(story)


def test_a_daemon_killed_between_the_shard_and_its_report_is_only_asked_again(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with node(tmp_path) as found:
            shard = await name_stripe(found, SlotState.MISSING)
            await store_shard(found.first, shard)
            found.rpc.is_reachable = False
            task = asyncio.create_task(recheck(found))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            found.rpc.is_reachable = True
            assert await state_of(found) == SlotState.MISSING
        async with node(tmp_path, rpc=found.rpc, clock=found.clock) as again:
            assert await recheck(again) == "good"
            assert await state_of(again) == SlotState.GOOD

    run(story)


def test_rows_that_are_not_here_are_no_damage(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path) as found:
            await name_stripe(found)
            index = found.rpc.catalog.applied_index
            assert (await rechecker(found).recheck(found.first.uuid, [2, 77])).shards == ()
            assert found.rpc.catalog.applied_index == index

    run(story)


def test_a_disk_that_may_be_a_copy_claims_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with node(tmp_path) as found:
            shard = await name_stripe(found, SlotState.MISSING)
            await store_shard(found.first, shard)
            number, found.first.number = found.first.number, 0
            with pytest.raises(NotReady):
                await recheck(found)
            found.first.number = number
            found.first.refuse("it is a copy")
            with pytest.raises(DiskRefused):
                await recheck(found)
            found.first.number = number
            assert await state_of(found) == SlotState.MISSING

    run(story)


def test_what_the_disk_cannot_say_is_left_to_its_scrub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise DiskFailing()

    async def story() -> None:
        async with node(tmp_path) as found:
            await store_shard(found.first, await name_stripe(found))
            monkeypatch.setattr(ShardStore, "get", fail)
            assert await recheck(found) == "unreadable"
            assert await state_of(found) == SlotState.GOOD

    run(story)


def test_one_read_that_fails_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, failures = ShardStore.get, [CorruptShard()]

    async def get(store: ShardStore, identity: ShardIdentity) -> ShardRead:
        if failures:
            raise failures.pop()
        return await read(store, identity)

    async def story() -> None:
        async with node(tmp_path) as found:
            await store_shard(found.first, await name_stripe(found))
            monkeypatch.setattr(ShardStore, "get", get)
            assert await recheck(found) == "good"
            assert await state_of(found) == SlotState.GOOD

    run(story)


def test_nothing_is_told_of_a_number_of_an_earlier_generation(tmp_path: Path) -> None:
    """Of a restored catalog: the number may be another disk's there."""

    async def story() -> None:
        async with node(tmp_path) as found:
            await name_stripe(found)
            found.rpc.order = (7, found.rpc.catalog.applied_index)
            with pytest.raises(NotReady):
                await recheck(found)
            assert await state_of(found) == SlotState.GOOD
            await found.first.obey(7)
            assert await recheck(found) == "missing"
            assert await state_of(found) == SlotState.BAD

    run(story)
