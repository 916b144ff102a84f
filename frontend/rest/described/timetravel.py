"""`/v1/maintenance/restore` and `/v1/maintenance/undelete`."""

from typing import Annotated, Final

from msgspec import Meta

from frontend.openapi.shapes import (
    EXAMPLE_TIME,
    BucketText,
    Count,
    RunText,
    Shape,
    Time,
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

MOMENT: Final = "ISO 8601, UTC where no zone is written, or unix seconds; not in the future."


class TravelledObject(Shape, frozen=True):
    """What became of an object."""

    key: str
    outcome: Annotated[
        str,
        Meta(
            description="restored, hidden (it was not there), changed (by others meanwhile),"
            " removed (that version was, since), unknown; left as it is but for the first two."
        ),
    ]
    version: Annotated[
        VersionNumber | None, Meta(description="The version of that time; null: none, or unknown.")
    ]


class _StepDone(Shape, frozen=True):
    bucket: BucketText
    prefix: str
    began: Annotated[Time, Meta(description="`began` of all further steps.")]
    dry_run: bool
    visited: Count
    restored: Count
    hidden: Count
    changed: Count
    removed: Count
    unknown: Count
    objects: list[TravelledObject]
    next: Annotated[str | None, Meta(description="The `after` of the next step; null: done.")]
    run: RunText


class RestoreStepDone(_StepDone, frozen=True):
    """One step of a restore."""

    at: Time


class UndeleteStepDone(_StepDone, frozen=True):
    """One step of bringing back what was deleted."""

    since: Time


def timetravel_paths() -> dict[str, Node]:
    """Both."""
    return {
        "/v1/maintenance/restore": path(post=_restore()),
        "/v1/maintenance/undelete": path(post=_undelete()),
    }


def _restore() -> Node:
    done = RestoreStepDone(
        bucket="objects",
        prefix="photos/",
        at=EXAMPLE_TIME,
        began="2026-03-02T12:00:00.000Z",
        dry_run=False,
        visited=40,
        restored=1,
        hidden=1,
        changed=0,
        removed=0,
        unknown=0,
        objects=[
            TravelledObject(key="photos/a.jpg", outcome="restored", version=3),
            TravelledObject(key="photos/new.jpg", outcome="hidden", version=None),
        ],
        next=None,
        run=None,
    )
    return operation(
        "restore",
        "maintenance",
        "Make objects what they were at a time",
        all_answers(
            {"200": answers_json("One step.", RestoreStepDone, done)},
            fails(400, 401, 403, 404, 500, 503),
        ),
        says="Versions of then come on top as new ones, and delete markers where nothing was."
        " What is written after `began` is left alone.",
        parameters=[in_query("at", str, MOMENT, example=EXAMPLE_TIME, required=True), *_shared()],
    )


def _undelete() -> Node:
    done = UndeleteStepDone(
        bucket="objects",
        prefix="photos/",
        since=EXAMPLE_TIME,
        began="2026-03-02T12:00:00.000Z",
        dry_run=False,
        visited=40,
        restored=1,
        hidden=0,
        changed=0,
        removed=0,
        unknown=0,
        objects=[TravelledObject(key="photos/a.jpg", outcome="restored", version=3)],
        next=None,
        run=None,
    )
    return operation(
        "undeleteMany",
        "maintenance",
        "Bring back every object that was deleted since a time",
        all_answers(
            {"200": answers_json("One step.", UndeleteStepDone, done)},
            fails(400, 401, 403, 404, 500, 503),
        ),
        says="Objects that were deleted before stay so, also if they were deleted again since.",
        parameters=[
            in_query("since", str, MOMENT, example=EXAMPLE_TIME, required=True),
            *_shared(),
        ],
    )


def _shared() -> list[Node]:
    return [
        in_query("bucket", BucketText, "Another bucket than the default one."),
        in_query("prefix", str, "Only objects whose names begin with this."),
        in_query("after", str, "`next` of the step before."),
        in_query("began", str, "`began` of the first step; needed with `after`."),
        in_query("run", str, "`run` of the step before; without it this one is audited itself."),
        in_query("dry_run", str, "`1`: only tell.", example="1"),
    ]
