"""Which versions of a key are older than the newest N (docs/adr/0010).

Only real versions count. A delete marker is kept or goes with its age: what lies below the
oldest kept version goes, a marker above it stays. So a deleted object stays deleted, and what
it held can still be brought back.
"""

import sqlite3

from osscore.errors import InvalidArgument

KEEP_MAX = 1000
"""Most versions that may be asked to be kept."""
LOOKED_AT_MAX = 10_000
"""Newest rows of a key among which its kept versions are looked for (SAFETY rule 18). A key
with so many markers on top that they are not among these is left alone."""

_TOO_DEEP = (
    "SELECT number FROM versions WHERE bucket = ? AND key = ? ORDER BY number DESC LIMIT 1 OFFSET ?"
)
_OLDEST_KEPT = (
    "SELECT number FROM versions WHERE bucket = ? AND key = ? AND number > ? AND is_marker = 0"
    " ORDER BY number DESC LIMIT 1 OFFSET ?"
)


def check_keep(keep: int) -> None:
    """Refuses InvalidArgument unless that many versions may be asked to be kept."""
    if not 1 <= keep <= KEEP_MAX:
        raise InvalidArgument(f"1 to {KEEP_MAX} versions can be kept of each object, not {keep}.")


def oldest_kept(db: sqlite3.Connection, bucket: int, key: str, keep: int) -> int:
    """The number of the `keep`-th newest real version: all below it goes. 0: there is none."""
    too_deep = db.execute(_TOO_DEEP, (bucket, key, LOOKED_AT_MAX)).fetchone()
    above = too_deep[0] if too_deep else 0
    found = db.execute(_OLDEST_KEPT, (bucket, key, above, keep - 1)).fetchone()
    return int(found[0]) if found else 0


def effective_keep(db: sqlite3.Connection, bucket: int, keep: int) -> int:
    """`keep`, or for 0 what the bucket itself asks for now. 0: nothing is to be pruned.

    Refuses InvalidArgument.
    """
    if keep:
        check_keep(keep)
        return keep
    found = db.execute("SELECT keep_versions FROM buckets WHERE bucket = ?", (bucket,)).fetchone()
    return int(found[0])
