"""Who else needs a stripe, and whether they ask for more than one of them does.

A stripe has one coding for all who share it. It is made less durable only if nobody who needs
it asks for more, and that can be seen within bounds; else it stays as it is.
"""

import sqlite3
from collections.abc import Iterator

from osscore.model import Profile

MANIFESTS_MAX = 200
"""Of so many manifests that share a stripe the buckets are looked at."""
VERSIONS_MAX = 200
"""Of so many versions that share a manifest, likewise."""

# The index of segments by stripe goes on with the manifest: one seek each, however many
# segments of a manifest name the stripe.
_NEXT_MANIFEST = "SELECT MIN(manifest) FROM segments WHERE stripe_row = ? AND manifest > ?"
_IN_BUCKET = "SELECT 1 FROM versions WHERE manifest = ? AND manifest != 0 AND bucket = ? LIMIT 1"
_PROFILES = (
    "SELECT b.data_count, b.parity_count, COUNT(*) FROM (SELECT bucket FROM versions"
    " WHERE manifest = ? AND manifest != 0 LIMIT ?) v JOIN buckets b ON b.bucket = v.bucket"
    " GROUP BY 1, 2"
)
_RESERVED = "SELECT 1 FROM upload_refs WHERE stripe_row = ? LIMIT 1"


def belongs(db: sqlite3.Connection, row: int, bucket: int) -> bool:
    """Whether versions of the bucket need the stripe. Where too many share it to be told, they
    are taken to."""
    for count, manifest in enumerate(_manifests(db, row)):
        if count == MANIFESTS_MAX:
            return True
        if db.execute(_IN_BUCKET, (manifest, bucket)).fetchone() is not None:
            return True
    return False


def others_ask_for_more(db: sqlite3.Connection, row: int, profile: Profile) -> bool:
    """Whether anybody who needs the stripe may ask for more than `profile`.

    A bucket without a profile of its own asks for what is there, and so does an upload under
    way; so do those who are too many to be looked at.
    """
    if db.execute(_RESERVED, (row,)).fetchone() is not None:
        return True
    for count, manifest in enumerate(_manifests(db, row)):
        if count == MANIFESTS_MAX or _asks_for_more(db, manifest, profile):
            return True
    return False


def _asks_for_more(db: sqlite3.Connection, manifest: int, profile: Profile) -> bool:
    asked = db.execute(_PROFILES, (manifest, VERSIONS_MAX)).fetchall()
    if not asked or sum(count for _, _, count in asked) == VERSIONS_MAX:
        return True
    return any(
        data is None or Profile(data, parity).asks_more_than(profile) for data, parity, _ in asked
    )


def _manifests(db: sqlite3.Connection, row: int) -> Iterator[int]:
    after = 0
    while (found := db.execute(_NEXT_MANIFEST, (row, after)).fetchone()[0]) is not None:
        yield found
        after = found
