"""The leader's lifecycle: what buckets want gone by time, a bounded number of rows at a time.

Level-triggered, and nothing of a round is kept: what is due is a seek in an index, what was
done is due no more, and the commands judge again, by catalog time, when they are applied. So a
leader that takes over goes on where the former one was, and a clock that runs ahead, or a
setting taken back, removes nothing too early.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from osscore.errors import NotFound, StoreError
from ossd.clock import Clock
from raftmeta.expiring import ExpiringFound, FindExpiring
from raftmeta.lifecycle import Expired, ExpireObject, ExpireVersions, Lifecycle
from raftmeta.queries import BucketInfo

REST_S_MAX = 10.0
"""Between two rounds."""
REST_S_MIN = 0.5
PAUSE_S = 0.05
"""Between two steps: expiry never takes the log over."""
KEYS_AT_ONCE = 100
ROWS_MAX = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LifecycleProgress:
    """Where the round is. `objects` expired and `removed` versions and markers, by this round so
    far or by the last. `finished_at_s`: monotonic end of the last whole round, None before it.
    """

    buckets: int = 0
    buckets_done: int = 0
    objects: int = 0
    removed: int = 0
    finished_at_s: float | None = None


class Expiring:
    """One steward. `buckets` and `find` look at the local catalog; `propose` replicates commands,
    all in one batch."""

    def __init__(
        self,
        *,
        buckets: Callable[[], Awaitable[Sequence[BucketInfo]]],
        find: Callable[[FindExpiring], Awaitable[ExpiringFound]],
        propose: Callable[[Sequence[ExpireObject | ExpireVersions]], Awaitable[Sequence[Expired]]],
        clock: Clock,
    ) -> None:
        self._buckets = buckets
        self._find = find
        self._propose = propose
        self._clock = clock
        self._rest_s = REST_S_MAX
        self.progress = LifecycleProgress()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.round()
            except StoreError as error:
                # No leader any more, or not sure: the next round, or leader, looks again.
                log.info("lifecycle_waits", extra={"reason": error.message})
            await self._clock.sleep(self._rest_s)

    async def round(self) -> None:
        """Do what is due in every bucket that asks. Raises StoreError."""
        asking = [bucket for bucket in await self._buckets() if bucket.lifecycle.asks]
        self._rest_s = min((_rest_s(each.lifecycle) for each in asking), default=REST_S_MAX)
        self.progress = LifecycleProgress(
            buckets=len(asking), finished_at_s=self.progress.finished_at_s
        )
        for bucket in asking:
            try:
                while await self._step(bucket.name):
                    await self._clock.sleep(PAUSE_S)
            except NotFound:
                pass  # removed meanwhile
            self._advance(buckets_done=1)
        self.progress = replace(self.progress, finished_at_s=self._clock.monotonic_s())
        if self.progress.objects or self.progress.removed:
            done = {"objects": self.progress.objects, "removed": self.progress.removed}
            log.info("expired", extra={"buckets": len(asking), **done})

    async def _step(self, bucket: str) -> bool:
        """Some of what is due; whether anything was done. Not so while all expiry waits."""
        found = await self._find(
            FindExpiring(bucket=bucket, at_ms=self._clock.now_ms(), limit=KEYS_AT_ONCE)
        )
        commands: list[ExpireObject | ExpireVersions] = [
            ExpireObject(bucket=bucket, key=key) for key in found.keys
        ]
        if found.has_more:
            commands.append(ExpireVersions(bucket=bucket, rows_max=ROWS_MAX))
        done = await self._propose(commands) if commands else ()
        for each in done:
            self._advance(objects=each.objects, removed=each.versions + each.markers)
        return any(each.count for each in done)

    def _advance(self, **more: int) -> None:
        grown = {name: getattr(self.progress, name) + count for name, count in more.items()}
        self.progress = replace(self.progress, **grown)


def _rest_s(asked: Lifecycle) -> float:
    """Times of seconds, as in tests, are kept to a fraction of them."""
    times_ms = (
        asked.expire_after_ms,
        asked.expire_noncurrent_after_ms,
        asked.abort_uploads_after_ms,
    )
    shortest_s = min(each for each in times_ms if each) / 1000
    return min(REST_S_MAX, max(REST_S_MIN, shortest_s / 10))
