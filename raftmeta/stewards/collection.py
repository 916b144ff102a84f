"""The leader's collection: proposes Collect while there is something to do."""

import logging
from collections.abc import Awaitable, Callable

from osscore.errors import StoreError
from ossd.clock import Clock
from raftmeta.commands import Collect, Collected
from raftmeta.queries import CatalogCounted

IDLE_S_MAX = 30.0
BUSY_S = 0.2
"""Between two steps that both found something: collection never takes the log over."""
ROWS_MAX = 500

log = logging.getLogger(__name__)


class Collection:
    """One steward. `count` looks at the local catalog, cheaply; `propose` replicates a
    Collect and answers its result."""

    def __init__(
        self,
        *,
        count: Callable[[], CatalogCounted],
        propose: Callable[[Collect], Awaitable[Collected]],
        clock: Clock,
        grace_ms: int,
    ) -> None:
        self._count = count
        self._propose = propose
        self._clock = clock
        self._grace_ms = grace_ms
        # Short graces are those of tests: look often enough to be worth them.
        self._idle_s = min(IDLE_S_MAX, max(grace_ms / 4000, BUSY_S))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            pause_s = self._idle_s
            try:
                if await self.step():
                    pause_s = BUSY_S
            except StoreError as error:
                # No leader any more, or not sure: the next leader looks again by itself.
                log.info("collection_waits", extra={"reason": error.message})
            await self._clock.sleep(pause_s)

    async def step(self) -> bool:
        """One bounded step; whether it found anything."""
        if not has_work(self._count()):
            return False
        done = await self._propose(Collect(grace_ms=self._grace_ms, rows_max=ROWS_MAX))
        found = done.uploads + done.sessions + done.segments + done.stripes
        if found:
            log.info(
                "collected",
                extra={
                    "uploads": done.uploads,
                    "sessions": done.sessions,
                    "segments": done.segments,
                    "stripes": done.stripes,
                },
            )
        return found > 0


def has_work(counted: CatalogCounted) -> bool:
    """Whether there is anything that could be due. Most of it is not due yet: the command
    itself knows, this only keeps an idle cluster's log quiet."""
    return bool(
        counted.dead_stripes
        or counted.uploads
        or counted.graveyard
        or counted.sessions
        or counted.trash  # due by catalog time, which stands still without entries
    )
