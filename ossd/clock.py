"""The seams to time and randomness: passed in, never imported, above this module."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Protocol

RandomBytes = Callable[[int], bytes]
"""Gives that many bytes nobody can guess; `system_random` in production."""


class Clock(Protocol):
    """Time as the store sees it; tests bind one they can turn."""

    def now_ms(self) -> int:
        """Wall clock, ms since 1970. May jump."""

    def monotonic_s(self) -> float:
        """Seconds that only grow; for deadlines and durations."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long on the running loop."""


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        """Wall clock, ms since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds since some fixed point."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait that long on the running loop."""
        await asyncio.sleep(seconds)


def system_random(size_bytes: int) -> bytes:
    """Cryptographic randomness of the operating system."""
    return os.urandom(size_bytes)
