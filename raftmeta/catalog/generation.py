"""Whether shards may be deleted under this catalog (SAFETY rule 16)."""

import sqlite3

from raftmeta.generations import DeletionState

_SHOWN_MAX = 100
_UNCONFIRMED = (
    " FROM disks d WHERE d.state IN ('in', 'draining') AND NOT EXISTS"
    " (SELECT 1 FROM censuses c WHERE c.disk = d.disk AND c.generation = ?)"
)


def deletion_state(
    db: sqlite3.Connection, *, generation: int, frozen: bool, restored_at_ms: int
) -> DeletionState:
    """How far the censuses of this generation are. A disk that is lost or removed needs none:
    its slots count as missing whatever it holds."""
    if not restored_at_ms:
        return DeletionState(frozen=frozen)
    (disk_count,) = db.execute(
        "SELECT COUNT(*) FROM disks WHERE state IN ('in', 'draining')"
    ).fetchone()
    (open_count,) = db.execute(f"SELECT COUNT(*) {_UNCONFIRMED}", (generation,)).fetchone()
    shown = db.execute(
        f"SELECT d.disk {_UNCONFIRMED} ORDER BY d.disk LIMIT ?", (generation, _SHOWN_MAX)
    )
    return DeletionState(
        frozen=frozen,
        restored_at_ms=restored_at_ms,
        disk_count=disk_count,
        confirmed_count=disk_count - open_count,
        unconfirmed=tuple(disk for (disk,) in shown),
    )
