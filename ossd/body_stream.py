"""A request body on its way from the server, which pushes, to a flow, which pulls."""

import asyncio
from collections.abc import Callable

from osscore.errors import IncompleteBody
from ossd.clock import Clock

SMALL_PIECE_BYTES = 64 * 1024
"""As much may lie in memory for any connection, however many there are."""
PIECE_BYTES = 512 * 1024
"""As much may, for as long as a client that was quick pauses; see ADR 11."""


class Parcel:
    """A piece on its way through Tornado, which keeps what it has handed on until the next
    has come: once it was taken, only its length stays."""

    def __init__(self, piece: bytes) -> None:
        self._piece = piece
        self._size_bytes = len(piece)

    def __len__(self) -> int:
        return self._size_bytes

    def take(self) -> bytes:
        """The piece, once."""
        piece, self._piece = self._piece, b""
        return piece


class BodyStream:
    """A request body as an async iterator of bytes.

    A piece is read from the client only once the flow asks for it, and is nobody else's then:
    what the flow does not hold is not in memory, and a slow flow slows the client. Time spent
    waiting for the client counts against it: a pause over `idle_s`, or an average below
    `bytes_per_s_min` after as long a time, raises IncompleteBody in the flow (SAFETY rule 25).
    """

    def __init__(self, *, clock: Clock, idle_s: float, bytes_per_s_min: int) -> None:
        self.wanted = asyncio.Event()
        """Set once the flow has asked for the first piece."""
        self.received_bytes = 0
        self.piece_bytes_max = PIECE_BYTES
        """Most bytes the next piece may have. A flow that has room for more says so."""
        self.on_pause: Callable[[], None] = lambda: None
        """Called when the client pauses while a large piece is awaited: the server has let go
        of the room for it, and reads small pieces until the client is quick again."""
        self._clock = clock
        self._idle_s = idle_s
        self._bytes_per_s_min = bytes_per_s_min
        self._waited_s = 0.0
        self._piece: bytes | None = None
        self._ended = False
        self._broken = False
        self._stopped = False
        self._reader: asyncio.Future[None] | None = None
        self._feeder: asyncio.Future[None] | None = None

    async def feed(self, piece: bytes | Parcel) -> None:
        """Hand over one piece; returns once another is wanted, or the flow has stopped."""
        if self._stopped:
            return
        self._piece = piece.take() if isinstance(piece, Parcel) else piece
        del piece
        _wake(self._reader)
        self._feeder = asyncio.get_running_loop().create_future()
        await self._feeder

    def end(self) -> None:
        """The body is complete."""
        self._ended = True
        _wake(self._reader)

    def break_off(self) -> None:
        """The client is gone: behind what has come, the flow meets IncompleteBody."""
        self._broken = not self._ended
        _wake(self._reader)

    def stop(self) -> None:
        """The flow reads no further; what still comes is dropped."""
        self._stopped = True
        self._piece = None
        _wake(self._feeder)

    def __aiter__(self) -> "BodyStream":
        return self

    async def __anext__(self) -> bytes:
        self.wanted.set()
        if self._piece is None and not self._ended and not self._broken:
            _wake(self._feeder)
            await self._arrival()
        piece, self._piece = self._piece, None
        if piece is None and self._broken:
            raise IncompleteBody("The client left in the middle of its body.")
        if piece is None:
            raise StopAsyncIteration
        self.received_bytes += len(piece)
        return piece

    async def _arrival(self) -> None:
        began_s = self._clock.monotonic_s()
        self._reader = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._idle_s):
                await self._reader
        except TimeoutError as error:
            raise IncompleteBody(f"No byte of the body came for {self._idle_s:g} s.") from error
        self._waited_s += self._clock.monotonic_s() - began_s
        due_bytes = (self._waited_s - self._idle_s) * self._bytes_per_s_min
        if self.received_bytes < due_bytes:
            raise IncompleteBody(f"The body came slower than {self._bytes_per_s_min} bytes/s.")


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
