"""Does the catalog contradict itself? Every redundant fact, counted again from scratch.

Reads everything: for tests, torture and `meta verify`, not for production paths.
"""

import sqlite3
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
        WHERE u.kind = 'upload'
            AND (u.staged_bytes != m.size_bytes OR u.staged_count != m.segment_count)
        UNION ALL SELECT u.upload FROM uploads u WHERE u.reserved_count !=
            (SELECT COALESCE(SUM(ref_count), 0) FROM upload_refs r WHERE r.upload = u.upload)""",
    "a reserved reference has no upload": """
        SELECT upload FROM upload_refs WHERE upload NOT IN (SELECT upload FROM uploads)""",
    "the latest version is not the newest": """
        SELECT id FROM (SELECT id, is_latest, MAX(number) OVER (PARTITION BY bucket, key) top,
            number FROM versions) WHERE is_latest != (number = top)""",
    "a version number was not taken from its key": """
        SELECT v.id FROM versions v LEFT JOIN keys k ON k.bucket = v.bucket AND k.key = v.key
        WHERE k.next_number IS NULL OR v.number >= k.next_number""",
    "an inline body is missing or belongs to nobody": """
        SELECT v.id FROM versions v LEFT JOIN inline_bodies i ON i.version = v.id
        WHERE (v.manifest = 0 AND v.is_marker = 0) != (i.version IS NOT NULL)
        UNION ALL SELECT version FROM inline_bodies
            WHERE version NOT IN (SELECT id FROM versions)""",
    "a spent stripe id is named": """
        SELECT row FROM stripes WHERE stripe IN (SELECT stripe FROM spent_stripes)""",
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
    "total_graveyard": "SELECT COUNT(*) FROM graveyard",
    "total_sessions": "SELECT COUNT(*) FROM sessions",
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
    for row, stripe, packed, missing_count, offered, *coding in db.execute(
        "SELECT row, stripe, slots, missing_count, offered, coding_kind, coding_data,"
        " coding_parity FROM stripes"
    ):
        slots = unpack_slots(packed)
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
