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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from osscore.errors import DeadlineExceeded, OutcomeUnknown, PeerUnreachable
from ossd import logs
from ossd.connection import Connection, Sink
from ossd.disk import Bytes
from ossd.envelope import parse_error
from ossd.signing import Signer

CONNECT_TIMEOUT_S = 2.0
# Less than a server's idle time: it is we who close first, else a request may cross the close.
KEEPALIVE_S = 30.0
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


def check(reply: Reply) -> Reply:
    """The reply itself; raises the StoreError in its envelope if its status is an error."""
    if reply.status >= 400:
        raise parse_error(reply.status, reply.body)
    return reply


@dataclass(frozen=True, slots=True)
class Url:
    """A URL in the parts that a request needs; `target` is sent and signed as it is."""

    secure: bool
    host: str
    port: int
    authority: str
    target: str

    @classmethod
    def parse(cls, text: str) -> "Url":
        """Take apart `http[s]://host[:port][/path][?query]`. Raises ValueError."""
        scheme, _, rest = text.partition("://")
        authority, _, path = rest.partition("/")
        if scheme not in ("http", "https") or not authority or "?" in authority:
            raise ValueError(f"{text[:200]!r} is no http URL with a path.")
        host, port = authority, ""
        if not authority.endswith("]") and ":" in authority:
            host, _, port = authority.rpartition(":")
        secure = scheme == "https"
        number = int(port) if port else 443 if secure else 80
        return cls(secure, host.strip("[]"), number, authority, f"/{path}")


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: Url
    body: Sequence[Bytes]
    headers: Mapping[str, str]
    sink: Sink | None

    def __str__(self) -> str:
        return f"{self.method} {self.url.authority}{self.url.target}"

    def head(self, signed: Mapping[str, str]) -> bytes:
        """The bytes before the body."""
        size_bytes = sum(len(piece) for piece in self.body)
        lines = [f"{self.method} {self.url.target} HTTP/1.1", f"Host: {self.url.authority}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"{name}: {value}" for name, value in signed.items()]
        if size_bytes or self.method not in IDEMPOTENT_METHODS:
            lines.append(f"Content-Length: {size_bytes}")
        text = "\r\n".join(lines)
        if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
            raise ValueError("A header or the path of a request contains a line break.")
        return f"{text}\r\n\r\n".encode("latin1")


class _Pool:
    """The connections to one peer."""

    def __init__(self, count_max: int) -> None:
        self.slots = asyncio.Semaphore(count_max)
        self._idle: list[tuple[float, Connection]] = []

    def take(self) -> Connection | None:
        """The connection used last, if it is still good; older ones may rest and end."""
        oldest_s = asyncio.get_running_loop().time() - KEEPALIVE_S
        while self._idle:
            since_s, connection = self._idle.pop()
            if connection.reusable and since_s > oldest_s:
                return connection
            connection.abort()
        return None

    def give(self, connection: Connection) -> None:
        """Keep it for the next call if it may carry one."""
        if connection.reusable:
            self._idle.append((asyncio.get_running_loop().time(), connection))
        else:
            connection.abort()

    def close(self) -> None:
        """Close what is idle."""
        for _, connection in self._idle:
            connection.abort()
        self._idle.clear()


class AioRpc:
    """Rpc over asyncio sockets, pooled by peer. `signer` None sends no signature.

    Why it is not a library: docs/adr/0002-http-client.md.
    """

    def __init__(
        self,
        *,
        signer: Signer | None,
        connections_per_peer: int = 32,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._signer = signer
        self._connections_per_peer = connections_per_peer
        self._connect_timeout_s = connect_timeout_s
        self._ssl_context = ssl_context
        self._pools: dict[tuple[bool, str, int], _Pool] = {}
        self._busy: set[Connection] = set()
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
        request = _request(method, url, body, headers, None)
        return await self._call(request, deadline_s, idempotent or method in IDEMPOTENT_METHODS)

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
        return await self._call(_request("GET", url, b"", headers, sink), deadline_s, False)

    async def _call(self, request: _Request, deadline_s: float, twice: bool) -> Reply:
        try:
            async with asyncio.timeout(deadline_s):
                try:
                    return await self._attempt(request, fresh=False)
                except OutcomeUnknown:
                    if not twice:
                        raise
                # Not by another kept connection: they may all have gone the same way.
                return await self._attempt(request, fresh=True)
        except TimeoutError as error:
            raise DeadlineExceeded(f"{request} had no answer in {deadline_s:g} s.") from error

    async def _attempt(self, request: _Request, *, fresh: bool) -> Reply:
        pool = self._pool(request.url)
        async with pool.slots:
            connection = None if fresh else pool.take()
            connection = connection or await self._connect(request.url)
            self._busy.add(connection)
            try:
                # Signed last: waiting for a connection must not make the signature old.
                head = request.head(self._signed(request))
                answer = await connection.exchange(request.method, head, request.body, request.sink)
            except OutcomeUnknown as error:
                raise OutcomeUnknown(f"{request} broke off: {error.message}") from error
            finally:
                self._busy.discard(connection)
                pool.give(connection)
        body = answer.pieces[0] if len(answer.pieces) == 1 else b"".join(answer.pieces)
        return Reply(answer.status, answer.headers, body)

    def _signed(self, request: _Request) -> Mapping[str, str]:
        if self._signer is None:
            return {}
        return self._signer.headers(request.method, request.url.target, request.body)

    def _pool(self, url: Url) -> _Pool:
        key = (url.secure, url.host, url.port)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = _Pool(self._connections_per_peer)
        return pool

    async def _connect(self, url: Url) -> Connection:
        if self._closed:
            raise PeerUnreachable("This process is stopping and calls nobody any more.")
        loop = asyncio.get_running_loop()
        context = self._tls() if url.secure else None
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    Connection, url.host, url.port, ssl=context
                )
        except OSError as error:  # TimeoutError and ssl.SSLError among them
            reason = str(error) or f"none within {self._connect_timeout_s:g} s"
            raise PeerUnreachable(f"No connection to {url.authority}: {reason}") from error
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
        return self._ssl_context

    async def close(self) -> None:
        """See Rpc."""
        self._closed = True
        for connection in list(self._busy):
            connection.abort()
        for pool in self._pools.values():
            pool.close()
        # Sockets are closed in the loop's next turn.
        await asyncio.sleep(0)


def _request(
    method: str,
    url: str,
    body: Bytes | Sequence[Bytes],
    headers: Mapping[str, str] | None,
    sink: Sink | None,
) -> _Request:
    pieces = [body] if isinstance(body, (bytes, bytearray, memoryview)) else body
    sent = dict(headers or {})
    if current := logs.request_id.get():
        sent.setdefault(REQUEST_ID_HEADER, current)
    return _Request(method, Url.parse(url), pieces, sent, sink)
