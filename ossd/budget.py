"""One bound on the bytes of bodies that a process holds at a time (SAFETY rule 25)."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from osscore.errors import Overloaded


class ByteBudget:
    """Bytes that work takes before it begins, and gives back at its end.

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

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold that many bytes for a while, waiting a bounded time. Raises Overloaded."""
        await self.take(size_bytes)
        try:
            yield
        finally:
            self.give(size_bytes)

    async def take(self, size_bytes: int) -> None:
        """Reserve that many bytes, waiting a bounded time. Raises Overloaded.

        More than there is in total counts as all of it.
        """
        if self.try_take(size_bytes):
            return
        self.taken_count += 1
        entry = (min(size_bytes, self._total_bytes), asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(self._wait_s):
                await entry[1]
        except TimeoutError as error:
            self._leave(entry)
            raise Overloaded("This process holds as many bodies as it may; try again.") from error
        except asyncio.CancelledError:
            self._leave(entry)
            raise

    def try_take(self, size_bytes: int, *, share_max: float = 1.0) -> bool:
        """Reserve from surplus: False, and nothing taken, if anyone would have to wait, or if
        more than `share_max` of the whole would then be in use."""
        size_bytes = min(size_bytes, self._total_bytes)
        left_bytes = self._free_bytes - size_bytes
        if self._waiting or left_bytes < self._total_bytes * (1 - share_max):
            return False
        self.taken_count += 1
        self._free_bytes -= size_bytes
        return True

    def has_surplus(self, share_max: float) -> bool:
        """Whether nobody waits and at most that share of the whole is in use."""
        return not self._waiting and self.used_bytes <= self._total_bytes * share_max

    def give(self, size_bytes: int) -> None:
        """Return what was reserved."""
        self._free_bytes += min(size_bytes, self._total_bytes)
        assert self._free_bytes <= self._total_bytes, "given back more than was taken"
        self._serve()

    def _leave(self, entry: tuple[int, asyncio.Future[None]]) -> None:
        # Waiting entries are in the queue; a granted one may have timed out in that moment.
        if entry in self._waiting:
            self._waiting.remove(entry)
        else:
            self._free_bytes += entry[0]
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free_bytes:
            size_bytes, turn = self._waiting.popleft()
            self._free_bytes -= size_bytes
            if turn.done():  # cancelled in this very moment: `_leave` gives it back
                continue
            turn.set_result(None)
