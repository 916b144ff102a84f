"""`/explain`: what is kept of one object."""

from typing import Annotated, Final, Literal

from msgspec import Meta

from frontend.openapi.shapes import (
    EXAMPLE_ID,
    EXAMPLE_TIME,
    HELLO_HEX,
    BucketText,
    Count,
    ProfileText,
    Shape,
    Size,
    Time,
    VersionNumber,
)
from frontend.openapi.words import Node, all_answers, answers_json, fails, in_query, operation, path
from frontend.rest.described.answers import VersionShown
from frontend.rest.described.objects import KEY, VERSION_HEADERS

Survives = Annotated[
    int, Meta(ge=-1, description="Any so many may be lost now; -1: it cannot be read.")
]


class ShardShown(Shape, frozen=True):
    """One shard and where it lies."""

    index: Count
    generation: Count
    node: str
    zone: str
    disk: str
    state: Literal["good", "missing", "bad", "lost", "silent"]
    verified: Annotated[
        Time | None,
        Meta(description="Last reread and good; null: not since it was written, or nobody tells."),
    ]


class StripeShown(Shape, frozen=True):
    """Bytes [start, start + length) of the object. `references`: how often all objects together
    refer to it. `compressed_bytes`: null where it is stored as it is."""

    stripe: str
    start: Size
    length: Size
    coding: ProfileText
    is_replicated: bool
    plain_bytes: Size
    compressed_bytes: Size | None
    shard_bytes: Size
    references: Count
    survives_nodes: Survives
    survives_disks: Survives
    survives_zones: Annotated[Survives | None, Meta(description="null: not all lie in zones.")]
    shards: list[ShardShown]


class ObjectExplained(Shape, frozen=True):
    """A version, the others of its object, and its stripes; none where it lies in the catalog.
    `stored_bytes`: on all disks, shared stripes included."""

    bucket: BucketText
    key: str
    version: VersionShown
    versions: list[VersionShown]
    is_inline: bool
    logical_bytes: Size
    stored_bytes: Size
    profiles: list[ProfileText]
    survives_nodes: Survives | None
    survives_disks: Survives | None
    survives_zones: Survives | None
    stripes: list[StripeShown]


_VERSION: Final = VersionShown(
    key="report.pdf",
    version=1,
    version_id=EXAMPLE_ID,
    size=11,
    sha256=HELLO_HEX,
    etag=HELLO_HEX,
    is_marker=False,
    is_latest=True,
    modified=EXAMPLE_TIME,
)
_EXAMPLE: Final = ObjectExplained(
    bucket="objects",
    key="report.pdf",
    version=_VERSION,
    versions=[_VERSION],
    is_inline=True,
    logical_bytes=11,
    stored_bytes=0,
    profiles=[],
    survives_nodes=None,
    survives_disks=None,
    survives_zones=None,
    stripes=[],
)


def explain_paths() -> dict[str, Node]:
    """`/explain/NAME`."""
    return {
        "/explain/{key}": path(
            KEY,
            get=operation(
                "explain",
                "cluster",
                "What is kept of an object, where, and what it would survive now",
                all_answers(
                    {
                        "200": answers_json(
                            "Every stripe with every shard.",
                            ObjectExplained,
                            _EXAMPLE,
                            VERSION_HEADERS,
                        )
                    },
                    fails(400, 401, 403, 404, 500, 503),
                ),
                parameters=[
                    in_query("bucket", BucketText, "Another bucket than the default one."),
                    in_query("version", VersionNumber, "That version instead of the current one."),
                ],
            ),
        )
    }
