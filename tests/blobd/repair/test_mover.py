"""Tasks are carried out once, with the right bytes, whatever dies or lies meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from blobd.client import BlobClient
from blobd.described import Described
from blobd.repair.mover import TRY_AGAIN_S, Mover
from blobd.repair.pace import BURST_S, Pace
from blobd.repair.pull import MOVE_BYTES_MIN, Puller
from osscore.digests import crc32c
from osscore.erasure import Codec, best_codec, shard_bytes
from osscore.errors import NotReady, StoreError
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
)
from osscore.names import stripe_id
from ossd.budget import ByteBudget
from raftmeta.catalog.soft import NodeSoft, SoftState
from raftmeta.commands import (
    CreateBucket,
    DeleteVersion,
    Done,
    MarkBad,
    ObjectDeleted,
    ObjectPut,
    PutObject,
    SetDiskState,
    StripesBody,
)
from raftmeta.moving import (
    DRAIN,
    REPAIR,
    CloseTasks,
    ListTasks,
    OpenTasks,
    TaskDraft,
    TasksListed,
    TasksOpened,
)
from raftmeta.queries import FindObject, Found, ReadTrash, TrashRead
from tests.blobd.parts import Node, node, run, until
from tests.blobd.test_collect import elsewhere
from tests.fakes.blobs import FakeBlobs, Place

BODY = bytes(range(256)) * 700
CODING = reed_solomon(Profile(2, 1))
CODEC = best_codec()
SHARDS = [bytes(shard) for shard in CODEC.encode(CODING, BODY)]
URLS = {1: "http://blob-1:9201"} | {n: f"http://blob-{n}:9201" for n in (2, 3, 4)}


class Erring:
    """A codec as of a machine whose arithmetic has gone wrong."""

    def rebuild(
        self, coding: Coding, shards: Mapping[int, bytes], wanted: Sequence[int]
    ) -> dict[int, bytes]:
        """See Codec."""
        right = CODEC.rebuild(coding, shards, wanted)
        return {index: bytes([body[0] ^ 1]) + body[1:] for index, body in right.items()}


@dataclass
class Scene:
    """A daemon whose disk is the target; an object at 2+1 on the disks of three others."""

    node: Node
    blobs: FakeBlobs
    mover: Mover
    budget: ByteBudget
    disks: dict[int, int]

    async def stripe(self) -> Stripe:
        found = await self.node.meta.query(FindObject(bucket="bucket", key="k"), Found)
        return found.segments[0].stripe

    async def slot(self, index: int) -> Slot:
        return (await self.stripe()).slots[index]

    def place(self, index: int) -> Place:
        """Where the first shard of that index was written."""
        identity = ShardIdentity(stripe_id(self.born_ms, b"0123456789"), index, 0)
        return bytes([index + 2]) * 16, identity

    @property
    def born_ms(self) -> int:
        return self._born_ms

    _born_ms: int = 0

    async def open_task(self, index: int, *, reason: str = REPAIR) -> int:
        """A task for that slot, with this daemon's disk as its target."""
        stripe = await self.stripe()
        slot = stripe.slots[index]
        draft = TaskDraft(stripe.row, index, slot.gen, slot.disk, self.disks[1], reason)
        opened = await self.node.meta.propose(OpenTasks(tasks=(draft,)), TasksOpened)
        assert opened.opened == 1
        listed = await self.node.meta.query(ListTasks(), TasksListed)
        return listed.tasks[-1].task

    async def lose(self, index: int) -> None:
        await self.node.meta.propose(SetDiskState(disk=self.disks[index + 2], state="lost"), Done)

    async def held(self, index: int, gen: int) -> bytes | None:
        """What this daemon's disk holds of the stripe."""
        identity = ShardIdentity((await self.stripe()).stripe, index, gen)
        try:
            return bytes((await self.node.first.store.get(identity)).body)
        except StoreError:
            return None

    async def open_count(self) -> int:
        return len((await self.node.meta.query(ListTasks(), TasksListed)).tasks)


@asynccontextmanager
async def scene(
    folder: Path, codec: object = CODEC, bytes_per_s: float = 1e12
) -> AsyncIterator[Scene]:
    async with node(folder) as it:
        disks = {1: it.first.number} | {n: await elsewhere(it, n) for n in (2, 3, 4)}
        health = {f"blob-{n}": NodeSoft(URLS[n], "up", 1) for n in URLS}
        it.rpc.soft = SoftState(nodes=health)
        blobs = FakeBlobs()
        blobs.meta = it.meta
        budget = ByteBudget(1 << 24, wait_s=0.2)
        mover = Mover(
            it.first,
            Puller(cast(BlobClient, blobs), lambda: cast(Codec, codec), piece_bytes=1 << 16),
            described=Described(it.meta, clock=it.clock),
            meta=it.meta,
            budget=budget,
            clock=it.clock,
            pace=Pace(bytes_per_s, clock=it.clock),
        )
        made = Scene(it, blobs, mover, budget, disks)
        made._born_ms = it.clock.now_ms()
        await put_object(made)
        yield made
        assert budget.used_bytes == 0
        assert it.rpc.catalog.contradictions() == []


async def put_object(it: Scene) -> None:
    for index, shard in enumerate(SHARDS):
        uuid, identity = it.place(index)
        blobs_disk = it.blobs.shards[uuid]
        blobs_disk[identity] = shard
    draft = StripeDraft(
        stripe=it.place(0)[1].stripe,
        profile=Profile(2, 1),
        domain=b"",
        digest=bytes(32),
        plain_bytes=len(BODY),
        stored_bytes=len(BODY),
        stored_crc=crc32c(BODY),
        frames=(),
        coding=CODING,
        shard_bytes=shard_bytes(len(BODY), CODING),
        shard_crcs=tuple(crc32c(shard) for shard in SHARDS),
        slots=tuple(Slot(index, 0, it.disks[index + 2]) for index in range(3)),
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
    codec: object = CODEC,
    bytes_per_s: float = 1e12,
) -> None:
    async def tell() -> None:
        async with scene(tmp_path, codec, bytes_per_s) as it:
            await story(it)

    run(tell)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_lost_shard_is_rebuilt_here_and_named(tmp_path: Path, index: int) -> None:
    async def story(it: Scene) -> None:
        await it.lose(index)
        task = await it.open_task(index)
        assert await it.mover.step() == 1
        assert await it.slot(index) == Slot(index, task, it.disks[1], SlotState.GOOD)
        assert await it.held(index, task) == SHARDS[index]
        assert await it.open_count() == 0
        assert (it.mover.moved.rebuilt_shards, it.mover.moved.copied_shards) == (1, 0)
        assert it.mover.moved.read_bytes == 2 * len(SHARDS[0])
        assert await it.mover.step() == 0

    told(tmp_path, story)


def test_a_disk_takes_so_many_bytes_a_second_and_not_more(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.open_task(1, reason=DRAIN)
        began_s = it.node.clock.monotonic_s()
        step = asyncio.create_task(it.mover.step())
        await until(step.done, clock=it.node.clock)
        assert await step == 1
        assert it.node.clock.monotonic_s() - began_s >= 40 - BURST_S

    told(tmp_path, story, bytes_per_s=len(SHARDS[1]) / 40)


@pytest.mark.parametrize("reason", [DRAIN, REPAIR])
def test_a_small_move_passes_as_a_larger_one_and_a_repair_as_it_is(
    tmp_path: Path, reason: str
) -> None:
    """Else thousands of small moves a second keep everybody busy at any throttle."""
    rate = MOVE_BYTES_MIN / 40

    async def story(it: Scene) -> None:
        await it.open_task(1, reason=reason)
        began_s = it.node.clock.monotonic_s()
        step = asyncio.create_task(it.mover.step())
        await until(step.done, clock=it.node.clock)
        took_s = it.node.clock.monotonic_s() - began_s
        assert took_s >= 40 - BURST_S if reason == DRAIN else took_s < 20, took_s

    told(tmp_path, story, bytes_per_s=rate)


def test_a_good_shard_is_copied_from_where_it_lies(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        task = await it.open_task(1, reason=DRAIN)
        assert await it.mover.step() == 1
        assert await it.held(1, task) == SHARDS[1]
        assert it.blobs.get_count == 2 and it.mover.moved.copied_shards == 1

    told(tmp_path, story)


def test_a_shard_is_copied_piece_by_piece_as_the_pace_allows(tmp_path: Path) -> None:
    """Else a slow pace lets whole shards pass in a burst each."""
    rate = len(SHARDS[1]) / 40

    async def story(it: Scene) -> None:
        await it.open_task(1, reason=DRAIN)
        step = asyncio.create_task(it.mover.step())
        await until(lambda: it.blobs.get_count == 1, clock=it.node.clock)
        first_s = it.node.clock.monotonic_s()
        await until(step.done, clock=it.node.clock)
        assert it.blobs.windows == [(0, 1 << 16), (1 << 16, len(SHARDS[1]) - (1 << 16))]
        rest_s = (len(SHARDS[1]) - (1 << 16)) / rate
        assert it.node.clock.monotonic_s() - first_s >= rest_s - BURST_S

    told(tmp_path, story, bytes_per_s=rate)


def test_one_shard_is_whole_before_the_next_is_begun(tmp_path: Path) -> None:
    """Else four of them are written and synced at once, and whoever writes then waits for all."""

    async def story(it: Scene) -> None:
        for index in range(2):
            await it.open_task(index, reason=DRAIN)
        step = asyncio.create_task(it.mover.step())
        await until(step.done, clock=it.node.clock)
        whole = [(0, 1 << 16), (1 << 16, len(SHARDS[0]) - (1 << 16))]
        assert await step >= 1 and it.blobs.windows[:4] == 2 * whole

    told(tmp_path, story, bytes_per_s=len(SHARDS[1]) / 40)


def test_a_shard_shorter_than_it_should_be_is_rebuilt_and_told(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        uuid, identity = it.place(1)
        it.blobs.shards[uuid][identity] = SHARDS[1][: 1 << 16]
        await it.open_task(1, reason=DRAIN)
        assert await it.mover.step() == 1
        assert it.mover.moved.rebuilt_shards == 1
        assert it.blobs.hints == [(uuid, (1,))]

    told(tmp_path, story)


@pytest.mark.parametrize("trouble", ["gone", "corrupt", "lying", "silent"])
def test_what_cannot_be_copied_is_rebuilt(tmp_path: Path, trouble: str) -> None:
    async def story(it: Scene) -> None:
        spoil(it, 1, trouble)
        task = await it.open_task(1, reason=DRAIN)
        assert await it.mover.step() == 1
        assert await it.held(1, task) == SHARDS[1]
        assert it.mover.moved.rebuilt_shards == 1
        if trouble != "silent":  # the owner was told, looked, and said so itself
            assert it.blobs.hints == [(it.place(1)[0], (1,))]

    told(tmp_path, story)


def spoil(it: Scene, index: int, trouble: str) -> None:
    place = it.place(index)
    if trouble == "gone":
        it.blobs.remove(place)
    elif trouble == "silent":
        it.blobs.refusing.add(URLS[index + 2])
    else:
        getattr(it.blobs, trouble).add(place)


@pytest.mark.parametrize("trouble", ["gone", "corrupt", "lying", "silent"])
def test_with_too_few_shards_nothing_is_written_and_the_task_stays(
    tmp_path: Path, trouble: str
) -> None:
    async def story(it: Scene) -> None:
        await it.lose(0)
        await it.open_task(0)
        spoil(it, 0, "gone")
        spoil(it, 2, trouble)
        assert await it.mover.step() == 0
        assert it.mover.moved.failed_count == 1 and await it.open_count() == 1
        assert await asyncio.to_thread(it.node.first.store.inventory, b"", 10) == []
        if trouble != "silent":
            return
        it.blobs.refusing.clear()
        assert await it.mover.step() == 0  # not at once again
        it.node.clock.advance(TRY_AGAIN_S + 1)
        assert await it.mover.step() == 1

    told(tmp_path, story)


def test_what_came_out_wrong_is_not_written(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.lose(1)
        await it.open_task(1)
        assert await it.mover.step() == 0 and await it.open_count() == 1
        assert await asyncio.to_thread(it.node.first.store.inventory, b"", 10) == []

    told(tmp_path, story, codec=Erring())


def test_what_an_attempt_before_a_crash_stored_is_not_fetched_again(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.lose(1)
        task = await it.open_task(1)
        identity = ShardIdentity((await it.stripe()).stripe, 1, task)
        await it.node.first.store.put(identity, CODING, crc32c(SHARDS[1]), SHARDS[1])
        assert await it.mover.step() == 1
        assert it.blobs.get_count == 0
        assert await it.slot(1) == Slot(1, task, it.disks[1], SlotState.GOOD)

    told(tmp_path, story)


def test_a_task_closed_while_it_is_worked_on_names_nothing(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.lose(1)
        task = await it.open_task(1)
        before = await it.slot(1)
        it.blobs.stalled.add(URLS[2])
        working = asyncio.create_task(it.mover.step())
        await until(lambda: it.blobs.stalled_count > 0)
        await it.node.meta.propose(CloseTasks(tasks=(task,)), Done)
        it.blobs.recover(URLS[2])
        assert await working == 1 and it.mover.moved.useless_shards == 1
        assert await it.slot(1) == before
        trash = await it.node.meta.query(ReadTrash(disk=it.disks[1]), TrashRead)
        assert [(row.identity.index, row.identity.gen) for row in trash.rows] == [(1, task)]

    told(tmp_path, story)


def test_a_task_whose_shard_was_ordered_deleted_is_never_called_done(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.lose(1)
        task = await it.open_task(1)
        identity = ShardIdentity((await it.stripe()).stripe, 1, task)
        await it.node.first.store.delete([identity])
        before = await it.slot(1)
        assert await it.mover.step() == 0
        assert await it.slot(1) == before and it.mover.moved.failed_count == 1

    told(tmp_path, story)


def test_an_object_deleted_meanwhile_leaves_nothing_named(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.lose(1)
        task = await it.open_task(1)
        gone = DeleteVersion(bucket="bucket", key="k", number=1)
        await it.node.meta.propose(gone, ObjectDeleted)
        assert await it.mover.step() == 1 and it.mover.moved.useless_shards == 1
        trash = await it.node.meta.query(ReadTrash(disk=it.disks[1]), TrashRead)
        assert [row.identity.gen for row in trash.rows] == [task]

    told(tmp_path, story)


def test_a_bad_shard_of_this_disk_is_written_anew_beside_it(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.open_task(1, reason=DRAIN)
        await it.mover.step()
        first = await it.slot(1)
        identity = ShardIdentity((await it.stripe()).stripe, 1, first.gen)
        await it.node.meta.propose(MarkBad(identity=identity, disk=it.disks[1]), Done)
        second = await it.open_task(1)
        assert await it.mover.step() == 1
        assert await it.slot(1) == Slot(1, second, it.disks[1], SlotState.GOOD)
        assert await it.held(1, second) == SHARDS[1]

    told(tmp_path, story)


def test_no_more_memory_is_taken_than_requests_leave(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.lose(1)
        await it.open_task(1)
        await it.budget.take((1 << 24) * 3 // 4)
        working = asyncio.create_task(it.mover.step())
        while not working.done():
            it.node.clock.advance(0.05)
            await asyncio.sleep(0)
        assert working.result() == 0 and await it.open_count() == 1
        it.budget.give((1 << 24) * 3 // 4)
        it.node.clock.advance(TRY_AGAIN_S + 1)
        assert await it.mover.step() == 1

    told(tmp_path, story)


def test_tasks_for_a_number_of_an_earlier_generation_are_left_alone(tmp_path: Path) -> None:
    """Of a restored catalog: the number may be another disk's there."""

    async def story(it: Scene) -> None:
        await it.lose(0)
        task = await it.open_task(0)
        it.node.rpc.order = (7, it.node.rpc.catalog.applied_index)
        with pytest.raises(NotReady):
            await it.mover.step()
        assert await it.held(0, task) is None
        await it.node.first.obey(7)
        assert await it.mover.step() == 1

    told(tmp_path, story)
