"""One bound on the bytes of bodies that a process holds at a time (SAFETY rule 25)."""

import asyncio
from collections import deque

from osscore.errors import Overloaded


class ByteBudget:
    """Bytes that requests take before their first byte is read, and give back at their end.

    First come, first served: a large request is not starved by small ones behind it.
    `taken_count`: how often any were asked for. Used from one event loop.
    """

    def __init__(self, total_bytes: int, *, wait_s: float) -> None:
        self._total_bytes = total_bytes
        self._free_bytes = total_bytes
        self._wait_s = wait_s
        self.taken_count = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def used_bytes(self) -> int:
        """What is taken now."""
        return self._total_bytes - self._free_bytes

    @property
    def waiting_count(self) -> int:
        """How many requests wait for their turn."""
        return len(self._waiting)

    async def take(self, size_bytes: int) -> None:
        """Reserve that many bytes, waiting a bounded time. Raises Overloaded.

        More than there is in total counts as all of it.
        """
        size_bytes = min(size_bytes, self._total_bytes)
        self.taken_count += 1
        if not self._waiting and size_bytes <= self._free_bytes:
            self._free_bytes -= size_bytes
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, turn))
        try:
            await asyncio.wait_for(asyncio.shield(turn), self._wait_s)
        except TimeoutError as error:
            self._leave(size_bytes, turn)
            raise Overloaded("This process holds as many bodies as it may; try again.") from error
        except asyncio.CancelledError:
            self._leave(size_bytes, turn)
            raise

    def give(self, size_bytes: int) -> None:
        """Return what `take` reserved."""
        self._free_bytes += min(size_bytes, self._total_bytes)
        assert self._free_bytes <= self._total_bytes, "given back more than was taken"
        self._serve()

    def _leave(self, size_bytes: int, turn: asyncio.Future[None]) -> None:
        if turn.done():  # granted in the same moment as it gave up
            self._free_bytes += size_bytes
        else:
            turn.cancel()
            self._waiting.remove((size_bytes, turn))
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free_bytes:
            size_bytes, turn = self._waiting.popleft()
            self._free_bytes -= size_bytes
            turn.set_result(None)
