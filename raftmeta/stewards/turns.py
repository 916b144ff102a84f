"""Long lists gone through without keeping others from the event loop."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

AT_ONCE = 20
"""Stripes that are planned in a row: about two milliseconds of a leader's one thread."""


async def in_turns(items: Iterable[T], *, at_once: int = AT_ONCE) -> AsyncIterator[T]:
    """The items; after every so many whatever else is ready goes first."""
    for number, item in enumerate(items, 1):
        yield item
        if number % at_once == 0:
            await asyncio.sleep(0)
