"""Saying something again and again, whether anybody answers or not."""

import asyncio
from collections.abc import Awaitable, Callable

from ossd.clock import Clock

BEATS_MAX = 4
"""Beats under way at once; beyond it one is left out."""


async def beat_for_ever(
    beat: Callable[[], Awaitable[None]], *, clock: Clock, every_s: float
) -> None:
    """Call `beat` each period; one that waits for a silent peer delays no other.

    Never ends but by cancelling, or by what `beat` raises.
    """
    beats: set[asyncio.Task[None]] = set()

    async def one() -> None:
        await beat()

    try:
        while True:
            for ended in [task for task in beats if task.done()]:
                beats.remove(ended)
                ended.result()
            if len(beats) < BEATS_MAX:
                beats.add(asyncio.create_task(one()))
            await clock.sleep(every_s)
    finally:
        for task in beats:
            task.cancel()
