"""How a catalog file is made and opened; its tables are in `steps` (docs/formats/catalog.md).

sqlite-utils runs the steps from one schema to the next (docs/adr/0007); everything else is
plain sqlite3, so a process that finds its file up to date never loads it.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from osscore.errors import CorruptCatalog
from ossd.disk import Disk
from ossd.lean_import import absent
from raftmeta.catalog.steps import SCHEMA_VERSION, STEPS, Step

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
