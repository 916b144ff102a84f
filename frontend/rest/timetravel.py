"""The past on request: `/v1/maintenance/restore` and `/v1/maintenance/undelete`, in steps."""

from collections import Counter
from collections.abc import Awaitable, Callable

from frontend.flows.timetravel import TravelStep, restore_step, undelete_step
from frontend.rest.maintenance import StepHandler
from frontend.serving import query
from frontend.serving.auditing import audit_note
from osscore import paths
from osscore.errors import InvalidArgument
from osscore.names import BucketName
from osscore.times import iso_time
from raftmeta.access import DELETE, INFO, UPLOAD, Grant
from raftmeta.credentials import AuditNote
from raftmeta.timetravel import ChangesFound, RestoreOutcome

_Flow = Callable[..., Awaitable[ChangesFound]]


class RestoreHandler(StepHandler):
    """`/v1/maintenance/restore`: objects become what they were at a time."""

    async def post(self) -> None:
        """`?bucket=&prefix=&at=&after=&began=&run=`; `dry_run=1` only tells."""
        grant, step = await _asked(self, "at", (UPLOAD, DELETE, INFO))
        note = audit_note(self, grant.access_key, "restore", _target(step), _detail("to", step))
        await _answer(self, "at", restore_step, step, grant, note)


class UndeleteHandler(StepHandler):
    """`/v1/maintenance/undelete`: objects that were deleted since a time come back."""

    async def post(self) -> None:
        """`?bucket=&prefix=&since=&after=&began=&run=`; `dry_run=1` only tells."""
        grant, step = await _asked(self, "since", (UPLOAD, INFO))
        note = audit_note(self, grant.access_key, "undelete", _target(step), _detail("since", step))
        await _answer(self, "since", undelete_step, step, grant, note)


async def _asked(
    handler: StepHandler, name: str, scopes: tuple[str, ...]
) -> tuple[Grant, TravelStep]:
    """The step, of a caller who may do all of that below the prefix."""
    given = handler.arguments
    bucket = str(BucketName.parse(query.text(given, "bucket", paths.DEFAULT_BUCKET)))
    prefix = query.text(given, "prefix")
    grant = await handler.authenticate()
    for scope in scopes:
        grant.require(scope, bucket, prefix)
    moment_ms = handler.asked_moment(name)
    if not moment_ms:
        raise InvalidArgument(f"Say when: ?{name}=2026-03-01T12:00:00Z.")
    step = TravelStep(
        bucket=bucket,
        moment_ms=moment_ms,
        prefix=prefix,
        after=query.text(given, "after"),
        began_ms=handler.asked_moment("began"),
        is_dry_run=query.flag(given, "dry_run"),
    )
    if step.after and not step.began_ms:
        raise InvalidArgument("A later step needs the `began` of the first.")
    return grant, step


def _target(step: TravelStep) -> str:
    return f"{step.bucket}/{step.prefix}"


def _detail(word: str, step: TravelStep) -> str:
    return f"{word} {iso_time(step.moment_ms)}"


async def _answer(
    handler: StepHandler,
    name: str,
    flow: _Flow,
    step: TravelStep,
    grant: Grant,
    note: AuditNote,
) -> None:
    needs_row = not step.is_dry_run and not await handler.has_row(grant, note)
    found = await flow(handler.store, step, audit=note if needs_row else None)
    run = None if step.is_dry_run else await handler.run_from(grant, note, found.next)
    counts = Counter(each.outcome for each in found.changes)
    told = (outcome for outcome in RestoreOutcome if outcome is not RestoreOutcome.UNCHANGED)
    handler.reply_json(
        {
            "bucket": step.bucket,
            "prefix": step.prefix,
            name: iso_time(step.moment_ms),
            "began": iso_time(found.began_ms),
            "dry_run": step.is_dry_run,
            "visited": found.visited,
            **{outcome.value: counts[outcome] for outcome in told},
            "objects": [
                {"key": each.key, "outcome": each.outcome.value, "version": each.number or None}
                for each in found.changes
            ],
            "next": found.next,
            "run": run,
        }
    )
