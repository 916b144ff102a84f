"""Rule 25 of docs/SAFETY.md: what bodies hold is counted, lent, and called back."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from frontend.flows.get import PIECE_BYTES, read_object
from frontend.flows.objects import ObjectRef, find_object
from frontend.flows.put import PutRequest, put_object
from frontend.flows.store import stripe_work_bytes
from osscore.errors import Overloaded
from ossd.budget import ByteBudget
from ossd.lending import Lending
from tests.frontend.harness import BUCKET, World, pieces, random_bytes, run

STRIPE = 8 * 1024 * 1024
STRIPE_PIECES = STRIPE // PIECE_BYTES


def test_rule_25_no_shard_is_made_before_its_work_has_room(tmp_path: Path) -> None:
    body = random_bytes(STRIPE)

    async def story(world: World) -> None:
        world.store.budget = ByteBudget(stripe_work_bytes(STRIPE), wait_s=0.01)
        async with world.store.budget.hold(1):
            with pytest.raises(Overloaded):
                await world.put("k", body)
        assert world.blobs.put_count == 0
        await world.put("k", body)
        assert await world.get("k") == body

    run(tmp_path, story)


@pytest.mark.parametrize("stripes", [1, 2, 3])
def test_rule_25_what_a_body_holds_is_lent_until_the_store_is_done_with_it(
    tmp_path: Path, stripes: int
) -> None:
    async def story(world: World) -> None:
        lent: list[int] = []

        async def body() -> AsyncIterator[bytes]:
            for number in range(2 * stripes):
                yield random_bytes(STRIPE // 2, number)
                lent.append(world.store.loans.used_bytes)

        request = PutRequest(bucket=BUCKET, key="k", size_bytes=stripes * STRIPE)
        await put_object(world.store, request, body())
        assert max(lent) <= min(stripes, 3) * STRIPE
        assert [each > 0 for each in lent] == [True] * 2 * stripes

    run(tmp_path, story)


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("sent_bytes", [1_000_000, STRIPE + 1_000_000, 3 * STRIPE])
def test_rule_25_a_paused_upload_gives_back_what_others_need_and_ends_well(
    tmp_path: Path, sent_bytes: int, declared: bool
) -> None:
    body = random_bytes(sent_bytes + 100_000)

    async def story(world: World) -> None:
        world.store.loans = lent = Lending(2 * STRIPE, wait_s=10, recall_after_s=0)
        goes_on, other = asyncio.Event(), random_bytes(2 * STRIPE, seed=1)

        async def paused() -> AsyncIterator[bytes]:
            async for piece in pieces(body[:sent_bytes], 500_000):
                yield piece
            await goes_on.wait()
            yield body[sent_bytes:]

        request = PutRequest(bucket=BUCKET, key="k", size_bytes=len(body) if declared else None)
        putting = asyncio.create_task(put_object(world.store, request, paused()))
        await world.put("other", other)
        assert await world.get("other") == other
        with lent.lend() as everything:
            assert await everything.grow(2 * STRIPE)
        goes_on.set()
        stored = await putting
        assert stored.sha256 == hashlib.sha256(body).digest()
        assert await world.get("k") == body

    run(tmp_path, story)


@pytest.mark.parametrize("taken", [1, STRIPE_PIECES // 2, STRIPE_PIECES + 1])
def test_rule_25_a_paused_download_gives_back_what_others_need_and_ends_well(
    tmp_path: Path, taken: int
) -> None:
    body = random_bytes(3 * STRIPE)

    async def story(world: World) -> None:
        await world.put("k", body)
        world.store.loans = lent = Lending(2 * STRIPE, wait_s=10, recall_after_s=0)
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        async with aclosing(read_object(world.store, found, 0, len(body) - 1)) as reading:
            got = [bytes(await anext(reading)) for _ in range(taken)]
            other = random_bytes(2 * STRIPE, seed=1)
            await world.put("other", other)
            assert await world.get("other") == other
            with lent.lend() as everything:
                assert await everything.grow(2 * STRIPE)
            got += [bytes(piece) async for piece in reading]
        assert b"".join(got) == body

    run(tmp_path, story)


def test_rule_25_a_download_that_paused_reads_little_at_first_and_then_more(
    tmp_path: Path,
) -> None:
    body = random_bytes(2 * STRIPE)

    async def story(world: World) -> None:
        await world.put("k", body)
        world.store.loans = Lending(2 * STRIPE, wait_s=10, recall_after_s=0)
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        async with aclosing(read_object(world.store, found, 0, len(body) - 1)) as reading:
            got = [bytes(await anext(reading))]
            with world.store.loans.lend() as other:
                await other.grow(2 * STRIPE)
            fetched = world.blobs.fetched_bytes
            got.append(bytes(await anext(reading)))
            assert world.blobs.fetched_bytes - fetched <= 4 * PIECE_BYTES
            got += [bytes(piece) async for piece in reading]
            assert world.blobs.fetched_bytes - fetched <= 2 * len(body)
        assert b"".join(got) == body

    run(tmp_path, story)


def test_rule_25_a_body_is_not_taken_faster_than_it_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, stripe, taken = threading.Event(), random_bytes(STRIPE), 0
    real, expected = hashlib.sha256, hashlib.sha256(stripe * 10).digest()

    class SlowHash:
        def __init__(self) -> None:
            self._hash = real()
            self.digest = self._hash.digest

        def update(self, data: bytes) -> None:
            gate.wait(20)
            self._hash.update(data)

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(10):
            taken += 1
            yield stripe  # twins: nothing but the hash holds them up

    async def story(world: World) -> None:
        monkeypatch.setattr("frontend.flows.hashing.hashlib.sha256", SlowHash)
        request = PutRequest(bucket=BUCKET, key="k", size_bytes=10 * STRIPE)
        putting = asyncio.create_task(put_object(world.store, request, body()))
        while taken < 2:  # noqa: ASYNC110  the body has no event
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        assert taken <= 3
        gate.set()
        stored = await putting
        assert stored.sha256 == expected

    try:
        run(tmp_path, story)
    finally:
        gate.set()


def test_rule_25_nothing_is_fetched_before_its_work_has_room(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(STRIPE))
        world.store.budget = ByteBudget(stripe_work_bytes(STRIPE), wait_s=0.01)
        async with world.store.budget.hold(1):
            with pytest.raises(Overloaded):
                await world.get("k")
        assert world.blobs.get_count == 0

    run(tmp_path, story)


def test_rule_25_nothing_is_fetched_that_could_not_be_kept(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.put("k", random_bytes(STRIPE))
        world.store.loans = Lending(STRIPE, wait_s=0.01)
        with world.store.loans.lend() as other:
            await other.grow(STRIPE)
            with pytest.raises(Overloaded):
                await world.get("k")
        assert world.blobs.get_count == 0

    run(tmp_path, story)


@pytest.mark.parametrize("has_surplus", [False, True])
def test_rule_25_stripes_are_read_ahead_from_surplus_only(
    tmp_path: Path, has_surplus: bool
) -> None:
    body = random_bytes(3 * STRIPE)

    async def story(world: World) -> None:
        await world.put("k", body)
        stripes = 5 if has_surplus else 1
        world.store.loans = Lending(stripes * STRIPE, wait_s=1, free_bytes=0)
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        async with aclosing(read_object(world.store, found, 0, len(body) - 1)) as pieces:
            await anext(pieces)
            fetched_per_stripe = 4
            for _ in range(1000):  # whatever was begun ahead has its turns
                await asyncio.sleep(0)
            if not has_surplus:
                assert world.blobs.get_count == fetched_per_stripe
            assert world.store.loans.used_bytes == (1 + has_surplus) * STRIPE - PIECE_BYTES

    run(tmp_path, story)
