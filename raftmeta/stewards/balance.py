"""How full disks are against their fair share, and which moves bring them nearer to it.

A disk's fair share is the part of all bytes that its capacity is of all capacity. Balancing
begins where a disk is further than 5 % of its share from it, and goes on until all are within
2.5 %, so that ordinary writing does not begin it again.

It cannot oscillate: call what a disk is beyond its band its excess. Every admitted move makes the
sum of all excess smaller, and none takes a disk out of its band. Bytes are whole, so it ends; and
what is moved is needed, but for at most about a shard a disk.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from raftmeta.moving import TaskInfo
from raftmeta.stewards.fleet import Fleet, FleetDisk

BEGIN_PERCENT = 5.0
END_PERCENT = 2.5
FLOOR_BYTES = 1 << 20
"""Nearer than this to its share is near enough for any disk: hardly used ones are left alone."""


@dataclass(slots=True)
class _Load:
    """Bytes that lie, or will lie, on a disk; `fair_bytes` should."""

    disk: FleetDisk
    stored_bytes: int
    fair_bytes: float

    @property
    def surplus_bytes(self) -> float:
        """More than its share; negative: less."""
        return self.stored_bytes - self.fair_bytes

    def is_beyond(self, percent: float) -> bool:
        """Whether it is further from its share than so much of it."""
        return abs(self.surplus_bytes) > _band_bytes(self.fair_bytes, percent)


class Balance:
    """Of the disks that are in and heard of, with what open tasks will have moved."""

    def __init__(self, fleet: Fleet, tasks: Iterable[TaskInfo]) -> None:
        part = {n: disk for n, disk in fleet.disks.items() if disk.is_balanced}
        stored = {n: disk.stored_bytes for n, disk in part.items()}
        for task in tasks:
            if task.target in stored:
                stored[task.target] += task.size_bytes
            if task.disk in stored:
                stored[task.disk] -= task.size_bytes
        capacity = sum(disk.capacity_bytes for disk in part.values()) or 1
        total = sum(stored.values())
        self._loads: Mapping[int, _Load] = {
            n: _Load(disk, stored[n], total * disk.capacity_bytes / capacity)
            for n, disk in part.items()
        }
        self.rows: set[int] = set()
        """Stripes with a move planned by this: two at once could bring shards together."""

    @property
    def disks(self) -> frozenset[int]:
        """Those it is about."""
        return frozenset(self._loads)

    @property
    def left_bytes(self) -> int:
        """To be moved until every disk has its share."""
        return round(sum(max(0.0, load.surplus_bytes) for load in self._loads.values()))

    def is_off(self, *, is_active: bool) -> bool:
        """Whether there is anything to even out; `is_active`: it has begun already."""
        percent = END_PERCENT if is_active else BEGIN_PERCENT
        return any(load.is_beyond(percent) for load in self._loads.values())

    def sources(self) -> list[int]:
        """Disks with more than their share, the fullest first."""
        above = [load for load in self._loads.values() if load.surplus_bytes > 0]
        above.sort(key=lambda load: (-load.surplus_bytes / load.fair_bytes, load.disk.disk))
        return [load.disk.disk for load in above]

    def lack_bytes(self, disk: int) -> float:
        """Less than its share; 0: not."""
        load = self._loads.get(disk)
        return max(0.0, -load.surplus_bytes) if load else 0.0

    def admits(self, source: int, target: int, size_bytes: int) -> bool:
        """Whether moving a shard of that size makes the sum of excess smaller."""
        from_, to = self._loads[source], self._loads[target]
        return (
            (from_.is_beyond(END_PERCENT) or to.is_beyond(END_PERCENT))
            and _may_change(from_.surplus_bytes, size_bytes, from_.fair_bytes)
            and _may_change(-to.surplus_bytes, size_bytes, to.fair_bytes)
        )

    def move(self, row: int, source: int, target: int, size_bytes: int) -> None:
        """It is planned."""
        self.rows.add(row)
        self._loads[source].stored_bytes -= size_bytes
        self._loads[target].stored_bytes += size_bytes


def _may_change(off_bytes: float, size_bytes: int, fair_bytes: float) -> bool:
    """Whether a disk that is off by so much may be changed by that size towards its share: it
    ends within its band, or at least nearer than it was."""
    if off_bytes <= 0:
        return False
    return off_bytes > size_bytes / 2 or (
        size_bytes - off_bytes <= _band_bytes(fair_bytes, END_PERCENT)
    )


def _band_bytes(fair_bytes: float, percent: float) -> float:
    return max(fair_bytes * percent / 100, FLOOR_BYTES)
