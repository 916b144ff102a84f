"""Writes by access keys at two frontends, each remembering what it last heard of them.

Whatever is done to keys, and however late a frontend learns of it: a write is done exactly if a
frontend that knows nothing, and asks, would let it be done at that moment, and is refused as the
catalog's answer says.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from frontend.permits import Permit
from osscore.errors import AccessDenied, NotFound, StoreError, Unauthenticated
from osscore.model import ObjectAttributes
from ossd.clock import SystemClock, system_random
from ossd.credentials import Credentials
from ossd.signing import seal
from raftmeta.access import DELETE, UPLOAD, Access
from raftmeta.client import MetaClient
from raftmeta.commands import (
    Command,
    CreateBucket,
    DeleteObject,
    InlineBody,
    ObjectDeleted,
    ObjectPut,
    PutObject,
)
from raftmeta.credentials import (
    ChangeAccessKey,
    PutAccessKey,
    RevokeAccessKey,
    RotateAccessKey,
)
from raftmeta.queries import ClusterDescribed, FindObject, Found, GetCluster
from raftmeta.wire import PROPOSE
from tests.fakes.clock import ManualClock
from tests.fakes.meta import URLS, CatalogRpc
from tests.frontend.harness import BUCKET, CATALOG_KEY, SECRETS, form

T = TypeVar("T")
SECRET_WORDS = (b"first", b"second")
OBJECTS = ("a", "p/a")
OUTCOMES = (Unauthenticated, AccessDenied)
SECONDS = st.sampled_from([0, 10, 40])


def sealed(secret: bytes) -> bytes:
    return seal(CATALOG_KEY, secret, system_random)


class Site:
    """A catalog, and who talks to it."""

    def __init__(self, folder: Path) -> None:
        form(folder)
        self.clock = ManualClock(now_ms=SystemClock().now_ms() + 1000)
        self.rpc = CatalogRpc(folder, self.clock)
        self.overtaking: list[Command] = []
        self.delay_s = 0
        self._answer = self.rpc.answer
        self.rpc.answer = self._overtaken  # type: ignore[method-assign]
        self.admin = self.frontend()
        self.frontends = (self.frontend(), self.frontend())

    def frontend(self) -> tuple[MetaClient, Access]:
        meta = MetaClient(self.rpc, URLS, clock=self.clock, random=system_random)

        async def describe() -> ClusterDescribed:
            return await meta.query(GetCluster(), ClusterDescribed)

        return meta, Access(meta, describe, SECRETS, clock=self.clock)

    def _overtaken(self, path: str, body: bytes) -> msgspec.Struct:
        if path == PROPOSE:
            self.do(*self.overtaking)
            self.overtaking = []
            self.clock.advance(self.delay_s)
            self.delay_s = 0
        return self._answer(path, body)

    def do(self, *commands: Command) -> None:
        """What an administrator had acknowledged, or was refused."""
        self.rpc.do(*commands)

    async def close(self) -> None:
        for meta, _ in (self.admin, *self.frontends):
            await meta.close()
        self.rpc.catalog.close()


class PermittedWrites(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.site = self.run(self.begin())
        self.numbers = dict.fromkeys(OBJECTS, 0)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    async def begin(self) -> Site:
        site = Site(self.folder)
        site.do(CreateBucket(bucket=BUCKET), self.key(("upload", "delete")))
        return site

    def key(self, scopes: tuple[str, ...], secret: bytes = b"first") -> PutAccessKey:
        return PutAccessKey(access_key="A", secret_sealed=sealed(secret), scopes=scopes)

    # --- what is done to the key -----------------------------------------------------------

    @rule(
        scopes=st.sampled_from([("upload",), ("delete",), ("upload", "delete")]),
        secret=st.sampled_from(SECRET_WORDS),
        overtakes=st.booleans(),
        again=st.booleans(),
    )
    def replace(self, scopes: tuple[str, ...], secret: bytes, overtakes: bool, again: bool) -> None:
        before = (RevokeAccessKey(access_key="A"),) if again else ()
        self.change(*before, self.key(scopes, secret), overtakes=overtakes)

    @rule(overtakes=st.booleans())
    def revoke(self, overtakes: bool) -> None:
        self.change(RevokeAccessKey(access_key="A"), overtakes=overtakes)

    @rule(
        disabled=st.sampled_from([None, None, True, False]),
        prefixes=st.sampled_from([None, (), ("p/",)]),
        expires_in_s=st.sampled_from([None, 0, 15, 60]),
        overtakes=st.booleans(),
    )
    def adjust(
        self,
        disabled: bool | None,
        prefixes: tuple[str, ...] | None,
        expires_in_s: int | None,
        overtakes: bool,
    ) -> None:
        expires_at_ms = None
        if expires_in_s is not None:
            expires_at_ms = expires_in_s and self.site.clock.now_ms() + expires_in_s * 1000
        command = ChangeAccessKey(
            access_key="A", disabled=disabled, prefixes=prefixes, expires_at_ms=expires_at_ms
        )
        self.change(command, overtakes=overtakes)

    @rule(secret=st.sampled_from(SECRET_WORDS), overlap_s=SECONDS, overtakes=st.booleans())
    def rotate(self, secret: bytes, overlap_s: int, overtakes: bool) -> None:
        command = RotateAccessKey(
            access_key="A", secret_sealed=sealed(secret), overlap_ms=overlap_s * 1000
        )
        self.change(command, overtakes=overtakes)

    @rule(overtakes=st.booleans())
    def change_another(self, overtakes: bool) -> None:
        another = msgspec.structs.replace(self.key(("info",)), access_key="B")
        self.change(another, overtakes=overtakes)

    def change(self, *commands: Command, overtakes: bool) -> None:
        """Now, or when the next command of a frontend is on its way."""
        if overtakes:
            self.site.overtaking += commands
        else:
            self.site.do(*commands)

    @rule(seconds=SECONDS)
    def wait(self, seconds: int) -> None:
        self.site.clock.advance(seconds)

    # --- writes ----------------------------------------------------------------------------

    @rule(
        frontend=st.integers(0, 1),
        name=st.sampled_from(OBJECTS),
        secret=st.sampled_from(SECRET_WORDS),
        deletes=st.booleans(),
        asks=st.sampled_from([False, False, True]),
        delay_s=st.sampled_from([0, 0, 15, 60]),
    )
    def write(
        self, frontend: int, name: str, secret: bytes, deletes: bool, asks: bool, delay_s: int
    ) -> None:
        """`delay_s`: so long is its command on its way."""
        self.site.delay_s = delay_s
        self.run(self._write(frontend, name, Credentials("A", secret), deletes, asks))

    @rule(
        frontend=st.integers(0, 1),
        secret=st.sampled_from(SECRET_WORDS),
        overlap_s=SECONDS,
        expires_in_s=st.sampled_from([0, 0, 15, 60]),
        deletes=st.booleans(),
        delay_s=st.sampled_from([0, 0, 15, 60]),
    )
    def write_by_a_key_just_learnt(
        self,
        frontend: int,
        secret: bytes,
        overlap_s: int,
        expires_in_s: int,
        deletes: bool,
        delay_s: int,
    ) -> None:
        """What overtakes already, and that delay, are all that happens in between."""
        self.site.do(self.key(("upload", "delete")))
        self.rotate(b"second", overlap_s, overtakes=False)
        self.adjust(None, None, expires_in_s, overtakes=False)
        credentials = Credentials("A", secret)
        _, access = self.site.frontends[frontend]
        self.run(refusal_of(self._judge(access, credentials, UPLOAD, "a")))
        self.site.delay_s = delay_s
        self.run(self._write(frontend, "a", credentials, deletes, asks=False))

    async def _write(
        self, frontend: int, name: str, credentials: Credentials, deletes: bool, asks: bool
    ) -> None:
        meta, access = self.site.frontends[frontend]
        scope = DELETE if deletes and self.numbers[name] else UPLOAD
        permit = Permit(access, meta, credentials, lambda grant: grant.require(scope, BUCKET, name))
        refused = await refusal_of(self._attempt(permit, name, scope, asks=asks))
        self.site.overtaking, self.site.delay_s = [], 0  # these came too late for it
        assert (refused is None) == (await self.number(name) > self.numbers[name])
        self.numbers[name] += refused is None
        assert await self.number(name) == self.numbers[name]
        said = await refusal_of(self._judge(access, credentials, scope, name))
        assert repr(refused) == repr(said), "not what the catalog says"
        stranger, fresh = self.site.frontend()
        judged = await refusal_of(self._judge(fresh, credentials, scope, name))
        await stranger.close()
        assert type(refused) is type(judged), "not what somebody who knows nothing is told"

    async def _attempt(self, permit: Permit, name: str, scope: str, *, asks: bool) -> None:
        await permit.begin(asks=asks)
        if scope == DELETE:
            await permit.propose(DeleteObject(bucket=BUCKET, key=name), ObjectDeleted)
            return
        put = PutObject(
            bucket=BUCKET,
            key=name,
            attributes=ObjectAttributes(size_bytes=1),
            body=InlineBody(data=b"x"),
        )
        await permit.propose(put, ObjectPut)

    async def _judge(self, access: Access, credentials: Credentials, scope: str, name: str) -> None:
        (await access.grant(credentials)).require(scope, BUCKET, name)

    async def number(self, name: str) -> int:
        """Of the newest version or marker."""
        meta, _ = self.site.admin
        query = FindObject(bucket=BUCKET, key=name, number=self.numbers[name] + 1)
        try:
            return (await meta.query(query, Found)).version.number
        except NotFound:
            return self.numbers[name]

    def teardown(self) -> None:
        self.run(self.site.close())
        self.runner.close()
        shutil.rmtree(self.folder)


async def refusal_of(work: Coroutine[Any, Any, None]) -> StoreError | None:
    """What it was refused with; None: it was not. Any other failure is raised."""
    try:
        await work
    except OUTCOMES as error:
        return error
    return None


TestPermittedWrites = PermittedWrites.TestCase
TestPermittedWrites.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
