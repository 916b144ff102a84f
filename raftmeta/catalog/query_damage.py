"""How many objects the damaged stripes belong to, as far as a bounded look tells."""

import sqlite3
from collections import Counter

from osscore.model import SlotState, unpack_slots
from raftmeta.catalog.reading import Reading
from raftmeta.moving import CountDamagedObjects, DamagedObjectsCounted

STRIPES_MAX = 2000
VERSIONS_MAX = 20_000

_MISSING = (
    "SELECT row, slots FROM stripes INDEXED BY stripes_damaged"
    " WHERE missing_count > 0 AND dead_since_ms IS NULL ORDER BY row LIMIT ?"
)
_ON_DISK = (
    "SELECT s.row, s.slots FROM slots_by_disk d JOIN stripes s ON s.row = d.stripe_row"
    " WHERE d.disk = ? AND s.dead_since_ms IS NULL ORDER BY d.stripe_row LIMIT ?"
)
_VERSIONS = (
    "SELECT DISTINCT v.id FROM segments g JOIN versions v ON v.manifest = g.manifest"
    " AND v.manifest != 0 WHERE g.stripe_row = ? LIMIT ?"
)


def count_damaged_objects(reading: Reading, query: CountDamagedObjects) -> DamagedObjectsCounted:
    """See CountDamagedObjects."""
    db = reading.db
    lost = {d for (d,) in db.execute("SELECT disk FROM disks WHERE state IN ('lost', 'removed')")}
    limit = max(1, min(query.stripes_max, STRIPES_MAX))
    damaged = _damaged(db, lost, limit)
    most: dict[int, int] = {}
    looked = 0
    for row, packed in sorted(damaged.items())[:limit]:
        left = VERSIONS_MAX - len(most)
        if left <= 0:
            break
        looked += 1
        slots = unpack_slots(packed)
        count = sum(slot.state is not SlotState.GOOD or slot.disk in lost for slot in slots)
        for (version,) in db.execute(_VERSIONS, (row, left)) if count else ():
            most[version] = max(count, most.get(version, 0))
    return DamagedObjectsCounted(
        by_missing=dict(sorted(Counter(most.values()).items())),
        is_partial=looked < len(damaged) or len(most) >= VERSIONS_MAX,
    )


def _damaged(db: sqlite3.Connection, lost: set[int], limit: int) -> dict[int, bytes]:
    """Rows of stripes and their slots: one more than `limit` where there are more."""
    found = dict(db.execute(_MISSING, (limit + 1,)))
    for disk in sorted(lost):
        if len(found) > limit:
            break
        found |= dict(db.execute(_ON_DISK, (disk, limit + 1)))
    return found
