"""One request and its answer through aiohttp, and what is true if that fails.

aiohttp repeats PUT, DELETE and GET by itself on a connection that broke. Our middleware is
entered for each attempt: it signs, so that no signature is ever sent twice, and it turns a
failure into an error of ours, which aiohttp does not repeat. Who repeats is `ossd.rpc`.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from osscore.errors import OutcomeUnknown, PeerUnreachable
from ossd.disk import Bytes
from ossd.signing import Signer

# Less than a server's idle time: it is we who close first, else a request may cross the close.
KEEPALIVE_S = 30.0
READ_BUFFER_BYTES = 1024 * 1024
HEAD_BYTES_MAX = 64 * 1024
SEND_BYTES = 256 * 1024
FIRST_SEND_BYTES = 16 * 1024  # is joined with the head, which copies it
ONE_WRITE_BYTES_MAX = 64 * 1024
# No peer of ours reads them; packed answers nobody would unpack.
UNSENT_HEADERS = ("Accept", "Accept-Encoding", "User-Agent")

# Raised before a byte of the request was written, and never later.
NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
FAILURES = (aiohttp.ClientError, OSError)

Sink = Callable[[bytes], Awaitable[None]]
"""Takes one piece of an answer's body; the next one waits until it has returned."""


class Body(aiohttp.Payload):
    """A request's body in pieces, sent one behind the other; large ones are not joined."""

    def __init__(self, pieces: Sequence[Bytes]) -> None:
        super().__init__(pieces)
        self.pieces = pieces
        self._size_bytes = sum(len(piece) for piece in pieces)
        self._transport: asyncio.WriteTransport | None = None

    @property
    def size(self) -> int:
        """See aiohttp.Payload: becomes the Content-Length."""
        return self._size_bytes

    @property
    def autoclose(self) -> bool:
        """See aiohttp.Payload: there is nothing to close."""
        return True

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """See aiohttp.Payload."""
        return b"".join(self.pieces).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """See aiohttp.Payload: it puts the head before what is written first."""
        self._transport = writer.transport
        if self._size_bytes <= ONE_WRITE_BYTES_MAX:
            await writer.write(b"".join(self.pieces))
            return
        size_bytes = FIRST_SEND_BYTES
        for piece in self.pieces:
            view = memoryview(piece)
            while view:
                await writer.write(view[:size_bytes])
                view, size_bytes = view[size_bytes:], SEND_BYTES

    def abort(self) -> None:
        """Drop what is not sent yet.

        aiohttp closes a connection that failed, but a close waits until what was written is
        sent: with a peer that takes nothing, until TCP gives up after many minutes.
        """
        if self._transport is not None:
            self._transport.abort()


class Exchanges:
    """Requests by two pools of connections: kept ones, and fresh ones that serve once."""

    def __init__(
        self, *, signer: Signer | None, connect_timeout_s: float, ssl_context: ssl.SSLContext | None
    ) -> None:
        self._signer = signer
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout_s)
        self._ssl_context = ssl_context
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def run(
        self,
        method: str,
        url: str,
        body: Sequence[Bytes],
        headers: Mapping[str, str],
        sink: Sink | None,
        *,
        fresh: bool,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer; with a sink, a 2xx body went there.

        One attempt, on a fresh connection if so told. Raises PeerUnreachable,
        OutcomeUnknown, and whatever the sink raises.
        """
        answer = await self._session(fresh).request(
            method,
            URL(url, encoded=True),  # signed, sent and verified in the same spelling
            data=Body(body) if any(body) else None,
            headers=headers,
            allow_redirects=False,
        )
        try:
            if sink is None or not 200 <= answer.status < 300:
                return answer.status, answer.headers, await _received(answer, answer.content.read())
            while piece := await _received(answer, answer.content.readany()):
                await sink(piece)
            return answer.status, answer.headers, b""
        finally:
            answer.release()

    def _session(self, fresh: bool) -> aiohttp.ClientSession:
        # Opened by the first request: it belongs to the loop that runs then.
        session = self._sessions.get(fresh)
        if session is None:
            session = self._sessions[fresh] = self._open(fresh)
        return session

    def _open(self, fresh: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            # Bounded by `ossd.rpc`: a caller cancelled just as aiohttp's own limit wakes it
            # leaves the others waiting beside a free connection.
            limit=0,
            force_close=fresh,
            keepalive_timeout=None if fresh else KEEPALIVE_S,
            ssl=self._ssl_context or True,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=UNSENT_HEADERS,
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=HEAD_BYTES_MAX,
            max_field_size=HEAD_BYTES_MAX,
            middlewares=(self._attempt,),
        )

    async def _attempt(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        body = request.body if isinstance(request.body, Body) else None
        if self._signer is not None:
            pieces = body.pieces if body is not None else ()
            signed = self._signer.headers(request.method, request.url.raw_path_qs, pieces)
            request.headers.update(signed)
        try:
            return await handler(request)
        except BaseException as error:
            if body is not None:
                body.abort()
            if isinstance(error, FAILURES):
                raise _truth(request.method, request.url, error) from error
            raise

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()


async def _received(answer: aiohttp.ClientResponse, reading: Awaitable[bytes]) -> bytes:
    try:
        return await reading
    except FAILURES as error:
        raise _truth(answer.method, answer.url, error) from error


def _truth(method: str, url: URL, error: Exception) -> PeerUnreachable | OutcomeUnknown:
    if isinstance(error, NOT_SENT):
        return PeerUnreachable(f"No connection to {url.raw_authority}: {error}")
    reason = str(error) or type(error).__name__
    return OutcomeUnknown(f"{method} {url.raw_authority}{url.raw_path_qs} broke off: {reason}")
