"""The catalog's single values: applied index, time, next numbers and running totals.

They live in the `meta` table; while a batch is applied they are kept here and written once
at its end. Totals make status O(1): no query counts rows of a table.
"""

import sqlite3
from collections.abc import Mapping

from osscore.errors import CorruptCatalog

_INITIAL: dict[str, int | bytes] = {
    "applied_index": 0,
    "catalog_time_ms": 0,
    "time_jumped": 0,
    "generation": 1,
    "frozen": 0,
    "restoring": 0,
    "restored_at_ms": 0,
    "keys_epoch": 0,
    "members_index": 0,
    "gc_grace_ms": 3_600_000,
    "cluster_id": b"",
    "catalog_key_wrapped": b"",
    "system_token_digest": b"",
    "next_bucket": 1,
    "next_manifest": 1,
    "next_stripe_row": 1,
    "next_disk": 1,
    "next_trash_row": 1,
    "next_task": 1,
    "next_audit": 1,
    "total_buckets": 0,
    "total_versions": 0,
    "total_markers": 0,
    "total_stripes": 0,
    "total_dead_stripes": 0,
    "total_segments": 0,
    "total_uploads": 0,
    "total_trash": 0,
    "total_tasks": 0,
    "total_graveyard": 0,
    "total_sessions": 0,
    "total_logical_bytes": 0,
    "total_stored_bytes": 0,
    "total_inline_bytes": 0,
    "total_access_keys": 0,
    "total_revoked_tokens": 0,
    "pruned_versions": 0,
    "pruned_markers": 0,
    "pruned_bytes": 0,
    "expired_objects": 0,
    "expired_versions": 0,
    "expired_markers": 0,
    "expired_bytes": 0,
    "moved_shards": 0,
    "moved_bytes": 0,
    "repair_paused": 0,
    "rebalance_paused": 0,
    "reencode_paused": 0,
    "reencoded_stripes": 0,
    "reencoded_bytes": 0,
}


_PER_DISK = ("disk_slots", "disk_bytes")


def slots_on(values: Mapping[str, int | bytes], disk: int) -> tuple[int, int]:
    """How many slots of stripes name that disk, whatever their state, and the bytes of their
    shards. Dead stripes count until they are forgotten."""
    count, size_bytes = (int(values.get(f"{name}:{disk}", 0)) for name in _PER_DISK)
    return count, size_bytes


class Meta:
    """Named values as they stand inside the running batch."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._saved = read_meta(db)
        self._now = {**_INITIAL, **self._saved}

    def number(self, name: str) -> int:
        """An integer value."""
        value = self._now[name]
        assert isinstance(value, int)
        return value

    def blob(self, name: str) -> bytes:
        """A bytes value; empty before the cluster is formed."""
        value = self._now[name]
        assert isinstance(value, bytes)
        return value

    def set(self, name: str, value: int | bytes) -> None:
        """Replace a value."""
        assert name in _INITIAL
        self._now[name] = value

    def add(self, name: str, amount: int) -> None:
        """Move a total; totals never fall below zero."""
        total = self.number(name) + amount
        if total < 0:
            raise CorruptCatalog(f"The total {name} would fall to {total}.")
        self._now[name] = total

    def count_slots(self, disk: int, *, count: int, size_bytes: int) -> None:
        """Move the totals of a disk; see `slots_on`."""
        for name, amount in zip(_PER_DISK, (count, size_bytes), strict=True):
            total = int(self._now.get(f"{name}:{disk}", 0)) + amount
            if total < 0:
                raise CorruptCatalog(f"The total {name} of disk {disk} would fall to {total}.")
            self._now[f"{name}:{disk}"] = total

    def slots_on(self, disk: int) -> tuple[int, int]:
        """See the function."""
        return slots_on(self._now, disk)

    def take(self, name: str) -> int:
        """The next number of a series; none is ever given twice."""
        number = self.number(name)
        self._now[name] = number + 1
        return number

    def mark(self) -> dict[str, int | bytes]:
        """The values now, for `restore`."""
        return self._now.copy()

    def restore(self, marked: dict[str, int | bytes]) -> None:
        """Go back to a mark, together with the savepoint of a refused command."""
        self._now = marked

    def save(self, db: sqlite3.Connection) -> None:
        """Write what changed since the last save."""
        changed = [item for item in self._now.items() if self._saved.get(item[0]) != item[1]]
        db.executemany("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", changed)
        # A disk of no slots has no row, on replicas that counted it and on those that never did.
        none = [(name,) for name, value in changed if ":" in name and not value]
        db.executemany("DELETE FROM meta WHERE name = ?", none)
        self._saved = self._now.copy()


def read_meta(db: sqlite3.Connection) -> dict[str, int | bytes]:
    """All stored values, for a reader inside its own transaction."""
    return {**_INITIAL, **dict(db.execute("SELECT name, value FROM meta"))}
