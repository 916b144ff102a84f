"""Waiting for a condition on the running loop, with a deadline."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], *, deadline_s: float = 10) -> None:
    """Return once `condition()` holds; TimeoutError if it does not in time."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - the condition is of code without events
            await asyncio.sleep(0)
