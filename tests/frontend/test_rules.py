"""The rules of docs/SAFETY.md that the flows keep, each with what breaks without it."""

import asyncio
import dataclasses
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from frontend.flows.get import read_object
from frontend.flows.objects import ObjectRef, delete_object, find_object
from osscore.errors import NoSuchKey, StripeUnreadable
from osscore.model import Segment
from osscore.names import StripeId
from raftmeta.commands import Collect, Collected, Conditions
from raftmeta.queries import CatalogCounted, CountCatalog, Found
from tests.frontend.harness import BUCKET, FAST, World, random_bytes, run

STRIPE = 4 * 1024 * 1024
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
                if len(got) == 12:  # the third stripe has been begun, and the hold taken
                    await delete_object(world.store, ref, Conditions())
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
                if seen == 12:
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


def test_rule_29_is_kept_for_small_shards_only(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(1_000_000))
        assert (world.blobs.put_count, world.blobs.batch_sizes) == (6, [])

    run(tmp_path, story)
