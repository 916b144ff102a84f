"""Who is there: nodes, disks and their health, as the catalog and our own failures tell.

The description is asked for at most once a second, and only while somebody uses it. What
this process has just seen fail itself is avoided for a few seconds: sooner than any
heartbeat would tell, and without asking anybody.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from osscore.errors import StoreError
from osscore.placement import Obstacle, Target
from ossd.clock import Clock
from raftmeta.client import MetaClient
from raftmeta.queries import ClusterDescribed, GetCluster
from raftmeta.targets import MAY_LIVE, targets_of

POLL_S = 1.0
STALE_S = 10.0
"""An older description is renewed before it is used, not beside it."""
AVOID_S = 4.0
QUERY_DEADLINE_S = 5.0
_NODES_MIN = 2


@dataclass(frozen=True, slots=True)
class DiskPlace:
    """Where a disk is reached."""

    disk: int
    uuid: bytes
    node: str
    url: str
    zone: str
    state: str


@dataclass(frozen=True, slots=True)
class ClusterState:
    """One description, indexed. `targets`: every disk that is in, whether it can be written
    to or not. `node_count`: the nodes of these, dead or alive."""

    described: ClusterDescribed
    disks: Mapping[int, DiskPlace]
    targets: tuple[Target, ...]
    node_count: int
    health: Mapping[str, str]


class ClusterView:
    """The cluster as this process sees it. Use from one event loop; close it."""

    def __init__(
        self, meta: MetaClient, *, clock: Clock, deadline_s: float = QUERY_DEADLINE_S
    ) -> None:
        self._meta = meta
        self._deadline_s = deadline_s
        self._clock = clock
        self._state: ClusterState | None = None
        self._seen_s = 0.0
        self._refreshing: asyncio.Task[ClusterState] | None = None
        self._avoided_until_s: dict[str, float] = {}
        self._refused_until_s: dict[int, tuple[Obstacle, float]] = {}

    @property
    def latest(self) -> ClusterState | None:
        """The last description, of any age; None before the first."""
        return self._state

    async def described(self) -> ClusterDescribed:
        """The description last heard, of any age: for what never changes."""
        return (self._state or await self.current()).described

    @property
    def age_s(self) -> float:
        """Seconds since the last description; large before the first."""
        return self._clock.monotonic_s() - self._seen_s if self._state else 1e9

    async def current(self) -> ClusterState:
        """A description at most STALE_S old, or the last one if no leader tells a newer.

        Raises Unavailable when there has never been one.
        """
        age_s = self.age_s
        if self._state is not None and age_s <= POLL_S:
            return self._state
        task = self._refresh_task()
        if self._state is not None and age_s <= STALE_S:
            return self._state
        try:
            return await asyncio.shield(task)
        except StoreError:
            # No leader for the moment: what we knew is better than nothing.
            if self._state is None:
                raise
            return self._state

    async def refresh(self) -> ClusterState:
        """A description asked for now. Raises Unavailable."""
        return await asyncio.shield(self._refresh_task())

    def place(self, disk: int) -> DiskPlace | None:
        """Where a disk is, if it was known at the last description."""
        return self._state.disks.get(disk) if self._state else None

    def targets(self, state: ClusterState) -> list[Target]:
        """Disks for new shards; of weight 0 those that take none, full ones say.

        Avoided nodes count only where fewer than two would remain.
        """
        known = [self._as_seen(target) for target in state.targets]
        good = [target for target in known if not self.is_avoided(target.node)]
        nodes = {target.node for target in good if target.weight > 0}
        return good if len(nodes) >= _NODES_MIN else known

    def is_living(self, node: str) -> bool:
        """Whether a request to that node should succeed, as far as is known."""
        health = self._state.health.get(node, "down") if self._state else "down"
        return health in MAY_LIVE and not self.is_avoided(node)

    def note_failure(self, node: str) -> None:
        """This process could not reach that node, or waited in vain."""
        self._avoided_until_s[node] = self._clock.monotonic_s() + AVOID_S

    def note_success(self, node: str) -> None:
        """That node has just answered."""
        if self._avoided_until_s:
            self._avoided_until_s.pop(node, None)

    def note_refusal(self, disk: int, obstacle: Obstacle) -> None:
        """That disk has just refused a shard for this reason; the leader may not know yet."""
        self._refused_until_s[disk] = (obstacle, self._clock.monotonic_s() + AVOID_S)

    def is_avoided(self, node: str) -> bool:
        """Whether it failed within the last AVOID_S."""
        until_s = self._avoided_until_s.get(node)
        return until_s is not None and self._clock.monotonic_s() < until_s

    async def close(self) -> None:
        """Stop asking."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})

    def _as_seen(self, target: Target) -> Target:
        """The target as its own last refusal shows it."""
        obstacle, until_s = self._refused_until_s.get(target.disk, (Obstacle.NONE, 0.0))
        if target.weight <= 0 or self._clock.monotonic_s() >= until_s:
            return target
        return replace(target, weight=0.0, obstacle=obstacle)

    def _refresh_task(self) -> asyncio.Task[ClusterState]:
        """The question under way, shared by all who wait."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
            # A failure nobody waits for is no event: the next use asks again.
            self._refreshing.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._refreshing

    async def _refresh(self) -> ClusterState:
        described = await self._meta.query(
            GetCluster(), ClusterDescribed, deadline_s=self._deadline_s
        )
        self._state = index_cluster(described)
        self._seen_s = self._clock.monotonic_s()
        return self._state


def index_cluster(described: ClusterDescribed) -> ClusterState:
    """Make a description quick to use."""
    disks = {
        disk.disk: DiskPlace(disk.disk, disk.uuid, node.node, node.url, node.zone, disk.state)
        for node in described.nodes
        for disk in node.disks
    }
    nodes_in = [node for node in described.nodes if any(d.state == "in" for d in node.disks)]
    return ClusterState(
        described=described,
        disks=disks,
        targets=tuple(targets_of(described.nodes)),
        node_count=len(nodes_in),
        health={node.node: node.health for node in described.nodes},
    )
