"""The cluster as the metadata last described it, shared by all that a daemon does."""

from osscore.errors import StoreError
from ossd.clock import Clock
from raftmeta.client import MetaClient
from raftmeta.queries import ClusterDescribed, GetCluster

FRESH_S = 1.0


class Described:
    """Asks for the cluster's description at most once a second. Use from one event loop."""

    def __init__(self, meta: MetaClient, *, clock: Clock) -> None:
        self._meta = meta
        self._clock = clock
        self._described: ClusterDescribed | None = None
        self._seen_s = 0.0

    async def latest(self) -> ClusterDescribed:
        """The description last heard, of any age. Raises Unavailable before the first."""
        return self._described or await self.current()

    async def current(self) -> ClusterDescribed:
        """One at most FRESH_S old. Raises Unavailable if the metadata cannot be asked."""
        now_s = self._clock.monotonic_s()
        if self._described is None or now_s - self._seen_s > FRESH_S:
            self._described = await self._meta.query(GetCluster(), ClusterDescribed)
            self._seen_s = now_s
        return self._described

    async def newest(self) -> ClusterDescribed:
        """As `current`, or the last one if no leader tells a newer. Raises Unavailable before
        the first."""
        try:
            return await self.current()
        except StoreError:
            if self._described is None:
                raise
            return self._described
