"""`/buckets`."""

from typing import Annotated, Final

from msgspec import Meta

from frontend.openapi.shapes import EXAMPLE_TIME, ProfileOrNone
from frontend.openapi.words import (
    Node,
    all_answers,
    answers_json,
    answers_nothing,
    fails,
    gives,
    in_header,
    in_query,
    operation,
    path,
)
from frontend.rest.described.answers import BucketMade, BucketShown, BucketsShown
from frontend.rest.described.objects import BUCKET
from raftmeta.commands import UPLOAD_LIFE_S_MAX
from raftmeta.lifecycle import LIFE_MS_MAX

_SHOWN: Final = BucketShown(
    name="photos",
    created=EXAMPLE_TIME,
    profile="4+2",
    keep_versions=0,
    used_bytes=11,
    used_versions=1,
    quota_bytes=0,
    quota_versions=0,
    expire_after_s=0,
    expire_noncurrent_after_s=0,
    abort_uploads_after_s=0,
)


def bucket_paths() -> dict[str, Node]:
    """All buckets, and one."""
    return {
        "/buckets": path(get=_list()),
        "/buckets/{bucket}": path(
            BUCKET, get=_show(), put=_make(), patch=_change(), delete=_remove()
        ),
    }


def _list() -> Node:
    shown = BucketsShown(buckets=[_SHOWN])
    return operation(
        "listBuckets",
        "buckets",
        "All buckets that the key may see",
        all_answers(
            {"200": answers_json("By name.", BucketsShown, shown)}, fails(401, 403, 500, 503)
        ),
    )


def _show() -> Node:
    return operation(
        "showBucket",
        "buckets",
        "What is known of a bucket",
        all_answers(
            {"200": answers_json("It.", BucketShown, _SHOWN)}, fails(400, 401, 403, 404, 500, 503)
        ),
    )


def _make() -> Node:
    made = BucketMade(name="photos", profile="4+2")
    headers = {"Location": gives(str, "`/buckets/NAME`.")}
    return operation(
        "makeBucket",
        "buckets",
        "Make a bucket",
        all_answers(
            {"201": answers_json("Made.", BucketMade, made, headers)},
            fails(400, 401, 403, 409, 500, 503),
        ),
        parameters=[
            in_query("profile", ProfileOrNone, "Redundancy of its objects.", example="4+2"),
            in_header("X-Oss-Profile", ProfileOrNone, "The same."),
        ],
    )


def _change() -> Node:
    count = Annotated[int, Meta(ge=0, le=1000)]
    bound = Annotated[int, Meta(ge=0, le=1 << 62)]
    life = Annotated[int, Meta(ge=0, le=LIFE_MS_MAX // 1000)]
    wait = Annotated[int, Meta(ge=0, le=UPLOAD_LIFE_S_MAX)]
    return operation(
        "changeBucket",
        "buckets",
        "How many versions are kept of each object, for how long, what the bucket may hold, and its"
        " profile",
        all_answers(
            {"200": answers_json("As it is now.", BucketShown, _SHOWN)},
            fails(400, 401, 403, 404, 409, 500, 503),
        ),
        says="A new profile is that of what is written from then on; with `reencode=1` what is"
        " there is encoded anew, too, in the background: see `readReencode`. 409: the nodes that"
        " are in could not hold it.",
        parameters=[
            in_query("profile", ProfileOrNone, "Redundancy of its objects.", example="4+2"),
            in_header("X-Oss-Profile", ProfileOrNone, "The same."),
            in_query("reencode", str, "`1`: also of what is there.", example="1"),
            in_query("keep_versions", count, "Newest versions of each object; 0: all.", example=5),
            in_query("quota_bytes", bound, "Bytes, old versions included; 0: any.", example=0),
            in_query("quota_versions", bound, "Versions of all objects; 0: any.", example=0),
            in_query(
                "expire_after_s", life, "Objects get a delete marker; 0: never.", example=2_592_000
            ),
            in_query(
                "expire_noncurrent_after_s",
                life,
                "Versions are removed for good so long after a newer one came; 0: never.",
                example=604_800,
            ),
            in_query(
                "abort_uploads_after_s",
                wait,
                "Uploads are given up so long after their last sign of life; 0: as is set.",
                example=86_400,
            ),
        ],
    )


def _remove() -> Node:
    return operation(
        "removeBucket",
        "buckets",
        "Remove an empty bucket",
        all_answers({"204": answers_nothing("Gone.")}, fails(400, 401, 403, 404, 409, 500, 503)),
    )
