"""The tables, step by step from an empty file to the present schema (docs/formats/catalog.md).

A step is never changed once a store has taken it: what is new comes as another one.
"""

import struct
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

_TABLES = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    session INTEGER PRIMARY KEY,
    used_ms INTEGER NOT NULL,
    acked_below INTEGER NOT NULL,
    expired INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_use ON sessions (used_ms);

CREATE TABLE results (
    session INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    result BLOB NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE buckets (
    bucket INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL,
    data_count INTEGER,
    parity_count INTEGER,
    live INTEGER NOT NULL
) STRICT;

CREATE TABLE keys (
    bucket INTEGER NOT NULL,
    key TEXT NOT NULL,
    next_number INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE versions (
    id INTEGER PRIMARY KEY,
    bucket INTEGER NOT NULL,
    key TEXT NOT NULL,
    number INTEGER NOT NULL,
    is_marker INTEGER NOT NULL,
    is_latest INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    manifest INTEGER NOT NULL,
    sha256 BLOB,
    attributes TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX versions_by_key ON versions (bucket, key, number DESC);
CREATE UNIQUE INDEX versions_current ON versions (bucket, key)
    WHERE is_latest = 1 AND is_marker = 0;
CREATE INDEX versions_by_sha256 ON versions (sha256)
    WHERE is_latest = 1 AND is_marker = 0 AND sha256 IS NOT NULL;

CREATE TABLE inline_bodies (
    version INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;

CREATE TABLE manifests (
    manifest INTEGER PRIMARY KEY,
    refcount INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    segment_count INTEGER NOT NULL
) STRICT;

CREATE TABLE segments (
    manifest INTEGER NOT NULL,
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    stripe_offset INTEGER NOT NULL,
    stripe_row INTEGER NOT NULL,
    PRIMARY KEY (manifest, start)
) STRICT, WITHOUT ROWID;

CREATE TABLE stripes (
    row INTEGER PRIMARY KEY,
    stripe BLOB NOT NULL UNIQUE,
    profile_data INTEGER NOT NULL,
    profile_parity INTEGER NOT NULL,
    domain BLOB NOT NULL,
    digest BLOB NOT NULL,
    plain_bytes INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    stored_crc INTEGER NOT NULL,
    frames BLOB NOT NULL,
    coding_kind INTEGER NOT NULL,
    coding_data INTEGER NOT NULL,
    coding_parity INTEGER NOT NULL,
    shard_bytes INTEGER NOT NULL,
    shard_crcs BLOB NOT NULL,
    slots BLOB NOT NULL,
    refcount INTEGER NOT NULL,
    dead_since_ms INTEGER,
    offered INTEGER NOT NULL,
    missing_count INTEGER NOT NULL,
    under_spread INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX stripes_offered
    ON stripes (digest, profile_data, profile_parity, domain, plain_bytes)
    WHERE offered = 1;
CREATE INDEX stripes_dead ON stripes (dead_since_ms) WHERE dead_since_ms IS NOT NULL;
CREATE INDEX stripes_missing ON stripes (missing_count)
    WHERE missing_count > 0 AND dead_since_ms IS NULL;
CREATE INDEX stripes_under_spread ON stripes (under_spread)
    WHERE under_spread = 1 AND dead_since_ms IS NULL;

CREATE TABLE slots_by_disk (
    disk INTEGER NOT NULL,
    stripe_row INTEGER NOT NULL,
    PRIMARY KEY (disk, stripe_row)
) STRICT, WITHOUT ROWID;

CREATE TABLE spent_stripes (
    stripe BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE uploads (
    upload BLOB PRIMARY KEY,
    kind TEXT NOT NULL,
    bucket INTEGER,
    key TEXT NOT NULL,
    manifest INTEGER NOT NULL,
    staged_count INTEGER NOT NULL,
    staged_bytes INTEGER NOT NULL,
    reserved_count INTEGER NOT NULL,
    ttl_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX uploads_by_expiry ON uploads (expires_at_ms);
CREATE INDEX uploads_by_bucket ON uploads (bucket, key) WHERE bucket IS NOT NULL;

CREATE TABLE upload_refs (
    upload BLOB NOT NULL,
    stripe_row INTEGER NOT NULL,
    ref_count INTEGER NOT NULL,
    PRIMARY KEY (upload, stripe_row)
) STRICT, WITHOUT ROWID;

CREATE TABLE graveyard (
    manifest INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE trash (
    row INTEGER PRIMARY KEY,
    disk INTEGER NOT NULL,
    stripe BLOB NOT NULL,
    shard_index INTEGER NOT NULL,
    gen INTEGER NOT NULL,
    not_before_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX trash_by_disk ON trash (disk, not_before_ms);

CREATE TABLE nodes (
    node TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    zone TEXT NOT NULL,
    registered_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE disks (
    disk INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    node TEXT NOT NULL,
    state TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    capacity_bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX disks_by_node ON disks (node);

CREATE TABLE access_keys (
    access_key TEXT PRIMARY KEY,
    secret_sealed BLOB NOT NULL,
    scopes TEXT NOT NULL,
    buckets TEXT NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    note TEXT NOT NULL,
    changed_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE VIEW current_objects AS
    SELECT b.name AS bucket, v.key, v.number, printf('%016x', v.id) AS version_id,
           v.size_bytes, lower(hex(v.sha256)) AS sha256,
           datetime(v.created_at_ms / 1000, 'unixepoch') AS created_at
    FROM versions v JOIN buckets b ON b.bucket = v.bucket
    WHERE v.is_latest = 1 AND v.is_marker = 0;
"""


def _make_tables(store: "Database") -> None:
    store.executescript(_TABLES)


_RESUMABLE_UPLOADS = """
ALTER TABLE uploads ADD COLUMN plan TEXT NOT NULL DEFAULT '{}';
ALTER TABLE uploads ADD COLUMN created_at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE uploads ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE uploads ADD COLUMN family INTEGER;
ALTER TABLE uploads ADD COLUMN number INTEGER;
CREATE UNIQUE INDEX uploads_by_family ON uploads (family, number) WHERE family IS NOT NULL;

CREATE TABLE ended_families (
    family INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE finished_uploads (
    upload BLOB PRIMARY KEY,
    bucket INTEGER NOT NULL,
    key TEXT NOT NULL,
    plan TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    result BLOB NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX finished_uploads_by_expiry ON finished_uploads (expires_at_ms);
"""


def _add_resumable_uploads(store: "Database") -> None:
    store.executescript(_RESUMABLE_UPLOADS)


_CREDENTIALS = """
ALTER TABLE access_keys ADD COLUMN prefixes TEXT NOT NULL DEFAULT '[]';
ALTER TABLE access_keys ADD COLUMN previous_sealed BLOB NOT NULL DEFAULT x'';
ALTER TABLE access_keys ADD COLUMN previous_until_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE access_keys ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE access_keys ADD COLUMN created_at_ms INTEGER NOT NULL DEFAULT 0;
UPDATE access_keys SET created_at_ms = changed_at_ms;
INSERT OR REPLACE INTO meta (name, value)
    SELECT 'total_access_keys', n FROM (SELECT COUNT(*) AS n FROM access_keys) WHERE n > 0;

CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    secret_sealed BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL,
    retires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX signing_keys_active ON signing_keys (retires_at_ms)
    WHERE retires_at_ms = 0;

CREATE TABLE revoked_tokens (
    jti TEXT PRIMARY KEY,
    kept_until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX revoked_tokens_by_age ON revoked_tokens (kept_until_ms);

CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    request_id TEXT NOT NULL,
    source TEXT NOT NULL,
    outcome TEXT NOT NULL
) STRICT;
"""


def _add_credentials(store: "Database") -> None:
    store.executescript(_CREDENTIALS)


def _add_maintenance(store: "Database") -> None:
    """How many versions a bucket keeps, and the way from a stripe back to its objects."""
    store.execute("ALTER TABLE buckets ADD COLUMN keep_versions INTEGER NOT NULL DEFAULT 0")
    store.execute("CREATE INDEX segments_by_stripe ON segments (stripe_row)")
    store.execute("CREATE INDEX versions_by_manifest ON versions (manifest) WHERE manifest != 0")


_TASKS = """
CREATE TABLE tasks (
    task INTEGER PRIMARY KEY,
    stripe_row INTEGER NOT NULL,
    shard_index INTEGER NOT NULL,
    gen INTEGER NOT NULL,
    disk INTEGER NOT NULL,
    target INTEGER NOT NULL,
    reason TEXT NOT NULL,
    opened_at_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX tasks_by_slot ON tasks (stripe_row, shard_index);
CREATE INDEX tasks_by_target ON tasks (target, task);
CREATE INDEX stripes_damaged ON stripes (row)
    WHERE missing_count > 0 AND dead_since_ms IS NULL;
CREATE INDEX stripes_to_spread ON stripes (row)
    WHERE under_spread = 1 AND dead_since_ms IS NULL;
"""


def _add_tasks(store: "Database") -> None:
    store.executescript(_TASKS)


def _add_draining(store: "Database") -> None:
    """Whether a disk drains, which it goes on doing when it comes back after being lost."""
    store.execute("ALTER TABLE disks ADD COLUMN drains INTEGER NOT NULL DEFAULT 0")
    store.execute("UPDATE disks SET drains = 1 WHERE state = 'draining'")


_REMOVED_VERSIONS = """
CREATE TABLE removed_versions (
    bucket INTEGER NOT NULL,
    key TEXT NOT NULL,
    number INTEGER NOT NULL,
    first_number INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    removed_at_ms INTEGER NOT NULL,
    PRIMARY KEY (bucket, key, number)
) STRICT, WITHOUT ROWID;

INSERT INTO removed_versions
    SELECT k.bucket, k.key, k.next_number - 1, 1, 2, 0,
           COALESCE((SELECT value FROM meta WHERE name = 'catalog_time_ms'), 0)
    FROM keys k WHERE k.next_number - 1 > (
        SELECT COUNT(*) FROM versions v WHERE v.bucket = k.bucket AND v.key = k.key);
"""


def _remember_removed_versions(store: "Database") -> None:
    """When removed versions were there. Of those removed before, nothing certain is known."""
    store.executescript(_REMOVED_VERSIONS)


def _add_quotas(store: "Database") -> None:
    """What a bucket holds, and what it may hold."""
    for column in ("used_bytes", "used_versions", "quota_bytes", "quota_versions"):
        store.execute(f"ALTER TABLE buckets ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    held = "FROM versions v WHERE v.bucket = buckets.bucket AND v.is_marker = 0"
    store.execute(
        f"UPDATE buckets SET used_bytes = (SELECT COALESCE(SUM(v.size_bytes), 0) {held}),"
        f" used_versions = (SELECT COUNT(*) {held})"
    )


def _add_censuses(store: "Database") -> None:
    """Which disk was last compared with the catalog as a whole, under which generation."""
    store.execute(
        "CREATE TABLE censuses (disk INTEGER PRIMARY KEY, generation INTEGER NOT NULL,"
        " confirmed_at_ms INTEGER NOT NULL) STRICT"
    )


def _add_members(store: "Database") -> None:
    """The metanodes that count, since the first change of them."""
    store.execute(
        "CREATE TABLE members (id TEXT PRIMARY KEY, raft TEXT NOT NULL, url TEXT NOT NULL)"
        " STRICT, WITHOUT ROWID"
    )


def _count_slots_of_disks(store: "Database") -> None:
    """Totals of each disk's slots, as rows of meta. 14 bytes a slot, the disk in the last four."""
    counts: Counter[str] = Counter()
    for packed, shard_bytes in store.execute("SELECT slots, shard_bytes FROM stripes"):
        for (disk,) in struct.iter_unpack("<10xI", packed):
            counts[f"disk_slots:{disk}"] += 1
            counts[f"disk_bytes:{disk}"] += shard_bytes
    rows = sorted(counts.items())
    store.conn.executemany("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", rows)


_LIFECYCLE = """
ALTER TABLE buckets ADD COLUMN expire_after_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE buckets ADD COLUMN expire_noncurrent_after_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE buckets ADD COLUMN abort_uploads_after_ms INTEGER NOT NULL DEFAULT 0;

ALTER TABLE versions ADD COLUMN superseded_at_ms INTEGER;
UPDATE versions SET superseded_at_ms = (
    SELECT n.created_at_ms FROM versions n
    WHERE n.bucket = versions.bucket AND n.key = versions.key AND n.number > versions.number
    ORDER BY n.number LIMIT 1) WHERE is_latest = 0;
CREATE INDEX versions_current_by_age ON versions (bucket, created_at_ms)
    WHERE is_latest = 1 AND is_marker = 0;
CREATE INDEX versions_superseded ON versions (bucket, superseded_at_ms)
    WHERE superseded_at_ms IS NOT NULL;

CREATE TABLE bare_markers (
    bucket INTEGER NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;
INSERT INTO bare_markers
    SELECT v.bucket, v.key FROM versions v WHERE v.is_marker = 1 AND NOT EXISTS (
        SELECT 1 FROM versions b
        WHERE b.bucket = v.bucket AND b.key = v.key AND b.number < v.number);

ALTER TABLE uploads ADD COLUMN waits INTEGER NOT NULL DEFAULT 0;
CREATE INDEX uploads_by_life ON uploads (bucket, ttl_ms) WHERE waits = 1;
"""


def _add_lifecycle(store: "Database") -> None:
    """What buckets ask for by time, and the ways to what is due."""
    store.executescript(_LIFECYCLE)


_REENCODING = """
CREATE TABLE reencode_jobs (
    job INTEGER PRIMARY KEY,
    bucket INTEGER NOT NULL UNIQUE,
    profile_data INTEGER NOT NULL,
    profile_parity INTEGER NOT NULL,
    state TEXT NOT NULL,
    begun_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER NOT NULL DEFAULT 0,
    stripes INTEGER NOT NULL DEFAULT 0,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    kept_stripes INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE reencode_tasks (
    task INTEGER PRIMARY KEY,
    stripe_row INTEGER NOT NULL UNIQUE,
    worker INTEGER NOT NULL,
    job INTEGER NOT NULL,
    profile_data INTEGER NOT NULL,
    profile_parity INTEGER NOT NULL,
    opened_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX reencode_tasks_by_worker ON reencode_tasks (worker, task);
CREATE INDEX stripes_as_replicas ON stripes (row)
    WHERE coding_kind = 1 AND dead_since_ms IS NULL;
"""


def _add_reencoding(store: "Database") -> None:
    store.executescript(_REENCODING)


_REJOINS = """
ALTER TABLE disks ADD COLUMN url TEXT NOT NULL DEFAULT '';
UPDATE disks SET url = COALESCE((SELECT n.url FROM nodes n WHERE n.node = disks.node), '');
ALTER TABLE disks ADD COLUMN sure_from_ms INTEGER NOT NULL DEFAULT 0;

CREATE TABLE rejoins (
    disk INTEGER PRIMARY KEY,
    claim BLOB NOT NULL,
    node TEXT NOT NULL,
    url TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    after_row INTEGER NOT NULL,
    upto_row INTEGER NOT NULL,
    slot_count INTEGER NOT NULL,
    begun_at_ms INTEGER NOT NULL
) STRICT;
"""


def _add_rejoins(store: "Database") -> None:
    """To whom each disk was granted, and which older states of disks are being compared."""
    store.executescript(_REJOINS)


Step = Callable[["Database"], None]
STEPS: tuple[Step, ...] = (
    _make_tables,
    _add_resumable_uploads,
    _add_credentials,
    _add_maintenance,
    _add_tasks,
    _add_draining,
    _remember_removed_versions,
    _add_quotas,
    _add_censuses,
    _add_members,
    _count_slots_of_disks,
    _add_lifecycle,
    _add_reencoding,
    _add_rejoins,
)
"""STEPS[n] takes a file from schema n to n + 1. Replicas take it apart from each other and
must end with the same rows: no step may read a clock, dice, or anything but the file."""

SCHEMA_VERSION = len(STEPS)
