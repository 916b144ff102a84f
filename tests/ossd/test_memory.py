"""The allocator keeps freed memory: the next large buffer costs no page faults."""

import asyncio
import resource
import subprocess
import sys
from collections.abc import Callable

from ossd.budget import ByteBudget
from ossd.memory import INTERVAL_S, keep_freed, libc_trim, trim_when_idle
from tests.fakes.clock import ManualClock

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


def test_memory_is_given_back_once_after_each_burst_and_never_during_one():
    async def story() -> None:
        clock, budget = ManualClock(), ByteBudget(100, wait_s=1)
        trims: list[float] = []
        task = asyncio.create_task(
            trim_when_idle(budget, clock=clock, trim=lambda: trims.append(clock.monotonic_s()))
        )

        async def until(condition: Callable[[], bool]) -> None:
            while not condition():  # noqa: ASYNC110  the clock is not real
                await asyncio.sleep(0.005)

        async def pass_intervals(count: int) -> None:
            for _ in range(count):
                await until(lambda: clock.sleeper_count == 1)
                clock.advance(INTERVAL_S)
            await until(lambda: clock.sleeper_count == 1)

        await pass_intervals(3)
        assert trims == []
        await budget.take(10)
        await pass_intervals(3)
        assert trims == []
        budget.give(10)
        await pass_intervals(3)
        assert len(trims) == 1
        # A busy time in which no body happens to be held when the clock strikes.
        for _ in range(3):
            await budget.take(10)
            budget.give(10)
            await pass_intervals(1)
        assert len(trims) == 1
        await pass_intervals(2)
        assert len(trims) == 2
        task.cancel()

    asyncio.run(asyncio.wait_for(story(), timeout=30))


def test_the_c_library_can_be_asked():
    libc_trim()()
