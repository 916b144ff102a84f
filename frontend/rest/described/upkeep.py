"""Maintenance of shards on request: scan and orphans."""

from typing import Annotated, Final

from msgspec import Meta

from frontend.openapi.shapes import (
    BucketOrAll,
    BucketText,
    Count,
    KeyText,
    RunText,
    Shape,
    Size,
    VersionNumber,
)
from frontend.openapi.words import (
    Node,
    all_answers,
    answers_json,
    fails,
    in_query,
    operation,
    path,
)

_STRIPE: Final = "019a0b1c2d3e" + "4f" * 10
StripeText = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="The id of a stripe.")]


AfterScan = Annotated[
    str,
    Meta(
        pattern="^((inline-)?[0-9]{1,40})?$",
        description="Behind a stripe's row, or behind a version whose body the catalog keeps.",
    ),
]


class ScannedShards(Shape, frozen=True):
    """Shards by what was found of them, before any repair; and how many are good since."""

    checked: Count
    good: Count
    missing: Count
    corrupt: Count
    unreachable: Count
    repaired: Count
    confirmed: Count


class DamagedShard(Shape, frozen=True):
    """A shard that was not as the catalog believed."""

    stripe: StripeText
    index: Count
    gen: Count
    disk: Count
    node: str
    found: Annotated[
        str,
        Meta(description="missing, corrupt, unreachable, or good, which the catalog did not know."),
    ]
    outcome: Annotated[
        str,
        Meta(description="repaired, confirmed, unconfirmed, not tried, or why it was not mended."),
    ]


class NeedingVersion(Shape, frozen=True):
    """A version that needs a stripe."""

    bucket: BucketText
    key: KeyText
    version: VersionNumber


class UnreadableStripe(Shape, frozen=True):
    """A stripe with too few good shards within reach."""

    stripe: StripeText
    good: Count
    needed: Count
    unreachable: Count
    objects: list[NeedingVersion]


class ScannedInline(Shape, frozen=True):
    """Bodies that the catalog keeps itself: their SHA-256 was compared, or, where it knows none,
    their size."""

    checked: Count
    unhashed: Count
    bytes: Size
    corrupt: list[NeedingVersion]


class ScanStepDone(Shape, frozen=True):
    """One step of a scan."""

    repair: bool
    stripes: Count
    bytes: Size
    shards: ScannedShards
    damaged: list[DamagedShard]
    unreadable: list[UnreadableStripe]
    inline: ScannedInline
    row: Annotated[int, Meta(ge=0, description="How far the scan is, of `last_row`.")]
    last_row: Count
    next: AfterScan | None
    run: RunText


class ShardCounts(Shape, frozen=True):
    """So many shards of so many bytes together."""

    shards: Count
    bytes: Size


class OrphansStepDone(Shape, frozen=True):
    """One page of a disk, looked through."""

    node: str
    disk: Count
    dry_run: bool
    examined: ShardCounts
    young: ShardCounts
    kept: ShardCounts
    shared: ShardCounts
    removed: ShardCounts
    next: Annotated[str | None, Meta(description="The `after` of the next step; null: done.")]
    run: RunText


def upkeep_paths() -> dict[str, Node]:
    """`/v1/maintenance/scan` and `/v1/maintenance/orphans`."""
    return {
        "/v1/maintenance/scan": path(post=_scan()),
        "/v1/maintenance/orphans": path(post=_orphans()),
    }


def _scan() -> Node:
    done = ScanStepDone(
        repair=True,
        stripes=64,
        bytes=96_000_000,
        shards=ScannedShards(
            checked=384, good=383, missing=1, corrupt=0, unreachable=0, repaired=1, confirmed=0
        ),
        damaged=[
            DamagedShard(
                stripe=_STRIPE,
                index=2,
                gen=0,
                disk=3,
                node="blob-3",
                found="missing",
                outcome="repaired",
            )
        ],
        unreadable=[],
        inline=ScannedInline(checked=0, unhashed=0, bytes=0, corrupt=[]),
        row=64,
        last_row=128,
        next="64",
        run="19a0b1c2d3e-" + "4f" * 16,
    )
    return operation(
        "scan",
        "maintenance",
        "Compare every shard with what the catalog knows, and mend it if asked",
        all_answers(
            {"200": answers_json("One step.", ScanStepDone, done)},
            fails(400, 401, 403, 404, 500, 503),
        ),
        says="Each stripe once, however many objects share it. What is rebuilt goes to its own"
        " slot's disk, whose owner rereads it.",
        parameters=[
            in_query("bucket", BucketOrAll, "Only what objects of this bucket need; empty: all."),
            in_query("prefix", str, "Of these, objects whose names begin with this."),
            in_query("after", AfterScan, "`next` of the step before.", example="64"),
            in_query(
                "run", str, "`run` of the step before; without it this one is audited itself."
            ),
            in_query("repair", str, "`1`: rebuild missing and corrupt shards.", example="1"),
        ],
    )


def _orphans() -> Node:
    none = ShardCounts(shards=0, bytes=0)
    done = OrphansStepDone(
        node="blob-1",
        disk=1,
        dry_run=False,
        examined=ShardCounts(shards=3, bytes=4_000_000),
        young=none,
        kept=ShardCounts(shards=2, bytes=3_000_000),
        shared=ShardCounts(shards=1, bytes=1_500_000),
        removed=ShardCounts(shards=1, bytes=1_000_000),
        next=None,
        run=None,
    )
    return operation(
        "removeOrphans",
        "maintenance",
        "Delete shards of a disk that belong to nothing",
        all_answers(
            {"200": answers_json("One page.", OrphansStepDone, done)},
            fails(400, 401, 403, 404, 409, 500, 503),
        ),
        says="Nothing younger than the grace, and nothing that an object needs.",
        parameters=[
            in_query("disk", Count, "Its number in `/v1/cluster`.", example=1, required=True),
            in_query("after", str, "`next` of the step before."),
            in_query(
                "run", str, "`run` of the step before; without it this one is audited itself."
            ),
            in_query("dry_run", str, "`1`: only count.", example="1"),
        ],
    )
