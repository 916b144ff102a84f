"""A backup made the first state of a restored cluster (SAFETY rules 1, 2, 16, 17).

Between the backup and its restore the lost cluster went on: it gave out version ids, row
numbers, generations of shards and sessions that this catalog knows nothing of, and that
clients, daemons and disks still hold. None of them may be given out again, so every series
goes on far beyond what the lost cluster can have reached:

- by time: more than any store can use up in the time since the backup. So two restores of one
  backup do not meet either: the second comes later, hence begins beyond all that the first has
  used up by then;
- and by a fixed amount, weeks of writing without a pause, in case the clocks are wrong.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from osscore.errors import InvalidArgument
from raftmeta.catalog import schema
from raftmeta.catalog.meta import Meta

INDEX_JUMP = 1 << 32
INDEXES_PER_MS = 16
"""Log entries: each is a sync of a disk, so none writes 16,000 a second."""
INDEX_MAX = (1 << 47) - 1
"""A version id is the index and 16 bits more, in a signed column."""
ROW_JUMP = 1 << 40
ROWS_PER_MS = 4096
"""Rows of any one kind: an entry of 512 commands writes at most a few hundred thousand."""
DISK_BITS = 16
"""Disks are numbered by 32 bits; a restore begins a new block of 65,536."""
DISK_MAX = (1 << 32) - 1

ROW_SERIES = (
    "next_bucket",
    "next_manifest",
    "next_stripe_row",
    "next_trash_row",
    "next_task",
    "keys_epoch",
)
"""Series of `meta` that go on far beyond. Held elsewhere: manifests by readers, rows by repair
and uploads, trash rows by daemons, tasks as generations of shards, the keys' epoch by frontends."""
KEPT_SERIES = ("next_audit",)
"""Series that go on where they stood: nobody outside the catalog knows their numbers."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a restored catalog begins."""

    generation: int
    applied_index: int


def prepare(path: Path, *, now_ms: int) -> Beginning:
    """Turn a copied catalog, which nobody else uses, into a new generation; in place.

    Deletion is frozen, and the cluster counts as not formed until BeginGeneration is applied.
    `now_ms`: the wall clock. The file is complete but not synced on return. Raises
    InvalidArgument when a series is used up, CorruptCatalog for a newer schema. Blocks.
    """
    with closing(schema.open_writer(path)) as db:
        meta = Meta(db)
        db.execute("BEGIN IMMEDIATE")
        try:
            _begin_generation(meta, now_ms)
            _go_on_beyond(meta, now_ms)
            _forget_sessions(db, meta)
            _forget_tasks(db, meta)
            _forget_members(db, meta)
            meta.save(db)
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("PRAGMA journal_mode = DELETE")
        return Beginning(
            generation=meta.number("generation"), applied_index=meta.number("applied_index")
        )


def _begin_generation(meta: Meta, now_ms: int) -> None:
    # By the clock, so that of two restores of one backup the later has the higher: disks obey
    # the highest they have seen.
    meta.set("generation", max(meta.number("generation") + 1, now_ms))
    meta.set("frozen", 1)
    meta.set("restoring", 1)


def _go_on_beyond(meta: Meta, now_ms: int) -> None:
    elapsed_ms = max(0, now_ms - meta.number("catalog_time_ms"))
    index = meta.number("applied_index") + INDEX_JUMP + INDEXES_PER_MS * elapsed_ms
    disk = ((meta.number("next_disk") >> DISK_BITS) + 1 << DISK_BITS) + 1
    if index > INDEX_MAX or disk > DISK_MAX:
        raise InvalidArgument("The catalog was restored too often, or the clock is far ahead.")
    meta.set("applied_index", index)
    meta.set("next_disk", disk)
    for name in ROW_SERIES:
        meta.set(name, meta.number(name) + ROW_JUMP + ROWS_PER_MS * elapsed_ms)


def _forget_members(db: sqlite3.Connection, meta: Meta) -> None:
    """Who restores the catalog counts, and nobody of the lost cluster: newer than anything that
    clients were ever told of the members."""
    db.execute("DELETE FROM members")
    meta.set("members_index", meta.number("applied_index"))


def _forget_tasks(db: sqlite3.Connection, meta: Meta) -> None:
    """The lost cluster may have carried a task out and deleted its shard again: that identity
    must not return (SAFETY rule 2). What still needs a task gets another one."""
    db.execute("DELETE FROM tasks")
    db.execute("DELETE FROM reencode_tasks")
    meta.set("total_tasks", 0)


def _forget_sessions(db: sqlite3.Connection, meta: Meta) -> None:
    """A command sent to the lost cluster must not be applied here, be it a retry or not."""
    db.execute("DELETE FROM results")
    db.execute("DELETE FROM sessions")
    meta.set("total_sessions", 0)
