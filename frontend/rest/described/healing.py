"""Nodes that drain and go, repair and rebalancing."""

from typing import Annotated, Final

from msgspec import Meta

from frontend.openapi.shapes import Count, Shape, Size
from frontend.openapi.words import (
    Node,
    all_answers,
    answers_json,
    fails,
    in_query,
    operation,
    path,
)


class DiskLoad(Shape, frozen=True):
    """A disk and what lies there, or is meant to."""

    node: str
    disk: Count
    state: Annotated[str, Meta(description="in, draining or lost")]
    capacity_bytes: Size
    shards: Count
    bytes: Size


class Drained(Shape, frozen=True):
    """Disks that drain from now on, or no longer, as they were before."""

    node: str
    draining: bool
    disks: list[DiskLoad]


class Removed(Shape, frozen=True):
    """Disks that are gone for good, or could be, as they were before."""

    node: str
    dry_run: bool
    disks: list[DiskLoad]


class MovedInAll(Shape, frozen=True):
    """Written by tasks of any kind since the cluster was formed."""

    shards: Count
    bytes: Size


class WorkLeft(Shape, frozen=True):
    """What every kind of work tells."""

    paused: bool
    tasks: Annotated[dict[str, int], Meta(description="Open ones by reason.")]
    left_bytes: Annotated[int, Meta(ge=0, description="To be written.")]
    bytes_per_s: Annotated[float, Meta(description="Written, on average of the last minute.")]
    eta_s: Annotated[float | None, Meta(description="At that rate; null: no end in sight.")]
    moved: MovedInAll


class DamagedCounts(Shape, frozen=True):
    """Stripes with shards that are missing, bad, or on lost disks."""

    surveyed: Annotated[bool, Meta(description="false: so far, all were not looked at yet.")]
    by_missing: Annotated[dict[str, int], Meta(description="By how many are not there.")]
    unreadable: Annotated[int, Meta(ge=0, description="Of these, with fewer left than needed.")]


class DamagedObjects(Shape, frozen=True):
    """Versions of objects, old ones too, by the most shards that one of their stripes misses."""

    by_missing: dict[str, int]
    partial: Annotated[bool, Meta(description="true: there are more, not all were looked at.")]


class RepairLeft(WorkLeft, frozen=True):
    """How repair gets on."""

    alarm: Annotated[str | None, Meta(description="Why no disk is judged lost now.")]
    lost: list[DiskLoad]
    stripes: DamagedCounts
    objects: DamagedObjects


class SpreadCounts(Shape, frozen=True):
    """Stripes that lie too close together."""

    crowded: Annotated[int, Meta(ge=0, description="With several shards on a node.")]
    replicas: Annotated[int, Meta(ge=0, description="Written as copies for want of nodes.")]


class RebalanceLeft(WorkLeft, frozen=True):
    """How draining, spreading and rebalancing get on."""

    stripes: SpreadCounts
    disks: list[DiskLoad]


class WorkPaused(Shape, frozen=True):
    """Whether a kind of work rests."""

    work: Annotated[str, Meta(description="repair, rebalance or reencode")]
    paused: bool


class GivenUp(Shape, frozen=True):
    """Disks that are judged lost from now on, as they were before."""

    lost: list[DiskLoad]


_DISK: Final = DiskLoad(
    node="blob-1", disk=1, state="in", capacity_bytes=1 << 40, shards=8, bytes=12_000_000
)
_MOVED: Final = MovedInAll(shards=12, bytes=18_000_000)
_NODE: Final = in_query("node", str, "Its id.", example="blob-1", required=True)
_ONE_DISK: Final = in_query("disk", Count, "One of its disks, by number; none: all.", example=1)


def healing_paths() -> dict[str, Node]:
    """`/v1/maintenance/` `drain`, `remove`, `repair`, `rebalance`, and how `reencode` rests."""
    return {
        "/v1/maintenance/drain": path(post=_drain()),
        "/v1/maintenance/remove": path(post=_remove()),
        "/v1/maintenance/repair": path(get=_repair()),
        "/v1/maintenance/repair/force": path(post=_force()),
        "/v1/maintenance/repair/pause": path(post=_pause("repair", paused=True)),
        "/v1/maintenance/repair/resume": path(post=_pause("repair", paused=False)),
        "/v1/maintenance/rebalance": path(get=_rebalance()),
        "/v1/maintenance/rebalance/pause": path(post=_pause("rebalance", paused=True)),
        "/v1/maintenance/rebalance/resume": path(post=_pause("rebalance", paused=False)),
        "/v1/maintenance/reencode/pause": path(post=_pause("reencode", paused=True)),
        "/v1/maintenance/reencode/resume": path(post=_pause("reencode", paused=False)),
    }


def _drain() -> Node:
    done = Drained(node="blob-1", draining=True, disks=[_DISK])
    return operation(
        "drainNode",
        "maintenance",
        "Have the shards of a node, or of one disk, moved elsewhere",
        all_answers(
            {"200": answers_json("It goes on by itself.", Drained, done)},
            fails(400, 401, 403, 404, 409, 412, 500, 503),
        ),
        says="412 says why the other nodes could not hold every stripe as safely.",
        parameters=[
            _NODE,
            _ONE_DISK,
            in_query("cancel", str, "`1`: no longer.", example="1"),
        ],
    )


def _remove() -> Node:
    done = Removed(node="blob-1", dry_run=False, disks=[_DISK])
    return operation(
        "removeNode",
        "maintenance",
        "Take the empty disks of a node, or one of them, out of the cluster for good",
        all_answers(
            {"200": answers_json("It is done.", Removed, done)},
            fails(400, 401, 403, 404, 409, 500, 503),
        ),
        says="409 says how many shards are there still.",
        parameters=[
            _NODE,
            _ONE_DISK,
            in_query("dry_run", str, "`1`: only say whether it could be.", example="1"),
        ],
    )


def _repair() -> Node:
    left = RepairLeft(
        paused=False,
        tasks={"repair": 40},
        left_bytes=120_000_000,
        bytes_per_s=40_000_000.0,
        eta_s=3.0,
        moved=_MOVED,
        alarm=None,
        lost=[_DISK],
        stripes=DamagedCounts(surveyed=True, by_missing={"1": 80}, unreadable=0),
        objects=DamagedObjects(by_missing={"1": 75}, partial=False),
    )
    return operation(
        "readRepair",
        "maintenance",
        "What is damaged, and how its repair gets on",
        all_answers({"200": answers_json("It.", RepairLeft, left)}, fails(401, 403, 500, 503)),
    )


def _rebalance() -> Node:
    left = RebalanceLeft(
        paused=False,
        tasks={"drain": 10},
        left_bytes=12_000_000,
        bytes_per_s=4_000_000.0,
        eta_s=3.0,
        moved=_MOVED,
        stripes=SpreadCounts(crowded=0, replicas=0),
        disks=[_DISK],
    )
    return operation(
        "readRebalance",
        "maintenance",
        "What is moved to drain disks, to spread stripes and to fill disks equally",
        all_answers({"200": answers_json("It.", RebalanceLeft, left)}, fails(401, 403, 500, 503)),
    )


def _pause(work: str, *, paused: bool) -> Node:
    done = WorkPaused(work=work, paused=paused)
    return operation(
        f"{'pause' if paused else 'resume'}{work.capitalize()}",
        "maintenance",
        f"{'Let' if paused else 'Go on with'} {work}{' rest' if paused else ''}",
        all_answers({"200": answers_json("Done.", WorkPaused, done)}, fails(401, 403, 500, 503)),
    )


def _force() -> Node:
    done = GivenUp(lost=[_DISK])
    return operation(
        "forceRepair",
        "maintenance",
        "Judge every disk lost that is silent now, however many there are",
        all_answers({"200": answers_json("Done.", GivenUp, done)}, fails(401, 403, 500, 503)),
        says="For when `alarm` says that too many are silent at once, and they will not be back."
        " One that is heard of again counts again.",
    )
