"""What goes by time, a bounded number of rows a command (SAFETY rules 17 and 18)."""

from osscore.errors import InvalidArgument
from osscore.model import ObjectAttributes
from raftmeta.catalog import lifecycle, versions
from raftmeta.catalog.lifecycle import settings_of
from raftmeta.catalog.transaction import Transaction
from raftmeta.catalog.versions import NewVersion
from raftmeta.commands import UPLOAD_LIFE_S_MAX, Done
from raftmeta.lifecycle import (
    LIFE_MS_MAX,
    Expired,
    ExpireObject,
    ExpireVersions,
    Lifecycle,
    SetLifecycle,
)

ROWS_MAX = 1000
"""Most rows that an ExpireVersions writes, but for the last version it removes."""
RETIMED_AT_ONCE = 500
"""Uploads that a change of the setting reaches at once; steps reach the others."""


def set_lifecycle(tx: Transaction, command: SetLifecycle) -> Done:
    """Change what a bucket asks for. Refuses NoSuchBucket, InvalidArgument."""
    bucket = versions.find_bucket(tx.db, command.bucket)
    _check(command)
    tx.db.execute(
        "UPDATE buckets SET expire_after_ms = COALESCE(?, expire_after_ms),"
        " expire_noncurrent_after_ms = COALESCE(?, expire_noncurrent_after_ms),"
        " abort_uploads_after_ms = COALESCE(?, abort_uploads_after_ms) WHERE bucket = ?",
        (
            command.expire_after_ms,
            command.expire_noncurrent_after_ms,
            command.abort_uploads_after_ms,
            bucket,
        ),
    )
    if command.abort_uploads_after_ms:
        _retime_uploads(tx, bucket, settings_of(tx.db, bucket), RETIMED_AT_ONCE)
    return Done()


def expire_object(tx: Transaction, command: ExpireObject) -> Expired:
    """Put a delete marker on an object that is too old. Refuses NoSuchBucket."""
    bucket = versions.find_bucket(tx.db, command.bucket)
    after_ms = settings_of(tx.db, bucket).expire_after_ms
    current = versions.newest(tx.db, bucket, command.key)
    if _waits(tx) or not after_ms or current is None or versions.is_marker(current):
        return Expired()
    if versions.created_at_ms(current) + after_ms > tx.time_ms:
        return Expired()  # written again since it was looked at, or the setting has changed
    marker = NewVersion(ObjectAttributes(size_bytes=0), is_marker=True)
    versions.insert(tx, bucket, command.key, marker)
    tx.meta.add("expired_objects", 1)
    return Expired(objects=1)


def expire_versions(tx: Transaction, command: ExpireVersions) -> Expired:
    """Remove what is due, the oldest first. Refuses NoSuchBucket."""
    bucket = versions.find_bucket(tx.db, command.bucket)
    if _waits(tx):
        return Expired()
    asked = settings_of(tx.db, bucket)
    rows_max = max(1, min(command.rows_max, ROWS_MAX))
    gone = _Gone()
    for row in lifecycle.superseded(tx.db, bucket, asked, tx.time_ms, rows_max):
        if gone.rows >= rows_max:
            break
        gone.remove(tx, bucket, row)
    while gone.rows < rows_max:
        bare = lifecycle.bare_marker(tx.db, bucket, asked)
        if bare is None:
            break
        gone.remove(tx, bucket, bare)
    uploads = _retime_uploads(tx, bucket, asked, max(0, rows_max - gone.rows))
    tx.meta.add("expired_versions", gone.versions)
    tx.meta.add("expired_markers", gone.markers)
    tx.meta.add("expired_bytes", gone.size_bytes)
    return Expired(
        versions=gone.versions, markers=gone.markers, size_bytes=gone.size_bytes, uploads=uploads
    )


class _Gone:
    """What a step has removed, and the rows that took."""

    def __init__(self) -> None:
        self.rows = self.versions = self.markers = self.size_bytes = 0

    def remove(self, tx: Transaction, bucket: int, row: versions.Row) -> None:
        info = versions.version_info("", row)
        self.rows += versions.remove(tx, bucket, row)
        self.versions += not info.is_marker
        self.markers += info.is_marker
        self.size_bytes += info.attributes.size_bytes


def _waits(tx: Transaction) -> bool:
    """Whether nothing may end by time now: an unconfirmed leap of it, or a restored catalog."""
    return bool(tx.meta.number("time_jumped") or tx.meta.number("frozen"))


def _check(command: SetLifecycle) -> None:
    bounds = {
        "Objects": (command.expire_after_ms, LIFE_MS_MAX),
        "Old versions": (command.expire_noncurrent_after_ms, LIFE_MS_MAX),
        "Uploads": (command.abort_uploads_after_ms, UPLOAD_LIFE_S_MAX * 1000),
    }
    for what, (asked_ms, most_ms) in bounds.items():
        if not 0 <= (asked_ms or 0) <= most_ms:
            days = most_ms // 86_400_000
            raise InvalidArgument(f"{what} can go after 1 s to {days} days, or after 0: never.")


def _retime_uploads(tx: Transaction, bucket: int, asked: Lifecycle, rows_max: int) -> int:
    """Let uploads live as long as the bucket says, from their last sign of life on."""
    mistimed = lifecycle.mistimed_uploads(tx.db, bucket, asked, rows_max)
    tx.db.executemany(
        "UPDATE uploads SET expires_at_ms = expires_at_ms - ttl_ms + ?1, ttl_ms = ?1"
        " WHERE upload = ?2",
        [(asked.abort_uploads_after_ms, upload) for upload in mistimed],
    )
    return len(mistimed)
