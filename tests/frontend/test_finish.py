"""Several requests finish one upload, or change it meanwhile: one version, of the right bytes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from frontend.flows import chunks as chunk_flows
from frontend.flows.chunks import finish_chunks, list_chunks
from frontend.flows.finish import finish_upload
from frontend.flows.store import Store
from frontend.flows.uploads import find_upload
from osscore.errors import ChunkAlreadyHeld, ContentMismatch, NoSuchUpload
from raftmeta.commands import LinkChunks, Staged
from raftmeta.queries import Chunk
from raftmeta.wire import PROPOSE
from tests.blobd.parts import until
from tests.frontend.harness import World, random_bytes
from tests.frontend.test_uploads import (
    LONG,
    MIB,
    add,
    begin,
    finish,
    keep,
    told,
    version_count,
)


@pytest.mark.parametrize("step", [10_000, 100_000, MIB])
def test_who_finishes_a_moment_later_is_told_the_same_version(tmp_path: Path, step: int) -> None:
    body = random_bytes(200_000 if step < MIB else 9 * MIB, seed=3)

    async def story(world: World) -> None:
        upload = await begin(world, body)
        for at in range(0, len(body), step):
            await add(world, upload, body[at : at + step])
        seen_before = await find_upload(world.store, upload)
        stored = await finish(world, upload)
        assert await finish_upload(world.store, seen_before) == stored
        assert await version_count(world) == 1

    told(tmp_path, story)


def test_an_upload_whose_linking_was_overtaken_by_another_chunk_does_not_stand_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_flows, "_LINK_CHUNKS_MAX", 1)
    parts = [LONG[at : at + 6 * MIB] for at in range(0, len(LONG), 6 * MIB)]

    async def story(world: World) -> None:
        upload = await begin(world)
        for number, part in enumerate(parts):
            await keep(world, upload, number, part)
        call = world.meta_rpc.call

        async def overtaken(method: str, url: str, **more: Any) -> Any:
            if url.endswith(PROPOSE) and b"LinkChunks" in bytes(more["body"]):
                world.meta_rpc.call = call  # type: ignore[method-assign]
                await keep(world, upload, 2, b"another", replaces=True)
            return await call(method, url, **more)

        world.meta_rpc.call = overtaken  # type: ignore[method-assign]
        with pytest.raises(ContentMismatch):
            await finish_chunks(world.store, upload)
        # What is linked cannot be taken back: the upload has ended, and may begin anew.
        with pytest.raises(NoSuchUpload):
            await find_upload(world.store, upload)
        assert await begin(world, upload=upload) == upload
        for number, part in enumerate(parts):
            await keep(world, upload, number, part)
        assert (await finish_chunks(world.store, upload)).number == 1
        assert await world.get("k") == LONG

    told(tmp_path, story)


@pytest.mark.parametrize("linked_before", [0, 1])
def test_what_another_links_between_two_looks_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked_before: int
) -> None:
    parts = [LONG[at : at + 6 * MIB] for at in range(0, len(LONG), 6 * MIB)]

    async def story(world: World) -> None:
        upload = await begin(world)
        for number, part in enumerate(parts):
            await keep(world, upload, number, part)

        async def link_next() -> None:
            found = await find_upload(world.store, upload)
            chunk = (await list_chunks(world.store, upload))[0]
            await world.meta.propose(
                LinkChunks(upload=upload, position=found.staged_count, chunks=(chunk.upload,)),
                Staged,
            )

        async def looking(store: Store, upload: bytes) -> tuple[Chunk, ...]:
            monkeypatch.setattr(chunk_flows, "list_chunks", list_chunks)
            await link_next()
            return await list_chunks(store, upload)

        for _ in range(linked_before):
            await link_next()
        monkeypatch.setattr(chunk_flows, "list_chunks", looking)
        assert (await finish_chunks(world.store, upload)).number == 1
        assert await world.get("k") == LONG

    told(tmp_path, story)


def test_a_chunk_that_was_kept_stays_though_its_request_did_not_learn_of_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        upload = await begin(world)
        call = world.meta_rpc.call

        async def cut_off(method: str, url: str, **more: Any) -> Any:
            answer = await call(method, url, **more)
            if url.endswith(PROPOSE) and b"KeepChunk" in bytes(more["body"]):
                world.meta_rpc.call = call  # type: ignore[method-assign]
                bringing.cancel()
            return answer

        world.meta_rpc.call = cut_off  # type: ignore[method-assign]
        bringing = asyncio.create_task(keep(world, upload, 0, LONG))
        await asyncio.wait([bringing])
        assert bringing.cancelled()
        with pytest.raises(ChunkAlreadyHeld):  # its client comes again, and goes on behind it
            await keep(world, upload, 0, LONG)
        await until(lambda: not world.store._background)
        assert [chunk.number for chunk in await list_chunks(world.store, upload)] == [0]
        assert (await finish_chunks(world.store, upload)).number == 1

    told(tmp_path, story)
