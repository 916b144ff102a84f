"""A request body on its way from the server, which pushes, to a flow, which pulls."""

import asyncio

from osscore.errors import IncompleteBody
from ossd.clock import Clock

RATE_GRACE_S = 10.0


class BodyStream:
    """A request body as an async iterator of bytes.

    At most one piece waits between the two sides, so a slow flow slows the client and
    memory stays flat. Time spent waiting for the client counts against it: a pause over
    `idle_s`, or an average below `bytes_per_s_min` after the first seconds, raises
    IncompleteBody in the flow (SAFETY rule 25).
    """

    def __init__(self, *, clock: Clock, idle_s: float, bytes_per_s_min: int) -> None:
        self.wanted = asyncio.Event()
        """Set once the flow has asked for the first piece."""
        self.received_bytes = 0
        self._clock = clock
        self._idle_s = idle_s
        self._bytes_per_s_min = bytes_per_s_min
        self._waited_s = 0.0
        self._piece: bytes | None = None
        self._ended = False
        self._stopped = False
        self._reader: asyncio.Future[None] | None = None
        self._feeder: asyncio.Future[None] | None = None

    async def feed(self, piece: bytes) -> None:
        """Hand over one piece, waiting for room; dropped once the flow has stopped."""
        while self._piece is not None and not self._stopped:
            self._feeder = asyncio.get_running_loop().create_future()
            await self._feeder
        if self._stopped:
            return
        self._piece = piece
        _wake(self._reader)

    def end(self) -> None:
        """The body is complete."""
        self._ended = True
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
        if self._piece is None and not self._ended:
            await self._arrival()
        piece = self._piece
        if piece is None:
            raise StopAsyncIteration
        self._piece = None
        self.received_bytes += len(piece)
        _wake(self._feeder)
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
        due_bytes = (self._waited_s - RATE_GRACE_S) * self._bytes_per_s_min
        if self.received_bytes < due_bytes:
            raise IncompleteBody(f"The body came slower than {self._bytes_per_s_min} bytes/s.")


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
