"""Bytes a second are bounded, and time that went unused is not saved up for long."""

import asyncio

from blobd.repair.pace import BURST_S, Pace
from tests.fakes.clock import ManualClock

RATE = 1000


def passed_after(seconds: float, idle_s: float) -> int:
    """Bytes let through within so many seconds, in pieces of 100, after an idle time."""

    async def story() -> int:
        clock = ManualClock()
        pace, passed = Pace(RATE, clock=clock), [0]

        async def work() -> None:
            while True:
                await pace.pass_bytes(100)
                passed[0] += 100

        clock.advance(idle_s)
        working = asyncio.create_task(work())
        await asyncio.sleep(0)
        for _ in range(round(seconds * 100)):
            clock.advance(0.01)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        working.cancel()
        return passed[0]

    return asyncio.run(story())


def test_so_much_passes_and_not_more() -> None:
    assert abs(passed_after(10, 0) - 10 * RATE) <= RATE * BURST_S + 200
    assert abs(passed_after(10, 3600) - 10 * RATE) <= RATE * BURST_S + 200
