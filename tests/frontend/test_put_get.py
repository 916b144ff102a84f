"""What is put can be got, byte for byte, whatever up to m holders do."""

import itertools
from pathlib import Path

import pytest

from frontend.flows.objects import ObjectRef, find_object
from osscore.errors import (
    BadDigest,
    EntityTooLarge,
    IncompleteBody,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    QuorumLost,
    StripeUnreadable,
    TooFewNodes,
)
from osscore.model import CodingKind, Profile, SlotState
from raftmeta.commands import Conditions
from raftmeta.queries import CatalogCounted, CountCatalog
from tests.frontend.harness import BUCKET, World, random_bytes, run, url, uuid
from tests.raftmeta.waiting import until

STRIPE = 8 * 1024 * 1024
SIZES = [
    *(0, 1, 3, 4, 5, 4095, 4096, 4097, 31_999, 32_001),
    *(65_536 * 4 - 1, 65_536 * 4, 65_536 * 4 + 1),
    *(STRIPE - 1, STRIPE, STRIPE + 1, 2 * STRIPE, 2 * STRIPE + 1, 3 * STRIPE + 77),
]


@pytest.mark.parametrize("size_bytes", SIZES)
def test_bytes_of_any_size_come_back(tmp_path: Path, size_bytes: int) -> None:
    body = random_bytes(size_bytes)

    async def story(world: World) -> None:
        stored = await world.put("k", body)
        assert (stored.number, stored.size_bytes) == (1, size_bytes)
        assert await world.get("k") == body
        undeclared = await world.put("k", body, size_bytes=None, piece_bytes=70_001)
        assert (undeclared.number, undeclared.sha256) == (2, stored.sha256)
        assert await world.get("k") == body

    run(tmp_path, story)


def test_bodies_of_zeros_and_text_are_compressed_and_come_back(tmp_path: Path) -> None:
    zeros, text = bytes(9_000_000), b"".join(b"line %d\n" % n for n in range(600_000))

    async def story(world: World) -> None:
        for body in (zeros, text):
            await world.put("k", body)
            assert await world.get("k") == body
            assert await world.get("k", 4_194_300, 4_194_310) == body[4_194_300:4_194_311]
            assert await world.get("k", len(body) - 5) == body[-5:]
        held = sum(len(shard) for disk in world.blobs.shards.values() for shard in disk.values())
        assert held < (len(zeros) + len(text)) // 2

    run(tmp_path, story)


def test_range_fetches_only_what_it_needs(tmp_path: Path) -> None:
    body = random_bytes(2 * STRIPE)

    async def story(world: World) -> None:
        await world.put("k", body)
        world.blobs.windows.clear()
        assert await world.get("k", 2_000_000, 2_000_009) == body[2_000_000:2_000_010]
        assert [length for _, length in world.blobs.windows] == [65536]

    run(tmp_path, story)


def test_any_two_lost_holders_of_a_4_2_stripe_are_survived(tmp_path: Path) -> None:
    body = random_bytes(300_000)

    async def story(world: World) -> None:
        await world.put("k", body)
        for dead in itertools.combinations(world.nodes, 2):
            world.blobs.refusing = {url(node) for node in dead}
            for node in world.nodes:
                world.store.cluster.note_success(node)
            assert await world.get("k") == body
            assert await world.get("k", 70_000, 71_000) == body[70_000:71_001]

    run(tmp_path, story)


@pytest.mark.parametrize("fault", ["remove", "corrupt", "lying"])
def test_any_two_damaged_shards_never_give_wrong_bytes(tmp_path: Path, fault: str) -> None:
    body = random_bytes(200_000)

    async def story(world: World) -> None:
        await world.put("k", body)
        places = world.blobs.places()
        assert len(places) == 6
        for damaged in itertools.combinations(places, 2):
            saved = {place: world.blobs.shards[place[0]][place[1]] for place in damaged}
            for place in damaged:
                if fault == "remove":
                    world.blobs.remove(place)
                else:
                    getattr(world.blobs, fault).add(place)
            assert await world.get("k") == body
            world.blobs.corrupt.clear()
            world.blobs.lying.clear()
            for (disk, identity), shard in saved.items():
                world.blobs.shards[disk][identity] = shard

    run(tmp_path, story)


def test_more_than_m_lost_holders_give_a_clear_error(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(100_000))
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        world.blobs.refusing = {url(node) for node in world.nodes[:3]}
        with pytest.raises(StripeUnreadable) as caught:
            await world.get("k")
        assert caught.value.stripe_id == found.segments[0].stripe.stripe.hex()

    run(tmp_path, story)


def test_stalled_node_is_read_around_and_then_avoided(tmp_path: Path) -> None:
    body = random_bytes(300_000)

    async def story(world: World) -> None:
        await world.put("k", body)
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        place = world.store.cluster.place(found.segments[0].stripe.slots[1].disk)
        assert place is not None
        world.blobs.stalled = {place.url}
        assert await world.get("k") == body
        asked = world.blobs.stalled_count
        assert await world.get("k") == body
        assert world.blobs.stalled_count == asked

    run(tmp_path, story)


def test_found_damage_is_written_back_to_its_own_slot(tmp_path: Path) -> None:
    body = random_bytes(300_000)

    async def story(world: World) -> None:
        await world.put("k", body)
        before = {place: world.blobs.shards[place[0]][place[1]] for place in world.blobs.places()}
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        index = found.segments[0].stripe.slots[0].index
        lost = next(place for place in before if place[1].index == index)
        world.blobs.remove(lost)
        assert await world.get("k") == body
        await world.store.close()
        assert world.blobs.shards[lost[0]][lost[1]] == before[lost]

    run(tmp_path, story)


def test_deleted_shard_is_never_written_back(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(300_000))
        lost = next(place for place in world.blobs.places() if place[1].index == 0)
        world.blobs.remove(lost)
        world.blobs.deleted.add(lost)
        await world.get("k")
        await world.store.close()
        assert lost not in world.blobs.places()

    run(tmp_path, story)


def test_failed_shard_goes_to_another_node(tmp_path: Path) -> None:
    body = random_bytes(500_000)

    async def story(world: World) -> None:
        world.blobs.refusing = {url(world.nodes[0])}
        world.blobs.full = {uuid(world.nodes[1])}
        await world.put("k", body, profile=Profile(4, 2))
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        slots = found.segments[0].stripe.slots
        assert all(slot.state is SlotState.GOOD for slot in slots)
        assert await world.get("k") == body

    run(tmp_path, story)


def test_slow_node_does_not_hold_up_a_write_and_its_slot_is_missing(tmp_path: Path) -> None:
    body = random_bytes(500_000)

    async def story(world: World) -> None:
        world.blobs.stalled = {url(world.nodes[2])}
        await world.put("k", body, profile=Profile(4, 2))
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        states = [slot.state for slot in found.segments[0].stripe.slots]
        assert states.count(SlotState.MISSING) == 1
        assert await world.get("k") == body

    run(tmp_path, story)


def test_a_shard_that_was_late_counts_once_it_arrives(tmp_path: Path) -> None:
    body = random_bytes(500_000)

    async def story(world: World) -> None:
        slow = world.nodes[2]
        world.blobs.stalled = {url(slow)}
        await world.put("k", body, profile=Profile(4, 2))
        assert not world.blobs.shards[uuid(slow)]
        world.blobs.recover(url(slow))
        await until(lambda: world.blobs.shards[uuid(slow)])
        # Its slot is on record as missing; without its shard only three of four were left.
        world.blobs.refusing = {url(node) for node in world.nodes[:2]}
        assert await world.get("k") == body
        assert world.store.budget.used_bytes == 0

    run(tmp_path, story)


def test_small_stalled_node_likewise(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.blobs.stalled = {url(world.nodes[2])}
        body = random_bytes(20_000)
        await world.put("k", body, profile=Profile(4, 2))
        assert await world.get("k") == body

    run(tmp_path, story)


def test_without_quorum_nothing_is_named(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.blobs.refusing = {url(node) for node in world.nodes[1:]}
        with pytest.raises((QuorumLost, TooFewNodes)):
            await world.put("k", random_bytes(50_000))
        with pytest.raises(NoSuchKey):
            await world.get("k")

    run(tmp_path, story, nodes=3)


def test_two_of_three_nodes_take_replicas(tmp_path: Path) -> None:
    body = random_bytes(100_000)

    async def story(world: World) -> None:
        world.blobs.refusing = {url(world.nodes[0])}
        await world.put("k", body)
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        assert found.segments[0].stripe.coding.kind is CodingKind.REPLICA
        world.blobs.refusing = {url(world.nodes[0]), url(world.nodes[1])}
        assert await world.get("k") == body
        assert await world.get("k", 66_000, 67_000) == body[66_000:67_001]

    run(tmp_path, story, nodes=3)


def test_small_shards_of_many_requests_travel_together(tmp_path: Path) -> None:
    import asyncio

    async def story(world: World) -> None:
        bodies = {f"k{n}": random_bytes(20_000, n) for n in range(40)}
        await asyncio.gather(*(world.put(key, body) for key, body in bodies.items()))
        assert (sum(world.blobs.batch_sizes), world.blobs.put_count) == (40 * 6, 0)
        assert len(world.blobs.batch_sizes) < 40 * 6 / 4
        for key, body in bodies.items():
            assert await world.get(key) == body

    run(tmp_path, story)


@pytest.mark.parametrize("size_bytes", [100, 100_000, 9_000_000])
def test_wrong_digest_or_length_makes_no_version(tmp_path: Path, size_bytes: int) -> None:
    body = random_bytes(size_bytes)

    async def story(world: World) -> None:
        with pytest.raises(BadDigest):
            await world.put("k", body, sha256=bytes(32))
        with pytest.raises(IncompleteBody):
            await world.put("k", body, size_bytes=size_bytes + 1)
        with pytest.raises(NoSuchKey):
            await world.get("k")

    run(tmp_path, story)


def test_conditions_are_judged_at_the_commit(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        none = Conditions(if_none_match=("*",))
        stored = await world.put("k", b"one", conditions=none)
        for body in (b"two", bytes(9_000_000)):
            with pytest.raises(PreconditionFailed):
                await world.put("k", body, conditions=none)
        same = Conditions(if_match=(stored.sha256.hex(),))
        assert (await world.put("k", b"two", conditions=same)).number == 2

    run(tmp_path, story)


def test_object_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    import dataclasses

    from tests.frontend.harness import FAST

    async def story(world: World) -> None:
        for size_bytes in (-1, None):
            with pytest.raises(EntityTooLarge):
                await world.put("k", bytes(20_001), size_bytes=size_bytes)
        await world.put("k", bytes(20_000))

    run(tmp_path, story, settings=dataclasses.replace(FAST, object_bytes_max=20_000))


def test_missing_bucket_is_refused_or_made_as_asked(tmp_path: Path) -> None:
    from frontend.flows.put import PutRequest, put_object
    from tests.frontend.harness import pieces

    async def story(world: World) -> None:
        for size_bytes in (10, 50_000, 9_000_000):
            name = f"bucket-{size_bytes}"
            request = PutRequest(bucket=name, key="k", size_bytes=size_bytes)
            with pytest.raises(NoSuchBucket):
                await put_object(world.store, request, pieces(bytes(size_bytes)))
            made = PutRequest(bucket=name, key="k", size_bytes=size_bytes, creates_bucket=True)
            await put_object(world.store, made, pieces(bytes(size_bytes)))

    run(tmp_path, story)


@pytest.mark.parametrize("size_bytes", [200_000, 3 * STRIPE + 5])
def test_same_content_is_stored_once(tmp_path: Path, size_bytes: int) -> None:
    body = random_bytes(size_bytes)

    async def story(world: World) -> None:
        await world.put("a", body)
        before = await world.meta.query(CountCatalog(), CatalogCounted)
        puts = world.blobs.put_count
        await world.put("b", body)
        after = await world.meta.query(CountCatalog(), CatalogCounted)
        assert after.stripes == before.stripes
        if size_bytes > 2 * STRIPE:
            assert world.blobs.put_count == puts  # asked ahead: nothing was sent at all
        assert await world.get("b") == body

    run(tmp_path, story)


def test_failed_long_body_leaves_no_upload(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        with pytest.raises(IncompleteBody):
            await world.put("k", random_bytes(3 * STRIPE), size_bytes=4 * STRIPE)
        await world.store.close()
        counted = await world.meta.query(CountCatalog(), CatalogCounted)
        assert counted.uploads == 0

    run(tmp_path, story)
