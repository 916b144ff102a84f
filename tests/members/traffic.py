"""Objects through a frontend and blob daemons that were told of the first metanodes only."""

import asyncio
import contextlib
import itertools
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from raftmeta.client import MetaClient
from raftmeta.queries import CatalogCounted, CountCatalog
from tests.cluster.harness import Cluster, Daemon, eventually
from tests.cluster.local import noise

SIZES = (3_000, 20_000, 300_000)
"""In the catalog itself, and as shards on the daemons."""
WRITERS = 2
ANSWER_S = 60.0
COLLECTED_S = 60.0


@dataclass
class Traffic:
    """Clients of one frontend that store objects, each name once, and read them."""

    session: aiohttp.ClientSession
    url: str
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def put(self) -> bool:
        """Store the next object; whether it was acknowledged."""
        number = next(self._numbers)
        name, body = f"object-{number}", noise(SIZES[number % len(SIZES)], number)
        began_s = time.monotonic()
        self.tried.append(name)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self.session.put(f"{self.url}/objects/{name}", data=body) as answer:
                if answer.status == 200:
                    self.acknowledged[name] = body
                    self.longest_s = max(self.longest_s, time.monotonic() - began_s)
                    return True
                assert answer.status >= 500, (name, answer.status, await answer.text())
        return False

    async def write_for_ever(self) -> None:
        """Until cancelled."""
        while True:
            await self.put()
            await asyncio.sleep(0.05)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Writing for the time of the block; what a writer raised is raised at its end."""
        tasks = [asyncio.ensure_future(self.write_for_ever()) for _ in range(WRITERS)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        failures = [each for each in ended if not isinstance(each, asyncio.CancelledError)]
        assert not failures, failures

    async def check(self) -> None:
        """What was acknowledged is there, byte by byte, and once."""
        for name, body in self.acknowledged.items():
            async with self.session.get(f"{self.url}/objects/{name}") as answer:
                assert answer.status == 200, (name, answer.status)
                assert await answer.read() == body, name
            async with self.session.get(f"{self.url}/versions/{name}") as answer:
                lines = (await answer.read()).splitlines()
                assert len(lines) == 1, f"{name} was stored {len(lines)} times"

    async def delete_all(self) -> None:
        """For good, also what nobody has acknowledged and may be there."""
        for name in self.tried:
            allowed = (204,) if name in self.acknowledged else (204, 404)
            async with self.session.delete(f"{self.url}/objects/{name}?version=1") as answer:
                assert answer.status in allowed, (name, answer.status)


@asynccontextmanager
async def traffic(cluster: Cluster, frontend: Daemon) -> AsyncIterator[Traffic]:
    """Clients with the root key."""
    assert cluster.formed is not None
    key = f"{cluster.formed.root_access_key}:{cluster.formed.root_secret_key}"
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    headers = {
        "Accept-Encoding": "identity",
        "Authorization": f"Basic {b64encode(key.encode()).decode()}",
    }
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        yield Traffic(session, frontend.url)


async def go_on(objects: Traffic, client: MetaClient, daemons: list[Daemon]) -> None:
    """Nobody was started anew, and all of it works: objects come, are read, and go, from the
    daemons' disks, too: they ask the metanodes themselves what to delete."""
    before = len(objects.acknowledged)
    assert before, "nothing was stored while metanodes came and went"
    for _ in range(2 * len(SIZES)):
        assert await objects.put()
    await objects.check()
    await objects.delete_all()

    async def is_collected() -> bool:
        counted = await client.query(CountCatalog(), CatalogCounted)
        return not (counted.stripes or counted.dead_stripes or counted.trash)

    await eventually(is_collected, what="the daemons to delete", deadline_s=COLLECTED_S)
    assert all(daemon.is_running for daemon in daemons)
