"""The stripes of the store, or of some objects, each once, and the way back to their objects."""

import sqlite3

from osscore.errors import CommandTooLarge
from osscore.model import VersionInfo
from raftmeta.catalog import versions
from raftmeta.catalog.query_listing import successor
from raftmeta.catalog.query_objects import STRIPE_COLUMNS, stripe_of
from raftmeta.catalog.reading import Reading
from raftmeta.queries import (
    CountReferences,
    FindOwners,
    ListStripes,
    ObjectsFound,
    ReferencesCounted,
    StripesListed,
)

LIMIT_MAX = 1000
VISITED_MAX = 5000
"""Stripes looked at for a page when only those of some objects are wanted."""
_OWNERS_MAX = 1000

STRIPES = (
    f"SELECT {STRIPE_COLUMNS} FROM stripes s"
    " WHERE s.row > ? AND s.dead_since_ms IS NULL ORDER BY s.row LIMIT ?"
)
BELONGS = (
    "SELECT 1 FROM segments g JOIN versions v ON v.manifest = g.manifest AND v.manifest != 0"
    " WHERE g.stripe_row = ? AND v.bucket = ? AND v.key >= ? AND v.key < ? LIMIT 1"
)
MANIFESTS = "SELECT DISTINCT manifest FROM segments WHERE stripe_row = ? LIMIT ?"
REFERENCES = "SELECT refcount FROM stripes WHERE row = ?"
OWNERS = (
    f"SELECT (SELECT name FROM buckets b WHERE b.bucket = v.bucket), {versions.COLUMNS}"
    " FROM versions v WHERE v.manifest = ? AND v.manifest != 0 LIMIT ?"
)


def list_stripes(reading: Reading, query: ListStripes) -> StripesListed:
    """One page of living stripes by row. Refuses NoSuchBucket."""
    limit = max(1, min(query.limit, LIMIT_MAX))
    bucket = versions.find_bucket(reading.db, query.bucket) if query.bucket else 0
    visited_max = VISITED_MAX if bucket else limit
    found = []
    visited = last = 0
    for row in reading.db.execute(STRIPES, (query.after_row, visited_max)):
        visited, last = visited + 1, row[0]
        if not bucket or _belongs(reading.db, last, bucket, query.prefix):
            found.append(stripe_of(row))
            if len(found) == limit:
                break
    is_end = visited < visited_max and len(found) < limit
    return StripesListed(
        stripes=tuple(found),
        next_row=0 if is_end else last,
        last_row=reading.number("next_stripe_row") - 1,
    )


def find_owners(reading: Reading, query: FindOwners) -> ObjectsFound:
    """Versions that need a stripe, in no particular order."""
    limit = max(1, min(query.limit, _OWNERS_MAX))
    found: list[VersionInfo] = []
    for (manifest,) in reading.db.execute(MANIFESTS, (query.row, limit)).fetchall():
        rows = reading.db.execute(OWNERS, (manifest, limit - len(found)))
        found += [versions.version_info(row[0], row[1:]) for row in rows]
        if len(found) == limit:
            break
    return ObjectsFound(versions=tuple(found))


def count_references(reading: Reading, query: CountReferences) -> ReferencesCounted:
    """How often stripes are shared. Refuses CommandTooLarge."""
    if len(query.rows) > LIMIT_MAX:
        raise CommandTooLarge(f"At most {LIMIT_MAX} stripes are counted at once.")
    counts = []
    for row in query.rows:
        found = reading.db.execute(REFERENCES, (row,)).fetchone()
        counts.append(found[0] if found else 0)
    return ReferencesCounted(counts=tuple(counts))


def _belongs(db: sqlite3.Connection, row: int, bucket: int, prefix: str) -> bool:
    # SQLite orders blobs above all text, which makes an empty blob the open upper end.
    end = successor(prefix) or b""
    return db.execute(BELONGS, (row, bucket, prefix, end)).fetchone() is not None
