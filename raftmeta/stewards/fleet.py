"""The disks as planning sees them at one moment, and what may still be asked of each."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from osscore.model import Slot, SlotState, Stripe
from osscore.placement import Target
from raftmeta.moving import TaskInfo
from raftmeta.queries import DiskInfo, NodeInfo
from raftmeta.targets import ROOM_BYTES_MIN

TASKS_PER_TARGET = 256
BYTES_PER_TARGET = 128 << 20
"""More is not opened for a disk: enough that it always has work, few enough that what turns out
to be more urgent need not wait for long."""
TASKS_MAX = 2048
"""Open tasks in all."""
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class FleetDisk:
    """One disk. `takes_shards`: it can be a target now; `is_unfit`: it surely cannot, which a
    leader that has not heard of it yet does not know. `is_balanced`: how full it is matters,
    with `stored_bytes` of all shards that are there or should be."""

    disk: int
    node: str
    zone: str
    state: str
    is_silent: bool
    takes_shards: bool
    is_unfit: bool
    capacity_bytes: int
    free_bytes: int
    stored_bytes: int
    is_balanced: bool

    @property
    def is_usable(self) -> bool:
        """Whether shards there count as durable (SAFETY rule 9)."""
        return self.state in ("in", "draining")

    @property
    def target(self) -> Target:
        """As placement sees it."""
        weight = max(self.free_bytes, 1) / _GIB if self.takes_shards else 0.0
        return Target(self.disk, self.node, self.zone, weight)


class Fleet:
    """All disks by number."""

    def __init__(self, nodes: Sequence[NodeInfo]) -> None:
        self.disks: Mapping[int, FleetDisk] = {
            disk.disk: _fleet_disk(node, disk) for node in nodes for disk in node.disks
        }
        self.targets: tuple[Target, ...] = tuple(
            disk.target for disk in self.disks.values() if disk.takes_shards
        )

    def numbers(self, state: str) -> list[int]:
        """Disks in that state."""
        return sorted(disk.disk for disk in self.disks.values() if disk.state == state)

    def is_good(self, slot: Slot) -> bool:
        """Whether the catalog believes its shard to be there."""
        disk = self.disks.get(slot.disk)
        return slot.state == SlotState.GOOD and disk is not None and disk.is_usable

    def shards_left(self, stripe: Stripe) -> int:
        """How many of its shards are believed to be there."""
        return sum(self.is_good(slot) for slot in stripe.slots)

    def shards_in_reach(self, stripe: Stripe) -> int:
        """How many of these can be read now."""
        return sum(
            self.is_good(slot) and not self.disks[slot.disk].is_silent for slot in stripe.slots
        )

    def target_of(self, disk: int) -> Target | None:
        """A disk as placement sees it, whether it takes shards or not; None: unknown."""
        known = self.disks.get(disk)
        return known.target if known else None


class Budget:
    """What may still be opened, in all and for each target."""

    def __init__(self, tasks: Iterable[TaskInfo]) -> None:
        self._count = 0
        self._counts: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()
        for task in tasks:
            self.take(task.target, task.size_bytes)

    @property
    def is_spent(self) -> bool:
        """Whether nothing more may be opened."""
        return self._count >= TASKS_MAX

    def admits(self, target: int, *, share: float = 1.0) -> bool:
        """Whether that disk may get one more, of whatever size. `share`: of its part, used by
        work that leaves room for more urgent."""
        return (
            self._count < TASKS_MAX * share
            and self._counts[target] < TASKS_PER_TARGET * share
            and self._bytes[target] < BYTES_PER_TARGET * share
        )

    def take(self, target: int, size_bytes: int) -> None:
        """One more is open."""
        self._count += 1
        self._counts[target] += 1
        self._bytes[target] += size_bytes


def _fleet_disk(node: NodeInfo, disk: DiskInfo) -> FleetDisk:
    is_silent = disk.is_silent or node.health == "down"
    takes_more = disk.writable and not disk.problem and disk.free_bytes >= ROOM_BYTES_MIN
    is_up = node.health == "up"
    return FleetDisk(
        disk=disk.disk,
        node=node.node,
        zone=node.zone,
        state=disk.state,
        is_silent=is_silent,
        takes_shards=disk.state == "in" and is_up and not is_silent and takes_more,
        is_unfit=disk.state != "in" or is_silent or (is_up and not takes_more),
        capacity_bytes=disk.capacity_bytes,
        free_bytes=disk.free_bytes,
        stored_bytes=disk.slot_bytes,
        is_balanced=disk.state == "in" and is_up and not is_silent and not disk.problem,
    )
