"""Let the C allocator keep what was freed.

Bodies and shards of a megabyte come and go with every request. By default each is mapped
from the kernel and given back, and touching its pages again costs more than copying it:
about a fifth of the CPU of moving 1 MiB through a daemon was measured to go there.
"""

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MMAP_THRESHOLD_BYTES = 32 * 1024 * 1024

KEEP_FREED_BYTES = 24 * 1024 * 1024


def keep_freed(size_bytes: int = KEEP_FREED_BYTES) -> bool:
    """Keep up to that much freed memory in the process; False where there is no glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    kept = mallopt(_M_TRIM_THRESHOLD, size_bytes)
    mapped = mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
    return bool(kept and mapped)
