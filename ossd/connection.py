"""One client connection: sends a request, receives its answer, may be used again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from osscore.errors import OutcomeUnknown
from ossd.answer import AnswerParser, MalformedAnswer
from ossd.disk import Bytes

SEND_BYTES = 256 * 1024
ONE_WRITE_BYTES_MAX = 64 * 1024
QUEUED_BYTES_MAX = 1024 * 1024

Sink = Callable[[bytes], Awaitable[None]]
"""Takes one piece of an answer's body; the next one waits until it has returned."""


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; `reusable` after it tells whether another may follow."""

    def __init__(self) -> None:
        self.reusable = True
        self._transport: asyncio.Transport | None = None
        self._parser: AnswerParser | None = None
        self._problem: str | None = None
        self._writable = True
        self._pouring = False
        # Set at anything that whoever exchanges may wait for: bytes, room, the end.
        self._news: asyncio.Future[None] | None = None

    async def exchange(
        self, method: str, head: bytes, body: Sequence[Bytes], sink: Sink | None
    ) -> AnswerParser:
        """Send a request and return its whole answer; with a sink, the body went there.

        Raises OutcomeUnknown if the connection breaks first. Must not be cancelled without
        `abort` afterwards.
        """
        self.reusable = False
        self._pouring = sink is not None
        parser = self._parser = AnswerParser(method)
        sent = await self._send(head, body, parser)
        while not parser.done:
            self._check_problem(parser)
            await self._wait()
            if sink is not None:
                await self._pour(parser, sink)
        if sink is not None:
            await self._pour(parser, sink)
        self._parser = None
        # An answer before the end of the request: the peer wants no more of it.
        self.reusable = sent and parser.reusable and self._problem is None
        return parser

    async def _send(self, head: bytes, body: Sequence[Bytes], parser: AnswerParser) -> bool:
        """Whether all was sent before the answer was there."""
        size_bytes = sum(len(piece) for piece in body)
        if size_bytes <= ONE_WRITE_BYTES_MAX:
            self._write(b"".join([head, *body]))
            return True
        self._write(head)
        for piece in body:
            view = memoryview(piece)
            for at in range(0, len(view), SEND_BYTES):
                while not self._writable and not parser.done:
                    self._check_problem(parser)
                    await self._wait()
                if parser.done:
                    return False
                self._write(view[at : at + SEND_BYTES])
        return True

    def _write(self, data: Bytes) -> None:
        if self._transport is not None and self._problem is None:
            self._transport.write(data)

    async def _pour(self, parser: AnswerParser, sink: Sink) -> None:
        if not 200 <= parser.status < 300:
            return
        pieces, parser.pieces = parser.pieces, []
        for piece in pieces:
            await sink(piece)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _check_problem(self, parser: AnswerParser) -> None:
        if self._problem is not None and not parser.done:
            raise OutcomeUnknown(self._problem)

    async def _wait(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def abort(self) -> None:
        """Close at once; what is under way is lost."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    # --- what the transport calls ------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol. TCP_NODELAY is set by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        parser = self._parser
        if parser is None:
            self.abort()  # nobody asked for anything
            return
        try:
            parser.feed(data)
        except MalformedAnswer as error:
            self._break(str(error))
            return
        if parser.done:
            self._tell()
        elif self._pouring:
            self._tell()
            if self._transport is not None and sum(map(len, parser.pieces)) > QUEUED_BYTES_MAX:
                self._transport.pause_reading()

    def eof_received(self) -> None:
        """See asyncio.Protocol: the transport closes itself."""

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable = False

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable = True
        self._tell()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.reusable = False
        try:
            if self._parser is not None:
                self._parser.end()
            self._break(str(error or "the connection was closed"))
        except MalformedAnswer as short:
            self._break(str(error or short))

    def _break(self, problem: str) -> None:
        if self._problem is None:
            self._problem = problem
        self._tell()
        self.abort()
