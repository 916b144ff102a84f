"""Access keys and the system token at two frontends: what one takes away the other refuses."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from osscore.errors import Unauthenticated
from ossd.clock import SystemClock, system_random
from ossd.credentials import Credentials
from raftmeta.access import (
    ADMIN,
    DELETE,
    DOWNLOAD,
    INFO,
    UPLOAD,
    Access,
    Began,
    Grant,
    system_token_digest,
)
from raftmeta.client import MetaClient
from raftmeta.commands import Command, Done
from raftmeta.credentials import (
    ChangeAccessKey,
    PutAccessKey,
    RevokeAccessKey,
    RotateAccessKey,
    SetSystemToken,
)
from tests.fakes.clock import ManualClock
from tests.fakes.meta import URLS
from tests.frontend.harness import ROOT, SECRETS, World, run

ROOTS = Credentials(ROOT[0], ROOT[1].encode())
FIRST, SECOND = Credentials("A", b"first"), Credentials("A", b"second")


class Frontend:
    """What one frontend knows of keys."""

    def __init__(self, world: World) -> None:
        self.clock = ManualClock(now_ms=SystemClock().now_ms())
        self.meta = MetaClient(world.meta_rpc, URLS, clock=world.clock, random=system_random)
        self.access = Access(self.meta, world.store.cluster.described, SECRETS, clock=self.clock)

    async def do(self, command: Command) -> None:
        await self.meta.propose(command, Done)  # type: ignore[arg-type]

    async def put(self, secret: bytes = b"first", **more: object) -> None:
        sealed = await self.access.vault.seal(secret, system_random)
        key = PutAccessKey(access_key="A", secret_sealed=sealed, scopes=("upload", "info"))
        await self.do(msgspec.structs.replace(key, **more))

    async def rotate(self, overlap_ms: int) -> None:
        sealed = await self.access.vault.seal(b"second", system_random)
        await self.do(RotateAccessKey(access_key="A", secret_sealed=sealed, overlap_ms=overlap_ms))

    async def refuses(self, credentials: Credentials) -> bool:
        try:
            await self.access.grant(credentials)
        except Unauthenticated:
            return True
        return False


def two_frontends(folder: Path, story: Callable[[Frontend, Frontend], Awaitable[None]]) -> None:
    async def main(world: World) -> None:
        one, two = Frontend(world), Frontend(world)
        try:
            await story(one, two)
        finally:
            await one.meta.close()
            await two.meta.close()

    run(folder, main, nodes=1)


@pytest.mark.parametrize(
    "end", [RevokeAccessKey(access_key="A"), ChangeAccessKey(access_key="A", disabled=True)]
)
def test_a_key_ends_at_every_frontend_with_the_answer_to_who_ended_it(
    tmp_path: Path, end: Command
) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        await one.put()
        for _ in range(2):  # known by now
            grant = await two.access.grant(FIRST)
            assert grant.access_key == "A"
        began = Began("A", grant.created_at_ms, grant.created_at_ms)
        assert await one.access.may_still(began, UPLOAD, "bucket", "k")
        await one.do(end)
        assert await two.refuses(FIRST) and await one.refuses(FIRST)
        assert not await two.access.may_still(began, UPLOAD, "bucket", "k")

    two_frontends(tmp_path, story)


def test_a_later_key_of_the_same_id_inherits_nothing(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        await one.put()
        first = await two.access.grant(FIRST)
        said = Began("A", first.created_at_ms, first.created_at_ms + 5)
        unsaid = Began("A", 0, first.created_at_ms)  # as an older program wrote it down
        for began in (said, unsaid):
            assert await two.access.may_still(began, UPLOAD, "bucket", "k")
        await one.do(ChangeAccessKey(access_key="A", note="changed"))
        for began in (said, unsaid):
            assert await two.access.may_still(began, UPLOAD, "bucket", "k")
        await one.do(RevokeAccessKey(access_key="A"))
        await one.put()  # with the same secret, too
        second = await two.access.grant(FIRST)
        assert second.created_at_ms > first.created_at_ms
        for began in (said, unsaid, Began("A", first.created_at_ms, second.created_at_ms + 5)):
            assert not await two.access.may_still(began, UPLOAD, "bucket", "k")
        own = Began("A", second.created_at_ms, second.created_at_ms)
        assert await two.access.may_still(own, UPLOAD, "bucket", "k")

    two_frontends(tmp_path, story)


def test_what_a_key_may_changes_at_once(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        await one.put()
        assert (await two.access.grant(FIRST)).may(UPLOAD, "bucket", "k")
        await one.do(ChangeAccessKey(access_key="A", prefixes=("p/",)))
        grant = await two.access.grant(FIRST)
        assert not grant.may(UPLOAD, "bucket", "k") and grant.may(UPLOAD, "bucket", "p/k")
        began = Began("A", grant.created_at_ms, grant.created_at_ms)
        assert await two.access.may_still(began, UPLOAD, "bucket", "p/k")
        assert not await two.access.may_still(began, UPLOAD, "bucket", "k")

    two_frontends(tmp_path, story)


def test_a_former_secret_works_for_as_long_as_the_overlap(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        await one.put()
        await two.access.grant(FIRST)
        await one.rotate(overlap_ms=60_000)
        for frontend in (one, two):
            assert not await frontend.refuses(FIRST)
            assert not await frontend.refuses(SECOND)
        two.clock.advance(61)
        assert await two.refuses(FIRST)
        assert not await two.refuses(SECOND)
        await one.put()
        await one.rotate(overlap_ms=0)
        assert await one.refuses(FIRST) and not await one.refuses(SECOND)

    two_frontends(tmp_path, story)


def test_a_key_expires_though_nothing_was_asked_anew(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        await one.put(expires_at_ms=two.clock.now_ms() + 60_000)
        await two.access.grant(FIRST)
        two.clock.advance(61)
        assert await two.refuses(FIRST)
        assert await two.access.find("A") is None

    two_frontends(tmp_path, story)


def test_no_secret_and_no_key_are_refused_alike(tmp_path: Path) -> None:
    async def story(one: Frontend, _: Frontend) -> None:
        await one.put()
        for access_key, secret in (
            *(("A", b""), ("A", b"fir"), ("A", b"no such key has this secret")),
            *(("nobody", b"first"), ("nobody", b"no such key has this secret")),
            *(("", b"first"), ("x" * 5000, b"first")),
        ):
            assert await one.refuses(Credentials(access_key, secret)), access_key

    two_frontends(tmp_path, story)


def test_nobody_is_let_in_while_nobody_can_tell(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        frontend = Frontend(world)
        await frontend.access.grant(ROOTS)
        world.meta_rpc.is_reachable = False
        waiting = asyncio.create_task(frontend.access.grant(ROOTS))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        world.meta_rpc.is_reachable = True
        assert (await waiting).access_key == ROOT[0]
        await frontend.meta.close()

    run(tmp_path, main, nodes=1)


def test_a_system_token_is_replaced_everywhere_at_once(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        for token, former in (("first token", ""), ("second token", "first token")):
            await one.do(SetSystemToken(digest=system_token_digest(token)))
            await two.access.system_token(token)
            for wrong in (former, "", "x" * 2000, token + "x", "\udcff"):
                with pytest.raises(Unauthenticated):
                    await two.access.system_token(wrong)

    two_frontends(tmp_path, story)


# --- what a grant permits --------------------------------------------------------------------

ALL = (UPLOAD, DOWNLOAD, INFO, DELETE, ADMIN)


def grant(*scopes: str, buckets: tuple[str, ...] = (), prefixes: tuple[str, ...] = ()) -> Grant:
    return Grant("A", frozenset(scopes), frozenset(buckets), prefixes)


def test_admin_includes_every_scope_and_no_other_does() -> None:
    for scope in ALL:
        assert grant(ADMIN).may(scope) and grant(ADMIN).may(scope, "b", "k")
        assert not grant(*[each for each in ALL if each not in (scope, ADMIN)]).may(scope, "b", "k")


def test_a_limited_admin_does_not_administer_the_cluster() -> None:
    for limited in (grant(ADMIN, buckets=("b",)), grant(ADMIN, prefixes=("p",))):
        assert not limited.may(ADMIN)
    assert grant(ADMIN, buckets=("b",)).may(ADMIN, "b")
    assert not grant(ADMIN, buckets=("b",)).may(ADMIN, "other")
    assert not grant(ADMIN, prefixes=("p",)).may(ADMIN, "b")


def test_prefixes_limit_objects_and_listings() -> None:
    limited = grant(DOWNLOAD, INFO, buckets=("b",), prefixes=("p/", "q"))
    for key, expected in (("p/", True), ("p/x", True), ("qq", True), ("p", False), ("", False)):
        assert limited.may(INFO, "b", key) is expected
        assert limited.may(DOWNLOAD, "b", key) is expected
        assert not limited.may(DOWNLOAD, "other", key)
    assert limited.may(INFO, "b") and not limited.may(DOWNLOAD, "b")
