"""Listings of objects and versions, and where an object's shards lie."""

from typing import Annotated, Final

from msgspec import Meta

from frontend.openapi.shapes import (
    EXAMPLE_ID,
    EXAMPLE_TIME,
    HELLO_BASE64,
    HELLO_HEX,
    BucketText,
    KeyText,
)
from frontend.openapi.words import (
    JSON,
    Node,
    all_answers,
    answers,
    answers_json,
    fails,
    gives,
    in_path,
    in_query,
    one_of,
    operation,
    path,
)
from frontend.rest.described.answers import (
    Located,
    LocatedStripe,
    ObjectShown,
    ObjectsPage,
    ObjectsPageThen,
    VersionLine,
    VersionShown,
    VersionsPage,
)
from frontend.rest.described.objects import AT, BUCKET, KEY, VERSION_HEADERS

_LINES: Final = "application/x-ndjson"
LIMIT: Final = in_query(
    "limit", Annotated[int, Meta(ge=1)], "Entries of a page; at most 10,000 come.", example=100
)
PREFIX: Final = in_query("prefix", str, "Only names that begin with this.", example="photos/")
AFTER: Final = in_query("after", str, "`next` of the page before.")
_FAILURES: Final = fails(400, 401, 403, 404, 500, 503)
_OBJECTS: Final = ObjectsPage(
    objects=[
        ObjectShown(
            key="report.pdf",
            size=11,
            etag=HELLO_HEX,
            version=1,
            version_id=EXAMPLE_ID,
            modified=EXAMPLE_TIME,
        )
    ],
    prefixes=["photos/"],
    next=None,
)
_VERSIONS: Final = VersionsPage(
    versions=[
        VersionShown(
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
    ],
    next="1:report.pdf",
)
_LINE: Final = VersionLine(name="report.pdf", version=1, size=11, hash=HELLO_BASE64)
_WHOLE: Final = Located(
    stripes=[LocatedStripe(start=0, length=11, stripe="018f" * 8, shards={"0": "10.0.0.1:9201"})]
)


def listing_paths() -> dict[str, Node]:
    """Pages of objects and versions, and `/locate`."""
    return {
        "/objects": path(get=_objects("Objects", "the default bucket")),
        "/buckets/{bucket}/objects": path(BUCKET, get=_objects("BucketObjects", "a bucket")),
        "/buckets/{bucket}/versions": path(BUCKET, get=_versions("BucketVersions", with_key=False)),
        "/buckets/{bucket}/versions/{key}": path(
            BUCKET, KEY, get=_versions("BucketObjectVersions", with_key=True)
        ),
        "/versions/": path(get=_lines("Versions", "of all objects")),
        "/versions/{key}": path(KEY, get=_lines("ObjectVersions", "of one object")),
        "/locate/{name_or_hash}": path(_place(), get=_locate()),
    }


def _objects(name: str, where: str) -> Node:
    delimiter = in_query(
        "delimiter", str, "Names that hold it behind the prefix are one entry.", example="/"
    )
    either = one_of(ObjectsPage, ObjectsPageThen)
    return operation(
        f"list{name}",
        "listings",
        f"Current objects of {where}, by name",
        all_answers({"200": answers_json("A page.", either, _OBJECTS)}, _FAILURES),
        parameters=[PREFIX, delimiter, AFTER, LIMIT, AT],
    )


def _versions(name: str, *, with_key: bool) -> Node:
    return operation(
        f"list{name}",
        "listings",
        "Versions of one object" if with_key else "Versions of all objects of a bucket",
        all_answers({"200": answers_json("A page.", VersionsPage, _VERSIONS)}, _FAILURES),
        parameters=[*([] if with_key else [PREFIX]), AFTER, LIMIT],
    )


def _lines(name: str, whose: str) -> Node:
    link = gives(str, '`<...>; rel="next"` where more follow.', always=False)
    content = {
        _LINES: {"schema": str, "example": '{"Name":"a","Version":1,"Size":0,"Hash":""}\n'},
        JSON: {"schema": list[VersionLine], "example": [_LINE]},
    }
    return operation(
        f"list{name}",
        "listings",
        f"Versions {whose} of the default bucket, oldest first",
        all_answers(
            {
                "200": answers(
                    "One JSON object a line; an array by Accept.", content, {"Link": link}
                )
            },
            _FAILURES,
        ),
        parameters=[AFTER, LIMIT],
    )


def _place() -> Node:
    return in_path(
        "name_or_hash",
        KeyText,
        "An object's name, or the SHA-256 of its content in hex or base64; a name wins.",
        example="report.pdf",
    )


def _locate() -> Node:
    return operation(
        "locate",
        "cluster",
        "Where an object's shards lie",
        all_answers(
            {
                "200": answers_json(
                    "Shard index to host:port, of stripe 0; or every stripe.",
                    one_of(dict[str, str], Located),
                    _WHOLE,
                    VERSION_HEADERS,
                )
            },
            _FAILURES,
        ),
        says="An object that lies in the catalog answers with its metanodes.",
        parameters=[
            in_query("bucket", BucketText, "Another bucket than the default one."),
            in_query("all", str, "`1`: every stripe.", example="1"),
        ],
    )
