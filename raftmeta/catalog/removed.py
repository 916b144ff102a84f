"""What is remembered of versions and markers that are gone: when each was there.

Without it the past would be told wrongly: a time between a deletion and its undelete would
show the object, a time before a prune nothing at all. Of each key the newest few are kept one
by one; older ones run together, at worst into a stretch of which nothing certain is known.
"""

import sqlite3
from dataclasses import dataclass
from enum import IntEnum

from raftmeta.catalog.transaction import Transaction

RUNS_KEPT = 16
"""Most rows of one key."""
ROWS_PER_REMOVAL = 3
"""Most rows that `note` writes."""

RUNS = (
    "SELECT first_number, number, kind, created_at_ms, removed_at_ms FROM removed_versions"
    " WHERE bucket = ? AND key = ? ORDER BY number"
)


class Kind(IntEnum):
    """What the removed ones were."""

    VERSION = 0
    MARKER = 1
    UNCERTAIN = 2
    """Some of each, or not without gaps."""


@dataclass(frozen=True, slots=True)
class Run:
    """Numbers first_number..number, on their key from `created_at_ms` to `removed_at_ms`.

    Of a certain kind: at every moment between, one of them was the newest but for higher
    numbers. UNCERTAIN: that may be so, or not.
    """

    first_number: int
    number: int
    kind: Kind
    created_at_ms: int
    removed_at_ms: int

    def was_there(self, at_ms: int) -> bool:
        """Whether it was, or may have been, on its key after all that happened at that ms."""
        return self.created_at_ms <= at_ms < self.removed_at_ms


def note(
    tx: Transaction, bucket: int, key: str, *, number: int, is_marker: bool, created_at_ms: int
) -> None:
    """A version or marker is removed in this command."""
    kind = Kind.MARKER if is_marker else Kind.VERSION
    new = Run(number, number, kind, created_at_ms, tx.time_ms)
    found = runs(tx.db, bucket, key)
    same = next((run for run in found if run.number == number), None)
    if same is not None:
        # Only what a migration guessed stands under the number of one that still was there.
        new = _joined(same, new)
    elif len(found) >= RUNS_KEPT:
        lowest, above = sorted([*found, new], key=lambda run: run.number)[:2]
        _forget(tx, bucket, key, lowest)
        _write(tx, bucket, key, _joined(lowest, above))
        if new in (lowest, above):
            return
    _write(tx, bucket, key, new)


def runs(db: sqlite3.Connection, bucket: int, key: str) -> list[Run]:
    """All that is remembered of a key, lowest numbers first: RUNS_KEPT at most."""
    rows = db.execute(RUNS, (bucket, key))
    return [Run(first, last, Kind(kind), *times) for first, last, kind, *times in rows]


def _joined(lower: Run, upper: Run) -> Run:
    is_whole = (
        lower.kind == upper.kind
        and upper.first_number == lower.number + 1
        and lower.removed_at_ms >= upper.created_at_ms
    )
    return Run(
        first_number=min(lower.first_number, upper.first_number),
        number=max(lower.number, upper.number),
        kind=lower.kind if is_whole else Kind.UNCERTAIN,
        created_at_ms=min(lower.created_at_ms, upper.created_at_ms),
        removed_at_ms=max(lower.removed_at_ms, upper.removed_at_ms),
    )


def _forget(tx: Transaction, bucket: int, key: str, run: Run) -> None:
    tx.db.execute(
        "DELETE FROM removed_versions WHERE bucket = ? AND key = ? AND number = ?",
        (bucket, key, run.number),
    )


def _write(tx: Transaction, bucket: int, key: str, run: Run) -> None:
    tx.db.execute(
        "INSERT OR REPLACE INTO removed_versions"
        " (bucket, key, first_number, number, kind, created_at_ms, removed_at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            bucket,
            key,
            run.first_number,
            run.number,
            int(run.kind),
            run.created_at_ms,
            run.removed_at_ms,
        ),
    )
