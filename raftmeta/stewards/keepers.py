"""Which disks keep the archive, and what each of them holds."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from osscore.model import Profile
from osscore.placement import default_profile
from raftmeta.archive.pieces import LogName, SnapshotName, parse_name
from raftmeta.archive.wire import DiskArchive
from raftmeta.queries import NodeInfo

COPIES_MIN = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A disk that could keep an archive, and its daemon."""

    uuid: bytes
    node: str
    url: str
    zone: str
    free_bytes: int


@dataclass(slots=True)
class Held:
    """What one disk keeps of a generation, as far as the leader knows.

    `end`: its last entry of the log; `run`: the first of those that lead up to it without a gap;
    0: there is no log. `snapshot`: the newest whole one; `log_bytes` of log lie behind it.
    `older`: it keeps whole snapshots before that one, of this generation or of others.
    `problem_there`: why it keeps nothing more, by its own word; `problem`: what came of the last
    attempt to send it anything. `is_damaged`: of the log behind the snapshot not all is what it
    was.
    """

    end: int = 0
    run: int = 0
    snapshot: SnapshotName | None = None
    snapshot_bytes: int = 0
    log_bytes: int = 0
    older: bool = False
    is_damaged: bool = False
    problem_there: str = ""
    problem: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether its log goes on behind its snapshot without a gap."""
        if self.snapshot is None or self.is_damaged:
            return False
        return self.run <= self.snapshot.index + 1

    @property
    def reach(self) -> int:
        """The entry as of which a catalog can be made of this disk alone; 0: none can."""
        if self.snapshot is None:
            return 0
        return max(self.end, self.snapshot.index) if self.is_whole else self.snapshot.index


@dataclass(slots=True)
class Keeper:
    """A chosen disk. `begins_behind`: its log begins anew behind that entry, which a snapshot
    under way will hold; `is_cut_off`: this leader's log does not hold what it lacks any more.
    `failing_s`: since when it has not kept what it was sent."""

    place: Place
    held: Held
    begins_behind: int | None = None
    is_cut_off: bool = False
    failing_s: float | None = None

    @property
    def next_index(self) -> int | None:
        """The entry it is to be sent next; None: a snapshot comes first."""
        if self.begins_behind is not None:
            return self.begins_behind + 1
        if self.is_cut_off:
            return None
        if self.held.end:
            return self.held.end + 1
        return None if self.held.snapshot is None else self.held.snapshot.index + 1

    @property
    def begins(self) -> bool:
        """Whether that entry is the first of a run."""
        return self.begins_behind is not None or not self.held.end

    @property
    def needs_snapshot(self) -> bool:
        """Whether no catalog can be made of what it holds and will hold."""
        return self.is_cut_off or not self.held.is_whole


def copies_wanted(nodes: Sequence[NodeInfo], profiles: Iterable[Profile | None]) -> int:
    """One more than any stripe may lose, and COPIES_MIN at least."""
    used = [profile for profile in profiles if profile is not None]
    used.append(default_profile(len(nodes)))
    return max(COPIES_MIN, *(profile.parity_count + 1 for profile in used))


def living(nodes: Sequence[NodeInfo]) -> list[Place]:
    """Disks that can be spoken to."""
    return [
        Place(disk.uuid, node.node, node.url, node.zone, disk.free_bytes)
        for node in nodes
        for disk in node.disks
        if node.health in ("up", "suspect")
        and disk.state in ("in", "draining")
        and not disk.is_silent
    ]


def candidates(nodes: Sequence[NodeInfo], refused: Collection[bytes]) -> list[Place]:
    """Disks that may keep an archive now."""
    usable = {d.uuid for node in nodes for d in node.disks if d.state == "in" and d.writable}
    return [each for each in living(nodes) if each.uuid in usable and each.uuid not in refused]


def choose(
    candidates: Sequence[Place],
    reaches: Mapping[bytes, int],
    current: Collection[bytes],
    count: int,
) -> list[Place]:
    """`count` of them on different nodes, if there are so many, and in as many zones as there
    can be; rather those that are chosen already, then those whose archive reaches furthest, then
    those with most room."""

    def rank(place: Place) -> tuple[bool, int, int, bytes]:
        reach = reaches.get(place.uuid, 0)
        return (place.uuid not in current, -reach, -place.free_bytes, place.uuid)

    order = sorted(candidates, key=rank)
    chosen: list[Place] = []
    for in_new_zone in (True, False):
        for place in order:
            zones = {each.zone or each.node for each in chosen}
            fits = (place.zone or place.node) not in zones or not in_new_zone
            if len(chosen) < count and fits and place.node not in {c.node for c in chosen}:
                chosen.append(place)
    return chosen


def held_of(archive: DiskArchive, generation: int) -> Held:
    """What a disk keeps of a generation, by its own word."""
    sizes = {parse_name(file.name): file.size_bytes for file in archive.files}
    logs = [n for n in sizes if isinstance(n, LogName) and n.generation == generation]
    snapshots = [name for name in sizes if isinstance(name, SnapshotName)]
    damaged = {parse_name(text) for text in archive.damaged}
    own = [name for name in snapshots if name.generation == generation and name not in damaged]
    newest = max(own, default=None)
    run = max(logs).run if logs else 0
    behind = [
        size
        for name, size in sizes.items()
        if isinstance(name, LogName)
        and name.run == run
        and name.generation == generation
        and newest is not None
        and name.first > newest.index
    ]
    needed_from = newest.index + 1 if newest is not None else 0
    return Held(
        is_damaged=any(
            name in damaged and _last_of(name, logs, archive) >= needed_from for name in logs
        ),
        end=archive.ends.get(str(generation), 0),
        run=run,
        snapshot=newest,
        snapshot_bytes=sizes[newest] if newest is not None else 0,
        log_bytes=sum(behind),
        older=len(snapshots) > (newest is not None),
        problem_there=archive.problem,
    )


def _last_of(name: LogName, logs: Sequence[LogName], archive: DiskArchive) -> int:
    """Nothing behind this entry is in that file."""
    following = min((each for each in logs if each > name), default=None)
    if following is not None:
        return following.first - 1
    return archive.ends.get(str(name.generation), 0)
