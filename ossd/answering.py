"""The answering half of a request handler; `ossd.http` adds the half that takes requests.

It knows four ends of a request: a whole answer, an early one while the body is still
arriving, an answer cut in the middle, and a client that left.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar, Final, cast

import msgspec
import tornado.httputil
import tornado.web
from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError

from osscore.errors import InvalidRange, MethodNotAllowed, StoreError, Unavailable
from ossd import envelope
from ossd.disk import Bytes
from ossd.server import ServerSettings, Service, keep_copy

REQUEST_ID_HEADER: Final = "X-Request-Id"
ONE_WRITE_BYTES_MAX: Final = 64 * 1024
CLIENT_GONE: Final = 499
UNPIN_AFTER_S: Final = 1.0

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

log = logging.getLogger(__name__)


class AnsweringHandler(tornado.web.RequestHandler):
    """What every handler answers with, and how."""

    api: ClassVar[str] = ""
    """Label of the request metrics; empty: the role."""

    def __init__(
        self,
        application: tornado.web.Application,
        request: tornado.httputil.HTTPServerRequest,
        **kwargs: Any,
    ) -> None:
        self.service: Service = application.settings["service"]
        given = request.headers.get(REQUEST_ID_HEADER, "")
        fresh = not _REQUEST_ID.fullmatch(given)
        self.request_id = self.service.settings.random(8).hex() if fresh else given
        self._body_done = False
        self._body_begun = False
        self._answered_early = False
        self._observed = False
        self._began_s = self.service.settings.clock.monotonic_s()
        super().__init__(application, request, **kwargs)
        self.service.began()

    @property
    def server(self) -> ServerSettings:
        """What all handlers of this server share."""
        return self.service.settings

    def allowed_methods(self) -> tuple[str, ...]:
        """The methods this resource has verbs for."""
        missing = tornado.web.RequestHandler._unimplemented_method
        kind = type(self)
        found = [m for m in self.SUPPORTED_METHODS if getattr(kind, m.lower()) is not missing]
        if "GET" not in found and kind.head is AnsweringHandler.head:
            found.remove("HEAD")
        return tuple(found)

    def head(self, *args: str, **kwargs: str) -> Awaitable[None] | None:
        """As GET; Tornado leaves out the body."""
        return self.get(*args, **kwargs)

    @property
    def connection(self) -> HTTP1Connection:
        """The connection of this request."""
        return cast(HTTP1Connection, self.request.connection)

    def set_default_headers(self) -> None:
        """Tornado's call for a fresh answer."""
        self.clear_header("Server")
        self.clear_header("Content-Type")
        self.set_header(REQUEST_ID_HEADER, self.request_id)
        if self.service.draining:
            self.set_header("Connection", "close")

    def compute_etag(self) -> str | None:
        """No hash over every answer: those who have an ETag set it."""
        return None

    def reply_json(self, value: object, *, status: int = 200) -> None:
        """Answer a struct or plain value as JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.write(msgspec.json.encode(value))

    async def reply_body(self, body: Bytes | Sequence[Bytes]) -> None:
        """Answer bytes, sent piece by piece without joining large ones."""
        pieces = [body] if isinstance(body, (bytes, bytearray, memoryview)) else list(body)
        self.set_header("Content-Length", sum(len(piece) for piece in pieces))
        for piece in pieces:
            await self.send(piece)

    async def send(self, piece: Bytes) -> None:
        """One piece of the answer; returns once it has left for the client.

        Set Content-Length first if it is known. What a slow client has not taken is copied,
        and `piece` released if it is a view, so that a larger buffer behind it can go.
        Raises StreamClosedError if the client is gone or takes nothing for `write_stall_s`.
        """
        if self.request.method == "HEAD" or not len(piece):
            return
        if not self._headers_written and len(piece) <= ONE_WRITE_BYTES_MAX:
            self.write(bytes(piece))
            written = self.flush()
        else:
            if not self._headers_written:
                self.flush()
            written = self.connection.write(cast(bytes, piece))
        if written.done():
            written.result()
            return
        try:
            async with asyncio.timeout(self.server.write_stall_s):
                await asyncio.wait((written,), timeout=UNPIN_AFTER_S)
                if not written.done():
                    keep_copy(self.connection.stream)
                    if isinstance(piece, memoryview):
                        piece.release()
                await written
        except TimeoutError as error:
            self.connection.close()
            raise StreamClosedError(error) from error

    def answer_error(self, error: StoreError) -> None:
        """Answer `error`, or cut the connection if an answer has begun."""
        if self._finished or self._answered_early:
            return
        if self._headers_written:
            self._observe(self.error_status(error))
            self.connection.close()
            return
        self.clear()
        self.set_status(self.error_status(error))
        self._set_fact_headers(error)
        kind, body = self.render_error(error)
        self.set_header("Content-Type", kind)
        self.write(body)
        self._complete()

    def error_status(self, error: StoreError) -> int:
        """HTTP status for an error; a dialect with statuses of its own overrides this."""
        return error.http_status

    def render_error(self, error: StoreError) -> tuple[str, bytes]:
        """Content type and body for an error; a dialect overrides this."""
        return envelope.CONTENT_TYPE, envelope.error_body(error, self.request_id)

    def _set_fact_headers(self, error: StoreError) -> None:
        if isinstance(error, Unavailable):
            self.set_header("Retry-After", error.retry_after_s)
        elif isinstance(error, MethodNotAllowed):
            self.set_header("Allow", ", ".join(error.allow))
        elif isinstance(error, InvalidRange):
            self.set_header("Content-Range", f"bytes */{error.size_bytes}")

    def _complete(self) -> None:
        """Finish the answer; early, if the body is still arriving."""
        if self._body_done:
            self.finish()
            return
        self._answered_early = True
        expects = "Expect" in self.request.headers and not self._body_begun
        if expects or self._headers_written:
            self.finish()
            return
        self.set_header("Connection", "close")
        if self.get_status() not in (204, 304) and "Content-Length" not in self._headers:
            self.set_header("Content-Length", sum(len(part) for part in self._write_buffer))
        self.flush()
        asyncio.get_running_loop().call_later(self.server.linger_s, self._end_early)

    def _end_early(self) -> None:
        if not self._finished:
            self.finish()

    # --- what Tornado reports ----------------------------------------------------------

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Tornado's call for whatever a verb raised."""
        exc_info = kwargs.get("exc_info")
        error = exc_info[1] if exc_info else None
        if isinstance(error, StreamClosedError):
            self._gone()
            return
        if status_code == 405:
            error = MethodNotAllowed(allow=self.allowed_methods())
        self.answer_error(store_error(error, status_code))

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Tornado's call before send_error: only bugs leave a line."""
        if not isinstance(value, (StoreError, tornado.web.HTTPError, StreamClosedError)):
            where = {"method": self.request.method, "path": self.request.path}
            log.error("request_failed", extra=where, exc_info=value)

    def on_finish(self) -> None:
        """Tornado's call once the answer is complete."""
        self._observe(self.get_status())

    def on_connection_close(self) -> None:
        """Tornado's call when the client is gone before its answer was complete."""
        super().on_connection_close()
        if not self._finished:
            self._gone()

    def _gone(self) -> None:
        self._observe(CLIENT_GONE)
        self.connection.close()

    def _observe(self, status: int) -> None:
        if self._observed:
            return
        self._observed = True
        seconds = self.server.clock.monotonic_s() - self._began_s
        method = self.request.method or ""
        self.server.metrics.observe_request(self.api or self.server.role, method, status, seconds)
        self.service.ended()


def store_error(error: BaseException | None, status: int) -> StoreError:
    """What a caller is told of `error`, which gave that status."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, tornado.web.HTTPError):
        return envelope.error_of_status(error.status_code, error.get_message() or "")
    if status == 500:
        return StoreError("An internal error has occurred; the log names it by this request id.")
    return envelope.error_of_status(status)
