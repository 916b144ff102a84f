"""What a bucket asks for by time, and which rows are due: each question is a seek in an index.

`versions_current_by_age` leads to what expires: it has the current versions only, so what has
expired has left it. `versions_superseded` leads to what is no longer the newest. `bare_markers`
has the keys whose lowest row is a delete marker: nothing is behind that.
"""

import sqlite3

from raftmeta.catalog.versions import COLUMNS, Row
from raftmeta.lifecycle import Lifecycle

SETTINGS = "expire_after_ms, expire_noncurrent_after_ms, abort_uploads_after_ms"

CURRENT = (
    "SELECT key FROM versions INDEXED BY versions_current_by_age"
    " WHERE bucket = ? AND is_latest = 1 AND is_marker = 0 AND created_at_ms <= ?"
    " ORDER BY created_at_ms LIMIT ?"
)
SUPERSEDED = (
    f"SELECT {COLUMNS} FROM versions INDEXED BY versions_superseded"
    " WHERE bucket = ? AND superseded_at_ms <= ? ORDER BY superseded_at_ms, id LIMIT ?"
)
BARE = "SELECT key FROM bare_markers WHERE bucket = ? ORDER BY key LIMIT 1"
_OF_UPLOADS = (
    "SELECT upload FROM uploads INDEXED BY uploads_by_life"
    " WHERE waits = 1 AND bucket = ?1 AND ttl_ms {operator} ?2"
)
UPLOADS = " UNION ALL ".join(_OF_UPLOADS.format(operator=each) for each in "<>") + " LIMIT ?3"


def settings_of(db: sqlite3.Connection, bucket: int) -> Lifecycle:
    """The bucket's settings now."""
    found = db.execute(f"SELECT {SETTINGS} FROM buckets WHERE bucket = ?", (bucket,)).fetchone()
    return lifecycle(*found)


def lifecycle(expire_ms: int, noncurrent_ms: int, abort_ms: int) -> Lifecycle:
    """The columns SETTINGS as their struct."""
    return Lifecycle(
        expire_after_ms=expire_ms,
        expire_noncurrent_after_ms=noncurrent_ms,
        abort_uploads_after_ms=abort_ms,
    )


def expiring(
    db: sqlite3.Connection, bucket: int, asked: Lifecycle, at_ms: int, limit: int
) -> list[str]:
    """Keys whose current version is too old at that time, the oldest first."""
    if not asked.expire_after_ms:
        return []
    rows = db.execute(CURRENT, (bucket, at_ms - asked.expire_after_ms, limit))
    return [key for (key,) in rows]


def superseded(
    db: sqlite3.Connection, bucket: int, asked: Lifecycle, at_ms: int, limit: int
) -> list[Row]:
    """Versions and markers that go for good at that time, as COLUMNS, the oldest first."""
    if not asked.expire_noncurrent_after_ms:
        return []
    before_ms = at_ms - asked.expire_noncurrent_after_ms
    return db.execute(SUPERSEDED, (bucket, before_ms, limit)).fetchall()


def bare_marker(db: sqlite3.Connection, bucket: int, asked: Lifecycle) -> Row | None:
    """A delete marker with nothing behind it that is to go, as COLUMNS."""
    found = db.execute(BARE, (bucket,)).fetchone() if asked.removes_markers else None
    if found is None:
        return None
    row: Row = db.execute(
        f"SELECT {COLUMNS} FROM versions WHERE bucket = ? AND key = ? ORDER BY number LIMIT 1",
        (bucket, *found),
    ).fetchone()
    return row


def mistimed_uploads(
    db: sqlite3.Connection, bucket: int, asked: Lifecycle, limit: int
) -> list[bytes]:
    """Uploads under way that the bucket wants to live for another time than they do."""
    if not asked.abort_uploads_after_ms:
        return []
    rows = db.execute(UPLOADS, (bucket, asked.abort_uploads_after_ms, limit))
    return [upload for (upload,) in rows]
