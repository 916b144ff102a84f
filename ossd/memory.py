"""Memory of large bodies: kept while the process is busy, given back when it is idle.

Bodies and shards of megabytes come and go with every request. By default each is mapped
from the kernel and given back, and touching its pages again costs more than copying it:
about a fifth of the CPU of moving 1 MiB through a daemon was measured to go there. An idle
process among ten on a machine should be small again all the same.
"""

import ctypes
import gc
from collections.abc import Callable

from ossd.budget import ByteBudget
from ossd.clock import Clock

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8  # malloc.h
_MMAP_THRESHOLD_BYTES = 32 * 1024 * 1024

KEEP_FREED_BYTES = 24 * 1024 * 1024
INTERVAL_S = 5.0

Trim = Callable[[], None]


def keep_freed(size_bytes: int = KEEP_FREED_BYTES) -> bool:
    """Keep up to that much freed memory in the process; False where there is no glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    kept = mallopt(_M_TRIM_THRESHOLD, size_bytes)
    mapped = mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
    return bool(kept and mapped)


def use_one_arena() -> None:
    """Have all threads of this process allocate from one heap; call it before any starts.

    glibc trims only the end of the first heap: what worker threads freed at the end of heaps
    of their own would never be given back. They allocate under Python's own lock anyway, so
    one heap costs them nothing.
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
    """Once after each time of activity, when an interval went by without. Never ends; cancel it.

    Not in the short gaps of a busy time: what is given back there is soon faulted in again.
    """
    trimmed_at_count = seen_count = budget.taken_count
    while True:
        await clock.sleep(INTERVAL_S)
        was_quiet = budget.taken_count == seen_count and not budget.used_bytes
        seen_count = budget.taken_count
        if was_quiet and seen_count != trimmed_at_count:
            trimmed_at_count = seen_count
            trim()
