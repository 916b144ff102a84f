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
from functools import partial
from typing import TYPE_CHECKING, Protocol

from osscore.errors import DeadlineExceeded, OutcomeUnknown, PeerUnreachable
from ossd import logs
from ossd.disk import Bytes
from ossd.envelope import parse_error
from ossd.signing import Signer

if TYPE_CHECKING:
    from ossd.exchange import Sink

CONNECT_TIMEOUT_S = 2.0
REQUEST_ID_HEADER = "X-Request-Id"
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD"})


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


class Downloader(Protocol):
    """An Rpc that can also fetch what is too large to hold."""

    async def download(
        self,
        url: str,
        sink: "Sink",
        *,
        headers: Mapping[str, str] | None = None,
        deadline_s: float,
    ) -> Reply:
        """See AioRpc."""


class PeerRpc(Rpc, Downloader, Protocol):
    """Both."""


def check(reply: Reply) -> Reply:
    """The reply itself; raises the StoreError in its envelope if its status is an error."""
    if reply.status >= 400:
        raise parse_error(reply.status, reply.body)
    return reply


class AioRpc:
    """Rpc over aiohttp, its connections pooled by peer. `signer` None sends no signature.

    Why aiohttp, and what is left to us: docs/adr/0002-http-client.md.
    """

    def __init__(
        self,
        *,
        signer: Signer | None,
        connections_per_peer: int = 32,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        # Here: who binds another Rpc does without aiohttp, and a daemon imports it when it
        # starts, not while its first call waits.
        from ossd.exchange import Exchanges

        self._exchanges = Exchanges(
            signer=signer, connect_timeout_s=connect_timeout_s, ssl_context=ssl_context
        )
        self._connections_per_peer = connections_per_peer
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._deadlines: set[asyncio.Timeout] = set()
        self._closed = False

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
        pieces = [body] if isinstance(body, (bytes, bytearray, memoryview)) else body
        attempt = partial(self._attempt, method, url, pieces, _with_request_id(headers), None)
        twice = idempotent or method in IDEMPOTENT_METHODS
        return await self._within(deadline_s, f"{method} {url}", attempt, twice=twice)

    async def download(
        self,
        url: str,
        sink: "Sink",
        *,
        headers: Mapping[str, str] | None = None,
        deadline_s: float,
    ) -> Reply:
        """GET a body too large to hold: each piece of a 2xx answer goes to `sink`.

        The reply's body is then empty; an error's body is whole, for `check`. Raises as
        `call`, and whatever the sink raises.
        """
        attempt = partial(self._attempt, "GET", url, (), _with_request_id(headers), sink)
        return await self._within(deadline_s, f"GET {url}", attempt, twice=False)

    async def _within(
        self,
        deadline_s: float,
        what: str,
        attempt: Callable[[bool], Awaitable[Reply]],
        *,
        twice: bool,
    ) -> Reply:
        deadline = asyncio.timeout(deadline_s)
        self._deadlines.add(deadline)
        try:
            async with deadline:
                return await (_once_or_twice(attempt) if twice else attempt(False))
        except TimeoutError as error:
            if self._closed:
                raise OutcomeUnknown(f"{what} was given up: this process stops.") from error
            raise DeadlineExceeded(f"{what} had no answer in {deadline_s:g} s.") from error
        finally:
            self._deadlines.discard(deadline)

    async def _attempt(
        self,
        method: str,
        url: str,
        body: Sequence[Bytes],
        headers: Mapping[str, str],
        sink: "Sink | None",
        fresh: bool,
    ) -> Reply:
        # It is signed behind this: waiting for a connection must not make a signature old.
        async with self._slot(url):
            if self._closed:
                raise PeerUnreachable("This process is stopping and calls nobody any more.")
            return Reply(*await self._exchanges.run(method, url, body, headers, sink, fresh=fresh))

    def _slot(self, url: str) -> asyncio.Semaphore:
        scheme, _, rest = url.partition("://")
        authority = rest.partition("/")[0]
        if scheme not in ("http", "https") or not authority or "?" in authority:
            raise ValueError(f"{url[:200]!r} is no http URL with a path.")
        slot = self._slots.get(authority)
        if slot is None:
            slot = self._slots[authority] = asyncio.Semaphore(self._connections_per_peer)
        return slot

    async def close(self) -> None:
        """See Rpc."""
        self._closed = True
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(0)
        await asyncio.sleep(0)  # they give up now, each closing its connection
        await self._exchanges.close()


async def _once_or_twice(attempt: Callable[[bool], Awaitable[Reply]]) -> Reply:
    try:
        return await attempt(False)
    except OutcomeUnknown as error:
        unknown = error
    try:
        # Not by another kept connection: they may all have gone the same way.
        return await attempt(True)
    except PeerUnreachable as error:
        # That is true of the second attempt only: the first may have been processed.
        raise unknown from error


def _with_request_id(headers: Mapping[str, str] | None) -> dict[str, str]:
    sent = dict(headers or {})
    if current := logs.request_id.get():
        sent.setdefault(REQUEST_ID_HEADER, current)
    return sent
