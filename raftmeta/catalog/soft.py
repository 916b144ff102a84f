"""What the leader knows of nodes from heartbeats alone: never stored, lost with the process."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from raftmeta.archived import ArchiveState
from raftmeta.healing import HealingState
from raftmeta.lifecycle import LifecycleState
from raftmeta.queries import FrontendInfo, PruningState
from raftmeta.upkeep import DiskCensus, DiskScrub


@dataclass(frozen=True, slots=True)
class DiskSoft:
    """One disk as its last heartbeat described it."""

    capacity_bytes: int
    free_bytes: int
    writable: bool
    problem: str = ""
    census: DiskCensus | None = None
    scrub: DiskScrub | None = None


@dataclass(frozen=True, slots=True)
class NodeSoft:
    """One blob daemon: the leader's judgement and its last heartbeat.

    `health`: up, suspect, down, unknown. `disks` by uuid. `silent_disks`: uuids of those that
    are not heard of, be it that their node beats without them.
    """

    url: str
    health: str
    last_heartbeat_ms_ago: int
    disks: Mapping[bytes, DiskSoft] = field(default_factory=dict)
    silent_disks: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class SoftState:
    """All nodes by id, the frontends, whether metanodes have room for writes (SAFETY rule 14),
    how far pruning is, what goes by time, healing, and the archive at blob daemons."""

    nodes: Mapping[str, NodeSoft] = field(default_factory=dict)
    admits_writes: bool = True
    frontends: tuple[FrontendInfo, ...] = ()
    pruning: PruningState | None = None
    lifecycle: LifecycleState | None = None
    healing: HealingState | None = None
    archive: ArchiveState | None = None
