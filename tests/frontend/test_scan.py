"""A scan finds every shard that is not what the catalog believes, and mends what it can."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from frontend.flows import scan
from frontend.flows.get import read_object
from frontend.flows.objects import ObjectRef, delete_object, find_object
from frontend.flows.scan import Scanned, ScanStep, scan_step
from osscore.errors import DeadlineExceeded, Overloaded
from osscore.model import ShardIdentity, SlotState, Stripe
from raftmeta.commands import Conditions, Done, MarkBad
from raftmeta.queries import CatalogCounted, CountCatalog
from tests.fakes.blobs import Place
from tests.frontend.harness import BUCKET, World, random_bytes, run, url, uuid
from tests.frontend.test_rules import BrokenCodec

BODY_BYTES = 300_000


async def scan_all(world: World, *, repairs: bool = False, **more: Any) -> Scanned:
    """Every step of a scan, put together."""
    total, after = Scanned(), 0
    while True:
        step = await scan_step(world.store, ScanStep(after_row=after, repairs=repairs, **more))
        total.add(step)
        if not step.next_row:
            return total
        assert step.next_row > after
        after = step.next_row


async def stripe_of(world: World, key: str) -> Stripe:
    found = await find_object(world.store, ObjectRef(bucket=BUCKET, key=key))
    return found.segments[0].stripe


async def place_of(world: World, key: str, index: int) -> Place:
    """Where shard `index` of an object's first stripe lies."""
    stripe = await stripe_of(world, key)
    place = world.store.cluster.place(stripe.slots[index].disk)
    assert place is not None
    return place.uuid, ShardIdentity(stripe.stripe, index, 0)


async def missing_counts(world: World) -> dict[int, int]:
    return (await world.meta.query(CountCatalog(), CatalogCounted)).missing


def outcomes(total: Scanned) -> dict[int, tuple[str, str]]:
    """By index, of the only stripe with findings."""
    (finding,) = total.findings
    return {shard.slot.index: (shard.found, shard.outcome) for shard in finding.shards}


def test_a_whole_store_has_nothing_to_tell(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(3):
            await world.put(f"k{number}", random_bytes(BODY_BYTES, number))
        await world.put("again", random_bytes(BODY_BYTES, 0))  # the same stripe as k0
        await world.put("small", b"x")
        total = await scan_all(world, repairs=True)
        assert (total.stripes, total.findings) == (3, [])
        assert total.shards == Counter(good=18)
        assert total.size_bytes == 3 * 6 * BODY_BYTES // 4
        assert world.blobs.hints == [] and world.blobs.get_count == 18

    run(tmp_path, story)


@pytest.mark.parametrize("repairs", [False, True])
def test_missing_and_corrupt_shards_are_told_and_repaired_if_asked(
    tmp_path: Path, repairs: bool
) -> None:
    body = random_bytes(BODY_BYTES)

    async def story(world: World) -> None:
        await world.put("k", body)
        lost, rotten = await place_of(world, "k", 0), await place_of(world, "k", 5)
        world.blobs.remove(lost)
        world.blobs.corrupt.add(rotten)
        puts = world.blobs.put_count
        total = await scan_all(world, repairs=repairs)
        assert total.shards == Counter(good=4, missing=1, corrupt=1)
        outcome = "repaired" if repairs else "not tried"
        assert outcomes(total) == {0: ("missing", outcome), 5: ("corrupt", outcome)}
        assert total.findings[0].is_readable and total.findings[0].owners == ()
        assert world.blobs.put_count == puts + (2 if repairs else 0)
        assert await missing_counts(world) == ({} if repairs else {2: 1})
        again = await scan_all(world, repairs=True)
        assert bool(again.findings) != repairs
        assert await missing_counts(world) == {}
        assert (await scan_all(world)).shards == Counter(good=6)
        assert await world.get("k") == body

    run(tmp_path, story)


def test_what_the_catalog_calls_missing_is_put_to_its_place(tmp_path: Path) -> None:
    """A daemon that was away while an object was written has its shards afterwards."""

    async def story(world: World) -> None:
        away = url(world.nodes[0])
        world.blobs.stalled.add(away)
        await world.put("k", random_bytes(BODY_BYTES))
        stripe = await stripe_of(world, "k")
        missing = [slot for slot in stripe.slots if slot.state is SlotState.MISSING]
        assert missing
        before = await scan_all(world, repairs=True)
        assert before.shards == Counter(good=6 - len(missing), unreachable=len(missing))
        world.blobs.stalled.clear()
        world.store.cluster.note_success(world.nodes[0])
        total = await scan_all(world, repairs=True)
        assert total.shards["missing"] == len(missing)
        assert {outcome for _, outcome in outcomes(total).values()} == {"repaired"}
        assert await missing_counts(world) == {}

    run(tmp_path, story)


def test_a_repair_cut_off_before_the_owner_spoke_is_confirmed_by_the_next_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(BODY_BYTES))
        lost = await place_of(world, "k", 2)
        world.blobs.remove(lost)
        await scan_all(world)  # the owner calls it bad
        assert await missing_counts(world) == {1: 1}
        recheck = world.blobs.recheck

        async def killed(*_: Any, **__: Any) -> None:
            raise DeadlineExceeded()

        monkeypatch.setattr(world.blobs, "recheck", killed)
        cut = await scan_all(world, repairs=True)
        assert outcomes(cut) == {2: ("missing", "unconfirmed")}
        assert lost in world.blobs.places() and await missing_counts(world) == {1: 1}
        monkeypatch.setattr(world.blobs, "recheck", recheck)
        assert outcomes(await scan_all(world)) == {2: ("good", "confirmed")}
        assert await missing_counts(world) == {}

    run(tmp_path, story)


def test_a_shard_of_other_bytes_that_its_disk_believes_in_is_left_and_told(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(BODY_BYTES))
        place = await place_of(world, "k", 1)
        world.blobs.shards[place[0]][place[1]] = random_bytes(BODY_BYTES // 4, 7)
        total = await scan_all(world, repairs=True)
        assert outcomes(total) == {1: ("corrupt", "ShardConflict")}
        assert await missing_counts(world) == {1: 1}  # so that nobody counts on it

    run(tmp_path, story)


def test_too_few_shards_are_told_with_the_objects_that_need_them(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(BODY_BYTES))
        await world.put("twin", random_bytes(BODY_BYTES))
        await world.put("fine", random_bytes(BODY_BYTES, 1))
        for index in range(3):
            world.blobs.remove(await place_of(world, "k", index))
        puts = world.blobs.put_count
        total = await scan_all(world, repairs=True)
        (finding,) = total.findings
        assert (finding.good_count, finding.is_readable) == (3, False)
        assert {(v.bucket, v.key) for v in finding.owners} == {(BUCKET, "k"), (BUCKET, "twin")}
        assert {s.outcome for s in finding.shards} == {"too few shards"}
        assert world.blobs.put_count == puts

    run(tmp_path, story)


def test_a_full_disk_and_a_codec_that_errs_are_told_and_change_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(BODY_BYTES))
        lost = await place_of(world, "k", 0)
        world.blobs.remove(lost)
        world.blobs.full.add(lost[0])
        assert outcomes(await scan_all(world, repairs=True)) == {0: ("missing", "DiskFull")}
        world.blobs.full.clear()
        codec: Any = BrokenCodec(world.store.codec)
        world.store.codec = codec
        assert outcomes(await scan_all(world, repairs=True)) == {0: ("missing", "wrong_bytes")}
        assert lost not in world.blobs.places()

    run(tmp_path, story)


def test_a_bucket_or_prefix_alone(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number, key in enumerate(("a/1", "a/2", "b")):
            await world.put(key, random_bytes(BODY_BYTES, number))
        assert (await scan_all(world, bucket=BUCKET)).stripes == 3
        assert (await scan_all(world, bucket=BUCKET, prefix="a/")).stripes == 2
        assert (await scan_all(world, bucket=BUCKET, prefix="c")).stripes == 0

    run(tmp_path, story)


def test_steps_are_bounded_and_go_on_where_they_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "AT_ONCE", 1)
    monkeypatch.setattr(scan, "STRIPES_MAX", 3)

    async def story(world: World) -> None:
        for number in range(5):
            await world.put(f"k{number}", random_bytes(BODY_BYTES, number))
        first = await scan_step(world.store, ScanStep())
        assert (first.stripes, first.next_row, first.last_row) == (3, 3, 5)
        monkeypatch.setattr(scan, "STEP_BYTES_MAX", BODY_BYTES)
        assert (await scan_step(world.store, ScanStep())).stripes == 1
        assert (await scan_all(world)).stripes == 5

    run(tmp_path, story)


def test_requests_come_first_and_a_step_is_given_up_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "AT_ONCE", 1)
    monkeypatch.setattr(scan, "WAIT_S", 0.0)
    monkeypatch.setattr(scan, "WAITS_MAX", 3)

    async def story(world: World) -> None:
        for number in range(3):
            await world.put(f"k{number}", random_bytes(BODY_BYTES, number))
        budget = world.store.budget
        await budget.take(100 << 20)  # of 128 MiB: more than a scan lets itself see used
        with pytest.raises(Overloaded):
            await scan_step(world.store, ScanStep())
        budget.give(100 << 20)
        look, seen = scan._look, []

        async def look_and_fill(*arguments: Any) -> Any:
            seen.append(await budget.take(100 << 20))
            return await look(*arguments)

        monkeypatch.setattr(scan, "_look", look_and_fill)
        step = await scan_step(world.store, ScanStep())
        assert (step.stripes, step.next_row) == (1, 1)
        for _ in seen:
            budget.give(100 << 20)

    run(tmp_path, story)


def test_a_stripe_that_goes_while_it_is_looked_at_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(BODY_BYTES))
        lost = await place_of(world, "k", 0)
        look = scan._look

        async def look_late(*arguments: Any) -> Any:
            world.blobs.remove(lost)
            ref = ObjectRef(bucket=BUCKET, key="k", number=1)
            await delete_object(world.meta, ref, Conditions())
            return await look(*arguments)

        monkeypatch.setattr(scan, "_look", look_late)
        total = await scan_all(world, repairs=True)
        assert (total.stripes, total.findings) == (0, [])
        assert lost not in world.blobs.places()

    run(tmp_path, story)


# --- reads heal what their owners call bad ------------------------------------------------


async def read_whole(world: World, key: str) -> bytes:
    found = await find_object(world.store, ObjectRef(bucket=BUCKET, key=key))
    last = found.version.attributes.size_bytes - 1
    return b"".join([bytes(p) async for p in read_object(world.store, found, 0, last)])


async def settled(world: World) -> None:
    """Until nothing runs in the background."""
    while world.store._background:
        await asyncio.wait(world.store._background)


def test_a_read_puts_back_what_its_owner_calls_bad_and_the_slot_is_good_again(
    tmp_path: Path,
) -> None:
    body = random_bytes(BODY_BYTES)

    async def story(world: World) -> None:
        await world.put("k", body)
        stripe = await stripe_of(world, "k")
        rotten = await place_of(world, "k", 0)
        world.blobs.corrupt.add(rotten)
        bad = MarkBad(identity=rotten[1], disk=stripe.slots[0].disk)
        await world.meta.propose(bad, Done)
        assert await read_whole(world, "k") == body
        await settled(world)
        assert await missing_counts(world) == {} and rotten not in world.blobs.corrupt
        puts = world.blobs.put_count
        assert await read_whole(world, "k") == body
        await settled(world)
        assert world.blobs.put_count == puts

    run(tmp_path, story)


def test_a_bad_slot_whose_disk_refuses_is_not_tried_at_every_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = random_bytes(BODY_BYTES)

    async def story(world: World) -> None:
        await world.put("k", body)
        stripe = await stripe_of(world, "k")
        rotten = await place_of(world, "k", 0)
        world.blobs.corrupt.add(rotten)
        bad = MarkBad(identity=rotten[1], disk=stripe.slots[0].disk)
        await world.meta.propose(bad, Done)
        world.blobs.full.add(rotten[0])
        for _ in range(3):
            assert await read_whole(world, "k") == body
            await settled(world)
        assert world.store.damage.counts == {"DiskFull": 1}

    run(tmp_path, story)


def test_a_missing_shard_is_told_to_its_owner_though_it_cannot_be_put_back(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(BODY_BYTES))
        lost = await place_of(world, "k", 0)
        world.blobs.remove(lost)
        world.blobs.full.add(lost[0])
        await read_whole(world, "k")
        await settled(world)
        assert await missing_counts(world) == {1: 1}

    run(tmp_path, story)


def test_the_only_disk_ever_written_to_is_the_slot_s_own(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(BODY_BYTES))
        before = {place[0] for place in world.blobs.places()}
        world.blobs.remove(await place_of(world, "k", 3))
        await world.register("blob-7")
        await scan_all(world, repairs=True)
        assert {place[0] for place in world.blobs.places()} == before
        assert uuid("blob-7") not in before

    run(tmp_path, story)
