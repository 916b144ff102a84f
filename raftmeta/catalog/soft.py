"""What the leader knows of nodes from heartbeats alone: never stored, lost with the process."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DiskSoft:
    """One disk as its last heartbeat described it."""

    capacity_bytes: int
    free_bytes: int
    writable: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class NodeSoft:
    """One blob daemon: the leader's judgement and its last heartbeat.

    `health`: up, suspect, down, unknown. `disks` by uuid.
    """

    url: str
    health: str
    last_heartbeat_ms_ago: int
    disks: Mapping[bytes, DiskSoft] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SoftState:
    """All nodes by id, and whether metanodes have room for writes (SAFETY rule 14)."""

    nodes: Mapping[str, NodeSoft] = field(default_factory=dict)
    admits_writes: bool = True
