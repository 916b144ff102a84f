"""Does the catalog contradict itself? Every redundant fact, counted again from scratch.

Reads everything: for tests, torture and `meta verify`, not for production paths.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator

from osscore.model import Coding, CodingKind, SlotState, unpack_slots
from osscore.quorum import acknowledged

# Each query selects what must not exist.
_FORBIDDEN = {
    "a stripe's refcount differs from its references": """
        SELECT s.row, s.refcount, COALESCE(g.n, 0) + COALESCE(u.n, 0) FROM stripes s
        LEFT JOIN (SELECT stripe_row, COUNT(*) n FROM segments GROUP BY stripe_row) g
            ON g.stripe_row = s.row
        LEFT JOIN (SELECT stripe_row, SUM(ref_count) n FROM upload_refs GROUP BY stripe_row) u
            ON u.stripe_row = s.row
        WHERE s.refcount != COALESCE(g.n, 0) + COALESCE(u.n, 0)""",
    "a stripe is dead with references, or alive without": """
        SELECT row FROM stripes WHERE (refcount = 0) != (dead_since_ms IS NOT NULL)""",
    "a dead stripe is offered": """
        SELECT row FROM stripes WHERE offered = 1 AND dead_since_ms IS NOT NULL""",
    "a segment names a forgotten or dead stripe": """
        SELECT g.manifest, g.start FROM segments g LEFT JOIN stripes s ON s.row = g.stripe_row
        WHERE s.row IS NULL OR s.dead_since_ms IS NOT NULL""",
    "a manifest's refcount differs from its references": """
        SELECT m.manifest, m.refcount, COALESCE(v.n, 0) + COALESCE(u.n, 0) FROM manifests m
        LEFT JOIN (SELECT manifest, COUNT(*) n FROM versions GROUP BY manifest) v
            ON v.manifest = m.manifest
        LEFT JOIN (SELECT manifest, COUNT(*) n FROM uploads GROUP BY manifest) u
            ON u.manifest = m.manifest
        WHERE m.refcount != COALESCE(v.n, 0) + COALESCE(u.n, 0)""",
    "a version or upload names a manifest that is gone": """
        SELECT id FROM versions WHERE manifest != 0
            AND manifest NOT IN (SELECT manifest FROM manifests)
        UNION ALL SELECT upload FROM uploads
            WHERE manifest NOT IN (SELECT manifest FROM manifests)""",
    "segments belong to neither a manifest nor a grave, or to both": """
        SELECT DISTINCT g.manifest FROM segments g
        LEFT JOIN manifests m ON m.manifest = g.manifest
        LEFT JOIN graveyard y ON y.manifest = g.manifest
        WHERE (m.manifest IS NULL) = (y.manifest IS NULL)""",
    "a manifest's size or segment count is wrong": """
        SELECT m.manifest FROM manifests m
        LEFT JOIN (SELECT manifest, COUNT(*) n, SUM(length) size FROM segments GROUP BY manifest) g
            ON g.manifest = m.manifest
        WHERE m.segment_count != COALESCE(g.n, 0) OR m.size_bytes != COALESCE(g.size, 0)""",
    "segments leave a gap or overlap": """
        SELECT manifest, start FROM (SELECT manifest, start, LAG(start + length, 1, 0)
            OVER (PARTITION BY manifest ORDER BY start) expected FROM segments
            WHERE manifest IN (SELECT manifest FROM manifests)) WHERE start != expected""",
    "an object's size differs from its manifest's": """
        SELECT v.id FROM versions v JOIN manifests m ON m.manifest = v.manifest
        WHERE v.size_bytes != m.size_bytes""",
    "an upload's counts are wrong": """
        SELECT u.upload FROM uploads u JOIN manifests m ON m.manifest = u.manifest
        WHERE u.kind != 'hold'
            AND (u.staged_bytes != m.size_bytes OR u.staged_count != m.segment_count)
        UNION ALL SELECT u.upload FROM uploads u WHERE u.reserved_count !=
            (SELECT COALESCE(SUM(ref_count), 0) FROM upload_refs r WHERE r.upload = u.upload)""",
    "a chunk belongs to no upload, or a number was given twice": """
        SELECT c.upload FROM uploads c LEFT JOIN uploads p
            ON p.manifest = c.family AND p.kind = 'upload'
        WHERE (c.kind = 'chunk') != (c.family IS NOT NULL AND c.number IS NOT NULL)
            OR (c.kind = 'chunk' AND p.upload IS NULL
                AND c.family NOT IN (SELECT family FROM ended_families))
        UNION ALL SELECT family FROM ended_families
            WHERE family IN (SELECT manifest FROM uploads WHERE kind = 'upload')""",
    "an upload is both under way and finished": """
        SELECT upload FROM uploads WHERE upload IN (SELECT upload FROM finished_uploads)""",
    "a reserved reference has no upload": """
        SELECT upload FROM upload_refs WHERE upload NOT IN (SELECT upload FROM uploads)""",
    "the latest version is not the newest": """
        SELECT id FROM (SELECT id, is_latest, MAX(number) OVER (PARTITION BY bucket, key) top,
            number FROM versions) WHERE is_latest != (number = top)""",
    "a version is superseded and the latest, or neither": """
        SELECT id FROM versions WHERE (superseded_at_ms IS NULL) != (is_latest = 1)
            OR superseded_at_ms < created_at_ms""",
    "a bare marker is none, or is not listed": """
        WITH lowest AS (SELECT bucket, key FROM (SELECT bucket, key, is_marker,
            number = MIN(number) OVER (PARTITION BY bucket, key) first FROM versions)
            WHERE first AND is_marker = 1)
        SELECT * FROM (SELECT * FROM lowest EXCEPT SELECT bucket, key FROM bare_markers)
        UNION ALL
        SELECT * FROM (SELECT bucket, key FROM bare_markers EXCEPT SELECT * FROM lowest)""",
    "a version number was not taken from its key": """
        SELECT v.id FROM versions v LEFT JOIN keys k ON k.bucket = v.bucket AND k.key = v.key
        WHERE k.next_number IS NULL OR v.number >= k.next_number""",
    "a removed version was not of its key": """
        SELECT r.number FROM removed_versions r
            LEFT JOIN keys k ON k.bucket = r.bucket AND k.key = r.key
        WHERE k.next_number IS NULL OR r.number >= k.next_number OR r.first_number > r.number
            OR r.created_at_ms > r.removed_at_ms""",
    "a bucket's usage differs from its versions": """
        SELECT b.bucket FROM buckets b LEFT JOIN (SELECT bucket, COUNT(*) n, SUM(size_bytes) size
            FROM versions WHERE is_marker = 0 GROUP BY bucket) v ON v.bucket = b.bucket
        WHERE b.used_versions != COALESCE(v.n, 0) OR b.used_bytes != COALESCE(v.size, 0)""",
    "an inline body is missing or belongs to nobody": """
        SELECT v.id FROM versions v LEFT JOIN inline_bodies i ON i.version = v.id
        WHERE (v.manifest = 0 AND v.is_marker = 0) != (i.version IS NOT NULL)
        UNION ALL SELECT version FROM inline_bodies
            WHERE version NOT IN (SELECT id FROM versions)""",
    "a spent stripe id is named": """
        SELECT row FROM stripes WHERE stripe IN (SELECT stripe FROM spent_stripes)""",
    "not exactly one signing key is active": """
        SELECT COUNT(*) FROM signing_keys HAVING COUNT(*) > 0 AND SUM(retires_at_ms = 0) != 1""",
    "numbers of the audit leave a gap or repeat": """
        SELECT number FROM (SELECT number, LEAD(number) OVER (ORDER BY number) following
            FROM audit) WHERE following IS NOT NULL AND following != number + 1
        UNION ALL SELECT MAX(number) FROM audit HAVING MAX(number) + 1 !=
            (SELECT value FROM meta WHERE name = 'next_audit')""",
    "a task belongs to no stripe, or its slot was written by it": """
        SELECT t.task FROM tasks t LEFT JOIN stripes s ON s.row = t.stripe_row
            WHERE s.row IS NULL OR t.gen >= t.task
        UNION ALL SELECT MAX(task) FROM tasks HAVING MAX(task) >=
            (SELECT value FROM meta WHERE name = 'next_task')""",
    "a stripe to be encoded anew is forgotten, or its task was not taken from the series": """
        SELECT t.task FROM reencode_tasks t LEFT JOIN stripes s ON s.row = t.stripe_row
            WHERE s.row IS NULL
        UNION ALL SELECT MAX(n) FROM (SELECT MAX(task) n FROM reencode_tasks
            UNION ALL SELECT MAX(job) FROM reencode_jobs) HAVING MAX(n) >=
            (SELECT value FROM meta WHERE name = 'next_task')""",
    "a job belongs to no bucket, or is of another profile than its bucket while it runs": """
        SELECT j.job FROM reencode_jobs j LEFT JOIN buckets b ON b.bucket = j.bucket AND b.live = 1
        WHERE b.bucket IS NULL OR (j.state = 'running' AND (j.profile_data != b.data_count
            OR j.profile_parity != b.parity_count))""",
    "a result has no session": """
        SELECT session FROM results WHERE session NOT IN (SELECT session FROM sessions)""",
}

_TOTALS = {
    "total_buckets": "SELECT COUNT(*) FROM buckets WHERE live = 1",
    "total_versions": "SELECT COUNT(*) FROM versions WHERE is_marker = 0",
    "total_markers": "SELECT COUNT(*) FROM versions WHERE is_marker = 1",
    "total_stripes": "SELECT COUNT(*) FROM stripes WHERE dead_since_ms IS NULL",
    "total_dead_stripes": "SELECT COUNT(*) FROM stripes WHERE dead_since_ms IS NOT NULL",
    "total_segments": "SELECT COUNT(*) FROM segments",
    "total_uploads": "SELECT COUNT(*) FROM uploads",
    "total_trash": "SELECT COUNT(*) FROM trash",
    "total_tasks": "SELECT COUNT(*) FROM tasks",
    "total_graveyard": "SELECT COUNT(*) FROM graveyard",
    "total_sessions": "SELECT COUNT(*) FROM sessions",
    "total_access_keys": "SELECT COUNT(*) FROM access_keys",
    "total_revoked_tokens": "SELECT COUNT(*) FROM revoked_tokens",
    "total_logical_bytes": "SELECT COALESCE(SUM(size_bytes), 0) FROM versions",
    "total_stored_bytes": "SELECT COALESCE(SUM(shard_bytes * (coding_data + coding_parity)), 0)"
    " FROM stripes",
    "total_inline_bytes": "SELECT COALESCE(SUM(LENGTH(data)), 0) FROM inline_bodies",
}


def contradictions(db: sqlite3.Connection) -> list[str]:
    """What is wrong, in words; empty when all facts agree. Call inside a read transaction."""
    return [*_forbidden_rows(db), *_wrong_totals(db), *_wrong_slots(db)]


def _forbidden_rows(db: sqlite3.Connection) -> Iterator[str]:
    for claim, sql in _FORBIDDEN.items():
        found = db.execute(f"{sql} LIMIT 3").fetchall()
        if found:
            yield f"{claim}: {found}"


def _wrong_totals(db: sqlite3.Connection) -> Iterator[str]:
    kept = dict(db.execute("SELECT name, value FROM meta"))
    for name, sql in _TOTALS.items():
        counted = db.execute(sql).fetchone()[0]
        if kept.get(name, 0) != counted:
            yield f"{name} is {kept.get(name, 0)}, counted {counted}"


def _wrong_slots(db: sqlite3.Connection) -> Iterator[str]:
    """Columns derived from the packed slots, the reverse table, and trash."""
    by_disk = set(db.execute("SELECT disk, stripe_row FROM slots_by_disk"))
    trashed = set(db.execute("SELECT stripe, shard_index, gen, disk FROM trash"))
    nodes = dict(db.execute("SELECT disk, node FROM disks"))
    expected = set()
    totals: Counter[str] = Counter()
    for row, stripe, packed, shard_bytes, missing_count, offered, *coding in db.execute(
        "SELECT row, stripe, slots, shard_bytes, missing_count, offered, coding_kind,"
        " coding_data, coding_parity FROM stripes"
    ):
        slots = unpack_slots(packed)
        for slot in slots:
            totals.update({f"disk_slots:{slot.disk}": 1, f"disk_bytes:{slot.disk}": shard_bytes})
        expected |= {(slot.disk, row) for slot in slots}
        good = [slot for slot in slots if slot.state == SlotState.GOOD]
        if missing_count != len(slots) - len(good):
            yield f"stripe row {row} counts {missing_count} missing slots"
        durable = [(slot.index, nodes[slot.disk]) for slot in good]
        if offered and not acknowledged(Coding(CodingKind(coding[0]), *coding[1:]), durable):
            yield f"stripe row {row} is offered but not healthy"
        if any((stripe, slot.index, slot.gen, slot.disk) in trashed for slot in slots):
            yield f"a slot of stripe row {row} is in trash"
    if by_disk != expected:
        yield f"slots by disk differ from slots: {sorted(by_disk ^ expected)[:3]}"
    kept = dict(db.execute("SELECT name, value FROM meta WHERE name LIKE 'disk!_%' ESCAPE '!'"))
    if kept != totals:
        yield f"totals of disks differ from slots: {sorted(kept.items() ^ totals.items())[:3]}"
