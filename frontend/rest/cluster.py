"""The cluster as a frontend sees it: `/v1/cluster`, `/v1/status`, `/v1/maintenance`."""

import msgspec

from frontend.flows.nodes import may_not_stop
from frontend.readiness import DESCRIPTION_AGE_S_MAX
from frontend.rest.generation import shown_deletion
from frontend.rest.handler import NativeHandler
from frontend.rest.metanodes import MetanodeShown, read_metanodes
from frontend.serving import query
from osscore.errors import InvalidArgument, PreconditionFailed, StoreError
from raftmeta.access import INFO
from raftmeta.lifecycle import LifecycleState
from raftmeta.queries import (
    CatalogCounted,
    ClusterDescribed,
    CountCatalog,
    DiskInfo,
    FrontendInfo,
    NodeInfo,
    PruningState,
)

_LIVING_STATES = ("leader", "follower")


class ClusterHandler(NativeHandler):
    """`/v1/cluster`: every node with its state, and the census."""

    async def get(self) -> None:
        """JSON; works as far as it can while there is no leader."""
        await self.allow(INFO)
        metanodes = await read_metanodes(self.surface.rpc, self.store.meta.urls)
        described = await self._described()
        census = await self._census()
        self.reply_json(
            {
                "cluster_id": described.cluster_id.hex(),
                "metanodes": metanodes,
                "blobs": [_blob(node) for node in described.nodes],
                "frontends": self._frontends(described),
                "admits_writes": described.admits_writes,
                "census": _census(census) if census else None,
                "pruning": _progress(described.pruning),
                "lifecycle": _progress(described.lifecycle),
                "generation": described.generation,
                "deletion": shown_deletion(described.deletion),
                "healing": _healing(described),
                "archive": msgspec.to_builtins(described.archive),
            }
        )

    async def _described(self) -> ClusterDescribed:
        try:
            return (await self.store.cluster.refresh()).described
        except StoreError:
            return (await self.store.cluster.current()).described

    def _frontends(self, described: ClusterDescribed) -> list[dict[str, object]]:
        """All that were heard; this one lives, heard or not."""
        me = self.surface.config.id
        shown = [_frontend(each) for each in described.frontends]
        if me not in {each.frontend for each in described.frontends}:
            shown.append({"id": me, "state": "up"})
        return shown

    async def _census(self) -> CatalogCounted | None:
        try:
            return await self.store.meta.query(CountCatalog(), CatalogCounted, deadline_s=2)
        except StoreError:
            return None


class StatusHandler(NativeHandler):
    """`/v1/status`: this process; open to anybody."""

    def get(self) -> None:
        """JSON."""
        latest = self.store.cluster.latest
        self.reply_json(
            {
                "id": self.surface.config.id,
                "role": "frontend",
                "version": self.surface.version,
                "pid": self.surface.pid,
                "state": self._state(),
                "cluster_id": latest.described.cluster_id.hex() if latest else "",
            }
        )

    def _state(self) -> str:
        if self.service.draining:
            return "stopping"
        return "ready" if self.store.cluster.age_s <= DESCRIPTION_AGE_S_MAX else "no metadata"


class MaintenanceHandler(NativeHandler):
    """`/v1/maintenance?node=X`: may X be stopped now without losing availability?"""

    async def get(self) -> None:
        """200 if so. Raises PreconditionFailed that says why not, NoSuchNode."""
        await self.allow(INFO)
        node = query.text(self.arguments, "node")
        if not node:
            raise InvalidArgument("Name a node: ?node=blob-1.")
        metanodes = await read_metanodes(self.surface.rpc, self.store.meta.urls)
        obstacle = await self._obstacle(node, metanodes)
        if obstacle:
            raise PreconditionFailed(obstacle)
        self.reply_json({"node": node, "may_stop": True})

    async def _obstacle(self, node: str, metanodes: list[MetanodeShown]) -> str:
        if node == self.surface.config.id:
            return ""
        if node in {each.id for each in metanodes}:
            return _metanode_obstacle(node, metanodes)
        return await may_not_stop(self.store, node)


def _metanode_obstacle(node: str, metanodes: list[MetanodeShown]) -> str:
    remaining = [n for n in metanodes if n.id != node and n.state in _LIVING_STATES]
    if len(remaining) * 2 <= len(metanodes):
        return f"Only {len(remaining)} of {len(metanodes)} metanodes would remain."
    return ""


def _census(counted: CatalogCounted) -> dict[str, object]:
    fields = msgspec.structs.asdict(counted)
    return {
        **fields,
        "missing": {str(n): count for n, count in counted.missing.items()},
        "expired": msgspec.structs.asdict(counted.expired),
    }


def _progress(state: PruningState | LifecycleState | None) -> dict[str, object] | None:
    return msgspec.structs.asdict(state) if state else None


def _healing(described: ClusterDescribed) -> dict[str, object] | None:
    """In short; see `/v1/maintenance/repair`."""
    state = described.healing
    if state is None:
        return None
    return {
        "alarm": state.alarm or None,
        "paused": list(described.paused),
        "tasks": state.tasks,
        "unreadable": state.unreadable,
        "bytes_per_s": state.bytes_per_s,
    }


def _frontend(info: FrontendInfo) -> dict[str, object]:
    return {
        "id": info.frontend,
        "state": info.health,
        "url": info.url,
        "last_heartbeat_ms_ago": info.last_heartbeat_ms_ago,
    }


def _blob(node: NodeInfo) -> dict[str, object]:
    return {
        "id": node.node,
        "state": node.health,
        "url": node.url,
        "zone": node.zone,
        "last_heartbeat_ms_ago": node.last_heartbeat_ms_ago,
        "disks": [_disk(disk) for disk in node.disks],
    }


def _disk(disk: DiskInfo) -> dict[str, object]:
    return {
        "disk": disk.disk,
        "uuid": disk.uuid.hex(),
        "state": disk.state,
        "capacity_bytes": disk.capacity_bytes,
        "free_bytes": disk.free_bytes,
        "writable": disk.writable,
        "problem": disk.problem,
        "silent": disk.is_silent,
        "shards": disk.slot_count,
        "bytes": disk.slot_bytes,
        "census": msgspec.structs.asdict(disk.census) if disk.census else None,
    }
