"""The tables, and how a catalog file is made and opened (docs/formats/catalog.md).

sqlite-utils runs the steps from one schema to the next (docs/adr/0007); everything else is
plain sqlite3, so a process that finds its file up to date never loads it.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from osscore.errors import CorruptCatalog
from ossd.disk import Disk
from ossd.lean_import import absent

if TYPE_CHECKING:
    from sqlite_utils import Database

SCHEMA_VERSION = 1
PAGE_BYTES = 4096
_WAL_PAGES = 4096  # 16 MiB between checkpoints: larger groups of pages, fewer syncs in apply
_CACHE_KIB = 16 * 1024
_BUSY_MS = 200

# Pages that deletes free go back to the file system only if this is set before the first
# table is made (SAFETY rule 20).
_BEFORE_TABLES = f"""
PRAGMA page_size = {PAGE_BYTES};
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
"""

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


Step = Callable[["Database"], None]
STEPS: tuple[Step, ...] = (_make_tables,)
"""STEPS[n] takes a file from schema n to n + 1. Replicas take it apart from each other and
must end with the same rows: no step may read a clock, dice, or anything but the file."""


def create_if_missing(path: Path, disk: Disk) -> None:
    """Make an empty file of mode 0600: SQLite gives its -wal and -shm the same mode."""
    if not disk.exists(path):
        disk.make_directory(path.parent)
        disk.open(path, create=True).close()
        disk.sync_directory(path.parent)


def open_writer(path: Path) -> sqlite3.Connection:
    """The one connection that changes the catalog; makes the tables in an empty file, and
    brings one of an older schema up to date.

    Raises CorruptCatalog for a file of a newer schema.
    """
    db = _connect(path)
    if _schema_version(db) == 0:
        db.executescript(_BEFORE_TABLES)
    migrate(db, STEPS)
    _check_version(db, path)
    db.execute("PRAGMA journal_mode = WAL")
    # The Raft log is the durable record: losing the tail of the WAL only means applying
    # those entries again. Checkpoints are synced, and only they let the log be cut.
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    return db


def migrate(db: sqlite3.Connection, steps: Sequence[Step]) -> None:
    """Take the steps that the file has not taken, each in one transaction with its number."""
    taken = _schema_version(db)
    if taken >= len(steps):
        return
    with absent("numpy"):
        from sqlite_utils import Database
    # Neither plugins of whoever installed some, nor PRAGMAs we did not choose.
    store = Database(db, recursive_triggers=False, execute_plugins=False)
    for number, step in enumerate(steps[taken:], start=taken + 1):
        with store.atomic():
            step(store)
            store.execute(f"PRAGMA user_version = {number}")


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection for queries, unable to write."""
    db = _connect(path)
    db.execute("PRAGMA query_only = ON")
    return db


def verify(path: Path) -> int:
    """Check a copied catalog before it is installed; answers its applied index.

    Raises CorruptCatalog. Reads the whole file: run it off the event loop.
    """
    try:
        db = open_reader(path)
    except sqlite3.DatabaseError as error:
        raise CorruptCatalog(f"{path.name} is no catalog: {error}") from error
    try:
        _check_version(db, path)
        found = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise CorruptCatalog(f"{path.name} fails its integrity check: {found}")
        row = db.execute("SELECT value FROM meta WHERE name = 'applied_index'").fetchone()
        return int(row[0]) if row else 0
    except sqlite3.DatabaseError as error:
        raise CorruptCatalog(f"{path.name} is damaged: {error}") from error
    finally:
        db.close()


def _connect(path: Path) -> sqlite3.Connection:
    # The owner serialises use of each connection; threads may differ from call to call.
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)
    db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return db


def _schema_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    found = _schema_version(db)
    if found != SCHEMA_VERSION:
        raise CorruptCatalog(
            f"{path.name} has catalog schema {found}; this program reads {SCHEMA_VERSION}."
        )
