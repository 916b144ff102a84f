"""A frontend that stood still beyond the grace (SIGSTOP, a suspended machine) and goes on.

Meanwhile the rest of the cluster has collected: uploads and sessions expired, and every
shard that nobody could name was deleted for good (SAFETY rules 1 to 4).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from msgspec.msgpack import encode

from frontend.flows.get import read_object
from frontend.flows.objects import ObjectRef, find_object
from frontend.flows.put import PutRequest, put_object
from osscore.errors import NoSuchKey, NoSuchUpload, StoreError
from ossd.clock import SystemClock
from raftmeta.catalog.soft import SoftState
from raftmeta.commands import Collect, Collected, DeleteVersion, ObjectDeleted, OpenSession
from raftmeta.entries import Entry
from raftmeta.queries import (
    CatalogCounted,
    ClusterDescribed,
    CountCatalog,
    FindUnwanted,
    GetCluster,
    ReadTrash,
    TrashRead,
    Unwanted,
)
from raftmeta.wire import PROPOSE, ProposeRequest
from tests.frontend import harness
from tests.frontend.harness import BUCKET, World, random_bytes

STRIPE = 8 * 1024 * 1024
STEP_S = 50 * 60.0


class ShiftedClock(SystemClock):
    """The machine's clock, moved on by what a test says has passed."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now_ms(self) -> int:
        """See Clock."""
        return super().now_ms() + int(self.passed_s * 1000)

    def monotonic_s(self) -> float:
        """See Clock."""
        return super().monotonic_s() + self.passed_s


def run(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    story: Callable[[World, "Elsewhere"], Awaitable[None]],
) -> None:
    """Let `story` happen in a fresh world whose clock can be moved on."""
    clock = ShiftedClock()
    monkeypatch.setattr(harness, "SystemClock", lambda: clock)

    async def told(world: World) -> None:
        await story(world, Elsewhere(world, clock))

    harness.run(folder, told)


class Elsewhere:
    """All the cluster but this frontend, which notices nothing of it."""

    def __init__(self, world: World, clock: ShiftedClock) -> None:
        self._world = world
        self._clock = clock

    async def lives_on(self) -> None:
        """Three times the grace passes, with collection, sweeps and emptied trash."""
        for _ in range(4):
            self._clock.passed_s += STEP_S
            while self._world.meta_rpc.apply(Collect(grace_ms=0))[0] != Collected():
                pass
            self._delete_what_may_go()

    def _delete_what_may_go(self) -> None:
        world = self._world
        for disk, uuid in self._disks():
            held = tuple(world.blobs.shards[uuid])
            sweep = FindUnwanted(disk=disk, grace_ms=0, identities=held)
            (unwanted,) = self._ask(sweep)
            (trash,) = self._ask(ReadTrash(disk=disk, limit=10_000))
            assert isinstance(unwanted, Unwanted) and isinstance(trash, TrashRead)
            for identity in [*unwanted.identities, *(row.identity for row in trash.rows)]:
                world.blobs.shards[uuid].pop(identity, None)
                world.blobs.deleted.add((uuid, identity))

    def _disks(self) -> list[tuple[int, bytes]]:
        (described,) = self._ask(GetCluster())
        assert isinstance(described, ClusterDescribed)
        return [(disk.disk, disk.uuid) for node in described.nodes for disk in node.disks]

    def counted(self) -> CatalogCounted:
        """The catalog's totals."""
        (counted,) = self._ask(CountCatalog())
        assert isinstance(counted, CatalogCounted)
        return counted

    def _ask(self, query: object) -> tuple[object, ...]:
        # Not through the frontend's own client: that one stands still.
        return tuple(self._world.catalog.answer([query], soft=SoftState()))  # type: ignore[list-item]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what goes on beside the body."""
    async with asyncio.timeout(10):
        while not condition():
            await SystemClock().sleep(0.001)


async def paused(
    parts: list[bytes], elsewhere: Elsewhere, settled: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """A body in two parts; between them, once `settled`, the frontend stands still."""
    for number, part in enumerate(parts):
        if number:
            await until(settled)
            await elsewhere.lives_on()
        async for piece in harness.pieces(part):
            yield piece


@pytest.mark.parametrize("size_bytes", [STRIPE + 1000, 2 * STRIPE])
def test_a_short_body_is_written_again_and_every_byte_of_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    body = random_bytes(size_bytes)

    async def story(world: World, elsewhere: Elsewhere) -> None:
        request = PutRequest(bucket=BUCKET, key="k", size_bytes=size_bytes)
        parts = [body[: STRIPE + 500], body[STRIPE + 500 :]]
        sent = paused(parts, elsewhere, lambda: len(world.blobs.places()) == 6)
        await put_object(world.store, request, sent)
        assert world.blobs.deleted, "what the first stripe had stored was swept meanwhile"
        assert await world.get("k") == body
        await elsewhere.lives_on()
        assert await world.get("k") == body
        assert len(world.blobs.places()) == 12

    run(tmp_path, monkeypatch, story)


def test_a_pause_before_the_commit_of_a_short_body_names_nothing_that_was_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = random_bytes(100_000)

    async def story(world: World, elsewhere: Elsewhere) -> None:
        request = PutRequest(bucket=BUCKET, key="k", size_bytes=None)
        # The body is whole, its shards are stored; only its end was not seen yet.
        sent = paused([body, b""], elsewhere, lambda: True)
        await put_object(world.store, request, sent)
        await elsewhere.lives_on()
        assert await world.get("k") == body

    run(tmp_path, monkeypatch, story)


@pytest.mark.parametrize("is_known", [False, True])
def test_a_long_body_whose_upload_expired_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    body = random_bytes(4 * STRIPE)

    async def story(world: World, elsewhere: Elsewhere) -> None:
        if is_known:
            # The same bytes are stored already; their only version goes during the pause.
            await world.put("twin", body)
        request = PutRequest(bucket=BUCKET, key="k", size_bytes=len(body))

        def staged() -> bool:
            counted = elsewhere.counted()
            if not (counted.uploads == 1 and counted.segments >= (7 if is_known else 3)):
                return False
            if is_known:
                remove_now(world, "twin")
            return True

        sent = paused([body[: 3 * STRIPE], body[3 * STRIPE :]], elsewhere, staged)
        with pytest.raises(NoSuchUpload):
            await put_object(world.store, request, sent)
        with pytest.raises(NoSuchKey):
            await world.get("k")
        await elsewhere.lives_on()
        counted = elsewhere.counted()
        assert (counted.uploads, counted.stripes, counted.dead_stripes) == (0, 0, 0)
        assert world.blobs.places() == []

    run(tmp_path, monkeypatch, story)


def remove_now(world: World, key: str) -> None:
    """As another frontend would."""
    rpc = world.meta_rpc
    opened = rpc.apply(OpenSession())[0]
    entry = Entry(opened.session, 1, DeleteVersion(bucket=BUCKET, key=key, number=1))
    (result,) = rpc.answer(PROPOSE, encode(ProposeRequest(entries=(entry,)))).results  # type: ignore[attr-defined]
    assert isinstance(result, ObjectDeleted)


def test_a_get_whose_bytes_were_collected_fails_and_never_gives_other_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = random_bytes(4 * STRIPE)

    async def story(world: World, elsewhere: Elsewhere) -> None:
        await world.put("k", body)
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        got = b""
        with pytest.raises(StoreError):
            async with aclosing(read_object(world.store, found, 0, len(body) - 1)) as pieces:
                async for piece in pieces:
                    if not got:
                        remove_now(world, "k")
                        await elsewhere.lives_on()
                    got += bytes(piece)
        assert got and body.startswith(got)
        assert world.blobs.places() == []

    run(tmp_path, monkeypatch, story)
