"""Files known by their content: whoever brings one, in one piece or in chunks, it is one file."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from frontend.flows.files import (
    BUCKET,
    FileUpload,
    find_file,
    finish_file,
    remove_file,
    store_file,
    store_file_chunk,
    upload_id,
)
from frontend.flows.uploads import find_upload
from osscore.errors import NoSuchUpload
from raftmeta.queries import ListVersions, VersionsListed
from raftmeta.wire import PROPOSE
from tests.frontend.harness import World, pieces, random_bytes, run

MIB = 1 << 20
FILE = random_bytes(6 * MIB, seed=4)


def hash_of(body: bytes) -> bytes:
    return sha256(body).digest()


async def bring(world: World, body: bytes, parts: list[bytes]) -> None:
    """The chunks of a file."""
    upload = FileUpload(sha256=hash_of(body), ttl_s=1000.0, size_bytes_max=None)
    for number, part in enumerate(parts):
        await store_file_chunk(
            world.store, upload, number, pieces(part), chunk_sha256=None, replaces=False
        )


async def finish(world: World, body: bytes) -> None:
    await finish_file(world.store, hash_of(body), content={}, size_bytes_max=None)


async def versions(world: World, body: bytes) -> list[int]:
    listed = await world.meta.query(
        ListVersions(bucket=BUCKET, key=hash_of(body).hex()), VersionsListed
    )
    return [version.number for version in listed.versions]


def before_proposal(world: World, wanted: bytes, act: Callable[[], Awaitable[object]]) -> None:
    """Let `act` happen right before the first proposal that has these bytes in it travels."""
    call = world.meta_rpc.call

    async def acting(method: str, url: str, **more: Any) -> Any:
        if url.endswith(PROPOSE) and wanted in bytes(more["body"]):
            world.meta_rpc.call = call  # type: ignore[method-assign]
            await act()
        return await call(method, url, **more)

    world.meta_rpc.call = acting  # type: ignore[method-assign]


@pytest.mark.parametrize("chunk_bytes", [3 * MIB, 300_000, MIB])
def test_a_file_that_comes_whole_while_its_chunks_are_put_together_is_stored_once(
    tmp_path: Path, chunk_bytes: int
) -> None:
    parts = [FILE[at : at + chunk_bytes] for at in range(0, len(FILE), chunk_bytes)]

    async def story(world: World) -> None:
        await bring(world, FILE, parts)

        async def comes_whole() -> None:
            await store_file(world.store, hash_of(FILE), pieces(FILE), content={})

        before_proposal(world, b"PutObject", comes_whole)
        await finish(world, FILE)
        assert await versions(world, FILE) == [1]
        with pytest.raises(NoSuchUpload):  # its chunks are gone
            await find_upload(world.store, upload_id(hash_of(FILE)))

    run(tmp_path, story)


def test_several_that_finish_at_once_make_one_file(tmp_path: Path) -> None:
    parts = [FILE[at : at + 200_000] for at in range(0, len(FILE), 200_000)]

    async def story(world: World) -> None:
        await bring(world, FILE, parts)
        await asyncio.gather(*(finish(world, FILE) for _ in range(4)))
        assert await versions(world, FILE) == [1]
        await remove_file(world.store, hash_of(FILE))
        await bring(world, FILE, parts)  # the same upload, begun anew
        await asyncio.gather(*(finish(world, FILE) for _ in range(2)))
        found = await find_file(world.store, hash_of(FILE))
        assert found.version.attributes.size_bytes == len(FILE)
        assert len(await versions(world, FILE)) == 1

    run(tmp_path, story)
