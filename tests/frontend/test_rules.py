"""The rules of docs/SAFETY.md that the flows keep, each with what breaks without it."""

import asyncio
import dataclasses
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from frontend.cluster import ClusterState
from frontend.flows.get import PIECE_BYTES, read_object
from frontend.flows.objects import ObjectRef, delete_object, find_object
from osscore.errors import (
    CorruptStripe,
    MetadataLowSpace,
    NoSuchKey,
    StripeUnreadable,
)
from osscore.model import BLOCK_BYTES, Profile, Segment, SlotState
from osscore.names import StripeId
from raftmeta.commands import Collect, Collected, Conditions
from raftmeta.queries import CatalogCounted, CountCatalog, Found
from tests.fakes.blobs import Place
from tests.frontend.harness import BUCKET, FAST, World, random_bytes, run, url

STRIPE = 8 * 1024 * 1024
STRIPE_PIECES = STRIPE // PIECE_BYTES
SHORT_GRACE = dataclasses.replace(FAST, gc_grace_s=0.004)


class MetaOfThePast:
    """A MetaClient whose catalog time lies far back for the first few questions."""

    def __init__(self, meta: Any, times: int) -> None:
        self._meta = meta
        self._times = times

    @property
    def catalog_time_ms(self) -> int:
        """Two hours ago, that many times."""
        self._times -= 1
        now_ms: int = self._meta.catalog_time_ms
        return now_ms - 7_200_000 if self._times >= 0 else now_ms

    def __getattr__(self, name: str) -> Any:
        return getattr(self._meta, name)


@pytest.mark.parametrize("size_bytes", [100_000, STRIPE + 1, 3 * STRIPE])
def test_rule_1_a_stripe_too_old_to_be_named_is_written_again(
    tmp_path: Path, size_bytes: int
) -> None:
    body = random_bytes(size_bytes)

    async def story(world: World) -> None:
        past: Any = MetaOfThePast(world.meta, times=2)
        world.store.meta = past
        await world.put("k", body)
        assert await world.get("k") == body

    run(tmp_path, story)


def test_rule_3_segments_are_read_again_when_shards_have_moved(tmp_path: Path) -> None:
    body = random_bytes(100_000)

    async def story(world: World) -> None:
        await world.put("k", body)
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        got = [bytes(p) async for p in read_object(world.store, stale(found), 0, len(body) - 1)]
        assert b"".join(got) == body

    run(tmp_path, story)


def stale(found: Found) -> Found:
    """The answer of a moment before its stripe was encoded anew: an id gone from all disks."""
    segments: list[Segment] = []
    for segment in found.segments:
        stripe = msgspec.structs.replace(segment.stripe, stripe=StripeId(bytes(16)))
        segments.append(msgspec.structs.replace(segment, stripe=stripe))
    return msgspec.structs.replace(found, segments=tuple(segments))


def test_rule_4_a_long_get_survives_the_removal_of_its_version(tmp_path: Path) -> None:
    body = random_bytes(5 * STRIPE)

    async def story(world: World) -> None:
        await world.put("k", body)
        ref = ObjectRef(bucket=BUCKET, key="k", number=1)
        found = await find_object(world.store, ref)
        got: list[bytes] = []
        async with aclosing(read_object(world.store, found, 0, len(body) - 1)) as pieces:
            async for piece in pieces:
                got.append(bytes(piece))
                if len(got) == 1:
                    await world.clock.sleep(0.005)  # longer than a quarter of the grace
                if (
                    len(got) == 3 * STRIPE_PIECES // 2
                ):  # the third stripe has been begun, and the hold taken
                    await delete_object(world.meta, ref, Conditions())
                    for _ in range(3):
                        await world.meta.propose(Collect(grace_ms=0), Collected)
                    counted = await count(world)
                    assert (counted.uploads, counted.stripes, counted.versions) == (1, 5, 0)
        assert b"".join(got) == body
        await world.store.close()
        assert (await count(world)).uploads == 0
        with pytest.raises(NoSuchKey):
            await find_object(world.store, ref)

    run(tmp_path, story, settings=SHORT_GRACE)


async def count(world: World) -> CatalogCounted:
    """The catalog's totals."""
    return await world.meta.query(CountCatalog(), CatalogCounted)


def test_rule_4_an_abandoned_get_gives_its_hold_back(tmp_path: Path) -> None:
    body = random_bytes(5 * STRIPE)

    async def story(world: World) -> None:
        await world.put("k", body)
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        seen = 0
        async with aclosing(read_object(world.store, found, 0, len(body) - 1)) as pieces:
            async for _ in pieces:
                seen += 1
                if seen == 1:
                    await world.clock.sleep(0.005)
                if seen == 3 * STRIPE_PIECES // 2:
                    assert (await count(world)).uploads == 1
                    break
        await world.store.close()
        assert (await count(world)).uploads == 0
        assert world.store.budget.used_bytes == 0

    run(tmp_path, story, settings=SHORT_GRACE)


def test_rule_4_windows_keep_the_upload_of_a_slow_client_alive(tmp_path: Path) -> None:
    from frontend.flows.staging import Staging

    async def story(world: World) -> None:
        staging = Staging(world.store)
        await staging.begin(BUCKET, "k")
        before = world.catalog.applied_index
        async with asyncio.timeout(5):
            while world.catalog.applied_index < before + 3:
                await world.clock.sleep(0.001)
        await staging.stop()
        await staging.abort()
        assert (await count(world)).uploads == 0

    run(tmp_path, story, settings=dataclasses.replace(FAST, gc_grace_s=0.04))


def test_rule_6_a_shard_with_other_bytes_than_the_catalog_knows_is_not_served(
    tmp_path: Path,
) -> None:
    body = random_bytes(100_000)

    async def story(world: World) -> None:
        await world.put("k", body)
        world.blobs.lying.update(world.blobs.places()[:3])
        with pytest.raises(StripeUnreadable):
            await world.get("k")

    run(tmp_path, story)


class BrokenCodec:
    """Decodes and rebuilds one bit wrong, as a broken library or memory would."""

    def __init__(self, codec: Any) -> None:
        self._codec = codec

    def decode(self, *arguments: Any) -> bytes:
        """See Codec."""
        return flipped(self._codec.decode(*arguments))

    def rebuild(self, *arguments: Any) -> dict[int, bytes]:
        """See Codec."""
        return {i: flipped(shard) for i, shard in self._codec.rebuild(*arguments).items()}


def flipped(body: bytes) -> bytes:
    """The same but for one bit."""
    return bytes([body[0] ^ 1]) + body[1:]


@pytest.mark.parametrize("size_bytes", [100_000, STRIPE])
def test_rule_6_what_was_decoded_is_verified_before_it_is_served(
    tmp_path: Path, size_bytes: int
) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(size_bytes))
        world.blobs.remove(data_shard(world))
        codec: Any = BrokenCodec(world.store.codec)
        world.store.codec = codec
        with pytest.raises(CorruptStripe):
            await world.get("k")

    run(tmp_path, story)


def test_rule_6_a_window_that_is_not_a_whole_shard_is_checked_by_the_whole_stripe(
    tmp_path: Path,
) -> None:
    # Of the last shard's 64 KiB and one byte, the one byte is padding and not fetched, so
    # the shard's own CRC cannot be compared.
    body = random_bytes(4 * (BLOCK_BYTES + 1) - 3)

    async def story(world: World) -> None:
        await world.put("k", body, profile=Profile(4, 2))
        last = next(place for place in world.blobs.places() if place[1].index == 3)
        world.blobs.lying.add(last)
        assert await world.get("k") == body
        assert (0, BLOCK_BYTES) in world.blobs.windows

    run(tmp_path, story)


def test_rule_6_what_was_rebuilt_is_verified_before_it_is_written_back(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(300_000))
        lost = data_shard(world)
        world.blobs.remove(lost)
        codec: Any = BrokenCodec(world.store.codec)
        codec.decode = world.store.codec.decode
        world.store.codec = codec
        puts_before = world.blobs.put_count
        await world.get("k")
        await world.store.close()
        assert (world.blobs.put_count, lost in world.blobs.places()) == (puts_before, False)

    run(tmp_path, story)


def data_shard(world: World) -> Place:
    """Where the first data shard lies."""
    return next(place for place in world.blobs.places() if place[1].index == 0)


def test_rule_7_a_shard_that_takes_its_time_is_waited_for_though_the_quorum_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        put_shard, slow = world.blobs.put_shard, url(world.nodes[2])

        async def put_slowly(to: str, *arguments: Any, **more: Any) -> None:
            while to == slow and len(world.blobs.places()) < 5:
                await world.clock.sleep(0)
            for _ in range(100 if to == slow else 0):
                await world.clock.sleep(0)
            await put_shard(to, *arguments, **more)

        monkeypatch.setattr(world.blobs, "put_shard", put_slowly)
        await world.put("k", random_bytes(500_000))
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        states = {slot.state for slot in found.segments[0].stripe.slots}
        assert states == {SlotState.GOOD}

    run(tmp_path, story)


def test_rule_11_nothing_is_written_back_for_a_stripe_that_is_gone(tmp_path: Path) -> None:
    body = random_bytes(300_000)

    async def story(world: World) -> None:
        await world.put("k", body)
        ref = ObjectRef(bucket=BUCKET, key="k", number=1)
        found = await find_object(world.store, ref)
        lost = data_shard(world)
        world.blobs.remove(lost)
        await delete_object(world.meta, ref, Conditions())
        got = [bytes(p) async for p in read_object(world.store, found, 0, len(body) - 1)]
        assert b"".join(got) == body
        await world.store.close()
        assert lost not in world.blobs.places()
        assert world.store.damage.counts == {"not_wanted": 1}

    run(tmp_path, story)


def test_rule_14_while_metadata_is_low_on_space_no_shard_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        state = await world.store.cluster.current()
        described = msgspec.structs.replace(state.described, admits_writes=False)

        async def current() -> ClusterState:
            return dataclasses.replace(state, described=described)

        monkeypatch.setattr(world.store.cluster, "current", current)
        with pytest.raises(MetadataLowSpace):
            await world.put("k", random_bytes(100_000))
        assert world.blobs.places() == []

    run(tmp_path, story)


PATIENT = dataclasses.replace(FAST, shard_deadline_s=60.0, shard_patience_s=60.0)
QUEUE_COUNT = 8


def test_rule_26_a_hedge_is_sent_and_wins_long_before_the_slow_node_is_given_up(
    tmp_path: Path,
) -> None:
    body = random_bytes(300_000)

    async def story(world: World) -> None:
        await world.put("k", body, profile=Profile(4, 2))
        urls = await shard_urls(world)
        world.blobs.stalled = {urls[1]}
        async with asyncio.timeout(20):
            assert await world.get("k") == body
        assert world.store.pace.hedge_count == 1
        # Three shards were there already: the hedge asked for the fourth one alone.
        assert (world.blobs.get_count, world.blobs.stalled_count) == (4, 1)

    run(tmp_path, story, settings=PATIENT)


def test_rule_26_a_hedge_of_a_range_wins_too(tmp_path: Path) -> None:
    body = random_bytes(2_000_000)

    async def story(world: World) -> None:
        await world.put("k", body, profile=Profile(4, 2))
        world.blobs.stalled = {(await shard_urls(world))[1]}
        async with asyncio.timeout(20):
            assert await world.get("k", 600_001, 700_000) == body[600_001:700_001]
        assert world.store.pace.hedge_count == 1

    run(tmp_path, story, settings=PATIENT)


async def shard_urls(world: World) -> list[str]:
    """Where the shards of object k lie, by index."""
    found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
    places = [world.store.cluster.place(s.disk) for s in found.segments[0].stripe.slots]
    return [place.url for place in places if place is not None]


@pytest.mark.parametrize("busy", [{4}, {5}, {4, 5}])
def test_rule_26_no_hedge_is_sent_to_a_node_that_has_a_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: set[int]
) -> None:
    body = random_bytes(300_000)

    async def story(world: World) -> None:
        await world.put("k", body, profile=Profile(4, 2))
        urls = await shard_urls(world)
        world.blobs.stalled = {urls[1]}
        asked: list[str] = []
        get_shard = world.blobs.get_shard

        async def get_shard_noting_it(url: str, *arguments: Any, **more: Any) -> bytes:
            asked.append(url)
            return await get_shard(url, *arguments, **more)

        monkeypatch.setattr(world.blobs, "get_shard", get_shard_noting_it)
        with ExitStack() as queues:
            for node in (node for node in world.nodes if url(node) in {urls[i] for i in busy}):
                for _ in range(QUEUE_COUNT):
                    queues.enter_context(world.store.pace.reading(node))
            assert await world.get("k") == body
        idle = {4, 5} - busy
        assert world.store.pace.hedge_count == len(idle)
        if idle:
            assert {urls.index(node) for node in asked} == {0, 1, 2, 3} | idle

    run(tmp_path, story, settings=dataclasses.replace(FAST, shard_patience_s=1.0))


def test_rule_29_is_kept_for_small_shards_only(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(1_000_000))
        assert (world.blobs.put_count, world.blobs.batch_sizes) == (6, [])

    run(tmp_path, story)
