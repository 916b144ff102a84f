"""Going over the stripes of one query again and again, a page at a time, resting in between."""

from collections.abc import Sequence

import msgspec

from ossd.clock import Clock
from raftmeta.moving import PlannedStripe
from raftmeta.stewards.survey import ReadPage, Source

REST_S = 10.0
"""After a pass that found nothing to do."""


class Sweep:
    """Where a pass over `source` is."""

    def __init__(self, source: Source, clock: Clock, *, rest_s: float = REST_S) -> None:
        self._source = source
        self._rest_s = rest_s
        self._clock = clock
        self._after = self._next = 0
        self._found = 0
        self._rests_until_s = float("-inf")

    @property
    def is_resting(self) -> bool:
        """Whether the last pass was whole, found nothing, and was just now."""
        return self._clock.monotonic_s() < self._rests_until_s

    @property
    def is_at_start(self) -> bool:
        """Whether the next page is the first."""
        return not self._after

    def wake(self) -> None:
        """Something has changed: go on at once."""
        self._rests_until_s = float("-inf")

    async def page(self, read: ReadPage) -> Sequence[PlannedStripe]:
        """The page where it stands. Say by `went` what became of it. Raises StoreError."""
        source = msgspec.structs.replace(self._source, after_row=self._after)
        page = await read(source)
        self._next = page.next_row
        return page.stripes

    def went(self, *, found: int, waits: bool) -> None:
        """`found`: tasks that the page gave or has; `waits`: more is to be had of it later."""
        self._found += found
        if waits:
            return
        self._after = self._next
        if not self._next:
            if not self._found:
                self._rests_until_s = self._clock.monotonic_s() + self._rest_s
            self._found = 0
