"""Giving memory back after a burst of large bodies.

glibc keeps freed buffers for the next ones, which is what a busy daemon wants; an idle one
among ten on a machine should be small again.
"""

import ctypes
import gc
from collections.abc import Callable

from blobd.budget import ByteBudget
from ossd.clock import Clock

INTERVAL_S = 5.0
_M_ARENA_MAX = -8  # malloc.h

Trim = Callable[[], None]


def use_one_arena() -> None:
    """Have all threads of this process allocate from one heap; call it before any starts.

    glibc trims only the end of the first heap: what the readers' threads freed at the end
    of heaps of their own would never be given back. They allocate under Python's own lock
    anyway, so one heap costs them nothing.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    except (OSError, AttributeError):
        return  # another C library keeps memory in its own way


def libc_trim() -> Trim:
    """Returns glibc's malloc_trim; something that does nothing where there is none."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library keeps memory in its own way
        return lambda: None

    def collect_and_trim() -> None:
        # Handlers and their connections refer to each other: without a collection the last
        # bodies stay with them until enough new objects were made, which when idle is never.
        gc.collect()
        trim(0)

    return collect_and_trim


async def trim_when_idle(budget: ByteBudget, *, clock: Clock, trim: Trim) -> None:
    """Once after each time of activity, when no body is held. Never ends; cancel it."""
    trimmed_at_count = budget.taken_count
    while True:
        await clock.sleep(INTERVAL_S)
        if budget.taken_count != trimmed_at_count and not budget.used_bytes:
            trimmed_at_count = budget.taken_count
            trim()
