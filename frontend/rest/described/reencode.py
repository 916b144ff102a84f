"""Stripes encoded anew."""

from typing import Annotated, Final

from msgspec import Meta

from frontend.openapi.shapes import EXAMPLE_TIME, BucketText, Count, ProfileText, Shape, Size, Time
from frontend.openapi.words import (
    Node,
    all_answers,
    answers_json,
    fails,
    in_query,
    operation,
    path,
)


class StripesDone(Shape, frozen=True):
    """Stripes that were encoded anew, and their plain bytes."""

    stripes: Count
    bytes: Size


class StripesLeft(Shape, frozen=True):
    """Stripes to be encoded anew; `surveyed` false: as far as known so far."""

    surveyed: bool
    stripes: Count
    bytes: Size
    waits: Annotated[str | None, Meta(description="Why some cannot be now.")]


class ReencodeJobShown(Shape, frozen=True):
    """A bucket's last job. `kept_stripes` stay as they are: others who share them ask for more."""

    bucket: BucketText
    profile: ProfileText
    state: Annotated[str, Meta(description="running, done or cancelled")]
    begun: Time
    ended: Time | None
    done: StripesDone
    left: StripesLeft | None
    kept_stripes: Count
    eta_s: Annotated[float | None, Meta(description="At that rate; null: no end in sight.")]


class ReencodeLeft(Shape, frozen=True):
    """How encoding anew gets on: `replicas` are stripes written as copies for want of nodes."""

    paused: bool
    tasks: Count
    bytes_per_s: Annotated[float, Meta(description="Plain bytes, of the last minute.")]
    done: StripesDone
    replicas: StripesLeft
    jobs: list[ReencodeJobShown]


class ReencodeCancelled(Shape, frozen=True):
    """What is done stays."""

    bucket: BucketText
    cancelled: bool


_LEFT: Final = StripesLeft(surveyed=True, stripes=40, bytes=320_000_000, waits=None)
_JOB: Final = ReencodeJobShown(
    bucket="photos",
    profile="4+2",
    state="running",
    begun=EXAMPLE_TIME,
    ended=None,
    done=StripesDone(stripes=8, bytes=64_000_000),
    left=_LEFT,
    kept_stripes=0,
    eta_s=10.0,
)


def reencode_paths() -> dict[str, Node]:
    """`/v1/maintenance/reencode`."""
    return {
        "/v1/maintenance/reencode": path(get=_read()),
        "/v1/maintenance/reencode/cancel": path(post=_cancel()),
    }


def _read() -> Node:
    left = ReencodeLeft(
        paused=False,
        tasks=8,
        bytes_per_s=32_000_000.0,
        done=StripesDone(stripes=8, bytes=64_000_000),
        replicas=StripesLeft(surveyed=True, stripes=0, bytes=0, waits=None),
        jobs=[_JOB],
    )
    return operation(
        "readReencode",
        "maintenance",
        "What is encoded anew, for buckets whose profile was changed and where nodes were missing",
        all_answers(
            {"200": answers_json("It.", ReencodeLeft, left)}, fails(401, 403, 404, 500, 503)
        ),
        parameters=[in_query("bucket", str, "Of that alone.", example="photos")],
    )


def _cancel() -> Node:
    done = ReencodeCancelled(bucket="photos", cancelled=True)
    return operation(
        "cancelReencode",
        "maintenance",
        "End a bucket's encoding anew where it is",
        all_answers(
            {"200": answers_json("What is done stays.", ReencodeCancelled, done)},
            fails(400, 401, 403, 404, 409, 500, 503),
        ),
        parameters=[in_query("bucket", str, "Its name.", example="photos", required=True)],
    )
