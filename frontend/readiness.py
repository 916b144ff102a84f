"""Whether this frontend can serve now, kept up to date whether anybody asks or not."""

from frontend.cluster import ClusterView
from osscore.errors import StoreError
from osscore.placement import Obstacle
from ossd.clock import Clock
from ossd.health import Check

_WATCH_S = 1.0
DESCRIPTION_AGE_S_MAX = 4.0
"""A frontend whose description of the cluster is older cannot reach the metadata."""
_NODES_MIN = 2


class Readiness:
    """Watches the cluster and answers the checks of `/readyz`."""

    def __init__(self, cluster: ClusterView, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock
        self._problem = "the metanodes have not answered yet"
        self._has_served = False

    def checks(self) -> dict[str, Check]:
        """By name; see `health_routes`."""
        return {"metadata": self._check_metadata, "blob daemons": self._check_blobs}

    async def watch(self) -> None:
        """Ask for the cluster's description now and then, for ever."""
        while True:
            try:
                await self._cluster.refresh()
                self._problem = ""
            except StoreError as error:
                self._problem = error.message
            # Soon again at the start: a new cluster is waited for.
            await self._clock.sleep(_WATCH_S if self._check_blobs() is None else _WATCH_S / 5)

    def _check_metadata(self) -> str | None:
        if self._cluster.age_s <= DESCRIPTION_AGE_S_MAX:
            return None
        return self._problem or "no metadata leader answers"

    def _check_blobs(self) -> str | None:
        """Whether enough daemons take part.

        A full store reads and deletes, which is the way out of it, so full disks count. So do
        read-only ones, but not at the start, when every disk is read-only for a moment.
        """
        obstacles = {Obstacle.NONE, Obstacle.FULL}
        if self._has_served:
            obstacles.add(Obstacle.READ_ONLY)
        latest = self._cluster.latest
        targets = latest.targets if latest else ()
        nodes = {target.node for target in targets if target.obstacle in obstacles}
        if len(nodes) >= _NODES_MIN:
            self._has_served = True
            return None
        return f"{len(nodes)} blob daemons can be written to, {_NODES_MIN} are needed"
