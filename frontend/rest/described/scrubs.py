"""The scrubs of all disks, and orders to them."""

from typing import Annotated

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


class ScrubShown(Shape, frozen=True):
    """Where the rereading of a disk stands; times are ms since 1970, 0 for never."""

    is_paused: bool
    began_at_ms: Annotated[int, Meta(ge=0, description="Of the pass under way; 0: it rests.")]
    done_bytes: Size
    left_bytes: Annotated[int, Meta(ge=0, description="Of this pass, about.")]
    bytes_per_s: Count
    bad: Annotated[int, Meta(ge=0, description="Bad records newly found in this pass.")]
    last_began_at_ms: Count
    last_finished_at_ms: Count
    last_bytes: Size
    last_bad: Count
    unreported: Annotated[int, Meta(ge=0, description="Found, and not told to the catalog yet.")]
    bad_temps: Annotated[int, Meta(ge=0, description="Records of uploads that wait, found bad.")]
    volumes: Count
    unverified_volumes: Annotated[int, Meta(ge=0, description="Never reread to their end.")]
    oldest_verified_ms_ago: Annotated[
        int, Meta(ge=-1, description="The longest, of the volumes ever reread; -1: none was.")
    ]


class ScrubbedDisk(Shape, frozen=True):
    """A disk; `scrub` is null where nobody tells it now, and `why`."""

    node: str
    disk: Count
    scrub: ScrubShown | None
    why: str


class ScrubTotals(Shape, frozen=True):
    """Sums over the disks that tell."""

    told: Count
    paused: Count
    done_bytes: Size
    left_bytes: Size
    bytes_per_s: Count
    eta_s: Annotated[
        float | None, Meta(description="Until the last pass under way ends; null: not known.")
    ]
    bad: Count
    unreported: Count
    unverified_volumes: Count
    oldest_verified_ms_ago: Annotated[int | None, Meta(description="null: none, or one untold.")]


class ScrubsShown(Shape, frozen=True):
    """All scrubs."""

    totals: ScrubTotals
    disks: list[ScrubbedDisk]


class OrderedDisk(Shape, frozen=True):
    """A disk that was told. Of `now`: its asked pass is the first with `last_began_at_ms` of
    `began_at_ms` or later."""

    node: str
    disk: Count
    began_at_ms: Count
    error: Annotated[str, Meta(description="Why it could not be told; empty: it was.")]


class ScrubsOrdered(Shape, frozen=True):
    """Every disk that was to be told."""

    disks: list[OrderedDisk]


def scrub_paths() -> dict[str, Node]:
    """`/v1/maintenance/scrub`."""
    return {"/v1/maintenance/scrub": path(get=_show(), post=_order())}


def _show() -> Node:
    scrub = ScrubShown(
        is_paused=False,
        began_at_ms=1_700_000_000_000,
        done_bytes=1_000_000_000,
        left_bytes=3_000_000_000,
        bytes_per_s=20_000_000,
        bad=0,
        last_began_at_ms=0,
        last_finished_at_ms=0,
        last_bytes=0,
        last_bad=0,
        unreported=0,
        bad_temps=0,
        volumes=4,
        unverified_volumes=3,
        oldest_verified_ms_ago=50_000,
    )
    totals = ScrubTotals(
        told=1,
        paused=0,
        done_bytes=1_000_000_000,
        left_bytes=3_000_000_000,
        bytes_per_s=20_000_000,
        eta_s=150.0,
        bad=0,
        unreported=0,
        unverified_volumes=3,
        oldest_verified_ms_ago=50_000,
    )
    shown = ScrubsShown(
        totals=totals, disks=[ScrubbedDisk(node="blob-1", disk=1, scrub=scrub, why="")]
    )
    return operation(
        "readScrubs",
        "maintenance",
        "Where the rereading of all disks stands",
        all_answers({"200": answers_json("It.", ScrubsShown, shown)}, fails(401, 403, 500, 503)),
    )


def _order() -> Node:
    ordered = ScrubsOrdered(
        disks=[OrderedDisk(node="blob-1", disk=1, began_at_ms=1_700_000_000_000, error="")]
    )
    return operation(
        "orderScrub",
        "maintenance",
        "Have disks reread from the beginning, pause, or go on",
        all_answers(
            {"200": answers_json("Told; it goes on by itself.", ScrubsOrdered, ordered)},
            fails(400, 401, 403, 404, 500, 503),
        ),
        says="`now` ends a pause. A pause holds over restarts; damage that readers meet is still"
        " looked at.",
        parameters=[
            in_query("action", str, "`now`, `pause` or `resume`.", example="now", required=True),
            in_query("node", str, "Its disks only.", example="blob-1"),
        ],
    )
