"""What a bucket was, and making it that again: bounded steps that say where the next begins."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from frontend.flows.store import Store
from osscore.errors import NoSuchKey
from raftmeta.commands import Done, ObjectDeleted, Undelete
from raftmeta.credentials import AuditNote, NoteAudit
from raftmeta.timetravel import (
    ChangesFound,
    FindChanges,
    FindDeleted,
    KeyChange,
    ListObjectsAt,
    ObjectRestored,
    ObjectsListedAt,
    RestoreObject,
    RestoreOutcome,
)

CHANGES_MAX = 500
"""Objects changed by one step."""
_AT_ONCE = 32
_MARKERS_AT_ONCE = 16  # by its bound on rows many such commands fit into one entry of the log
_UNDELETES_MAX = 1000
_DONE = (RestoreOutcome.RESTORED, RestoreOutcome.HIDDEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class TravelStep:
    """What of which keys: those with `prefix` behind `after`. `moment_ms`: the time to restore, or
    since when deletions are undone. `began_ms`: of the first step, 0: this is it. `is_dry_run`:
    only say what would become of them."""

    bucket: str
    moment_ms: int
    prefix: str = ""
    after: str = ""
    began_ms: int = 0
    is_dry_run: bool = False


async def list_objects_at(
    store: Store, bucket: str, *, at_ms: int, prefix: str, delimiter: str, after: str, limit: int
) -> ObjectsListedAt:
    """One page of the objects of that time. Raises NoSuchBucket."""
    return await store.meta.query(
        ListObjectsAt(
            bucket=bucket,
            at_ms=at_ms,
            prefix=prefix,
            delimiter=delimiter,
            after=after,
            limit=limit,
        ),
        ObjectsListedAt,
    )


async def restore_step(store: Store, step: TravelStep, *, audit: AuditNote | None) -> ChangesFound:
    """Make one page of keys what they were. What others write since `began_ms` is left alone.

    Repeating a step tells the same and makes no second version. `audit` is recorded before anything
    is changed; None: the step belongs to one whose row stands. Raises NoSuchBucket, QuotaExceeded.
    """
    found = await store.meta.query(
        FindChanges(
            bucket=step.bucket,
            at_ms=step.moment_ms,
            began_ms=step.began_ms,
            prefix=step.prefix,
            after_key=step.after,
            limit=CHANGES_MAX,
        ),
        ChangesFound,
    )

    async def restore(key: str) -> KeyChange:
        command = RestoreObject(
            bucket=step.bucket, key=key, at_ms=step.moment_ms, began_ms=found.began_ms
        )
        done = await store.meta.propose(command, ObjectRestored)
        return KeyChange(
            key=key, outcome=done.outcome, number=done.number, size_bytes=done.size_bytes
        )

    return found if step.is_dry_run else await _carried_out(store, found, restore, audit)


async def undelete_step(store: Store, step: TravelStep, *, audit: AuditNote | None) -> ChangesFound:
    """Bring back one page of what was deleted since then. As restore_step."""
    found = await store.meta.query(
        FindDeleted(
            bucket=step.bucket,
            since_ms=step.moment_ms,
            until_ms=step.began_ms,
            prefix=step.prefix,
            after_key=step.after,
            limit=CHANGES_MAX,
        ),
        ChangesFound,
    )

    async def undelete(key: str) -> KeyChange:
        command = Undelete(
            bucket=step.bucket,
            key=key,
            since_ms=step.moment_ms,
            until_ms=found.began_ms,
            markers_max=_MARKERS_AT_ONCE,
        )
        return await _undelete(store, command)

    return found if step.is_dry_run else await _carried_out(store, found, undelete, audit)


async def _undelete(store: Store, command: Undelete) -> KeyChange:
    number = 0
    for _ in range(_UNDELETES_MAX):
        try:
            revealed = await store.meta.propose(command, ObjectDeleted)
        except NoSuchKey:  # its versions were removed meanwhile
            return KeyChange(key=command.key, outcome=RestoreOutcome.REMOVED)
        if not revealed.is_marker:
            return KeyChange(
                key=command.key, outcome=RestoreOutcome.RESTORED, number=revealed.number
            )
        if revealed.number == number:
            break  # deleted anew meanwhile
        number = revealed.number
    return KeyChange(key=command.key, outcome=RestoreOutcome.CHANGED)


async def _carried_out(
    store: Store,
    found: ChangesFound,
    change: Callable[[str], Awaitable[KeyChange]],
    audit: AuditNote | None,
) -> ChangesFound:
    """What became of the keys of a page."""
    if audit is not None:
        await store.meta.propose(NoteAudit(), Done, audit=audit)
    todo = [each.key for each in found.changes if each.outcome in _DONE]
    became = {each.key: each for each in found.changes}
    for at in range(0, len(todo), _AT_ONCE):
        group = map(change, todo[at : at + _AT_ONCE])
        # All are awaited: none goes on once the step has failed, as for want of quota.
        for each in await asyncio.gather(*group, return_exceptions=True):
            if isinstance(each, BaseException):
                raise each
            became[each.key] = each
    return ChangesFound(
        changes=tuple(
            each for each in became.values() if each.outcome is not RestoreOutcome.UNCHANGED
        ),
        visited=found.visited,
        began_ms=found.began_ms,
        next=found.next,
    )
