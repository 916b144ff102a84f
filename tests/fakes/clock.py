"""A clock that stands still until a test turns it."""

import asyncio
import heapq
import itertools


class ManualClock:
    """Implements ossd.clock.Clock. Sleepers wake when `advance` passes their time."""

    def __init__(self, *, now_ms: int = 1_750_000_000_000, monotonic_s: float = 0.0) -> None:
        self._now_ms = float(now_ms)
        self._monotonic_s = monotonic_s
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        """Wall clock, ms since 1970."""
        return int(self._now_ms)

    def monotonic_s(self) -> float:
        """Seconds that only grow."""
        return self._monotonic_s

    @property
    def sleeper_count(self) -> int:
        """How many sleep right now."""
        return sum(not future.done() for _, _, future in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Let that much time pass and wake whoever is due, in the order of their times."""
        self._now_ms += seconds * 1000
        self._monotonic_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic_s:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    def jump(self, milliseconds: int) -> None:
        """Set the wall clock forward or back, as an operator or NTP may."""
        self._now_ms += milliseconds

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced that far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic_s + seconds, next(self._order), future))
        await future
