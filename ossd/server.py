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
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets

from osscore.errors import StoreError
from ossd.clock import Clock, RandomBytes, system_random
from ossd.logs import Once
from ossd.metrics import Metrics
from ossd.signing import Verifier

READ_SMALL_BYTES = 64 * 1024
READ_LARGE_BYTES = 1024 * 1024
READ_BUFFERS_COUNT = 8
HEADER_BYTES_MAX = 64 * 1024
ENDLESS_BYTES = 1 << 62

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What all handlers of one server share.

    `verifier` None: internal handlers refuse everything. `idle_s` must exceed the
    keep-alive time of clients, so that it is they who close first.
    """

    role: str
    clock: Clock
    metrics: Metrics
    verifier: Verifier | None = None
    random: RandomBytes = system_random
    idle_s: float = 120.0
    body_timeout_s: float = 60.0
    body_idle_s: float = 30.0
    body_bytes_per_s_min: int = 1024
    write_stall_s: float = 60.0
    linger_s: float = 2.0
    connections_max: int = 4096


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


class _Buffers:
    """A few large read buffers shared by all connections: allocating and clearing one for
    each read, as Tornado does, costs more than the copying itself."""

    def __init__(self, count: int, size_bytes: int) -> None:
        self._free = [bytearray(0)] * count
        self._size_bytes = size_bytes

    def take(self) -> bytearray | None:
        """A buffer to give back, or None while all are in use."""
        if not self._free:
            return None
        return self._free.pop() or bytearray(self._size_bytes)

    def give(self, buffer: bytearray) -> None:
        """The reader is done with it."""
        self._free.append(buffer)


class _Stream(IOStream):
    """A connection that reads small pieces until a peer has shown to fill them, so that
    a slow client never holds a large buffer while it is waited for."""

    def __init__(self, connection: socket.socket, buffers: _Buffers) -> None:
        super().__init__(connection, read_chunk_size=READ_SMALL_BYTES)
        self._buffers = buffers
        self._fast = False

    def read_bytes(self, num_bytes: int, partial: bool = False) -> Awaitable[bytes]:
        """See IOStream."""
        if not partial or num_bytes <= READ_SMALL_BYTES:
            return super().read_bytes(num_bytes, partial)
        return asyncio.ensure_future(self._read_large(num_bytes))

    async def _read_large(self, num_bytes: int) -> bytes:
        buffer = self._buffers.take() if self._fast else None
        if buffer is None:
            data = await super().read_bytes(READ_SMALL_BYTES, partial=True)
        else:
            data = await self._read_by(buffer, num_bytes)
        self._fast = len(data) >= READ_SMALL_BYTES
        return data

    async def _read_by(self, buffer: bytearray, num_bytes: int) -> bytes:
        view = memoryview(buffer)[:num_bytes]
        try:
            # read_into asks for a bytearray but takes any writable buffer.
            size_bytes = await self.read_into(cast(bytearray, view), partial=True)
            return bytes(view[:size_bytes])
        finally:
            self._buffers.give(buffer)


class _Listener(HTTPServer):
    """Tornado's server with our streams."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """See HTTPServer."""
        self._connections_max = kwargs.pop("connections_max")
        self._connection_count = 0
        self._buffers = _Buffers(READ_BUFFERS_COUNT, READ_LARGE_BYTES)
        super().initialize(*args, **kwargs)

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """See HTTPServer."""
        if self._connection_count >= self._connections_max:
            # Running out of descriptors would take files and peers down with it.
            stream.close()
            return
        self._connection_count += 1
        stream.set_nodelay(True)
        if type(stream) is IOStream:
            # It has not been used yet, and leaves its socket alone when it is dropped.
            stream = _Stream(stream.socket, self._buffers)
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
        chunk_size=READ_LARGE_BYTES,
        max_header_size=HEADER_BYTES_MAX,
        # Handlers bound their bodies themselves: they can answer with an envelope.
        max_body_size=ENDLESS_BYTES,
        idle_connection_timeout=service.settings.idle_s,
        body_timeout=service.settings.body_timeout_s,
        connections_max=service.settings.connections_max,
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
