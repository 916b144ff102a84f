"""Stripes are encoded anew from verified bytes into verified shards, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from blobd.client import BlobClient
from blobd.described import Described
from blobd.repair.pace import Pace
from blobd.repair.pull import Puller
from blobd.repair.reencoder import AVOID_S, TRY_AGAIN_S, Reencoder
from osscore.compression import compress
from osscore.digests import blake3_256, crc32c
from osscore.erasure import Codec, best_codec, shard_bytes
from osscore.model import (
    Coding,
    ObjectAttributes,
    Profile,
    ShardIdentity,
    Slot,
    SlotState,
    Stripe,
    StripeDraft,
    reed_solomon,
    replicas,
)
from osscore.names import StripeId, stripe_id
from ossd.budget import ByteBudget
from ossd.disk import Bytes
from raftmeta.catalog.soft import DiskSoft, NodeSoft, SoftState
from raftmeta.commands import CreateBucket, Done, ObjectPut, PutObject, StripesBody
from raftmeta.queries import FindObject, Found, ReadTrash, TrashRead
from raftmeta.reencoding import (
    CancelReencode,
    ListReencodes,
    OpenReencodes,
    ProfileSet,
    ReencodeDraft,
    ReencodesListed,
    ReencodesOpened,
    SetProfile,
)
from tests.blobd.parts import Node, node, run, until
from tests.blobd.test_collect import elsewhere
from tests.fakes.blobs import FakeBlobs

BODY = b"".join(number.to_bytes(4, "big") * 9 for number in range(20_000))
STORED = compress(BODY)
TWO_ONE, THREE_TWO = Profile(2, 1), Profile(3, 2)
CODEC = best_codec()
NODES = (1, 2, 3, 4, 5)
BUDGET_BYTES = 1 << 24


class Erring:
    """A codec as of a machine whose arithmetic has gone wrong in its parity rows."""

    def decode(self, coding: Coding, shards: Mapping[int, Bytes], stored_bytes: int) -> bytes:
        """See Codec."""
        return CODEC.decode(coding, shards, stored_bytes)

    def encode(self, coding: Coding, stored: Bytes) -> list[Bytes]:
        """See Codec."""
        *right, last = CODEC.encode(coding, stored)
        return [*right, bytes([bytes(last)[0] ^ 1]) + bytes(last)[1:]]


def url(number: int) -> str:
    return f"http://blob-{number}:9201"


@dataclass
class Scene:
    """A daemon that encodes; an object of one stripe on the disks of three others."""

    node: Node
    blobs: FakeBlobs
    worker: Reencoder
    budget: ByteBudget
    disks: dict[int, int]
    uuids: dict[int, bytes]
    former: StripeId

    async def stripe(self) -> Stripe:
        found = await self.node.meta.query(FindObject(bucket="bucket", key="k"), Found)
        return found.segments[0].stripe

    async def give(self, profile: Profile = THREE_TWO) -> int:
        """A job for that profile, and its one task for this daemon."""
        command = SetProfile(bucket="bucket", profile=profile, reencodes=True)
        job = (await self.node.meta.propose(command, ProfileSet)).job
        stripe = await self.stripe()
        draft = ReencodeDraft(stripe.row, stripe.stripe, profile, self.disks[1], job)
        command_ = OpenReencodes(tasks=(draft,))
        assert (await self.node.meta.propose(command_, ReencodesOpened)).opened == 1
        return job

    async def open_count(self) -> int:
        return len((await self.node.meta.query(ListReencodes(), ReencodesListed)).tasks)

    def held(self, number: int) -> dict[ShardIdentity, bytes]:
        """What one daemon holds."""
        return self.blobs.shards[self.uuids[number]]

    async def named(self) -> dict[int, bytes]:
        """The shards that the stripe's slots name, as they lie."""
        by_disk = {disk: number for number, disk in self.disks.items()}
        stripe = await self.stripe()
        return {
            slot.index: self.held(by_disk[slot.disk])[
                ShardIdentity(stripe.stripe, slot.index, slot.gen)
            ]
            for slot in stripe.slots
        }

    async def trashed(self) -> set[tuple[int, ShardIdentity]]:
        """What disks are to delete now, by their daemon."""
        found = set()
        for number, disk in self.disks.items():
            read = await self.node.meta.query(ReadTrash(disk=disk), TrashRead)
            found |= {(number, row.identity) for row in read.rows}
        return found


@asynccontextmanager
async def scene(
    folder: Path, *, codec: object = CODEC, digest: bytes = b"", coding: Coding | None = None
) -> AsyncIterator[Scene]:
    async with node(folder) as it:
        disks = {1: it.first.number} | {n: await elsewhere(it, n) for n in NODES[1:]}
        uuids = {1: it.first.uuid} | {n: bytes([n]) * 16 for n in NODES[1:]}
        soft = {n: {uuids[n]: DiskSoft(10**12, 10**12, True)} for n in NODES}
        it.rpc.soft = SoftState(
            nodes={f"blob-{n}": NodeSoft(url(n), "up", 1, disks=soft[n]) for n in NODES}
        )
        blobs = FakeBlobs()
        blobs.meta = it.meta
        budget = ByteBudget(BUDGET_BYTES, wait_s=0.2)
        worker = Reencoder(
            it.first,
            Puller(cast(BlobClient, blobs), lambda: cast(Codec, codec)),
            cast(BlobClient, blobs),
            lambda: cast(Codec, codec),
            described=Described(it.meta, clock=it.clock),
            meta=it.meta,
            budget=budget,
            clock=it.clock,
            random=lambda size: bytes(range(size)),
            pace=Pace(1e12, clock=it.clock),
        )
        former = stripe_id(it.clock.now_ms(), b"0123456789")
        made = Scene(it, blobs, worker, budget, disks, uuids, former)
        await put_object(made, digest or blake3_256(BODY), coding or reed_solomon(TWO_ONE))
        yield made
        assert budget.used_bytes == 0
        assert it.rpc.catalog.contradictions() == []


async def put_object(it: Scene, digest: bytes, coding: Coding) -> None:
    shards = [bytes(shard) for shard in CODEC.encode(coding, STORED.stored)]
    for index, shard in enumerate(shards):
        it.held(index + 2)[ShardIdentity(it.former, index, 0)] = shard
    draft = StripeDraft(
        stripe=it.former,
        profile=TWO_ONE,
        domain=b"",
        digest=digest,
        plain_bytes=len(BODY),
        stored_bytes=len(STORED.stored),
        stored_crc=crc32c(STORED.stored),
        frames=STORED.frames,
        coding=coding,
        shard_bytes=shard_bytes(len(STORED.stored), coding),
        shard_crcs=tuple(crc32c(shard) for shard in shards),
        slots=tuple(Slot(index, 0, it.disks[index + 2]) for index in range(len(shards))),
    )
    command = PutObject(
        bucket="bucket",
        key="k",
        attributes=ObjectAttributes(size_bytes=len(BODY)),
        body=StripesBody(stripes=(draft,)),
    )
    await it.node.meta.propose(CreateBucket(bucket="bucket"), Done)
    await it.node.meta.propose(command, ObjectPut)


def told(
    tmp_path: Path,
    story: Callable[[Scene], Awaitable[None]],
    *,
    codec: object = CODEC,
    digest: bytes = b"",
    coding: Coding | None = None,
) -> None:
    async def tell() -> None:
        async with scene(tmp_path, codec=codec, digest=digest, coding=coding) as it:
            await story(it)

    run(tell)


@pytest.mark.parametrize("coding", [reed_solomon(TWO_ONE), replicas(3)])
def test_a_stripe_takes_its_new_coding_with_the_same_bytes(tmp_path: Path, coding: Coding) -> None:
    async def story(it: Scene) -> None:
        await it.give()
        assert await it.worker.step() == 1
        stripe = await it.stripe()
        assert stripe.coding == reed_solomon(THREE_TWO) and stripe.stripe != it.former
        shards = await it.named()
        assert {i: crc32c(s) for i, s in shards.items()} == dict(enumerate(stripe.shard_crcs))
        for lost in (0, 3):
            kept = {i: shard for i, shard in shards.items() if i not in (lost, lost + 1)}
            assert CODEC.decode(stripe.coding, kept, stripe.stored_bytes) == STORED.stored
        for index in range(3):
            assert ShardIdentity(it.former, index, 0) in it.held(index + 2)
        assert (it.worker.done.stripes, it.worker.done.plain_bytes) == (1, len(BODY))
        assert await it.open_count() == 0 and await it.worker.step() == 0

    assert STORED.frames
    told(tmp_path, story, coding=coding)


@pytest.mark.parametrize("trouble", ["corrupt", "lying", "gone"])
def test_one_shard_less_is_made_up_for_by_the_others(tmp_path: Path, trouble: str) -> None:
    async def story(it: Scene) -> None:
        spoil(it, 0, trouble)
        await it.give(Profile(2, 2))
        assert await it.worker.step() == 1
        stripe, shards = await it.stripe(), await it.named()
        assert CODEC.decode(stripe.coding, shards, stripe.stored_bytes) == STORED.stored

    told(tmp_path, story)


def spoil(it: Scene, index: int, trouble: str) -> None:
    place = it.uuids[index + 2], ShardIdentity(it.former, index, 0)
    if trouble == "gone":
        it.blobs.remove(place)
    else:
        getattr(it.blobs, trouble).add(place)


async def nothing_was_done(it: Scene) -> None:
    """The stripe is as it was, nothing new lies anywhere, and the task waits."""
    assert await it.worker.step() == 0
    assert (await it.stripe()).stripe == it.former
    assert it.blobs.put_count == 0 and await it.open_count() == 1
    assert it.worker.done.failed_count == 1 and it.worker.done.stripes == 0


def test_with_too_few_shards_nothing_is_written_and_it_is_tried_again(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        it.blobs.refusing |= {url(2), url(3)}
        await it.give()
        await nothing_was_done(it)
        it.blobs.refusing.clear()
        assert await it.worker.step() == 0  # not at once again
        it.node.clock.advance(TRY_AGAIN_S + 1)
        assert await it.worker.step() == 1

    told(tmp_path, story)


def test_bytes_of_another_digest_are_not_encoded(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.give()
        await nothing_was_done(it)

    told(tmp_path, story, digest=blake3_256(b"other"))


def test_shards_that_do_not_give_the_bytes_back_are_not_written(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.give()
        await nothing_was_done(it)

    told(tmp_path, story, codec=Erring())


def test_where_one_shard_is_refused_the_others_are_deleted_again(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        it.blobs.full.add(it.uuids[5])
        await it.give()
        assert await it.worker.step() == 1
        assert (await it.stripe()).stripe == it.former
        assert it.worker.done.useless_stripes == 1 and await it.open_count() == 0
        it.node.clock.advance(1)
        await it.node.meta.propose(CreateBucket(bucket="later"), Done)
        new = {(n, s) for n in NODES for s in it.held(n) if s.stripe != it.former}
        assert len(new) == 4 and new <= await it.trashed()
        # The one that refused is left out for a while.
        await it.give()
        it.node.clock.advance(AVOID_S / 2)
        it.blobs.full.clear()
        assert await it.worker.step() == 1
        assert it.disks[5] not in {slot.disk for slot in (await it.stripe()).slots}

    told(tmp_path, story)


def test_a_job_cancelled_meanwhile_leaves_the_stripe_as_it_was(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.give()
        it.blobs.stalled.add(url(4))
        working = asyncio.create_task(it.worker.step())
        await until(lambda: it.blobs.stalled_count > 0)
        await it.node.meta.propose(CancelReencode(bucket="bucket"), Done)
        it.blobs.recover(url(4))
        assert await working == 1 and it.worker.done.useless_stripes == 1
        assert all(slot.state is SlotState.GOOD for slot in (await it.stripe()).slots)
        assert (await it.stripe()).stripe == it.former

    told(tmp_path, story)


def test_no_more_memory_is_taken_than_requests_leave(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.give()
        await it.budget.take(BUDGET_BYTES * 3 // 4)
        working = asyncio.create_task(it.worker.step())
        while not working.done():
            it.node.clock.advance(0.05)
            await asyncio.sleep(0)
        assert working.result() == 0 and it.blobs.put_count == 0
        it.budget.give(BUDGET_BYTES * 3 // 4)
        it.node.clock.advance(TRY_AGAIN_S + 1)
        assert await it.worker.step() == 1

    told(tmp_path, story)
