"""Which uploads a request of this process is adding to right now.

A client whose connection broke asks at once where its upload stands, while what came before
the break is still on its way to the disks. A short wait gives it the better answer, and
spares it sending those bytes again. Nothing depends on it: the catalog decides.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

SETTLE_S_MAX = 2.0


class UnderWay:
    """Used on one event loop."""

    def __init__(self) -> None:
        self._ends: dict[bytes, list[asyncio.Event]] = {}

    @contextmanager
    def adding(self, upload: bytes) -> Iterator[None]:
        """A block in which a request adds to this upload."""
        ended = asyncio.Event()
        self._ends.setdefault(upload, []).append(ended)
        try:
            yield
        finally:
            ended.set()
            self._ends[upload].remove(ended)
            if not self._ends[upload]:
                del self._ends[upload]

    async def settle(self, upload: bytes) -> None:
        """Return once every request that adds to it now has ended, or after a short time."""
        ends = list(self._ends.get(upload, ()))
        try:
            async with asyncio.timeout(SETTLE_S_MAX):
                for ended in ends:
                    await ended.wait()
        except TimeoutError:
            pass  # its client lives and is slow
