"""The door to the catalog: apply entries, answer queries, checkpoint, copy."""

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from osscore.errors import CorruptCatalog
from ossd.disk import Disk, SystemDisk
from raftmeta.catalog import schema
from raftmeta.catalog.answers import answer_query
from raftmeta.catalog.batch import apply_batch, decode_batch
from raftmeta.catalog.consistency import contradictions
from raftmeta.catalog.fingerprint import fingerprint
from raftmeta.catalog.meta import Meta, read_meta
from raftmeta.catalog.reading import Reading
from raftmeta.catalog.soft import SoftState
from raftmeta.entries import AnyResult
from raftmeta.members import Member
from raftmeta.questions import AnyAnswer, AnyQuery

_VACUUM_PAGES = 500  # 2 MiB a checkpoint: entries wait meanwhile


@dataclass(frozen=True, slots=True)
class CatalogHead:
    """Where the catalog stands: what every query reply and delete order carries."""

    generation: int
    applied_index: int
    catalog_time_ms: int
    keys_epoch: int


class Catalog:
    """One replica's catalog. One thread applies; any threads may answer meanwhile.

    `copy_to` and `checkpoint` may be called from any thread; they block.
    """

    def __init__(self, path: Path, *, disk: Disk | None = None) -> None:
        """Open the file, or make it with mode 0600. Raises CorruptCatalog, OSError."""
        self._path = path
        self._disk = disk or SystemDisk()
        schema.create_if_missing(path, self._disk)
        # Held open as long as SQLite's own descriptors: closing any descriptor of a file
        # drops all POSIX locks this process has on it, SQLite's included.
        self._file = self._disk.open(path)
        self._writer = schema.open_writer(path)
        self._writing = threading.Lock()
        self._readers: deque[sqlite3.Connection] = deque()
        self._meta = Meta(self._writer)
        self._failed = False
        self._head = _head(self._meta)
        self._members = _read_members(self._writer, self._meta)
        self._durable_index = 0

    @property
    def applied_index(self) -> int:
        """Index of the last applied log entry; 0: none."""
        return self._head.applied_index

    @property
    def head(self) -> CatalogHead:
        """Where the catalog stands after the last applied entry."""
        return self._head

    @property
    def size_bytes(self) -> int:
        """Of the file, without what waits in its WAL. Any thread."""
        return self._file.size_bytes()

    def apply(self, index: int, blob: bytes) -> list[AnyResult]:
        """Apply entry `index`, one result a command, in one SQLite transaction.

        Whatever this raises must stop the process: the entry is not applied, and no later
        one may be. Raises CorruptCatalog for an index applied before.
        """
        with self._writing:
            if self._failed or index <= self._head.applied_index:
                raise CorruptCatalog(f"Entry {index} cannot follow {self._head.applied_index}.")
            self._failed = True
            batch = decode_batch(blob)
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                results = apply_batch(self._writer, self._meta, index, batch)
                self._writer.execute("COMMIT")
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            self._head = _head(self._meta)
            if self._meta.number("members_index") != self._members[0]:
                self._members = _read_members(self._writer, self._meta)
            self._failed = False
            return results

    def answer(self, queries: Sequence[AnyQuery], *, soft: SoftState) -> list[AnyAnswer]:
        """Answer all queries from one state."""
        return self.answer_with_head(queries, soft=soft)[1]

    def answer_with_head(
        self, queries: Sequence[AnyQuery], *, soft: SoftState
    ) -> tuple[CatalogHead, list[AnyAnswer]]:
        """Answer all queries from one state, and say which it was (SAFETY rules 1, 16)."""
        with self._reader() as db:
            meta = read_meta(db)
            reading = Reading(db=db, meta=meta, soft=soft)
            return _head_of(meta), [answer_query(reading, query) for query in queries]

    def checkpoint(self) -> int:
        """Move the WAL into the file and sync it; answers the index durable by that.

        That index may be an older one while a long read or copy pins the WAL: the log must
        be kept from there on (SAFETY rule 20).
        """
        self._checkpoint_beside()
        with self._writing:
            index = self._head.applied_index
            # As a script: `execute` would step it once, which frees one page.
            self._writer.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES});")
            row = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        busy, wal_pages, moved_pages = row
        if busy and wal_pages != moved_pages:
            return self._durable_index
        self._file.sync()
        self._durable_index = index
        return index

    def copy_to(self, path: Path) -> int:
        """Write a consistent, synced copy to a new file; answers its applied index.

        Takes one read transaction for the whole copy, beside which entries are applied.
        Raises FileExistsError.
        """
        self._disk.open(path, create=True).close()
        with self._reader() as db:
            meta = read_meta(db)
            target = sqlite3.connect(path)
            try:
                db.backup(target, pages=-1)
            finally:
                target.close()
        file = self._disk.open(path)
        try:
            file.sync()
        finally:
            file.close()
        self._disk.sync_directory(path.parent)
        return _head_of(meta).applied_index

    def members(self) -> tuple[int, tuple[Member, ...]]:
        """The metanodes as of the last change applied here, and its log index; nobody before the
        first, as long as those count who formed the cluster, or restored it at that index."""
        return self._members

    def fingerprint(self) -> bytes:
        """A digest of the whole logical content: equal on replicas that applied the same."""
        with self._reader() as db:
            return fingerprint(db)

    def contradictions(self) -> list[str]:
        """What in the catalog disagrees with itself, in words; empty: nothing."""
        with self._reader() as db:
            return contradictions(db)

    def close(self) -> None:
        """Release the files. No call may be running or follow."""
        while self._readers:
            self._readers.pop().close()
        self._writer.close()
        self._file.close()

    def _checkpoint_beside(self) -> None:
        """Move most of the WAL while entries are applied, so that they wait for little."""
        with self._borrowed() as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A pooled connection inside a read transaction."""
        with self._borrowed() as db:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("ROLLBACK")

    @contextmanager
    def _borrowed(self) -> Iterator[sqlite3.Connection]:
        """A pooled connection, for one thread at a time."""
        try:
            db = self._readers.pop()
        except IndexError:
            db = schema.open_reader(self._path)
        try:
            yield db
        finally:
            self._readers.append(db)


def _read_members(db: sqlite3.Connection, meta: Meta) -> tuple[int, tuple[Member, ...]]:
    rows = db.execute("SELECT id, raft, url FROM members ORDER BY id")
    members = tuple(Member(id=id_, raft=raft, url=url) for id_, raft, url in rows)
    return meta.number("members_index"), members


def _head(meta: Meta) -> CatalogHead:
    return CatalogHead(
        generation=meta.number("generation"),
        applied_index=meta.number("applied_index"),
        catalog_time_ms=meta.number("catalog_time_ms"),
        keys_epoch=meta.number("keys_epoch"),
    )


def _head_of(meta: dict[str, int | bytes]) -> CatalogHead:
    return CatalogHead(
        generation=int(meta["generation"]),
        applied_index=int(meta["applied_index"]),
        catalog_time_ms=int(meta["catalog_time_ms"]),
        keys_epoch=int(meta["keys_epoch"]),
    )
