"""Removing old versions, a bounded number of rows at a time (SAFETY rule 18)."""

from raftmeta.catalog import versions
from raftmeta.catalog.pruning import check_keep, effective_keep, oldest_kept
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import Done, PruneVersions, SetKeepVersions, VersionsPruned

ROWS_MAX = 1000
"""Most rows that a PruneVersions writes, but for the last version it removes."""


def set_keep_versions(tx: Transaction, command: SetKeepVersions) -> Done:
    """How many versions of each object the leader keeps. Refuses NoSuchBucket, InvalidArgument."""
    bucket = versions.find_bucket(tx.db, command.bucket)
    if command.keep_versions:
        check_keep(command.keep_versions)
    tx.db.execute(
        "UPDATE buckets SET keep_versions = ? WHERE bucket = ?", (command.keep_versions, bucket)
    )
    return Done()


def prune_versions(tx: Transaction, command: PruneVersions) -> VersionsPruned:
    """Remove what is older than the newest `keep`, the oldest first, so that whatever is left
    when the rows are used up is still the newest. Refuses NoSuchBucket, InvalidArgument."""
    bucket = versions.find_bucket(tx.db, command.bucket)
    if tx.meta.number("frozen") and not command.keep:
        return VersionsPruned()  # nobody asked for it just now: it waits (SAFETY rule 16)
    keep = effective_keep(tx.db, bucket, command.keep)
    below = oldest_kept(tx.db, bucket, command.key, keep) if keep else 0
    rows_max = max(1, min(command.rows_max, ROWS_MAX))
    found = tx.db.execute(
        f"SELECT {versions.COLUMNS} FROM versions WHERE bucket = ? AND key = ? AND number < ?"
        " ORDER BY number LIMIT ?",
        (bucket, command.key, below, rows_max + 1),
    ).fetchall()
    written = version_count = marker_count = size_bytes = 0
    for row in found:
        if written >= rows_max:
            break
        written += versions.remove(tx, bucket, row)
        info = versions.version_info(command.bucket, row)
        version_count += not info.is_marker
        marker_count += info.is_marker
        size_bytes += info.attributes.size_bytes
    tx.meta.add("pruned_versions", version_count)
    tx.meta.add("pruned_markers", marker_count)
    tx.meta.add("pruned_bytes", size_bytes)
    return VersionsPruned(
        versions=version_count,
        markers=marker_count,
        size_bytes=size_bytes,
        is_done=version_count + marker_count == len(found),
    )
