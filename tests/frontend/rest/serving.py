"""The API of a frontend on a real socket, over the world of `tests.frontend.harness`."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from frontend.config import FrontendConfig
from frontend.description import encoded
from frontend.openapi.serving import openapi_routes
from frontend.readiness import Readiness
from frontend.rest.routes import native_routes
from frontend.runs import Runs
from frontend.serving.surface import Surface
from frontend.tickets import Tickets, UploadHandles
from frontend.tokens.routes import token_routes
from ossd.clock import system_random
from ossd.health import health_routes
from ossd.http import serve
from ossd.metrics import Metrics
from ossd.server import ServerSettings
from raftmeta.access import Access
from tests.fakes.meta import URLS
from tests.frontend.harness import ROOT, SECRETS, World
from tests.openapi.conformance import whole_description

DESCRIPTION = whole_description()
"""Every answer is held to it."""


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: bytes
    json: Any = field(default=None)


class Api:
    """One client of one frontend."""

    def __init__(
        self, world: World, surface: Surface, port: int, session: aiohttp.ClientSession
    ) -> None:
        self.world = world
        self.tickets = surface.tickets
        self.port = port
        self.session = session

    async def __call__(
        self,
        method: str,
        path: str,
        *,
        auth: tuple[str, str] | None = ROOT,
        **more: Any,
    ) -> Answer:
        """One request; `path` is sent as it is. The answer must be one that is described."""
        headers = {"Accept-Encoding": "identity", **more.pop("headers", {})}
        if auth is not None:
            pair = base64.b64encode(":".join(auth).encode()).decode()
            headers.setdefault("Authorization", f"Basic {pair}")
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.session.request(method, url, headers=headers, **more) as answer:
            body = await answer.read()
            DESCRIPTION.check(method, path, answer.status, answer.headers, body)
            is_json = answer.headers.get("Content-Type") == "application/json"
            parsed = await answer.json() if is_json and body else None
            return Answer(answer.status, answer.headers, body, parsed)


def run(
    folder: Path, story: Callable[[Api], Awaitable[None]], *, nodes: int = 6, **config: Any
) -> None:
    """Let `story` happen against a fresh frontend, told `config`."""

    async def main() -> None:
        world = World(folder, nodes=nodes)
        await world.begin()
        access = Access(world.meta, world.store.cluster.described, SECRETS, clock=world.clock)
        surface = Surface(
            store=world.store,
            access=access,
            tickets=Tickets(world.meta, access, random=system_random),
            handles=UploadHandles(access.vault),
            runs=Runs(access),
            rpc=world.meta_rpc,
            config=FrontendConfig(
                id="frontend-1", metanodes=URLS, cluster_secret="unused here", **config
            ),
            version="test",
            pid=1,
        )
        readiness = Readiness(world.store.cluster, world.clock)
        await world.store.cluster.refresh()
        server = serve(
            [
                *health_routes(readiness.checks()),
                *openapi_routes(partial(encoded, "test")),
                *native_routes(surface),
                *token_routes(surface),
            ],
            settings=ServerSettings(role="frontend", clock=world.clock, metrics=Metrics()),
            address="127.0.0.1",
            port=0,
        )
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            try:
                await story(Api(world, surface, server.port, session))
            finally:
                await server.stop(0.2)
                await world.close()
                world.catalog.close()

    asyncio.run(main())
