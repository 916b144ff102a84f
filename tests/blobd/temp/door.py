"""The `/temp` door of a daemon on a real socket, with users, and frontends that a test plays."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from blobd.client import BlobClient
from blobd.described import Described
from blobd.handlers import Shared, routes
from blobd.temp.adoption import Adoptions
from blobd.temp.frontends import Frontends
from blobd.temp.handlers import Door, temp_routes
from blobd.temp.temps import Temps
from blobd.times import ShardTimes
from blobd.wire import SHARD_BYTES_MAX, Adopt, Adopted, Status
from osscore.errors import PeerUnreachable
from ossd.budget import ByteBudget
from ossd.clock import SystemClock, system_random
from ossd.http import serve
from ossd.metrics import Metrics
from ossd.rpc import AioRpc
from ossd.server import ServerSettings
from ossd.signing import Signer, Verifier, seal
from raftmeta.access import Access
from raftmeta.catalog.soft import SoftState
from raftmeta.commands import Done
from raftmeta.credentials import PutAccessKey
from raftmeta.queries import FrontendInfo
from tests.blobd.parts import MIB, Node, node
from tests.fakes.meta import CatalogRpc
from tests.frontend.harness import CATALOG_KEY, ROOT, SECRETS, form

Adopter = Callable[[str, Adopt], Awaitable[Adopted]]


def frontend(url: str, health: str = "up") -> FrontendInfo:
    return FrontendInfo(frontend=url, url=url, health=health, last_heartbeat_ms_ago=1)


@dataclass
class PlayedFrontends:
    """What frontends would do: by default they make one version a temp, whoever is asked."""

    asked: list[tuple[str, Adopt]] = field(default_factory=list)
    versions: dict[bytes, Adopted] = field(default_factory=dict)
    play: Adopter | None = None
    dead: set[str] = field(default_factory=set)

    async def ask_to_adopt(self, url: str, adopt: Adopt) -> Adopted:
        """See BlobClient."""
        self.asked.append((url, adopt))
        if url in self.dead:
            raise PeerUnreachable(f"No connection to {url}")
        if self.play is not None:
            return await self.play(url, adopt)
        return self.make_version(adopt)

    def make_version(self, adopt: Adopt) -> Adopted:
        """The catalog's part: exactly one."""
        number = len(self.versions) + 1
        made = Adopted(number=number, version_id=f"{number:016x}", created_at_ms=1)
        return self.versions.setdefault(adopt.temp, made)


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


@dataclass
class Daemon:
    """A served daemon and a client of it."""

    node: Node
    port: int
    session: aiohttp.ClientSession
    temps: Temps
    adoptions: Adoptions
    frontends: PlayedFrontends
    budget: ByteBudget
    rpc: AioRpc

    async def __call__(
        self, method: str, path: str, *, auth: tuple[str, str] | None = ROOT, **more: Any
    ) -> Answer:
        """One request; `path` is sent as it is."""
        headers = dict(more.pop("headers", {}))
        if auth is not None:
            pair = base64.b64encode(":".join(auth).encode()).decode()
            headers.setdefault("Authorization", f"Basic {pair}")
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.session.request(method, url, headers=headers, **more) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def post(self, name: str, body: bytes, **more: Any) -> Any:
        answer = await self("POST", f"/temp/{name}", data=body, **more)
        assert answer.status == 201, answer.body
        return answer.json

    def hear(self, *frontends: FrontendInfo) -> None:
        """These are the frontends that the metanodes have heard."""
        self.node.rpc.soft = SoftState(frontends=frontends)

    async def give_key(self, access_key: str, *scopes: str, buckets: tuple[str, ...] = ()) -> None:
        """A user with the secret `secret`."""
        await self.node.meta.propose(
            PutAccessKey(
                access_key=access_key,
                secret_sealed=seal(CATALOG_KEY, b"secret", system_random),
                scopes=scopes,
                buckets=buckets,
            ),
            Done,
        )


@asynccontextmanager
async def daemon(
    folder: Path,
    *names: str,
    budget_bytes: int = 64 * MIB,
    expiry_s: float = 1000.0,
    rpc: CatalogRpc | None = None,
) -> AsyncIterator[Daemon]:
    """Open it; `rpc` of an earlier one keeps the catalog over a restart."""
    clock, metrics = SystemClock(), Metrics()
    if rpc is None:
        form(folder)
        rpc = CatalogRpc(folder, clock)
    budget = ByteBudget(budget_bytes, wait_s=0.5)
    async with node(folder, *names, rpc=rpc, clock=clock) as found:  # type: ignore[arg-type]
        played: Any = PlayedFrontends()
        temps = Temps(
            found.disks, clock=clock, now_ms=clock.now_ms, random=system_random, expiry_s=expiry_s
        )
        described = Described(found.meta, clock=clock)
        frontends = Frontends(described, random=system_random)
        adoptions = Adoptions(
            temps, frontends, found.meta, played, own_url=lambda: "http://me", clock=clock
        )
        status = Status(id="b", role="blobd", version="0", pid=1, state="ready", disks=())
        shared = Shared(
            disks=found.disks,
            budget=budget,
            times=ShardTimes(metrics.registry, clock),
            status=lambda: status,
            recheck=unasked,
            sweep=unasked,
            ask_census=found.upkeep.ask_census,
            order_scrub=found.upkeep.order_scrub,
            last_verified=found.upkeep.last_verified,
        )
        access = Access(found.meta, described.latest, SECRETS, clock=clock)
        door = Door(temps=temps, adoptions=adoptions, access=access, budget=budget)
        server = serve(
            [*routes(shared), *temp_routes(door, shared)],
            settings=ServerSettings(
                role="blobd",
                clock=clock,
                metrics=metrics,
                verifier=Verifier(SECRETS, clock),
                piece_bytes=SHARD_BYTES_MAX,
                whole_pieces=True,
                body_idle_s=5.0,
            ),
            address="127.0.0.1",
            port=0,
        )
        signed = AioRpc(signer=Signer(SECRETS, clock, system_random))
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            it = Daemon(found, server.port, session, temps, adoptions, played, budget, signed)
            it.hear(frontend("http://f1"))
            try:
                yield it
            finally:
                await signed.close()
                await server.stop(2)
                await adoptions.close()
                await temps.close()
                assert budget.used_bytes == 0


async def unasked(*_: object) -> Any:
    """What no test of temps asks a daemon for."""
    raise AssertionError


def client_of(it: Daemon) -> BlobClient:
    """How a frontend reaches the daemon."""
    return BlobClient(it.rpc)


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine with a deadline."""

    async def bounded() -> None:
        await asyncio.wait_for(story(), timeout=60)

    asyncio.run(bounded())
