"""HTTP to a frontend: one session, credentials, errors as the store's own."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from cli.connection import Connection
from osscore.errors import PeerUnreachable, StoreError, from_code

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
CONNECT_S = 5.0
SILENCE_S = 120.0
"""Longest wait for the next bytes of an answer."""


class Api:
    """Requests to whichever of the given frontends answers."""

    def __init__(self, session: "aiohttp.ClientSession", endpoints: tuple[str, ...]) -> None:
        self._session = session
        self._endpoints = endpoints

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], AsyncIterator[bytes]] | bytes | None = None,
    ) -> AsyncIterator["aiohttp.ClientResponse"]:
        """Send one request; the answer's body is the caller's to read.

        `path` is percent-encoded already. A streamed `body` is a function that starts it,
        so that it can be sent to another frontend when the first cannot be reached.
        Raises the StoreError the answer names, or PeerUnreachable.
        """
        response = await self._first_answer(method, path, query or {}, headers or {}, body)
        try:
            if response.status >= 400:
                raise await _error(response)
            yield response
        finally:
            response.release()

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of an answer, None when it has no body."""
        async with self.request(method, path, **options) as response:
            text = await response.text()
            return json.loads(text) if text else None

    async def _first_answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Callable[[], AsyncIterator[bytes]] | bytes | None,
    ) -> "aiohttp.ClientResponse":
        import aiohttp
        from yarl import URL

        for endpoint in self._endpoints:
            text = f"{endpoint}{path}"
            if query:
                text += "?" + "&".join(f"{quote(k)}={quote(v, safe='')}" for k, v in query.items())
            try:
                return await self._session.request(
                    method,
                    URL(text, encoded=True),
                    headers=headers,
                    data=body() if callable(body) else body,
                    allow_redirects=False,
                )
            except aiohttp.ClientConnectorError:
                continue  # never connected: the next frontend may have it
            except (aiohttp.ClientError, TimeoutError) as error:
                raise PeerUnreachable(
                    f"{endpoint} broke off: {error or type(error).__name__}"
                ) from error
        raise PeerUnreachable(
            f"no frontend answers at {', '.join(self._endpoints)}; is the cluster running? "
            "('ossctl up' starts a local one)"
        )


def object_path(bucket: str, key: str) -> str:
    """The path of an object; every byte that could mean something else is encoded."""
    return f"/buckets/{quote(bucket, safe='')}/objects/{quote(key, safe='/')}"


def authorization(connection: Connection) -> dict[str, str]:
    """The header that proves who asks (Basic)."""
    pair = f"{connection.access_key}:{connection.secret_key}".encode()
    return {"Authorization": "Basic " + base64.b64encode(pair).decode()}


def run(connection: Connection, work: Callable[[Api], Awaitable[T]]) -> T:
    """Run `work` with an Api, from a synchronous command."""

    async def main() -> T:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        async with aiohttp.ClientSession(
            timeout=timeout,
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", **authorization(connection)},
            read_bufsize=1 << 20,
        ) as session:
            return await work(Api(session, connection.endpoints))

    return asyncio.run(main())


async def _error(response: "aiohttp.ClientResponse") -> StoreError:
    text = await response.text(errors="replace")
    try:
        found = json.loads(text)["error"]
        return from_code(found["code"], found["message"])
    except (ValueError, KeyError, TypeError):
        kind = {401: "Unauthenticated", 403: "AccessDenied", 404: "NotFound", 503: "Unavailable"}
        message = f"the server answered {response.status} {response.reason}"
        return from_code(kind.get(response.status, "StoreError"), message)
