"""The native API on a real socket, over the world of `tests.frontend.harness`."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from frontend.access import Access
from frontend.config import FrontendConfig
from frontend.readiness import Readiness
from frontend.rest.handler import Surface
from frontend.rest.routes import native_routes
from ossd.health import health_routes
from ossd.http import serve
from ossd.metrics import Metrics
from ossd.server import ServerSettings
from tests.fakes.meta import URLS
from tests.frontend.harness import ROOT, SECRETS, World


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: bytes
    json: Any = field(default=None)


class Api:
    """One client of one frontend."""

    def __init__(self, world: World, port: int, session: aiohttp.ClientSession) -> None:
        self.world = world
        self.port = port
        self.session = session

    async def __call__(
        self, method: str, path: str, *, auth: tuple[str, str] | None = ROOT, **more: Any
    ) -> Answer:
        """One request; `path` is sent as it is."""
        headers = {"Accept-Encoding": "identity", **more.pop("headers", {})}
        if auth is not None:
            pair = base64.b64encode(":".join(auth).encode()).decode()
            headers.setdefault("Authorization", f"Basic {pair}")
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.session.request(method, url, headers=headers, **more) as answer:
            body = await answer.read()
            is_json = answer.headers.get("Content-Type") == "application/json"
            parsed = await answer.json() if is_json and body else None
            return Answer(answer.status, answer.headers, body, parsed)


def run(folder: Path, story: Callable[[Api], Awaitable[None]], *, nodes: int = 6) -> None:
    """Let `story` happen against a fresh frontend."""

    async def main() -> None:
        world = World(folder, nodes=nodes)
        await world.begin()
        surface = Surface(
            store=world.store,
            access=Access(world.meta, world.store.cluster, SECRETS, clock=world.clock),
            rpc=world.meta_rpc,
            config=FrontendConfig(id="frontend-1", metanodes=URLS, cluster_secret="unused here"),
            version="test",
            pid=1,
        )
        readiness = Readiness(world.store.cluster, world.clock)
        await world.store.cluster.refresh()
        server = serve(
            [*health_routes(readiness.checks()), *native_routes(surface)],
            settings=ServerSettings(role="frontend", clock=world.clock, metrics=Metrics()),
            address="127.0.0.1",
            port=0,
        )
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            try:
                await story(Api(world, server.port, session))
            finally:
                await server.stop(0.2)
                await world.close()
                world.catalog.close()

    asyncio.run(main())
