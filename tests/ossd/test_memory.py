"""The allocator keeps freed memory: the next large buffer costs no page faults."""

import resource
import subprocess
import sys

from ossd.memory import keep_freed

FAULTS = """
import resource
from ossd.memory import keep_freed
{setup}
for _ in range(100):
    bytes(4 << 20) + b"x"
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    bytes(4 << 20) + b"x"
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(setup: str) -> int:
    code = FAULTS.format(setup=setup)
    return int(subprocess.check_output([sys.executable, "-c", code], text=True))


def test_large_buffers_are_reused_without_page_faults():
    pages = 100 * (4 << 20) // resource.getpagesize()
    # Elsewhere than on glibc there is nothing to tune, and it says so.
    assert faults("keep_freed()") < pages / 10 or not keep_freed()
