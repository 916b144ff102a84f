"""Giving memory back after a burst of large bodies.

glibc keeps freed buffers for the next ones, which is what a busy daemon wants; an idle one
among ten on a machine should be small again.
"""

import ctypes
from collections.abc import Callable

from blobd.budget import ByteBudget
from ossd.clock import Clock

INTERVAL_S = 5.0

Trim = Callable[[], None]


def libc_trim() -> Trim:
    """Returns glibc's malloc_trim; something that does nothing where there is none."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library keeps memory in its own way
        return lambda: None
    return lambda: trim(0)


async def trim_when_idle(budget: ByteBudget, *, clock: Clock, trim: Trim) -> None:
    """Once after each time of activity, when no body is held. Never ends; cancel it."""
    trimmed_at_count = budget.taken_count
    while True:
        await clock.sleep(INTERVAL_S)
        if budget.taken_count != trimmed_at_count and not budget.used_bytes:
            trimmed_at_count = budget.taken_count
            trim()
