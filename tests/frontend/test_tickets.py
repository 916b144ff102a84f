"""Tokens against the real catalog: two frontends, one clock each."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from frontend import ticket_format
from frontend.tickets import (
    DOWNLOAD,
    INLINE,
    TTL_S_MAX,
    UPLOAD,
    Tickets,
    UploadHandles,
    parse_sha256,
)
from osscore.errors import (
    AccessDenied,
    ExpiredToken,
    ForgedToken,
    InvalidArgument,
    MalformedToken,
    RevokedToken,
    WrongTokenType,
)
from ossd.clock import SystemClock, system_random
from ossd.credentials import Credentials
from raftmeta.access import Access, Grant
from raftmeta.client import MetaClient
from raftmeta.commands import Done
from raftmeta.credentials import (
    AuditNote,
    ChangeAccessKey,
    PutAccessKey,
    RevokeAccessKey,
)
from tests.fakes.clock import ManualClock
from tests.fakes.meta import URLS
from tests.frontend.harness import ROOT, SECRETS, World, run

HELLO = bytes.fromhex("b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9")
NOTE = AuditNote(actor="root", action="test")


class Frontend:
    """What one frontend knows of tokens."""

    def __init__(self, world: World) -> None:
        self.clock = ManualClock(now_ms=SystemClock().now_ms())
        self.meta = MetaClient(world.meta_rpc, URLS, clock=world.clock, random=system_random)
        self.access = Access(self.meta, world.store.cluster.described, SECRETS, clock=self.clock)
        self.tickets = Tickets(self.meta, self.access, random=system_random)
        self.handles = UploadHandles(self.access.vault)

    async def root(self) -> Grant:
        return await self.access.grant(Credentials(ROOT[0], ROOT[1].encode()))


Story = Callable[[Frontend, Frontend], Awaitable[None]]


def two_frontends(folder: Path, story: Story) -> None:
    async def main(world: World) -> None:
        one, two = Frontend(world), Frontend(world)
        try:
            await story(one, two)
        finally:
            await one.meta.close()
            await two.meta.close()

    run(folder, main, nodes=1)


def test_a_token_of_one_frontend_is_good_at_every_other(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        minted = await one.tickets.mint(UPLOAD, HELLO, ttl_s=60, max_size_bytes=11)
        ticket = await two.tickets.check(minted.text, UPLOAD)
        assert (ticket.sha256, ticket.max_size_bytes, ticket.jti) == (HELLO, 11, minted.jti)
        assert (ticket.may_upload, ticket.may_download) == (True, False)
        assert ticket.expires_at_s == minted.expires_at_s == ticket.created_at_s + 60

    two_frontends(tmp_path, story)


@pytest.mark.parametrize("kind", [UPLOAD, DOWNLOAD, UPLOAD | DOWNLOAD])
def test_a_token_is_good_for_its_own_type_only(tmp_path: Path, kind: int) -> None:
    async def story(one: Frontend, _: Frontend) -> None:
        text = (await one.tickets.mint(kind, HELLO)).text
        for needs in (UPLOAD, DOWNLOAD, UPLOAD | DOWNLOAD):
            if kind & needs == needs:
                await one.tickets.check(text, needs)
            else:
                with pytest.raises(WrongTokenType):
                    await one.tickets.check(text, needs)

    two_frontends(tmp_path, story)


def test_two_frontends_that_race_for_the_first_key_use_one(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        both = await asyncio.gather(
            *(each.tickets.mint(DOWNLOAD, HELLO) for each in (one, two, one, two))
        )
        assert len(await one.tickets.keys()) == 1
        for minted in both:
            assert (await two.tickets.check(minted.text, DOWNLOAD)).sha256 == HELLO

    two_frontends(tmp_path, story)


def test_a_token_expires(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        minted = await one.tickets.mint(DOWNLOAD, HELLO, ttl_s=60)
        two.clock.advance(50)
        await two.tickets.check(minted.text, DOWNLOAD)
        two.clock.advance(11)
        with pytest.raises(ExpiredToken):
            await two.tickets.check(minted.text, DOWNLOAD)

    two_frontends(tmp_path, story)


def test_a_revoked_token_is_refused_everywhere_at_once(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        gone, kept = [await one.tickets.mint(DOWNLOAD, HELLO) for _ in range(2)]
        await two.tickets.check(gone.text, DOWNLOAD)
        await one.tickets.revoke(gone.jti, NOTE)
        with pytest.raises(RevokedToken):
            await two.tickets.check(gone.text, DOWNLOAD)
        await two.tickets.check(kept.text, DOWNLOAD)

    two_frontends(tmp_path, story)


def test_tokens_of_a_key_end_with_it(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        first = await one.tickets.mint(DOWNLOAD, HELLO)
        await one.tickets.rotate_key(3600, NOTE)
        await two.tickets.check(first.text, DOWNLOAD)
        second = await two.tickets.mint(DOWNLOAD, HELLO)
        kid = await two.tickets.rotate_key(0, NOTE)
        for minted in (first, second):
            with pytest.raises(RevokedToken):
                await one.tickets.check(minted.text, DOWNLOAD)
        third = await one.tickets.mint(DOWNLOAD, HELLO)
        assert (await two.tickets.check(third.text, DOWNLOAD)).kid == kid

    two_frontends(tmp_path, story)


def test_what_was_made_up_is_refused(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        minted = await one.tickets.mint(DOWNLOAD, HELLO)
        claim = ticket_format.read(minted.text)
        longer = msgspec.structs.replace(claim.payload, expire_at=claim.payload.expire_at + 1)
        forged = ticket_format.write(longer, bytes(32))
        unknown = ticket_format.write(msgspec.structs.replace(longer, kid="unknown"), bytes(32))
        for frontend in (one, two):  # one of them knows the key already
            with pytest.raises(ForgedToken):
                await frontend.tickets.check(forged, DOWNLOAD)
            with pytest.raises(RevokedToken):
                await frontend.tickets.check(unknown, DOWNLOAD)
            with pytest.raises(MalformedToken):
                await frontend.tickets.check("", DOWNLOAD)

    two_frontends(tmp_path, story)


@pytest.mark.parametrize("ttl_s", [0, -1, TTL_S_MAX + 1])
def test_lives_have_bounds(tmp_path: Path, ttl_s: int) -> None:
    async def story(one: Frontend, _: Frontend) -> None:
        with pytest.raises(InvalidArgument):
            await one.tickets.mint(DOWNLOAD, HELLO, ttl_s=ttl_s)
        with pytest.raises(InvalidArgument):
            await one.tickets.mint(4, HELLO)
        with pytest.raises(InvalidArgument):
            await one.tickets.mint(UPLOAD, HELLO[1:])

    two_frontends(tmp_path, story)


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "g" * 64, "é" * 64])
def test_a_content_is_64_hex_digits(text: str) -> None:
    assert parse_sha256(HELLO.hex()) == HELLO == parse_sha256(HELLO.hex().upper())
    with pytest.raises(InvalidArgument):
        parse_sha256(text)


# --- shares --------------------------------------------------------------------------------------


def test_a_share_says_what_is_shared_and_how(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        minted = await one.tickets.mint_share(
            await one.root(), "bucket", "ü/☃", 3, ttl_s=60, disposition=INLINE
        )
        share = await two.tickets.check_share(minted.text)
        assert (share.bucket, share.key, share.number) == ("bucket", "ü/☃", 3)
        assert (share.disposition, share.owner, share.jti) == (INLINE, "root", minted.jti)
        with pytest.raises(WrongTokenType):
            await two.tickets.check(minted.text, DOWNLOAD)
        ticket = await one.tickets.mint(UPLOAD | DOWNLOAD, HELLO)
        with pytest.raises(WrongTokenType):
            await two.tickets.check_share(ticket.text)
        await one.tickets.revoke(minted.jti, NOTE)
        with pytest.raises(RevokedToken):
            await two.tickets.check_share(minted.text)

    two_frontends(tmp_path, story)


async def put_key(frontend: Frontend, **more: object) -> Grant:
    sealed = await frontend.access.vault.seal(b"s", system_random)
    key = PutAccessKey(access_key="sharer", secret_sealed=sealed, scopes=("download",))
    await frontend.meta.propose(msgspec.structs.replace(key, **more), Done)
    return await frontend.access.grant(Credentials("sharer", b"s"))


@pytest.mark.parametrize(
    "change",
    [
        ChangeAccessKey(access_key="sharer", disabled=True),
        ChangeAccessKey(access_key="sharer", buckets=("other",)),
        ChangeAccessKey(access_key="sharer", prefixes=("b",)),
        ChangeAccessKey(access_key="sharer", scopes=("upload",)),
        RevokeAccessKey(access_key="sharer"),
    ],
)
def test_a_share_ends_when_its_owner_may_no_more(
    tmp_path: Path, change: ChangeAccessKey | RevokeAccessKey
) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        grant = await put_key(one)
        minted = await one.tickets.mint_share(grant, "bucket", "a", 1, ttl_s=60, disposition=INLINE)
        await two.tickets.check_share(minted.text)
        await one.meta.propose(change, Done)
        with pytest.raises(RevokedToken):
            await two.tickets.check_share(minted.text)
        if isinstance(change, RevokeAccessKey):
            await put_key(one)  # another key of the same id
            with pytest.raises(RevokedToken):
                await two.tickets.check_share(minted.text)

    two_frontends(tmp_path, story)


def test_a_share_does_not_outlive_its_key(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        expires_at_ms = one.clock.now_ms() + 100_000
        grant = await put_key(one, expires_at_ms=expires_at_ms)
        minted = await one.tickets.mint_share(
            grant, "bucket", "a", 1, ttl_s=3600, disposition=INLINE
        )
        assert minted.expires_at_s == expires_at_ms // 1000
        two.clock.advance(101)
        with pytest.raises(ExpiredToken):
            await two.tickets.check_share(minted.text)

    two_frontends(tmp_path, story)


def test_only_what_may_be_downloaded_is_shared(tmp_path: Path) -> None:
    async def story(one: Frontend, _: Frontend) -> None:
        grant = await put_key(one, prefixes=("mine/",))
        await one.tickets.mint_share(grant, "bucket", "mine/a", 1, ttl_s=1, disposition=INLINE)
        with pytest.raises(AccessDenied):
            await one.tickets.mint_share(grant, "bucket", "other", 1, ttl_s=1, disposition=INLINE)
        with pytest.raises(InvalidArgument):
            await one.tickets.mint_share(grant, "bucket", "mine/a", 1, ttl_s=1, disposition="x")

    two_frontends(tmp_path, story)


# --- upload handles -------------------------------------------------------------------------


def test_a_handle_is_opened_by_every_frontend_and_has_one_spelling(tmp_path: Path) -> None:
    async def story(one: Frontend, two: Frontend) -> None:
        upload = bytes(range(16))
        handle = await one.handles.seal(upload)
        assert await two.handles.open(handle) == upload
        assert (
            handle
            == await two.handles.seal(upload)
            == "AAECAwQFBgcICQoLDA0OD14juimKasf4sW7jURNtZ5M"
        )
        raw = handle.encode()
        for position in range(len(raw)):
            for bit in range(7):
                flipped = bytearray(raw)
                flipped[position] ^= 1 << bit
                with pytest.raises(AccessDenied):
                    await two.handles.open(flipped.decode())
        for text in (*(handle[:size] for size in range(43)), handle + "A", handle + "=", "é"):
            with pytest.raises(AccessDenied):
                await two.handles.open(text)

    two_frontends(tmp_path, story)
