"""Which keys have versions older than the newest N, page by page.

A page visits a bounded number of keys. The next version number of a key tells without another
look that it never had more than it may keep.
"""

import sqlite3

from osscore.errors import NoSuchKey
from raftmeta.catalog import versions
from raftmeta.catalog.pruning import effective_keep, oldest_kept
from raftmeta.catalog.query_listing import successor
from raftmeta.catalog.reading import Reading
from raftmeta.queries import FindPrunable, PrunableFound, PrunableKey

KEYS_VISITED_MAX = 5000
"""Keys a page looks at."""
ROWS_COUNTED_MAX = 10_000
"""A page ends behind the key with which it has counted this many rows to remove."""
_FOUND_MAX = 1000

_KEYS = (
    "SELECT key, next_number FROM keys WHERE bucket = ? AND key {operator} ? AND key < ?"
    " ORDER BY key LIMIT ?"
)
KEYS_FROM = _KEYS.format(operator=">=")
KEYS_AFTER = _KEYS.format(operator=">")
OLDER = (
    "SELECT COUNT(*), COALESCE(SUM(is_marker), 0), COALESCE(SUM(size_bytes), 0) FROM versions"
    " WHERE bucket = ? AND key = ? AND number < ?"
)


def find_prunable(reading: Reading, query: FindPrunable) -> PrunableFound:
    """One page of keys. Refuses NoSuchBucket, InvalidArgument, NoSuchKey (of a `key` given)."""
    bucket = versions.find_bucket(reading.db, query.bucket)
    keep = effective_keep(reading.db, bucket, query.keep)
    if query.key and versions.newest(reading.db, bucket, query.key) is None:
        raise NoSuchKey(f"There is no object {query.key[:80]!r}.")
    if not keep:
        return PrunableFound(keys=())
    if query.key:
        found = _older(reading.db, bucket, query.key, keep)
        return PrunableFound(keys=(found,) if found else (), visited=1)
    return _page(reading.db, bucket, keep, query)


def _page(db: sqlite3.Connection, bucket: int, keep: int, query: FindPrunable) -> PrunableFound:
    started = query.after_key and query.after_key >= query.prefix
    sql, start = (KEYS_AFTER, query.after_key) if started else (KEYS_FROM, query.prefix)
    # SQLite orders blobs above all text, which makes an empty blob the open upper end.
    end = successor(query.prefix) or b""
    keys = db.execute(sql, (bucket, start, end, KEYS_VISITED_MAX)).fetchall()
    limit = max(1, min(query.limit, _FOUND_MAX))
    found: list[PrunableKey] = []
    counted = 0
    for visited, (key, next_number) in enumerate(keys, start=1):
        older = _older(db, bucket, key, keep) if next_number > keep + 1 else None
        if older is not None:
            found.append(older)
            counted += older.versions + older.markers
        if len(found) == limit or counted >= ROWS_COUNTED_MAX:
            return PrunableFound(keys=tuple(found), visited=visited, next=key)
    following = keys[-1][0] if len(keys) == KEYS_VISITED_MAX else None
    return PrunableFound(keys=tuple(found), visited=len(keys), next=following)


def _older(db: sqlite3.Connection, bucket: int, key: str, keep: int) -> PrunableKey | None:
    below = oldest_kept(db, bucket, key, keep)
    rows, markers, size_bytes = db.execute(OLDER, (bucket, key, below)).fetchone()
    if not rows:
        return None
    return PrunableKey(key=key, versions=rows - markers, markers=markers, size_bytes=size_bytes)
