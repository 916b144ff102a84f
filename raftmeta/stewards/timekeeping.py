"""The leader's care for catalog time (SAFETY rule 17, docs/adr/0004-catalog-time.md).

Catalog time moves only with log entries. In an idle cluster an entry now and then keeps it
near the clocks, so that hours of quiet are no jump. After a real jump, such as a cluster
that was switched off over night, expiry waits for a confirmation: given here when a
majority of the metanodes' own clocks agrees with the new time, else left to an operator.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from osscore.errors import StoreError
from ossd.clock import Clock
from raftmeta.commands import Collect, ConfirmTime

PAUSE_S = 5.0
BEAT_MS = 600_000
"""Catalog time never falls further behind an idle leader's clock: far below the jump of an
hour that pauses expiry."""
AGREEMENT_MS = 60_000
"""Clocks this near to catalog time confirm it."""

log = logging.getLogger(__name__)


class Timekeeping:
    """One steward. `catalog_time_ms` and `has_jumped` look at the local catalog;
    `other_clocks_ms` asks every other metanode, None for one that does not answer."""

    def __init__(
        self,
        *,
        catalog_time_ms: Callable[[], int],
        has_jumped: Callable[[], bool],
        other_clocks_ms: Callable[[], Awaitable[Sequence[int | None]]],
        propose: Callable[[Collect | ConfirmTime], Awaitable[object]],
        clock: Clock,
        grace_ms: int,
    ) -> None:
        self._catalog_time_ms = catalog_time_ms
        self._has_jumped = has_jumped
        self._other_clocks_ms = other_clocks_ms
        self._propose = propose
        self._clock = clock
        self._grace_ms = grace_ms
        self._warned = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.step()
            except StoreError as error:
                log.info("timekeeping_waits", extra={"reason": error.message})
            await self._clock.sleep(PAUSE_S)

    async def step(self) -> None:
        """Move catalog time on if it stands still; confirm a jump if the clocks agree."""
        if self._clock.now_ms() - self._catalog_time_ms() > BEAT_MS:
            await self._propose(Collect(grace_ms=self._grace_ms))
        if not self._has_jumped():
            self._warned = False
            return
        others = await self._other_clocks_ms()
        catalog_ms = self._catalog_time_ms()
        clocks = [self._clock.now_ms(), *others]
        agreeing = sum(
            each is not None and abs(each - catalog_ms) <= AGREEMENT_MS for each in clocks
        )
        if agreeing > len(clocks) // 2:
            await self._propose(ConfirmTime())
            log.info("catalog_time_confirmed", extra={"agreeing": agreeing})
        elif not self._warned:
            self._warned = True
            log.warning(
                "catalog_time_jumped",
                extra={"catalog_time_ms": catalog_ms, "agreeing": agreeing, "of": len(clocks)},
            )


async def gather_clocks(
    urls: Sequence[str], ask: Callable[[str], Awaitable[int]]
) -> list[int | None]:
    """Every metanode's clock, None where it does not answer."""

    async def one(url: str) -> int | None:
        try:
            return await ask(url)
        except StoreError:
            return None

    return list(await asyncio.gather(*(one(url) for url in urls)))
