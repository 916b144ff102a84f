"""A copy of a catalog as a file for people: what it holds, and whether it holds together.

A backup is such a copy (docs/formats/backup.md). All calls block.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from osscore.errors import CorruptCatalog
from ossd.disk import Disk
from raftmeta.catalog import schema
from raftmeta.catalog.consistency import contradictions
from raftmeta.catalog.meta import read_meta
from raftmeta.catalog.steps import SCHEMA_VERSION, STEPS

COUNTS = (
    "buckets", "versions", "markers", "stripes", "segments", "uploads", "access_keys",
    "logical_bytes", "stored_bytes", "inline_bytes",
)  # fmt: skip
"""The totals of a catalog that say what a copy is worth."""


@dataclass(frozen=True, slots=True)
class CopyFacts:
    """Where the copied catalog stood. `counts`: COUNTS by name."""

    cluster_id: bytes
    catalog_key_wrapped: bytes
    generation: int
    applied_index: int
    catalog_time_ms: int
    schema: int
    counts: dict[str, int]


def settle(path: Path) -> None:
    """Make a fresh copy one file that anybody can open, also where nothing can be written."""
    with _opened(path) as db:
        db.execute("PRAGMA journal_mode = DELETE")


def read_facts(path: Path) -> CopyFacts:
    """What the copy says of itself. Raises CorruptCatalog if it is no catalog, or of a newer
    schema than this program's."""
    with _opened(path) as db:
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        if not 1 <= found <= SCHEMA_VERSION:
            raise CorruptCatalog(
                f"The file has catalog schema {found}; this program reads 1 to {SCHEMA_VERSION}."
            )
        meta = read_meta(db)
        cluster_id, wrapped = meta["cluster_id"], meta["catalog_key_wrapped"]
        if not isinstance(cluster_id, bytes) or not isinstance(wrapped, bytes) or not cluster_id:
            raise CorruptCatalog("The file is the catalog of no cluster.")
        return CopyFacts(
            cluster_id=cluster_id,
            catalog_key_wrapped=wrapped,
            generation=int(meta["generation"]),
            applied_index=int(meta["applied_index"]),
            catalog_time_ms=int(meta["catalog_time_ms"]),
            schema=found,
            counts={name: int(meta[f"total_{name}"]) for name in COUNTS},
        )


def bring_up_to_date(path: Path) -> None:
    """Take the steps of the schema that an older copy has not taken; in place."""
    with _opened(path) as db:
        schema.migrate(db, STEPS)


def faults(path: Path) -> list[str]:
    """What is wrong with a copy of the present schema, in words; empty: nothing.

    SQLite's own check, the tables against those of a new catalog, and every fact that is kept
    twice counted again. Reads everything.
    """
    with _opened(path) as db:
        found = [str(row[0]) for row in db.execute("PRAGMA integrity_check(5)")]
        if found != ["ok"]:
            return [f"SQLite finds: {each}" for each in found]
        differing = [f"not as in a new catalog: {name}" for name in sorted(_differing(db))]
        return differing or contradictions(db)


def _differing(db: sqlite3.Connection) -> set[str]:
    """Tables, indexes and views that differ from those of a new catalog."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        schema.migrate(fresh, STEPS)
        return {name for name, _ in _objects(db) ^ _objects(fresh)}


def _objects(db: sqlite3.Connection) -> set[tuple[str, str]]:
    rows = db.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
    return {(name, " ".join(sql.split())) for name, sql in rows}


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The copy, nobody else using it. Raises CorruptCatalog for what SQLite cannot read."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        try:
            yield db
        except sqlite3.DatabaseError as error:
            raise CorruptCatalog(f"The catalog file cannot be read: {error}") from error


def sync(path: Path, disk: Disk) -> None:
    """Make a copy that is complete durable."""
    file = disk.open(path)
    try:
        file.sync()
    finally:
        file.close()
