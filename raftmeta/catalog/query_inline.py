"""The versions whose bytes the catalog keeps itself, with these bytes, page by page."""

import sqlite3

from osscore.errors import CorruptCatalog
from raftmeta.catalog import versions
from raftmeta.catalog.reading import Reading
from raftmeta.scanning import InlineListed, InlineVersion, ListInline

LIMIT_MAX = 256
VISITED_MAX = 5000
"""Versions looked at for a page."""
_BUCKET_AT = 8

VERSIONS = (
    f"SELECT {versions.COLUMNS}, bucket, (SELECT name FROM buckets b WHERE b.bucket = v.bucket)"
    " FROM versions v WHERE id > ? ORDER BY id LIMIT ?"
)


def list_inline(reading: Reading, query: ListInline) -> InlineListed:
    """One page of versions by id. Refuses NoSuchBucket."""
    limit = max(1, min(query.limit, LIMIT_MAX))
    bucket = versions.find_bucket(reading.db, query.bucket) if query.bucket else 0
    found: list[InlineVersion] = []
    visited = last = 0
    for row in reading.db.execute(VERSIONS, (query.after_id, VISITED_MAX)):
        visited += 1
        info = versions.version_info(row[_BUCKET_AT + 1], row[:_BUCKET_AT])
        last = int(info.version_id, 16)
        is_meant = not bucket or (row[_BUCKET_AT] == bucket and info.key.startswith(query.prefix))
        if is_meant and not info.manifest and not info.is_marker:
            found.append(InlineVersion(version=info, data=_data(reading.db, last)))
            if len(found) == limit:
                break
    is_end = visited < VISITED_MAX and len(found) < limit
    return InlineListed(versions=tuple(found), next_id=0 if is_end else last)


def _data(db: sqlite3.Connection, id_: int) -> bytes | None:
    try:
        return versions.inline_body(db, id_)
    except CorruptCatalog:
        return None
