"""Being called: request handlers and the server, over Tornado.

Handler             whole bounded body in `self.body`, errors as envelopes, metrics
InternalHandler     the same, and nothing runs before the signature was verified
StreamHandler       verbs that pull a body of any size from `self.body_stream`

A handler subclass writes verbs (`async def put(self, name)`), takes what it needs by
`initialize`, raises StoreErrors, and answers by `reply_json`, `reply_body`, `send` or
Tornado's own `write`. Every handler receives its body as a stream, so a request can be
refused before its body was read: with `Expect: 100-continue` the client is asked for the
body only when somebody wants it.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final, TypeVar, final

import msgspec
import tornado.httputil
import tornado.web
from tornado.iostream import StreamClosedError

from osscore.errors import (
    EntityTooLarge,
    MalformedBody,
    MethodNotAllowed,
    NotFound,
    StoreError,
    Unauthenticated,
)
from ossd import logs
from ossd.answering import AnsweringHandler, store_error
from ossd.body_stream import BodyStream
from ossd.disk import Bytes
from ossd.server import PieceStream, Server, ServerSettings, Service, listen
from ossd.signing import Verifier

T = TypeVar("T")
Verb = Callable[..., Awaitable[None] | None]

MSGPACK: Final = "application/msgpack"
NO_BODY_TIMEOUT_S: Final = 30 * 86400.0


@tornado.web.stream_request_body
class Handler(AnsweringHandler):
    """One request. The verb runs once the whole body, at most `body_bytes_max`, is there."""

    body_bytes_max: ClassVar[int] = 1024 * 1024

    def __init__(
        self,
        application: tornado.web.Application,
        request: tornado.httputil.HTTPServerRequest,
        **kwargs: Any,
    ) -> None:
        self.body: Bytes = b""
        self._pieces: list[Bytes] = []
        self._received_bytes = 0
        self._refused_bytes = 0
        self._declared_bytes = _declared_bytes(request)
        self._refusal: StoreError | None = None
        self._verb: Verb = self._no_verb
        super().__init__(application, request, **kwargs)
        self._body_done = self._declared_bytes == 0

    @final
    async def prepare(self) -> None:
        """Tornado's call once the headers are there."""
        logs.request_id.set(self.request_id)
        name = (self.request.method or "").lower()
        self._verb = getattr(self, name)
        # Tornado calls the verb once the body has come; what happens then is ours.
        setattr(self, name, self._after_body)
        try:
            self._admit()
            await self._begin()
        except StoreError as error:
            if not self._body_done:
                self.answer_error(error)
            # Else the answer must wait until Tornado has seen the end of the request: it
            # closes the connection after an answer given before that.
            self._refusal = error

    def _admit(self) -> None:
        """Refuse what the headers alone show to be wrong."""
        allow = self.allowed_methods()
        if self.request.method not in allow:
            raise MethodNotAllowed(allow=allow)
        self._admit_length()

    def _admit_length(self) -> None:
        if (self._declared_bytes or 0) > self.body_bytes_max:
            raise EntityTooLarge(f"The body may have {self.body_bytes_max} bytes here.")

    async def _begin(self) -> None:
        """Start what needs no body, or not all of it at once."""

    async def data_received(self, chunk: bytes) -> None:
        """Tornado's call for each piece of the body."""
        self._received_bytes += len(chunk)
        self._body_begun = True
        if not self._answered_early:
            await self._take(chunk)
            return
        # What was taken before the refusal does not count: a large body is refused late.
        self._refused_bytes += len(chunk)
        if self._refused_bytes > self.server.linger_bytes:
            self._end_early()

    async def _take(self, chunk: bytes) -> None:
        self._pieces.append(chunk)
        if self._received_bytes > self.body_bytes_max:
            self._pieces.clear()
            self.answer_error(EntityTooLarge(f"The body may have {self.body_bytes_max} bytes."))

    async def _after_body(self, *args: str, **kwargs: str) -> None:
        if self._answered_early:
            self._end_early()
            return
        self._body_done = True
        if self._refusal is not None:
            raise self._refusal
        self.body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._check_body()
        await self._run_verb(*args, **kwargs)

    async def _run_verb(self, *args: str, **kwargs: str) -> None:
        # Counted by itself: a verb goes on when its client has left.
        self.service.began()
        try:
            outcome = self._verb(*args, **kwargs)
            if outcome is not None:
                await outcome
        finally:
            self.service.ended()

    def _check_body(self) -> None:
        """Refuse what the whole body shows to be wrong; form fields become arguments."""
        kind = self.request.headers.get("Content-Type", "")
        if kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
            self._parse_form(kind)

    def _parse_form(self, kind: str) -> None:
        fields, files = self.request.body_arguments, self.request.files
        try:
            tornado.httputil.parse_body_arguments(kind, bytes(self.body), fields, files)
        except tornado.httputil.HTTPInputError as error:
            raise MalformedBody(f"The form cannot be read: {error}") from error
        for name, values in fields.items():
            self.request.arguments.setdefault(name, []).extend(values)

    def _no_verb(self, *_args: str, **_kwargs: str) -> None:
        raise MethodNotAllowed(allow=self.allowed_methods())


class InternalHandler(Handler):
    """A request from another process of the cluster: signed, body and all."""

    body_bytes_max: ClassVar[int] = 16 * 1024 * 1024

    def _admit(self) -> None:
        super()._admit()
        self._verifier().check_head(self.request.headers)

    @final
    def _check_body(self) -> None:
        self._verifier().check(
            self.request.method or "", self.request.uri or "", self.request.headers, self.body
        )

    def _verifier(self) -> Verifier:
        if self.server.verifier is None:
            raise Unauthenticated("This process has no cluster secret to check callers with.")
        return self.server.verifier

    def decode(self, kind: type[T]) -> T:
        """The body as that msgpack struct. Raises MalformedBody."""
        try:
            return msgspec.msgpack.decode(self.body, type=kind)
        except msgspec.MsgspecError as error:
            raise MalformedBody(f"The body is no {kind.__name__}: {error}") from error

    def reply(self, value: object, *, status: int = 200) -> None:
        """Answer a struct as msgpack."""
        self.set_status(status)
        self.set_header("Content-Type", MSGPACK)
        self.write(msgspec.msgpack.encode(value))


class StreamHandler(Handler):
    """Verbs that pull the body from `self.body_stream` while it arrives.

    The verb runs as a task of its own from the headers on: it may answer before the body is
    complete, and is cancelled when the client goes, unless it `outlives_client`: then its body
    breaks off with IncompleteBody, and what it has can be kept.
    """

    outlives_client: ClassVar[bool] = False

    def __init__(
        self,
        application: tornado.web.Application,
        request: tornado.httputil.HTTPServerRequest,
        **kwargs: Any,
    ) -> None:
        settings: ServerSettings = application.settings["service"].settings
        self.body_stream = BodyStream(
            clock=settings.clock,
            idle_s=settings.body_idle_s,
            bytes_per_s_min=settings.body_bytes_per_s_min,
        )
        self._flow: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        super().__init__(application, request, **kwargs)

    @property
    def declared_bytes(self) -> int | None:
        """The body's length by its headers; None if it comes chunked."""
        return self._declared_bytes

    def _admit_length(self) -> None:
        # Any length: the flow decides. Time is counted by the stream, only while the flow waits.
        self.connection.set_body_timeout(NO_BODY_TIMEOUT_S)

    async def _begin(self) -> None:
        if self._body_done:
            return
        if isinstance(self.connection.stream, PieceStream):
            self.connection.stream.reader = self.body_stream
            self.connection.stream.parcels = self._declared_bytes is not None
        self._flow = asyncio.create_task(self._run_flow(), name=f"flow-{self.request_id}")
        wanted = asyncio.create_task(self.body_stream.wanted.wait())
        await asyncio.wait({self._flow, wanted}, return_when=asyncio.FIRST_COMPLETED)
        wanted.cancel()

    async def _run_flow(self) -> None:
        try:
            await self._run_verb(*self.path_args, **self.path_kwargs)
            self.body_stream.stop()  # what it did not ask for is not waited for either
            if not self._finished:
                await self._complete_flow()
        except Exception as error:  # noqa: BLE001  the outermost boundary of a request
            self._flow_failed(error)
        finally:
            self.body_stream.stop()

    async def _complete_flow(self) -> None:
        if not self._body_done and self._received_bytes == self._declared_bytes:
            # All of it is here, Tornado only has not said so: keep the connection.
            await self._arrived.wait()
        self._complete()

    def _flow_failed(self, error: Exception) -> None:
        self.log_exception(type(error), error, error.__traceback__)
        if isinstance(error, StreamClosedError):
            self._gone()
        else:
            self.answer_error(store_error(error, 500))

    async def _take(self, chunk: bytes) -> None:
        await self.body_stream.feed(chunk)

    async def _after_body(self, *args: str, **kwargs: str) -> None:
        if self._answered_early:
            self._end_early()
            return
        self._body_done = True
        if self._refusal is not None:
            raise self._refusal
        self._arrived.set()
        self.body_stream.end()
        if self._flow is None:
            self._flow = asyncio.create_task(self._run_flow(), name=f"flow-{self.request_id}")
        # Not awaited as such: a flow cancelled because its client left is no error here.
        await asyncio.wait({self._flow})

    def on_connection_close(self) -> None:
        """The client is gone: nobody wants the flow's outcome."""
        super().on_connection_close()
        if self._flow is None or self._finished:
            return
        if self.outlives_client:
            self.body_stream.break_off()
        else:
            self._flow.cancel()


class UnknownPath(Handler):
    """Whatever no route matches."""

    SUPPORTED_METHODS = Handler.SUPPORTED_METHODS

    def _admit(self) -> None:
        raise NotFound(f"There is no resource {self.request.path[:200]!r}.")


def serve(
    routes: Sequence[Any],
    *,
    settings: ServerSettings,
    address: str,
    port: int,
    ssl_context: ssl.SSLContext | None = None,
) -> Server:
    """Listen on the running loop. `routes` are Tornado's: (pattern, handler[, arguments]).

    Raises StoreError if the address cannot be bound.
    """
    service = Service(settings)
    application = tornado.web.Application(
        list(routes),
        default_handler_class=UnknownPath,
        log_function=_no_access_log,
        service=service,
    )
    return listen(application, service, address=address, port=port, ssl_context=ssl_context)


def _no_access_log(_handler: tornado.web.RequestHandler) -> None:
    """Requests are counted and timed, not logged."""


def _declared_bytes(request: tornado.httputil.HTTPServerRequest) -> int | None:
    """Length of the body by its headers, None if unknown until its end."""
    if "Transfer-Encoding" in request.headers:
        return None
    length = request.headers.get("Content-Length", "0").split(",")[0].strip()
    # Whatever else it may be, Tornado refuses it before it reads the body.
    return int(length) if length.isdecimal() and len(length) < 20 else None
