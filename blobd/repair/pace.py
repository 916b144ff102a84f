"""A bound on bytes a second, kept by sleeping."""

from ossd.clock import Clock

BURST_S = 0.5


class Pace:
    """Lets so many bytes pass a second on average, and half a second's worth at once."""

    def __init__(self, bytes_per_s: float, *, clock: Clock) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._free_at_s = clock.monotonic_s() - BURST_S
        """When all that has passed so far is paid for."""

    async def pass_bytes(self, size_bytes: int) -> None:
        """Wait until so many may pass."""
        now_s = self._clock.monotonic_s()
        self._free_at_s = max(self._free_at_s, now_s - BURST_S) + size_bytes / self._bytes_per_s
        if self._free_at_s > now_s:
            await self._clock.sleep(self._free_at_s - now_s)
