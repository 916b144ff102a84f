"""A client that knows several frontends and goes on until one of them has answered."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator

import aiohttp

from tests.heal.site import HealFailed, Site

ANSWER_S = 60.0
PAUSE_S = 0.1
Body = bytes | AsyncIterator[bytes] | None


class Client:
    """PUT and DELETE that are repeated while nobody answers, or not now."""

    def __init__(self, site: Site, endpoints: list[str] | None = None) -> None:
        """`endpoints`: not any frontend but these."""
        self._site = site
        self._endpoints = endpoints or site.cluster.endpoints()
        self._turns = itertools.count()
        self.unknown = 0

    def endpoint(self) -> str:
        """Frontends in turn."""
        return self._endpoints[next(self._turns) % len(self._endpoints)]

    async def put(self, name: str, body: bytes) -> None:
        """Store an object; more versions than one where an answer was lost."""
        await self._until("PUT", f"objects/{name}", body)

    async def put_once(self, name: str, body: bytes | AsyncIterator[bytes]) -> int:
        """The status; 0 where no answer came."""
        status, _ = await self._once("PUT", f"objects/{name}", body)
        return status

    async def forget(self, name: str) -> None:
        """Delete every version and marker of an object."""
        while numbers := await self.versions(name):
            for number in numbers:
                await self._until("DELETE", f"objects/{name}?version={number}")

    async def versions(self, name: str) -> list[int]:
        """Numbers of all that there is; none for an unknown object."""
        _, body = await self._until("GET", f"versions/{name}")
        return [json.loads(line)["Version"] for line in body.splitlines()]

    async def get(self, name: str) -> tuple[int, bytes]:
        """Status and bytes."""
        return await self._until("GET", f"objects/{name}")

    async def _until(self, method: str, path: str, body: Body = None) -> tuple[int, bytes]:
        last_s = time.monotonic() + ANSWER_S
        while True:
            status, answer = await self._once(method, path, body)
            if status in (200, 204) or (status == 404 and method != "PUT"):
                return status, answer if status == 200 else b""
            if 400 <= status < 500 or time.monotonic() > last_s:
                raise HealFailed(f"{method} {path}: {status} {answer[:300]!r}")
            await asyncio.sleep(PAUSE_S)

    async def _once(self, method: str, path: str, body: Body) -> tuple[int, bytes]:
        """Status 0: no answer."""
        url = f"{self.endpoint()}/{path}"
        try:
            async with self._site.session.request(method, url, data=body) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.unknown += 1
            return 0, repr(error).encode()
