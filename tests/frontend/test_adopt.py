"""A temp of a blob daemon becomes an ordinary object, and exactly one version of it."""

import asyncio
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from blobd.wire import Adopt, Adopted
from frontend.flows import adopt as flow
from frontend.flows.adopt import TRIES, adopt
from frontend.flows.get import read_object
from frontend.flows.objects import ObjectRef, find_object
from frontend.flows.put import PutRequest, put_object
from frontend.flows.store import ADOPTIONS_MAX
from frontend.internal import internal_routes
from osscore.errors import (
    Conflict,
    CorruptShard,
    InvalidArgument,
    InvalidName,
    NoSuchBucket,
    NoSuchUpload,
    OutcomeUnknown,
    Overloaded,
    PeerUnreachable,
    Unauthenticated,
)
from osscore.model import STRIPE_BYTES_MAX, Profile
from ossd.clock import SystemClock, system_random
from ossd.http import serve
from ossd.lending import Lending
from ossd.metrics import Metrics
from ossd.rpc import AioRpc, check
from ossd.server import ServerSettings
from ossd.signing import Signer, Verifier
from raftmeta.catalog.soft import SoftState
from raftmeta.queries import CatalogCounted, CountCatalog, Found, ListVersions, VersionsListed
from tests.blobd.parts import until
from tests.frontend.harness import SECRETS, World, pieces, random_bytes, run

MIB = 1 << 20


def held(world: World, body: bytes, *, name: str = "file", number: int = 1) -> Adopt:
    """A temp of that body on some daemon."""
    temp = b"\xff" * 6 + number.to_bytes(10, "big")
    cut = [body[at : at + 4 * MIB] for at in range(0, len(body), 4 * MIB)]
    world.blobs.temps[temp] = cut
    return Adopt(
        temp=temp,
        url="http://blob-1:9201",
        name=name,
        size_bytes=len(body),
        sha256=sha256(body).digest(),
        piece_count=len(cut),
        access_key="someone",
        expires_in_ms=3_600_000,
    )


async def versions(world: World, name: str = "file") -> list[int]:
    try:
        listed = await world.meta.query(ListVersions(bucket="objects", key=name), VersionsListed)
    except NoSuchBucket:
        return []
    return [version.number for version in listed.versions]


async def read(world: World, name: str = "file") -> tuple[Found, bytes]:
    found = await find_object(world.store, ObjectRef(bucket="objects", key=name))
    if found.inline is not None:
        return found, found.inline
    last = found.version.attributes.size_bytes - 1
    got = [bytes(piece) async for piece in read_object(world.store, found, 0, last)]
    return found, b"".join(got)


@pytest.mark.parametrize(
    "size_bytes",
    [0, 1, 4096, 4097, 5 * MIB, STRIPE_BYTES_MAX, STRIPE_BYTES_MAX + 1, 3 * STRIPE_BYTES_MAX],
)
def test_it_is_an_object_like_any_other(tmp_path: Path, size_bytes: int) -> None:
    async def story(world: World) -> None:
        body = random_bytes(size_bytes)
        request = msgspec.structs.replace(
            held(world, body),
            content={"content-type": "text/plain"},
            user={"colour": "red"},
            profile="2+1",
        )
        made = await adopt(world.store, request)
        assert made.number == 1
        found, got = await read(world)
        assert got == body
        attributes = found.version.attributes
        assert (found.version.version_id, attributes.sha256) == (made.version_id, request.sha256)
        assert attributes.content == {"content-type": "text/plain"}
        assert attributes.user == {"colour": "red"}
        for segment in found.segments:
            assert segment.stripe.coding.data_count == Profile(2, 1).data_count

    run(tmp_path, story)


def test_asked_again_it_answers_the_same_version_and_reads_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        request = held(world, random_bytes(9 * MIB))
        made = await adopt(world.store, request)
        later = PutRequest(bucket="objects", key="file", size_bytes=3)
        await put_object(world.store, later, pieces(b"new"))
        del world.blobs.temps[request.temp]
        for _ in range(3):
            assert await adopt(world.store, request) == made
        assert await versions(world) == [2, 1]
        assert (await read(world))[1] == b"new"

    run(tmp_path, story)


@pytest.mark.parametrize("size_bytes", [0, 100, 5 * MIB, 20 * MIB])
def test_many_adoptions_of_one_temp_at_once_make_one_version(
    tmp_path: Path, size_bytes: int
) -> None:
    async def story(world: World) -> None:
        body = random_bytes(size_bytes)
        request = held(world, body)
        made = await asyncio.gather(*(adopt(world.store, request) for _ in range(4)))
        assert len(set(made)) == 1
        assert await versions(world) == [1]
        assert (await read(world))[1] == body
        # What the others staged is given back at once, not when it expires.
        await until(lambda: uploads(world) == 0)

    run(tmp_path, story)


def uploads(world: World) -> int:
    answer = world.catalog.answer([CountCatalog()], soft=SoftState())[0]
    assert isinstance(answer, CatalogCounted)
    return answer.uploads


def test_one_that_is_cut_off_disturbs_neither_another_nor_itself(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        body = random_bytes(20 * MIB)
        request = held(world, body)
        for turns in (1, 5, 20, 60):
            dying = asyncio.create_task(adopt(world.store, request))
            other = asyncio.create_task(adopt(world.store, request))
            for _ in range(turns):
                await asyncio.sleep(0)
            dying.cancel()
            await asyncio.wait([dying])
            assert (await other).number == 1
        assert await versions(world) == [1]
        assert (await read(world))[1] == body

    run(tmp_path, story)


def test_cut_off_between_two_pieces_it_ends_as_it_was_told_to(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        request = held(world, random_bytes(9 * MIB))
        get, asked = world.blobs.get_temp_piece, asyncio.Event()

        async def slow(url: str, temp: bytes, number: int, *, deadline_s: float) -> bytes:
            if number:
                asked.set()
                await asyncio.get_running_loop().create_future()
            return await get(url, temp, number, deadline_s=deadline_s)

        world.blobs.get_temp_piece = slow  # type: ignore[method-assign]
        dying = asyncio.create_task(adopt(world.store, request))
        await asked.wait()
        dying.cancel()
        await asyncio.wait([dying])
        assert dying.cancelled()

    run(tmp_path, story)


def test_however_many_are_confirmed_at_once_only_some_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        # Whoever has read a piece waits: for those before it, which the lent bytes are for.
        world.store.loans = Lending(MIB, wait_s=30)
        requests = [
            held(world, random_bytes(5 * MIB, seed), name=f"file{seed}", number=seed)
            for seed in range(1, 4 * ADOPTIONS_MAX)
        ]
        get = world.blobs.get_temp_piece
        reading = most = 0

        async def counted(url: str, temp: bytes, number: int, *, deadline_s: float) -> bytes:
            nonlocal reading, most
            reading += number == 0
            most = max(most, reading)
            return await get(url, temp, number, deadline_s=deadline_s)

        async def one(request: Adopt) -> Adopted:
            nonlocal reading
            made = await adopt(world.store, request)
            reading -= 1
            return made

        world.blobs.get_temp_piece = counted  # type: ignore[method-assign]
        made = await asyncio.gather(*map(one, requests))
        assert [each.number for each in made] == [1] * len(requests)
        assert most <= ADOPTIONS_MAX + 1  # one has ended and not said so yet
        monkeypatch.setattr(flow, "TURN_S", 0.01)
        async with AsyncExitStack() as others:
            for _ in range(ADOPTIONS_MAX):
                await others.enter_async_context(world.store.adopting)
            with pytest.raises(Overloaded):
                await adopt(world.store, requests[0])
        assert await adopt(world.store, requests[0]) == made[0]

    run(tmp_path, story)


def test_bytes_that_changed_where_they_waited_make_no_version(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        body = random_bytes(5 * MIB)
        for number, bent in enumerate((body[:-1], body + b"x", bytes(5 * MIB)), 1):
            request = held(world, body, number=number)
            cut = [bent[: 4 * MIB], bent[4 * MIB :]]
            world.blobs.temps[request.temp] = cut
            with pytest.raises(CorruptShard):
                await adopt(world.store, request)
        request = held(world, body, number=9)
        world.blobs.temps[request.temp].pop()
        with pytest.raises(CorruptShard):
            await adopt(world.store, request)
        assert await versions(world) == []
        # Nothing of that stands in the way once the bytes are right.
        assert (await adopt(world.store, held(world, body, number=9))).number == 1

    run(tmp_path, story)


def test_a_passing_failure_is_tried_again_and_a_lasting_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "TRY_AGAIN_S", 0.01)

    async def story(world: World) -> None:
        request = held(world, random_bytes(5 * MIB))
        world.blobs.temp_failures = [Overloaded(), OutcomeUnknown()]
        assert (await adopt(world.store, request)).number == 1
        other = held(world, random_bytes(5 * MIB), number=2)
        world.blobs.temp_failures = [PeerUnreachable("gone")] * TRIES
        with pytest.raises(PeerUnreachable):
            await adopt(world.store, other)
        del world.blobs.temps[other.temp]
        with pytest.raises(NoSuchUpload):
            await adopt(world.store, other)
        assert await versions(world) == [1]

    run(tmp_path, story)


def test_what_no_put_would_take_is_refused(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        request = held(world, b"hello")
        for bad, error in (
            (msgspec.structs.replace(request, name=""), InvalidName),
            (msgspec.structs.replace(request, name="x" * 1025), InvalidName),
            (msgspec.structs.replace(request, profile="many"), InvalidArgument),
            (msgspec.structs.replace(request, temp=b"short"), InvalidArgument),
        ):
            with pytest.raises(error):
                await adopt(world.store, bad)
        assert (await adopt(world.store, request)).number == 1
        with pytest.raises(Conflict):
            await adopt(world.store, msgspec.structs.replace(request, name="other"))
        assert await versions(world, "other") == []

    run(tmp_path, story)


def test_only_signed_requests_are_heard(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        clock = SystemClock()
        server = serve(
            internal_routes(world.store),
            settings=ServerSettings(
                role="frontend",
                clock=clock,
                metrics=Metrics(),
                verifier=Verifier(SECRETS, clock),
            ),
            address="127.0.0.1",
            port=0,
        )
        url = f"http://127.0.0.1:{server.port}/v1/adopt"
        body = msgspec.msgpack.encode(held(world, b"hello"))
        signed = AioRpc(signer=Signer(SECRETS, clock, system_random))
        unsigned = AioRpc(signer=None)
        try:
            with pytest.raises(Unauthenticated):
                check(await unsigned.call("POST", url, body=body, deadline_s=10))
            assert await versions(world) == []
            reply = check(await signed.call("POST", url, body=body, deadline_s=10))
            made: Any = msgspec.msgpack.decode(reply.body, type=Adopted)
            assert made.number == 1
        finally:
            await signed.close()
            await unsigned.close()
            await server.stop(1)

    run(tmp_path, story)
