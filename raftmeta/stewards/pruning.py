"""The leader's pruning: of each object in a bucket that asks for it, the newest N versions stay.

Level-triggered: each round looks at all buckets as they are now, and the command asks the
bucket again when it is applied, so a changed setting never removes more than it allows. What a
round has not done, because it was cut off or because new versions came, the next one finds.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from osscore.errors import NotFound, StoreError
from ossd.clock import Clock
from raftmeta.commands import PruneVersions, VersionsPruned
from raftmeta.queries import BucketInfo, FindPrunable, PrunableFound

REST_S = 10.0
"""Between two rounds."""
PAUSE_S = 0.05
"""Between two pages or commands: pruning never takes the log over."""
PAGE_KEYS = 100
ROWS_MAX = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PruningProgress:
    """Where the round is. `removed`: versions and markers, by this round so far or by the last.

    `finished_at_s`: monotonic end of the last whole round, None before it.
    """

    buckets: int = 0
    buckets_done: int = 0
    keys_visited: int = 0
    removed: int = 0
    finished_at_s: float | None = None


class Pruning:
    """One steward. `buckets` and `find` look at the local catalog; `propose` replicates."""

    def __init__(
        self,
        *,
        buckets: Callable[[], Awaitable[Sequence[BucketInfo]]],
        find: Callable[[FindPrunable], Awaitable[PrunableFound]],
        propose: Callable[[PruneVersions], Awaitable[VersionsPruned]],
        clock: Clock,
    ) -> None:
        self._buckets = buckets
        self._find = find
        self._propose = propose
        self._clock = clock
        self.progress = PruningProgress()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.round()
            except StoreError as error:
                # No leader any more, or not sure: the next round, or leader, looks again.
                log.info("pruning_waits", extra={"reason": error.message})
            await self._clock.sleep(REST_S)

    async def round(self) -> None:
        """Look at every bucket that keeps only some versions. Raises StoreError."""
        asking = [bucket.name for bucket in await self._buckets() if bucket.keep_versions]
        self.progress = PruningProgress(
            buckets=len(asking), finished_at_s=self.progress.finished_at_s
        )
        for bucket in asking:
            try:
                await self._bucket(bucket)
            except NotFound:
                pass  # removed meanwhile
            self._advance(buckets_done=1)
        self.progress = replace(self.progress, finished_at_s=self._clock.monotonic_s())
        if self.progress.removed:
            log.info("pruned", extra={"buckets": len(asking), "removed": self.progress.removed})

    async def _bucket(self, bucket: str) -> None:
        after_key: str | None = ""
        while after_key is not None:
            page = await self._find(
                FindPrunable(bucket=bucket, after_key=after_key, limit=PAGE_KEYS)
            )
            for found in page.keys:
                await self._key(bucket, found.key)
            self._advance(keys_visited=page.visited)
            await self._clock.sleep(PAUSE_S)
            after_key = page.next

    async def _key(self, bucket: str, key: str) -> None:
        is_done = False
        while not is_done:
            pruned = await self._propose(PruneVersions(bucket=bucket, key=key, rows_max=ROWS_MAX))
            self._advance(removed=pruned.versions + pruned.markers)
            await self._clock.sleep(PAUSE_S)
            is_done = pruned.is_done

    def _advance(self, **more: int) -> None:
        grown = {name: getattr(self.progress, name) + count for name, count in more.items()}
        self.progress = replace(self.progress, **grown)
