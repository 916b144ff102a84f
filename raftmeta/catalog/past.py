"""What a key was at a moment, and what must be done to make it that again.

The moment T stands for everything that catalog time puts at or before T ms. Numbers and times
of a key grow together, so its newest version of that time is found by halving, not by a scan.
"""

import sqlite3
from dataclasses import dataclass
from enum import Enum

from raftmeta.catalog import removed, versions
from raftmeta.catalog.removed import Kind
from raftmeta.catalog.versions import Row
from raftmeta.timetravel import (
    RestoreOutcome,
)

_AT_OR_BELOW = (
    "SELECT number, created_at_ms FROM versions"
    " WHERE bucket = ? AND key = ? AND number <= ? AND number > ? ORDER BY number DESC LIMIT 1"
)
MARKERS_LOOKED_AT = 1000
_ON_TOP = (
    "SELECT is_marker, created_at_ms FROM versions WHERE bucket = ? AND key = ?"
    f" ORDER BY number DESC LIMIT {MARKERS_LOOKED_AT}"
)
_NUMBER_MAX = (1 << 63) - 1


class Was(Enum):
    """What is known of a key at a moment."""

    PRESENT = "present"
    ABSENT = "absent"
    """Deleted, or not yet made."""
    REMOVED = "removed"
    """A version that was removed for good since: its bytes are gone."""
    UNKNOWN = "unknown"
    """Too much was removed since to tell."""


@dataclass(frozen=True, slots=True)
class State:
    """A key at a moment. `row`: the version of COLUMNS, where it was PRESENT. `number`: of that
    version or, where one alone was, of the one removed; else 0. `rows_read`: what it cost."""

    was: Was
    row: Row | None = None
    number: int = 0
    rows_read: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a key that shall be as it was. `wanted`: the version to bring back."""

    outcome: RestoreOutcome
    wanted: Row | None = None
    number: int = 0
    rows_read: int = 0


def state_at(db: sqlite3.Connection, bucket: int, key: str, at_ms: int) -> State:
    """What the key was after all that happened at that ms."""
    number, rows_read = _number_at(db, bucket, key, at_ms)
    runs = removed.runs(db, bucket, key)
    rows_read += len(runs)
    above = [run for run in runs if run.was_there(at_ms) and run.number > number]
    if above:
        return _of_removed(above[-1], rows_read)
    if not number:
        return State(Was.ABSENT, rows_read=rows_read)
    row = versions.exact(db, bucket, key, number=number, version_id="")
    if versions.is_marker(row):
        return State(Was.ABSENT, rows_read=rows_read)
    return State(Was.PRESENT, row, number, rows_read)


def change_to(
    db: sqlite3.Connection, bucket: int, key: str, *, at_ms: int, began_ms: int
) -> Change:
    """What makes the key what it was at `at_ms`. What was written after `began_ms` stays, unless
    it is just that already."""
    state = state_at(db, bucket, key, at_ms)
    current = versions.newest(db, bucket, key)
    outcome = _outcome(db, state, current, began_ms)
    return Change(outcome, state.row, state.number, state.rows_read + 1)


def undeletion(
    db: sqlite3.Connection, bucket: int, key: str, *, since_ms: int, until_ms: int
) -> tuple[RestoreOutcome, int]:
    """Whether the object was hidden between the two moments, both included, by the lowest of
    the markers on top; and how many rows were read.

    UNCHANGED: it is not deleted, or was before. CHANGED: deleted, or deleted again, later.
    REMOVED: no version is left below. Beyond MARKERS_LOOKED_AT markers it is a guess, which
    Undelete decides.
    """
    rows_read = 0
    lowest_ms = 0
    for is_marker, created_at_ms in db.execute(_ON_TOP, (bucket, key)):
        rows_read += 1
        if not is_marker:
            is_so = lowest_ms or _was_revealed(db, bucket, key, since_ms, until_ms)
            return RestoreOutcome.RESTORED if is_so else RestoreOutcome.UNCHANGED, rows_read
        if not lowest_ms and created_at_ms > until_ms:
            return RestoreOutcome.CHANGED, rows_read
        if created_at_ms < since_ms:
            return RestoreOutcome.UNCHANGED, rows_read
        lowest_ms = created_at_ms
    if rows_read == MARKERS_LOOKED_AT:
        return RestoreOutcome.RESTORED, rows_read
    outcome = RestoreOutcome.REMOVED if rows_read else RestoreOutcome.UNCHANGED
    return outcome, rows_read


def _was_revealed(
    db: sqlite3.Connection, bucket: int, key: str, since_ms: int, until_ms: int
) -> bool:
    """Whether markers of that time were taken off after it: a step that is asked for again tells
    what it did the first time."""
    return any(
        run.kind is Kind.MARKER and since_ms <= run.created_at_ms <= until_ms < run.removed_at_ms
        for run in removed.runs(db, bucket, key)
    )


def _of_removed(run: removed.Run, rows_read: int) -> State:
    if run.kind is Kind.MARKER:
        return State(Was.ABSENT, rows_read=rows_read)
    if run.kind is Kind.UNCERTAIN:
        return State(Was.UNKNOWN, rows_read=rows_read)
    number = run.number if run.first_number == run.number else 0
    return State(Was.REMOVED, number=number, rows_read=rows_read)


def _number_at(db: sqlite3.Connection, bucket: int, key: str, at_ms: int) -> tuple[int, int]:
    """The highest number that is still there and was made by then, 0: none; and rows read."""
    # Rows of `above` and more are too new; between `found` and `below` there is none.
    found = below = 0
    above = probe = _NUMBER_MAX
    rows_read = 0
    while below < above - 1:
        row = db.execute(_AT_OR_BELOW, (bucket, key, probe, below)).fetchone()
        rows_read += 1
        if row is not None and row[1] > at_ms:
            above = row[0]
        else:
            found, below = (row[0] if row else found), probe
        probe = (below + above) // 2
    return found, rows_read


def _outcome(
    db: sqlite3.Connection, state: State, current: Row | None, began_ms: int
) -> RestoreOutcome:
    if state.was is Was.REMOVED:
        return RestoreOutcome.REMOVED
    if state.was is Was.UNKNOWN:
        return RestoreOutcome.UNKNOWN
    is_there = current is not None and not versions.is_marker(current)
    is_later = current is not None and versions.created_at_ms(current) > began_ms
    if state.row is None:
        done, is_so = RestoreOutcome.HIDDEN, not is_there
    else:
        done = RestoreOutcome.RESTORED
        is_so = current is not None and is_there and _is_same(db, state.row, current)
    if is_so:
        # A step that is asked for again tells what it did the first time.
        by_us = is_later and current is not None and versions.number_of(current) != state.number
        return done if by_us else RestoreOutcome.UNCHANGED
    return RestoreOutcome.CHANGED if is_later else done


def _is_same(db: sqlite3.Connection, wanted: Row, current: Row) -> bool:
    """Whether the two versions have the same content and headers."""
    one, other = versions.version_info("", wanted), versions.version_info("", current)
    if one.attributes != other.attributes:
        return False
    if one.number == other.number or one.attributes.sha256:
        return True
    if one.manifest or other.manifest:
        return one.manifest == other.manifest
    ids = (versions.parse_version_id(each.version_id) for each in (one, other))
    return len({versions.inline_body(db, id_) for id_ in ids}) == 1
