"""The listening side below the handlers: sockets, limits, drain, and Tornado's loggers.

`ossd.http.serve` is what a role calls; this module knows no handler.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, cast

import tornado.web
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import bind_sockets

from osscore.buffers import fresh_bytearray
from osscore.errors import StoreError
from ossd.body_stream import SMALL_PIECE_BYTES, BodyStream, Parcel
from ossd.clock import Clock, RandomBytes, system_random
from ossd.logs import Once
from ossd.metrics import Metrics
from ossd.signing import Verifier

READ_SMALL_BYTES = SMALL_PIECE_BYTES
WAKE_BYTES_MAX = 1024 * 1024
PATIENCE_S = 0.05
HEADER_BYTES_MAX = 64 * 1024
ENDLESS_BYTES = 1 << 62

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What all handlers of one server share.

    `verifier` None: internal handlers refuse everything. `idle_s` must exceed the
    keep-alive time of clients, so that it is they who close first. Of a refused body
    `linger_bytes` more are read for `linger_s` at most, then the connection is closed:
    closing at once sends a reset, on which many clients drop the answer. A body comes in
    pieces that end at multiples of `piece_bytes`, or earlier, where a peer is slow; with
    `whole_pieces` never earlier: for handlers that count a body before it is read.
    """

    role: str
    clock: Clock
    metrics: Metrics
    verifier: Verifier | None = None
    random: RandomBytes = system_random
    idle_s: float = 120.0
    body_timeout_s: float = 60.0
    body_idle_s: float = 300.0
    body_bytes_per_s_min: int = 1024
    write_stall_s: float = 300.0
    linger_s: float = 10.0
    linger_bytes: int = 256 * 1024 * 1024
    connections_max: int = 4096
    piece_bytes: int = 1024 * 1024
    whole_pieces: bool = False


class Service:
    """The state of one server that its handlers see: how many requests are under way."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.draining = False
        self.active_count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def began(self) -> None:
        """A request has arrived."""
        self.active_count += 1
        self._idle.clear()

    def ended(self) -> None:
        """A request was answered or given up."""
        self.active_count -= 1
        if not self.active_count:
            self._idle.set()

    async def idle(self) -> None:
        """Return once no request is under way."""
        await self._idle.wait()


async def _comes(reading: asyncio.Future[int]) -> bool:
    """Whether it ends before patience does."""
    if not reading.done():
        await asyncio.wait((reading,), timeout=PATIENCE_S)
    return reading.done()


async def _later(reading: Awaitable[bytes]) -> bytes:
    return await reading


def _cut(buffer: memoryview, size_bytes: int) -> bytes:
    """What was read. Tornado hands it on as it is: a view, if that keeps little else alive."""
    read = buffer[:size_bytes]
    return cast(bytes, read) if 2 * size_bytes >= len(buffer) else bytes(read)


class PieceStream(IOStream):
    """A connection that reads a large body in large pieces.

    Waking up for each segment that arrives costs more than copying it. So while a peer is
    fast, the system is told to wake us only when there is much to read (SO_RCVLOWAT). A
    peer that is not gets small reads, and no large buffer while it is waited for. Whoever
    pulls the body as a stream says how large its pieces may be, and gets them as they come;
    else they end at multiples of `piece_bytes`.
    """

    def __init__(self, connection: socket.socket, settings: ServerSettings) -> None:
        super().__init__(connection, read_chunk_size=READ_SMALL_BYTES)
        self._piece_bytes = settings.piece_bytes
        self._whole_pieces = settings.whole_pieces
        self._nodelay = False
        self._body_bytes = 0
        self._fast = False
        self._filling = False
        self._awaited = False
        self._wake_bytes = 1
        self._unbroken_bytes = 0
        self.reader: BodyStream | None = None
        """Who pulls the body of the request under way."""
        self.parcels = False
        """Whether its pieces come as parcels: not where Tornado itself looks into them."""

    def set_nodelay(self, value: bool) -> None:
        """See IOStream: once on, it stays on; Tornado turns it off between two requests."""
        if value and not self._nodelay:
            super().set_nodelay(True)
            self._nodelay = True

    def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        """See IOStream: the head of a message; a body follows."""
        self._body_bytes, self.reader, self.parcels = 0, None, False
        return super().read_until_regex(regex, max_bytes)

    def read_bytes(self, num_bytes: int, partial: bool = False) -> Awaitable[bytes]:
        """See IOStream. What comes is bytes, a view of a buffer of its own, or a parcel."""
        if not partial or num_bytes <= READ_SMALL_BYTES:
            return self._breaking(super().read_bytes(num_bytes, partial), num_bytes)
        return asyncio.ensure_future(self._read_piece(num_bytes))

    def _breaking(self, reading: Awaitable[bytes], num_bytes: int) -> Awaitable[bytes]:
        """The same, but not at once when much has come at once: Tornado gathers the chunks of
        a chunked body until it must wait."""
        self._unbroken_bytes += num_bytes
        if self._unbroken_bytes < self._room_bytes():
            return reading
        self._unbroken_bytes = 0
        return asyncio.ensure_future(_later(reading))

    @property
    def _wants_whole(self) -> bool:
        # Who pulls the body counts it while it comes, and must hear from a slow peer.
        return self._whole_pieces and self.reader is None

    def _room_bytes(self) -> int:
        if self.reader is not None:
            return self.reader.piece_bytes_max
        return self._piece_bytes - self._body_bytes % self._piece_bytes

    async def _read_piece(self, num_bytes: int) -> bytes:
        num_bytes = min(num_bytes, self._room_bytes())
        data = b""
        if self._wants_whole or (self._fast and num_bytes > READ_SMALL_BYTES):
            data = await self._fill(num_bytes)
            if not data and self.reader is not None:
                self.reader.on_pause()
        if not data:
            data = await super().read_bytes(min(num_bytes, READ_SMALL_BYTES), partial=True)
        self._fast = len(data) >= min(num_bytes, READ_SMALL_BYTES)
        self._body_bytes += len(data)
        return cast(bytes, Parcel(data)) if self.parcels else data

    async def _fill(self, num_bytes: int) -> bytes:
        """That many bytes; fewer, down to none, if the peer pauses."""
        buffer = memoryview(fresh_bytearray(num_bytes))
        size_bytes, in_time = 0, True
        while size_bytes < num_bytes and in_time:
            reading = self._read_much(buffer[size_bytes:])
            in_time = self._wants_whole or await _comes(reading)
            if not in_time:
                self._take_back(reading)
            try:
                size_bytes += await reading
            except StreamClosedError:
                if not size_bytes:
                    raise
                return _cut(buffer, size_bytes)  # the next read meets the end
            self._filling = False
        self._wake_at(1)
        if not in_time:  # what has come is too little to be woken for, and yet there
            rest = cast(bytearray, buffer[size_bytes:])
            reading = asyncio.ensure_future(self.read_into(rest, partial=True))
            self._take_back(reading)
            size_bytes += await reading
        return _cut(buffer, size_bytes)

    def _take_back(self, reading: asyncio.Future[int]) -> None:
        """Have a read that has not begun end with nothing, so that its buffer can go."""
        if not reading.done():
            self._read_from_buffer(0)

    def _read_much(self, room: memoryview) -> asyncio.Future[int]:
        """Read what comes, once it is much or `_wake_at` is content with less."""
        self._filling, self._awaited = True, False
        # It asks for a bytearray but takes any writable buffer.
        return asyncio.ensure_future(self.read_into(cast(bytearray, room), partial=True))

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """See IOStream: what is not there yet in large numbers is left to arrive."""
        if self._filling and not self._awaited:
            self._awaited = True
            self._wake_at(len(buf))
            return None
        # What was awaited is there now, or the peer has closed: reading tells.
        return super().read_from_fd(buf)

    def _wake_at(self, size_bytes: int) -> None:
        """Have the socket count as readable from so many bytes on."""
        size_bytes = min(size_bytes, WAKE_BYTES_MAX)
        if size_bytes != self._wake_bytes and not self.closed():
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size_bytes)
            self._wake_bytes = size_bytes


def keep_copy(stream: IOStream) -> None:
    """Copy what waits to be written: buffers of which it was a part can go then."""
    waiting = stream._write_buffer  # None once it is closed
    rest = bytearray()
    while waiting:
        with waiting.peek(len(waiting)) as view:
            rest += view
            size_bytes = len(view)
        waiting.advance(size_bytes)
    if rest:
        waiting.append(bytes(rest))


class _Listener(HTTPServer):
    """Tornado's server with our streams."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """See HTTPServer."""
        self._settings: ServerSettings = kwargs.pop("settings")
        self._connection_count = 0
        super().initialize(*args, **kwargs)

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """See HTTPServer."""
        if self._connection_count >= self._settings.connections_max:
            # Running out of descriptors would take files and peers down with it.
            stream.close()
            return
        self._connection_count += 1
        if type(stream) is IOStream:
            # It has not been used yet, and leaves its socket alone when it is dropped.
            stream = PieceStream(stream.socket, self._settings)
        stream.set_nodelay(True)
        super().handle_stream(stream, address)

    def on_close(self, server_conn: object) -> None:
        """See HTTPServer."""
        self._connection_count -= 1
        super().on_close(server_conn)


class Server:
    """A listening server; `port` is the real one where 0 was asked for."""

    def __init__(self, listener: HTTPServer, service: Service, port: int) -> None:
        self._listener = listener
        self._service = service
        self.port = port

    @property
    def active_count(self) -> int:
        """How many requests are under way."""
        return self._service.active_count

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more, let requests under way end for `grace_s`, cut the rest."""
        self._service.draining = True
        self._listener.stop()
        try:
            async with asyncio.timeout(grace_s):
                await self._service.idle()
        except TimeoutError:
            log.warning("requests_cut_at_stop", extra={"grace_s": grace_s})
        await self._listener.close_all_connections()


def listen(
    application: tornado.web.Application,
    service: Service,
    *,
    address: str,
    port: int,
    ssl_context: ssl.SSLContext | None,
) -> Server:
    """Bind and accept. Raises StoreError naming the address if that fails."""
    tame_tornado(service.settings.clock)
    listener = _Listener(
        application,
        ssl_options=ssl_context,
        chunk_size=service.settings.piece_bytes,
        settings=service.settings,
        max_header_size=HEADER_BYTES_MAX,
        # Handlers bound their bodies themselves: they can answer with an envelope.
        max_body_size=ENDLESS_BYTES,
        idle_connection_timeout=service.settings.idle_s,
        body_timeout=service.settings.body_timeout_s,
    )
    try:
        sockets = bind_sockets(port, address=address or None, backlog=1024)
    except OSError as error:
        raise StoreError(f"Cannot listen on {address}:{port}: {error}") from error
    listener.add_sockets(sockets)
    return Server(listener, service, sockets[0].getsockname()[1])


class _Tame(logging.Filter):
    """Turns what Tornado logs about its peers into one line per peer, without traceback."""

    def __init__(self, once: Once) -> None:
        super().__init__()
        self._once = once

    def filter(self, record: logging.LogRecord) -> bool:
        text = str(record.msg)
        if text.startswith("Malformed HTTP message") and isinstance(record.args, tuple):
            peer, reason = record.args
            record.msg, record.args = "malformed_request", ()
            record.__dict__.update(peer=str(peer), reason=str(reason)[:200])
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            return self._once.first(str(peer))
        record.exc_info = record.exc_text = None
        return self._once.first(text)


def tame_tornado(clock: Clock) -> None:
    """Make Tornado's own loggers fit ours. Doing it again replaces the former state."""
    logging.getLogger("tornado.access").disabled = True
    general = logging.getLogger("tornado.general")
    general.setLevel(logging.INFO)
    for old in [each for each in general.filters if isinstance(each, _Tame)]:
        general.removeFilter(old)
    general.addFilter(_Tame(Once(clock)))
