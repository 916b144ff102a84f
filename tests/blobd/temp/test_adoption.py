"""A temp is taken in once, whoever dies meanwhile; some frontend that lives is found."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from blobd.described import Described
from blobd.temp.adoption import STALL_S, Adoptions
from blobd.temp.frontends import Frontends
from blobd.temp.records import TempId
from blobd.temp.shelf import Shelf
from blobd.temp.temps import Temps
from blobd.wire import Adopt, Adopted
from osscore.errors import (
    DeadlineExceeded,
    DiskFailing,
    EntityTooLarge,
    NoFrontend,
    NoSuchUpload,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    PreconditionFailed,
    StoreError,
    Unavailable,
)
from osscore.model import ObjectAttributes
from ossd.clock import system_random
from raftmeta.catalog.soft import SoftState
from raftmeta.commands import (
    BeginUpload,
    CreateBucket,
    Done,
    InlineBody,
    ObjectPut,
    PutObject,
    UploadPlan,
)
from tests.blobd.parts import Node, node, until
from tests.blobd.temp.door import Daemon, PlayedFrontends, daemon, frontend, run
from tests.blobd.temp.shelf_story import put_temp, temp
from tests.fakes.clock import ManualClock

BODY = b"hello" * 1000


async def posted(it: Daemon) -> str:
    return "/temp/" + str((await it.post("x", BODY))["id"])


def id_of(path: str) -> TempId:
    return TempId(bytes.fromhex(path.rpartition("/")[2]))


@pytest.mark.parametrize("body", [b"", BODY])
def test_what_is_being_removed_is_not_taken_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    async def story() -> None:
        async with daemon(tmp_path) as it:
            it.hear(frontend("http://f1"))
            removing, go_on, remove = asyncio.Event(), asyncio.Event(), Shelf.remove

            async def slow(shelf: Shelf, temp: TempId) -> None:
                if not removing.is_set():
                    removing.set()
                    await go_on.wait()
                await remove(shelf, temp)

            path = "/temp/" + str((await it.post("x", body))["id"])
            monkeypatch.setattr(Shelf, "remove", slow)
            deleting = asyncio.create_task(it("DELETE", path))
            await removing.wait()
            for method in ("PATCH", "DELETE"):
                refused = await it(method, path)
                assert (refused.status, refused.code) == (409, "Conflict")
            go_on.set()
            assert (await deleting).status == 204
            assert (await it("PATCH", path)).status == 404
            assert it.frontends.asked == []

    run(story)


def test_the_next_frontend_is_asked_when_one_is_dead(tmp_path: Path) -> None:
    async def story() -> None:
        async with daemon(tmp_path) as it:
            urls = [f"http://f{n}" for n in range(5)]
            it.hear(*map(frontend, urls))
            it.frontends.dead = set(urls[:4])
            for number in range(1, 11):
                done = await it("PATCH", await posted(it))
                assert (done.status, done.json["version"]) == (200, number)
            firsts = {url for url, _ in it.frontends.asked}
            assert firsts == set(urls)  # at random: each was asked before another
            assert len(it.frontends.versions) == 10

    run(story)


def test_those_that_live_come_first_and_the_dead_are_not_asked(tmp_path: Path) -> None:
    async def story() -> None:
        async with daemon(tmp_path) as it:
            it.hear(
                frontend("http://down", "down"),
                frontend("http://maybe", "suspect"),
                frontend("http://new", "unknown"),
                frontend("http://up", "up"),
            )
            it.frontends.dead = {"http://up", "http://maybe", "http://new", "http://down"}
            failed = await it("PATCH", await posted(it))
            assert (failed.status, failed.code) == (503, "PeerUnreachable")
            asked = [url for url, _ in it.frontends.asked]
            assert asked[0] == "http://up" and set(asked[1:]) == {"http://maybe", "http://new"}

    run(story)


def test_without_a_frontend_the_temp_waits(tmp_path: Path) -> None:
    async def story() -> None:
        async with daemon(tmp_path) as it:
            it.hear(frontend("http://down", "down"))
            path = await posted(it)
            refused = await it("PATCH", path)
            assert (refused.status, refused.code) == (503, NoFrontend.__name__)
            assert refused.headers["Retry-After"] == "1"
            assert "frontend" in refused.json["error"]["message"]
            it.hear(frontend("http://f1"))
            await asyncio.sleep(1.1)  # what is known of frontends is a second old at most
            assert (await it("PATCH", path)).status == 200

    run(story)


def test_many_at_once_are_one_adoption(tmp_path: Path) -> None:
    async def story() -> None:
        async with daemon(tmp_path) as it:
            go_on = asyncio.Event()

            async def slow(url: str, adopt: Adopt) -> Adopted:
                await go_on.wait()
                return it.frontends.make_version(adopt)

            it.frontends.play = slow
            path = await posted(it)
            asking = [asyncio.create_task(it("PATCH", path)) for _ in range(8)]
            await until(lambda: len(it.frontends.asked) == 1)
            busy = await it("DELETE", path)
            assert (busy.status, busy.code) == (409, "Conflict")
            mismatch = await it("PATCH", path, json={"size": 1})
            assert mismatch.status == 422
            go_on.set()
            answers = await asyncio.gather(*asking)
            assert {(a.status, a.body) for a in answers} == {(200, answers[0].body)}
            assert len(it.frontends.asked) == 1

    run(story)


def test_a_client_that_leaves_does_not_end_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with daemon(tmp_path) as it:
            go_on = asyncio.Event()

            async def slow(url: str, adopt: Adopt) -> Adopted:
                await go_on.wait()
                return it.frontends.make_version(adopt)

            it.frontends.play = slow
            path = await posted(it)
            leaving = asyncio.create_task(it("PATCH", path))
            await until(lambda: len(it.frontends.asked) == 1)
            leaving.cancel()
            await asyncio.wait([leaving])
            go_on.set()
            shelf = Shelf(it.node.first)
            await until(lambda: not it.temps.is_busy(id_of(path)))
            assert await shelf.done(id_of(path)) is not None
            assert (await it("PATCH", path)).json["version"] == 1
            assert len(it.frontends.asked) == 1

    run(story)


@pytest.mark.parametrize(
    "error", [OutcomeUnknown, DeadlineExceeded, Overloaded, NotReady], ids=lambda e: e.__name__
)
def test_a_version_made_before_the_answer_was_lost_is_the_one_answered(
    tmp_path: Path, error: type[Unavailable]
) -> None:
    async def story() -> None:
        async with daemon(tmp_path) as it:

            async def die_after(url: str, adopt: Adopt) -> Adopted:
                it.frontends.make_version(adopt)
                raise error("died behind the commit")

            it.frontends.play = die_after
            path = await posted(it)
            assert (await it("PATCH", path)).status == 503
            assert (await it("HEAD", path)).status == 200  # it is not known, so it stays
            it.frontends.play = None
            assert (await it("PATCH", path)).json["version"] == 1
            assert len(it.frontends.versions) == 1
            assert len({adopt.temp for _, adopt in it.frontends.asked}) == 1

    run(story)


@pytest.mark.parametrize("error", [PreconditionFailed, EntityTooLarge], ids=lambda e: e.__name__)
def test_a_refusal_is_the_answer_and_nobody_else_is_asked(
    tmp_path: Path, error: type[StoreError]
) -> None:
    async def story() -> None:
        async with daemon(tmp_path) as it:
            it.hear(frontend("http://f1"), frontend("http://f2"))

            async def refuse(url: str, adopt: Adopt) -> Adopted:
                raise error("no")

            it.frontends.play = refuse
            path = await posted(it)
            refused = await it("PATCH", path)
            assert (refused.status, refused.code) == (error.http_status, error.__name__)
            assert len(it.frontends.asked) == 1
            assert (await it("HEAD", path)).status == 200

    run(story)


def test_what_became_of_it_is_asked_again_where_it_could_not_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with daemon(tmp_path) as it:

            async def cannot(*_: object) -> None:
                raise DiskFailing("read-only")

            path = await posted(it)
            with monkeypatch.context() as broken:
                broken.setattr(Shelf, "put_done", cannot)
                assert (await it("PATCH", path)).json["version"] == 1
            shelf = Shelf(it.node.first)
            assert await shelf.head(id_of(path)) is not None
            assert (await it("PATCH", path)).json["version"] == 1
            assert len(it.frontends.asked) == 2
            assert await shelf.head(id_of(path)) is None

    run(story)


def test_a_body_left_behind_by_a_crash_goes_and_the_answer_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with daemon(tmp_path) as it:

            async def cannot(*_: object) -> None:
                raise DiskFailing("killed here")

            path = await posted(it)
            with monkeypatch.context() as broken:
                broken.setattr(Shelf, "remove", cannot)
                first = await it("PATCH", path)
            shelf = Shelf(it.node.first)
            assert await shelf.head(id_of(path)) is not None
            assert (await it("PATCH", path)).json == first.json
            await it.temps.sweep()
            assert await shelf.head(id_of(path)) is None
            assert (await it("PATCH", path)).json == first.json
            assert len(it.frontends.asked) == 1

    run(story)


# --- by a clock that a test turns ----------------------------------------------------------------


class Stalling:
    """A frontend that answers nothing, until it is cancelled."""

    def __init__(self) -> None:
        self.asked = 0
        self.cancelled = 0

    async def ask_to_adopt(self, url: str, adopt: Adopt) -> Adopted:
        self.asked += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError


async def with_adoptions(
    folder: Path,
    played: Any,
    story: Callable[[Node, Temps, Adoptions, ManualClock], Awaitable[None]],
) -> None:
    clock = ManualClock()
    async with node(folder, clock=clock) as it:
        it.rpc.soft = SoftState(frontends=(frontend("http://f1"), frontend("http://f2")))
        temps = Temps(
            it.disks, clock=clock, now_ms=clock.now_ms, random=system_random, expiry_s=10_000
        )
        frontends = Frontends(Described(it.meta, clock=clock), random=system_random)
        adoptions = Adoptions(
            temps, frontends, it.meta, played, own_url=lambda: "http://me", clock=clock
        )
        await put_temp(Shelf(it.first), 1, 2, expires_at_ms=clock.now_ms() + 5_000_000)
        try:
            await story(it, temps, adoptions, clock)
        finally:
            await adoptions.close()
            await temps.close()


def test_a_frontend_that_reads_no_more_is_given_up_for_another(tmp_path: Path) -> None:
    played = Stalling()

    async def story(it: Node, temps: Temps, adoptions: Adoptions, clock: ManualClock) -> None:
        found = await temps.find(temp(1))
        confirming = asyncio.create_task(adoptions.confirm(found))
        await until(lambda: played.asked == 1)
        for _ in range(10):  # while it reads, it is waited for as long as it takes
            await turn(clock, STALL_S / 2)
            adoptions.note_read(temp(1))
            assert played.cancelled == 0
        while played.asked == 1:
            await turn(clock, 5)
        assert played.cancelled == 1
        while not confirming.done():
            await turn(clock, 5)
        with pytest.raises(DeadlineExceeded):
            confirming.result()
        assert played.asked == played.cancelled == 2
        assert not temps.is_busy(temp(1))

    run(lambda: with_adoptions(tmp_path, played, story))


async def turn(clock: ManualClock, seconds: float) -> None:
    """Let time pass, and everybody do what is due."""
    for _ in range(int(seconds // 5)):
        clock.advance(5)
        for _ in range(20):
            await asyncio.sleep(0)


def test_a_daemon_that_stops_lets_go(tmp_path: Path) -> None:
    played = Stalling()

    async def story(it: Node, temps: Temps, adoptions: Adoptions, clock: ManualClock) -> None:
        confirming = asyncio.create_task(adoptions.confirm(await temps.find(temp(1))))
        await until(lambda: played.asked == 1)
        await adoptions.close()
        with pytest.raises(NotReady):
            await confirming
        assert played.cancelled == 1

    run(lambda: with_adoptions(tmp_path, played, story))


def test_what_was_removed_between_look_and_confirmation_is_unknown(tmp_path: Path) -> None:
    played = PlayedFrontends()

    async def story(it: Node, temps: Temps, adoptions: Adoptions, clock: ManualClock) -> None:
        found = await temps.find(temp(1))
        await found.shelf.remove(temp(1))
        with pytest.raises(NoSuchUpload):
            await adoptions.confirm(found)
        assert played.asked == []

    run(lambda: with_adoptions(tmp_path, played, story))


def test_a_look_that_has_become_old_makes_no_second_adoption(tmp_path: Path) -> None:
    played = PlayedFrontends()

    async def story(it: Node, temps: Temps, adoptions: Adoptions, clock: ManualClock) -> None:
        found = await temps.find(temp(1))
        assert found.head is not None
        first = await adoptions.confirm(found)
        assert await adoptions.confirm(found) == first
        assert len(played.asked) == 1
        assert first.sha256 == found.head.sha256 != sha256(b"").digest()

    run(lambda: with_adoptions(tmp_path, played, story))


async def begin(it: Daemon, temp_id: TempId, name: str) -> None:
    """What a frontend does first when it takes an empty temp in."""
    plan = UploadPlan(owner="root", size_bytes=0, sha256=sha256(b"").digest())
    await it.node.meta.propose(CreateBucket(bucket="default"), Done)
    await it.node.meta.propose(
        BeginUpload(upload=temp_id, bucket="default", key=name, ttl_ms=10**7, plan=plan), Done
    )


async def name_it(it: Daemon, temp_id: TempId, name: str) -> ObjectPut:
    """What a frontend does last."""
    command = PutObject(
        bucket="default",
        key=name,
        attributes=ObjectAttributes(size_bytes=0, sha256=sha256(b"").digest()),
        body=InlineBody(data=b""),
        finishes=temp_id,
    )
    return await it.node.meta.propose(command, ObjectPut)


def test_what_a_frontend_made_a_version_of_is_not_deleted(tmp_path: Path) -> None:
    """Though the daemon that asked it has forgotten: it was restarted meanwhile."""

    async def story() -> None:
        async with daemon(tmp_path) as it:
            path = "/temp/" + str((await it.post("x", b""))["id"])
            await begin(it, id_of(path), "x")
            put = await name_it(it, id_of(path), "x")
            refused = await it("DELETE", path)
            assert (refused.status, refused.code) == (409, "Conflict")
            assert f"version {put.number}" in refused.json["error"]["message"]
            assert (await it("HEAD", path)).status == 200

    run(story)


def test_a_frontend_that_is_still_at_it_makes_no_version_of_what_was_deleted(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with daemon(tmp_path) as it:
            path = "/temp/" + str((await it.post("x", b""))["id"])
            await begin(it, id_of(path), "x")
            assert (await it("DELETE", path)).status == 204
            with pytest.raises(NoSuchUpload):
                await name_it(it, id_of(path), "x")

    run(story)


def test_nothing_is_deleted_while_the_metadata_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blobd.temp.adoption.GIVE_UP_S", 0.1)
    played = PlayedFrontends()

    async def story(it: Node, temps: Temps, adoptions: Adoptions, clock: ManualClock) -> None:
        found = await temps.find(temp(1))
        it.rpc.is_reachable = False
        with pytest.raises(Unavailable):
            await adoptions.give_up(found)
        assert (await temps.find(temp(1))).head == found.head

    run(lambda: with_adoptions(tmp_path, played, story))
