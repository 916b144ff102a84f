"""The censuses of all disks, and asking for one."""

from typing import Annotated, Final

from msgspec import Meta

from frontend.openapi.shapes import Count, Shape
from frontend.openapi.words import (
    Node,
    all_answers,
    answers_json,
    fails,
    in_query,
    operation,
    path,
)


class CountedDisks(Shape, frozen=True):
    """Disks with a census that counts, and without."""

    counted: Count
    uncounted: Count


class CountedSlots(Shape, frozen=True):
    """Sums over the counted disks."""

    expected: Count
    present: Count
    missing: Count
    surplus: Count
    young: Count


class UncountedDisk(Shape, frozen=True):
    """A disk that the sums do not cover."""

    node: str
    disk: Count
    state: str
    why: str
    stripes: Annotated[
        int | None, Meta(description="With a shard there by the catalog; null: not asked.")
    ]
    more: Annotated[bool, Meta(description="At least so many stripes.")]


class CountedStripes(Shape, frozen=True):
    """All stripes, and those recorded with so many shards missing or bad."""

    total: Count
    by_missing: dict[str, int]


class HealthShown(Shape, frozen=True):
    """The cluster's health."""

    generation: Count
    disks: CountedDisks
    slots: CountedSlots
    oldest_ms_ago: Annotated[int | None, Meta(description="Age of the oldest counted census.")]
    uncounted: list[UncountedDisk]
    stripes: CountedStripes


class AskedDisk(Shape, frozen=True):
    """A disk that was asked. Its census with `begun_at_ms` of this or later is the one."""

    node: str
    disk: Count
    asked_at_ms: Count
    error: Annotated[str, Meta(description="Why it could not be asked; empty: it was.")]


class CensusesAsked(Shape, frozen=True):
    """Every disk that was to be asked."""

    disks: list[AskedDisk]


_SAYS: Final = (
    "`slots` is what disks held when they were compared with the catalog; `stripes` what the"
    " catalog records as missing or bad. Disks in `uncounted` are in neither."
)


def census_paths() -> dict[str, Node]:
    """`/v1/maintenance/census`."""
    return {"/v1/maintenance/census": path(get=_health(), post=_ask())}


def _health() -> Node:
    shown = HealthShown(
        generation=1,
        disks=CountedDisks(counted=5, uncounted=1),
        slots=CountedSlots(expected=4000, present=3999, missing=1, surplus=0, young=2),
        oldest_ms_ago=120_000,
        uncounted=[
            UncountedDisk(
                node="blob-6",
                disk=6,
                state="in",
                why="blob-6 is down",
                stripes=800,
                more=False,
            )
        ],
        stripes=CountedStripes(total=800, by_missing={"1": 1}),
    )
    return operation(
        "readHealth",
        "maintenance",
        "Which shards the disks hold, and which disks nobody vouches for",
        all_answers({"200": answers_json("It.", HealthShown, shown)}, fails(401, 403, 500, 503)),
        says=_SAYS,
    )


def _ask() -> Node:
    asked = CensusesAsked(
        disks=[AskedDisk(node="blob-1", disk=1, asked_at_ms=1_700_000_000_000, error="")]
    )
    return operation(
        "askCensus",
        "maintenance",
        "Have disks compared with the catalog at once",
        all_answers(
            {"200": answers_json("Asked; it goes on by itself.", CensusesAsked, asked)},
            fails(400, 401, 403, 404, 500, 503),
        ),
        parameters=[in_query("node", str, "Its disks only.", example="blob-1")],
    )
