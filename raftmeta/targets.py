"""Where new shards may go, as the leader describes the cluster: for all who write some."""

from collections.abc import Iterable

from osscore.model import BLOCK_BYTES, STRIPE_BYTES_MAX
from osscore.placement import Obstacle, Target
from raftmeta.queries import DiskInfo, NodeInfo

ROOM_BYTES_MIN = STRIPE_BYTES_MAX + BLOCK_BYTES
"""A disk with less room counts as full: the largest shard, a whole stripe, might not fit."""
MAY_LIVE = ("up", "unknown")
_GIB = 1 << 30


def targets_of(nodes: Iterable[NodeInfo]) -> Iterable[Target]:
    """Every disk that is in; those that take no new shards have weight 0 and say why."""
    for node in nodes:
        for disk in node.disks:
            if disk.state != "in":
                continue
            obstacle = _obstacle(node, disk)
            weight = _weight(node, disk) if obstacle is Obstacle.NONE else 0.0
            yield Target(disk.disk, node.node, node.zone, weight, obstacle)


def _obstacle(node: NodeInfo, disk: DiskInfo) -> Obstacle:
    """Why a disk takes no new shards."""
    if node.health not in MAY_LIVE:
        return Obstacle.SILENT
    if node.health != "up":
        # A new leader has heard nobody yet; writes must not stop for that second.
        return Obstacle.NONE
    if disk.problem:
        return Obstacle.READ_ONLY
    has_room = disk.writable and disk.free_bytes >= ROOM_BYTES_MIN
    return Obstacle.NONE if has_room else Obstacle.FULL


def _weight(node: NodeInfo, disk: DiskInfo) -> float:
    """The share of new shards of a disk that takes some."""
    size_bytes = disk.free_bytes if node.health == "up" else disk.capacity_bytes
    return max(size_bytes, 1) / _GIB
