"""The leader's eye on the disks of the other metanodes (SAFETY rule 14).

A metanode whose disk is full stops. Growth is refused before so many are low that those
with room would be no majority; one low member of three costs nobody a write.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from osscore.errors import StoreError
from ossd.clock import Clock

PAUSE_S = 2.0


class Told(Protocol):
    """What a metanode says of itself, as far as it matters here."""

    @property
    def has_room(self) -> bool:
        """Whether its catalog and log may grow."""


def would_lose_majority(others: Sequence[bool | None]) -> bool:
    """Whether growing on could stop a majority. `others`: has room, is low, does not answer;
    the leader itself has room. Silence alone is no reason: Raft knows better who is there."""
    majority = (1 + len(others)) // 2 + 1
    return False in others and 1 + others.count(True) < majority


class OthersRoom:
    """`allows_growth` is what the last look found; True before the first."""

    def __init__(self) -> None:
        self.allows_growth = True

    async def watch(
        self,
        urls: Callable[[], Sequence[str]],
        ask: Callable[[str], Awaitable[Told]],
        *,
        clock: Clock,
    ) -> None:
        """Until cancelled: ask every other metanode there is by then, again and again."""

        async def one(url: str) -> bool | None:
            try:
                return (await ask(url)).has_room
            except StoreError:
                return None

        while True:
            others = await asyncio.gather(*(one(url) for url in urls()))
            self.allows_growth = not would_lose_majority(others)
            await clock.sleep(PAUSE_S)
