"""Calling a peer: pooled connections, a deadline on every call, errors that a caller can
act on.

PeerUnreachable     no connection: the request was surely not processed.
DeadlineExceeded    no answer in time: it may have been.
OutcomeUnknown      the connection broke after sending: it may have been.

A kept-alive connection that the peer closes just as it is used again looks like the last;
such a call is made once more on its own if the caller says that twice is as good as once.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from yarl import URL

from osscore.errors import DeadlineExceeded, OutcomeUnknown, PeerUnreachable
from ossd import logs
from ossd.disk import Bytes
from ossd.envelope import parse_error
from ossd.signing import Signer

CONNECT_TIMEOUT_S = 2.0
KEEPALIVE_S = 30.0
READ_BUFFER_BYTES = 1024 * 1024
REQUEST_ID_HEADER = "X-Request-Id"

Sink = Callable[[bytes], Awaitable[None]]
"""Takes one piece of an answer's body; the next one waits until it has returned."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whatever its status. Header names are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Rpc(Protocol):
    """The network as the layers above see it; tests bind one without sockets."""

    async def call(
        self,
        method: str,
        url: str,
        *,
        body: Bytes | Sequence[Bytes] = b"",
        headers: Mapping[str, str] | None = None,
        deadline_s: float,
        idempotent: bool = False,
    ) -> Reply:
        """One request and its whole answer; the body pieces are sent one behind the other.

        GET and HEAD are always idempotent. Raises PeerUnreachable, DeadlineExceeded,
        OutcomeUnknown; an answer of any status is returned (see `check`).
        """

    async def close(self) -> None:
        """Close all connections; calls under way fail."""


def check(reply: Reply) -> Reply:
    """The reply itself; raises the StoreError in its envelope if its status is an error."""
    if reply.status >= 400:
        raise parse_error(reply.status, reply.body)
    return reply


class _Pieces(Payload):
    """A body of several buffers, sent without joining them."""

    def __init__(self, pieces: Sequence[Bytes]) -> None:
        super().__init__(pieces, content_type="application/octet-stream")
        self._size = sum(memoryview(piece).nbytes for piece in pieces)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for piece in self._value:
            await writer.write(piece)


class AioRpc:
    """Rpc over aiohttp. Make it on the running loop; `signer` None sends no signature."""

    def __init__(
        self,
        *,
        signer: Signer | None,
        connections_per_peer: int = 32,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._signer = signer
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                limit_per_host=connections_per_peer,
                keepalive_timeout=KEEPALIVE_S,
                ssl=ssl_context if ssl_context is not None else True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_BUFFER_BYTES,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
        )
        # aiohttp repeats PUT and DELETE by itself, with the same headers: the receiver would
        # refuse the repeated signature although it has not processed the request.
        self._session._retry_connection = False

    async def call(
        self,
        method: str,
        url: str,
        *,
        body: Bytes | Sequence[Bytes] = b"",
        headers: Mapping[str, str] | None = None,
        deadline_s: float,
        idempotent: bool = False,
    ) -> Reply:
        """See Rpc."""
        return await self._call(method, url, body, headers, deadline_s, idempotent, None)

    async def download(
        self,
        url: str,
        sink: Sink,
        *,
        headers: Mapping[str, str] | None = None,
        deadline_s: float,
    ) -> Reply:
        """GET a body too large to hold: each piece of a 2xx answer goes to `sink`.

        The reply's body is then empty; an error's body is whole, for `check`. Raises as
        `call`, and whatever the sink raises.
        """
        return await self._call("GET", url, b"", headers, deadline_s, False, sink)

    async def _call(
        self,
        method: str,
        url: str,
        body: Bytes | Sequence[Bytes],
        headers: Mapping[str, str] | None,
        deadline_s: float,
        idempotent: bool,
        sink: Sink | None,
    ) -> Reply:
        twice = sink is None and (idempotent or method in ("GET", "HEAD"))
        try:
            async with asyncio.timeout(deadline_s):
                try:
                    return await self._attempt(method, url, body, headers, sink)
                except OutcomeUnknown:
                    if not twice:
                        raise
                return await self._attempt(method, url, body, headers, sink)
        except TimeoutError as error:
            raise DeadlineExceeded(f"No answer to {method} {url} in {deadline_s} s.") from error

    async def _attempt(
        self,
        method: str,
        url: str,
        body: Bytes | Sequence[Bytes],
        headers: Mapping[str, str] | None,
        sink: Sink | None,
    ) -> Reply:
        sent = self._headers(method, url, body, headers)
        data = _payload(body)
        try:
            # encoded: what was signed is sent, percent signs and all.
            async with self._session.request(
                method, URL(url, encoded=True), data=data, headers=sent, allow_redirects=False
            ) as answer:
                if sink is not None and answer.status < 400:
                    async for piece in answer.content.iter_any():
                        await sink(piece)
                    return Reply(answer.status, answer.headers, b"")
                return Reply(answer.status, answer.headers, await answer.read())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise PeerUnreachable(f"No connection to {_origin(url)}: {error}") from error
        except aiohttp.ClientError as error:
            # ClientOSError may come from connecting too, but only as ClientConnectorError.
            reason = str(error) or type(error).__name__
            raise OutcomeUnknown(f"{method} {url} broke off: {reason}") from error

    def _headers(
        self,
        method: str,
        url: str,
        body: Bytes | Sequence[Bytes],
        given: Mapping[str, str] | None,
    ) -> dict[str, str]:
        headers = dict(given or {})
        if current := logs.request_id.get():
            headers.setdefault(REQUEST_ID_HEADER, current)
        if self._signer is not None:
            headers |= self._signer.headers(method, _target(url), body)
        return headers

    async def close(self) -> None:
        """See Rpc."""
        await self._session.close()


def _payload(body: Bytes | Sequence[Bytes]) -> Any:
    if isinstance(body, (bytes, bytearray, memoryview)):
        return _Pieces([body]) if len(body) else None
    return _Pieces(body)


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
