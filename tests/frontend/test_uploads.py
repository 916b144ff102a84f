"""Uploads that outlive their request: nothing acknowledged is lost, and no version made twice."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from frontend.flows import chunks as chunk_flows
from frontend.flows.append import append_body
from frontend.flows.chunks import finish_chunks, list_chunks, store_chunk
from frontend.flows.finish import finish_upload
from frontend.flows.objects import ObjectRef, find_object
from frontend.flows.put import StoredObject
from frontend.flows.uploads import abort_upload, begin_upload, find_upload, seal_upload
from osscore.errors import (
    ChunkAlreadyHeld,
    ContentMismatch,
    EntityTooLarge,
    IncompleteBody,
    NoSuchUpload,
    StoreError,
    UploadOutOfOrder,
)
from osscore.model import STRIPE_BYTES_MAX
from raftmeta.commands import Collect, Collected, UploadPlan
from raftmeta.queries import CatalogCounted, CountCatalog, ListVersions, UploadFound, VersionsListed
from raftmeta.wire import PROPOSE
from tests.frontend.harness import BUCKET, World, pieces, random_bytes, run

MIB = 1 << 20
DAY_S = 86_400.0
LONG = random_bytes(2 * STRIPE_BYTES_MAX + 5 * MIB, seed=5)


def plan_of(body: bytes, **more: Any) -> UploadPlan:
    return UploadPlan(
        owner="root", size_bytes=len(body), sha256=hashlib.sha256(body).digest(), **more
    )


async def begin(world: World, body: bytes = LONG, **more: Any) -> bytes:
    return await begin_upload(
        world.store, BUCKET, "k", more.pop("plan", plan_of(body)), ttl_s=DAY_S, **more
    )


async def add(world: World, upload: bytes, part: bytes, *, piece_bytes: int = MIB) -> UploadFound:
    found = await find_upload(world.store, upload)
    await append_body(world.store, found, pieces(part, piece_bytes), size_bytes=len(part))
    return await find_upload(world.store, upload)


async def finish(world: World, upload: bytes) -> StoredObject:
    return await finish_upload(world.store, await find_upload(world.store, upload))


async def version_count(world: World) -> int:
    listed = await world.meta.query(ListVersions(bucket=BUCKET), VersionsListed)
    return len(listed.versions)


async def counted(world: World) -> CatalogCounted:
    return await world.meta.query(CountCatalog(), CatalogCounted)


async def keep(world: World, upload: bytes, number: int, part: bytes, **more: bool) -> None:
    parent = await find_upload(world.store, upload)
    await store_chunk(world.store, parent, number, pieces(part), size_bytes=len(part), **more)


def told(tmp_path: Path, story: Callable[[World], Awaitable[None]]) -> None:
    run(tmp_path, story)


# --- one after the other ----------------------------------------------------------------------


CUTS = [
    (),
    (1,),
    (STRIPE_BYTES_MAX,),
    (STRIPE_BYTES_MAX - 1, STRIPE_BYTES_MAX + 1),
    (3 * MIB, 3 * MIB, 9 * MIB, 17 * MIB),
]


@pytest.mark.parametrize("cuts", CUTS)
def test_a_body_in_parts_becomes_the_body_in_one(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    async def story(world: World) -> None:
        upload = await begin(world)
        borders = [0, *cuts, len(LONG)]
        for first, last in pairwise(borders):
            found = await add(world, upload, LONG[first:last])
            assert found.staged_bytes == last
        stored = await finish(world, upload)
        assert (stored.number, stored.size_bytes) == (1, len(LONG))
        assert stored.sha256 == hashlib.sha256(LONG).digest()
        assert await world.get("k") == LONG
        assert await finish(world, upload) == stored
        assert await version_count(world) == 1
        assert (await counted(world)).uploads == 0

    told(tmp_path, story)


@pytest.mark.parametrize("size_bytes", [0, 1, 5, 4096, 4097, 300_000])
def test_short_bodies_in_single_bytes_or_halves(tmp_path: Path, size_bytes: int) -> None:
    body = random_bytes(size_bytes, seed=size_bytes)

    async def story(world: World) -> None:
        upload = await begin(world, body)
        step = 1 if size_bytes <= 5 else size_bytes // 2
        for at in range(0, size_bytes, max(step, 1)):
            await add(world, upload, body[at : at + step])
        stored = await finish(world, upload)
        assert stored.size_bytes == size_bytes
        assert await world.get("k") == body
        assert (await counted(world)).uploads == 0

    told(tmp_path, story)


def test_an_upload_in_crumbs_ends_as_few_stripes(tmp_path: Path) -> None:
    body = random_bytes(200_000, seed=1)

    async def story(world: World) -> None:
        upload = await begin(world, body)
        for at in range(0, len(body), 10_000):
            await add(world, upload, body[at : at + 10_000])
        assert (await find_upload(world.store, upload)).staged_count == 20
        await finish(world, upload)
        assert await world.get("k") == body
        assert (await counted(world)).segments == 1

    told(tmp_path, story)


def test_what_came_before_a_break_is_kept(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        async for piece in pieces(LONG[: 11 * MIB]):
            yield piece
        raise IncompleteBody("the client is gone")

    async def story(world: World) -> None:
        upload = await begin(world)
        found = await find_upload(world.store, upload)
        with pytest.raises(IncompleteBody):
            await append_body(world.store, found, broken(), size_bytes=len(LONG))
        found = await find_upload(world.store, upload)
        assert found.staged_bytes == 11 * MIB
        await add(world, upload, LONG[11 * MIB :])
        await finish(world, upload)
        assert await world.get("k") == LONG

    told(tmp_path, story)


def test_more_than_was_planned_is_refused(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        upload = await begin(world, LONG[:MIB])
        found = await find_upload(world.store, upload)
        with pytest.raises(EntityTooLarge):
            await append_body(world.store, found, pieces(LONG), size_bytes=len(LONG))
        with pytest.raises(EntityTooLarge):
            await append_body(world.store, found, pieces(LONG), size_bytes=None)
        assert (await find_upload(world.store, upload)).staged_bytes <= MIB

    told(tmp_path, story)


def test_wrong_content_makes_no_version_and_ends_the_upload(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for size_bytes in (10, 100_000):
            body = random_bytes(size_bytes)
            upload = await begin(world, body)
            await add(world, upload, bytes(size_bytes))
            with pytest.raises(ContentMismatch):
                await finish(world, upload)
            with pytest.raises(NoSuchUpload):
                await find_upload(world.store, upload)
        assert await version_count(world) == 0

    told(tmp_path, story)


def test_of_two_requests_for_the_same_bytes_one_is_told_so(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        upload = await begin(world)
        found = await find_upload(world.store, upload)
        first = append_body(world.store, found, pieces(LONG[:MIB]), size_bytes=MIB)
        second = append_body(world.store, found, pieces(LONG[:MIB]), size_bytes=MIB)
        await first
        with pytest.raises(UploadOutOfOrder):
            await second
        assert (await find_upload(world.store, upload)).staged_bytes == MIB
        await add(world, upload, LONG[MIB:])
        await finish(world, upload)
        assert await world.get("k") == LONG

    told(tmp_path, story)


def test_a_sealed_upload_waits_to_be_named(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        upload = await begin(world)
        found = await find_upload(world.store, upload)
        appended = await append_body(world.store, found, pieces(LONG), size_bytes=len(LONG))
        assert appended.sha256 == hashlib.sha256(LONG).digest()
        found = await find_upload(world.store, upload)
        await seal_upload(world.store, found, appended.sha256, ttl_s=60)
        stored = await finish(world, upload)
        assert stored.sha256 == appended.sha256
        assert await world.get("k") == LONG

    told(tmp_path, story)


def test_giving_up_gives_everything_back(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        upload = await begin(world)
        await add(world, upload, LONG)
        await keep(world, await begin(world, upload=b"c" * 16), 0, LONG[:MIB])
        for each in (upload, b"c" * 16):
            await abort_upload(world.store, each)
            await abort_upload(world.store, each)
        while world.meta_rpc.apply(Collect(grace_ms=0)) != [Collected()]:
            pass
        after = await counted(world)
        assert (after.stripes, after.segments, after.uploads) == (0, 0, 0)

    told(tmp_path, story)


def test_metadata_and_headers_of_the_plan_reach_the_object(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for body in (b"abc", LONG[:MIB]):
            plan = plan_of(body, content={"content-type": "text/x"}, user={"name": "ü"})
            upload = await begin(world, body, plan=plan)
            await add(world, upload, body)
            await finish(world, upload)
            found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
            attributes = found.version.attributes
            assert (attributes.content, attributes.user) == (plan.content, plan.user)

    told(tmp_path, story)


# --- in chunks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("chunk_bytes", [700_000, 5 * MIB, 9 * MIB])
def test_chunks_in_reverse_order_become_the_body(
    tmp_path: Path, chunk_bytes: int, first: int
) -> None:
    async def story(world: World) -> None:
        upload = await begin(world)
        parts = [LONG[at : at + chunk_bytes] for at in range(0, len(LONG), chunk_bytes)]
        for number in reversed(range(len(parts))):
            await keep(world, upload, number + first, parts[number])
        held = await list_chunks(world.store, upload)
        assert [chunk.number for chunk in held] == [n + first for n in range(len(parts))]
        assert [chunk.sha256 for chunk in held] == [hashlib.sha256(p).digest() for p in parts]
        stored = await finish_chunks(world.store, upload)
        assert await finish_chunks(world.store, upload) == stored
        assert stored.sha256 == hashlib.sha256(LONG).digest()
        assert await world.get("k") == LONG
        assert await version_count(world) == 1

    told(tmp_path, story)


def test_a_missing_chunk_is_named_and_nothing_lost(tmp_path: Path) -> None:
    parts = [LONG[at : at + 6 * MIB] for at in range(0, len(LONG), 6 * MIB)]

    async def story(world: World) -> None:
        upload = await begin(world)
        for number in (0, 1, 3):
            await keep(world, upload, number, parts[number])
        with pytest.raises(ContentMismatch, match="Chunk 2 is missing"):
            await finish_chunks(world.store, upload)
        await keep(world, upload, 2, parts[2])
        await finish_chunks(world.store, upload)
        assert await world.get("k") == LONG

    told(tmp_path, story)


def test_a_wrong_chunk_can_be_replaced(tmp_path: Path) -> None:
    half = len(LONG) // 2

    async def story(world: World) -> None:
        upload = await begin(world)
        await keep(world, upload, 0, LONG[:half])
        await keep(world, upload, 1, bytes(len(LONG) - half))
        with pytest.raises(ContentMismatch):
            await finish_chunks(world.store, upload)
        with pytest.raises(ChunkAlreadyHeld):
            await keep(world, upload, 1, LONG[half:])
        await keep(world, upload, 1, LONG[half:], replaces=True)
        await finish_chunks(world.store, upload)
        assert await world.get("k") == LONG

    told(tmp_path, story)


def test_a_chunk_that_fails_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield LONG[:MIB]
        raise IncompleteBody("the client is gone")

    async def story(world: World) -> None:
        upload = await begin(world)
        await keep(world, upload, 0, LONG[:MIB])
        parent = await find_upload(world.store, upload)
        with pytest.raises(IncompleteBody):
            await store_chunk(world.store, parent, 1, broken())
        async with asyncio.timeout(10):
            while (await counted(world)).uploads > 2:  # noqa: ASYNC110  no event tells
                await asyncio.sleep(0.02)
        assert [chunk.number for chunk in await list_chunks(world.store, upload)] == [0]

    told(tmp_path, story)


def test_chunks_together_may_not_outgrow_the_plan(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        upload = await begin(world, LONG[: 2 * MIB])
        await keep(world, upload, 0, LONG[:MIB])
        with pytest.raises(EntityTooLarge):
            await keep(world, upload, 1, LONG[: MIB + 1])
        await keep(world, upload, 1, LONG[MIB : 2 * MIB])
        await keep(world, upload, 0, LONG[:MIB], replaces=True)  # its own bytes do not count
        await finish_chunks(world.store, upload)

    told(tmp_path, story)


def test_no_chunk_at_all_is_the_empty_file(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        empty = await begin(world, b"")
        assert (await finish_chunks(world.store, empty)).size_bytes == 0
        upload = await begin(world, b"not empty", upload=b"n" * 16)
        with pytest.raises(ContentMismatch):
            await finish_chunks(world.store, upload)

    told(tmp_path, story)


def test_many_chunks_are_linked_by_several_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_flows, "_LINK_CHUNKS_MAX", 1)
    parts = [LONG[at : at + 6 * MIB] for at in range(0, len(LONG), 6 * MIB)]

    async def story(world: World) -> None:
        upload = await begin(world)
        for number, part in enumerate(parts):
            await keep(world, upload, number, part)
        await finish_chunks(world.store, upload)
        assert await world.get("k") == LONG

    told(tmp_path, story)


# --- crashes ------------------------------------------------------------------------------------


class Crash(Exception):
    """The frontend is gone."""


def crash_at(world: World, nth: int, *, applied: bool) -> Callable[[], None]:
    """Let the process die at its nth proposal from now on, before or after it is applied."""
    call = world.meta_rpc.call
    count = 0

    async def dying(method: str, url: str, **more: Any) -> Any:
        nonlocal count
        if url.endswith(PROPOSE):
            count += 1
            if count == nth:
                if applied:
                    await call(method, url, **more)
                raise Crash
            if count > nth:
                raise Crash
        return await call(method, url, **more)

    world.meta_rpc.call = dying  # type: ignore[method-assign]
    return lambda: setattr(world.meta_rpc, "call", call)


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("rewrites", [False, True])
def test_a_finish_cut_at_any_step_is_carried_on_by_another_frontend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, applied: bool, rewrites: bool
) -> None:
    monkeypatch.setattr(chunk_flows, "_LINK_CHUNKS_MAX", 1)
    size_bytes = MIB if rewrites else 6 * MIB
    parts = [LONG[at : at + size_bytes] for at in range(0, 3 * size_bytes, size_bytes)]
    if rewrites:
        parts = [part[at : at + 150_000] for part in parts for at in range(0, len(part), 150_000)]
    body = b"".join(parts)

    async def story(world: World) -> None:
        for nth in range(1, 30):
            upload = await begin_upload(world.store, BUCKET, f"k{nth}", plan_of(body), ttl_s=DAY_S)
            for number, part in enumerate(parts):
                await keep(world, upload, number, part)
            revive = crash_at(world, nth, applied=applied)
            try:
                await finish_chunks(world.store, upload)
            except (Crash, StoreError):
                survived = False
            else:
                survived = True
            revive()
            stored = await finish_chunks(world.store, upload)
            assert stored.number == 1
            assert await world.get(f"k{nth}") == body
            if survived:
                assert nth > 1
                return
        raise AssertionError("finishing never came to its end")

    told(tmp_path, story)


def test_empty_chunks_are_missed_by_nobody_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_flows, "_LINK_CHUNKS_MAX", 1)

    async def story(world: World) -> None:
        upload = await begin(world)
        half = len(LONG) // 2
        for number, part in enumerate((b"", b"", LONG[:half], b"", LONG[half:])):
            await keep(world, upload, number, part)
        revive = crash_at(world, 1, applied=True)
        with pytest.raises((Crash, StoreError)):
            await finish_chunks(world.store, upload)
        revive()
        await finish_chunks(world.store, upload)
        assert await world.get("k") == LONG
        while world.meta_rpc.apply(Collect(grace_ms=0)) != [Collected()]:
            pass
        assert (await counted(world)).uploads == 0

    told(tmp_path, story)
