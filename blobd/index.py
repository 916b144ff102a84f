"""Where each shard of a disk lies: derived from the volumes, never needed to be right.

Two layers: `fresh` rows in memory, which every lookup asks first and without a lock, and
SQLite below, to which they are flushed in batches, out of the way of acknowledgements. For
each volume it keeps how far it has been taken in (`scanned_to`); what lies behind is
scanned at the next start. Lost or stale: rebuilt from the volumes (`blobd.recovery`).

Records of temps (`blobd.record.is_temp`) lie behind all shards in the order of keys, so that
one range of it is shards and nothing else.

Plain sqlite3 with fixed statements: this is the hot path of every read. Only the tables are
made through sqlite-utils (docs/adr/0007), loaded for that alone.
"""

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from blobd.record import HEAD_BYTES, TEMP_MARK, is_temp, record_bytes
from osscore.model import BLOCK_BYTES
from ossd.lean_import import absent

IN_MEMORY = Path(":memory:")
"""Index path for a store that rebuilds its index at each start."""
LAYOUT_VERSION = 2
FLUSH_ROWS = 4096
"""Fresh rows above which a flush is due."""

_SCHEMA = """
CREATE TABLE shards (
    key BLOB PRIMARY KEY, volume INTEGER NOT NULL, offset INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, crc INTEGER NOT NULL, state INTEGER NOT NULL,
    since INTEGER NOT NULL, target INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX shards_by_volume ON shards (volume, offset);
CREATE INDEX shards_damaged ON shards (key) WHERE state = 1;
CREATE TABLE volumes (
    number INTEGER PRIMARY KEY, salt BLOB NOT NULL, scanned_to INTEGER NOT NULL,
    sealed INTEGER NOT NULL, foreign_records INTEGER NOT NULL);
"""
_COLUMNS = "volume, offset, size_bytes, crc, state, since, target"
_FIND = f"SELECT {_COLUMNS} FROM shards WHERE key = ?"
_FIND_MANY = f"SELECT key, {_COLUMNS} FROM shards WHERE key IN"
_FIND_MANY_KEYS = 64
_PAGE = (
    f"SELECT key, {_COLUMNS} FROM shards"
    " WHERE key > ? AND key < ? AND state != 2 ORDER BY key LIMIT ?"
)
_IN_VOLUME = (
    f"SELECT key, {_COLUMNS} FROM shards WHERE volume = ? AND offset > ? ORDER BY offset LIMIT ?"
)
_PUT = "INSERT OR REPLACE INTO shards VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
# Bytes of a record as blobd.record.record_bytes counts them.
_RECORD_BYTES = (
    f"(({HEAD_BYTES + 4} + 4 * ((size_bytes + {BLOCK_BYTES - 1}) / {BLOCK_BYTES}) + 7) / 8 * 8"
    " + (size_bytes + 7) / 8 * 8)"
)
_USE = (
    f"SELECT volume, state = 2, key >= x'{TEMP_MARK.hex()}', COUNT(*), SUM({_RECORD_BYTES})"
    " FROM shards GROUP BY 1, 2, 3"
)


class State(IntEnum):
    """What is known of the record a location points to."""

    LIVE = 0
    DAMAGED = 1
    """Its body fails a CRC; good blocks of it are still served."""
    DELETED = 2
    """The location is that of the tombstone."""


class Location(NamedTuple):
    """Where the record of an identity lies; a row of SQLite as it comes.

    `since` and `target` as in blobd.record.Header.
    """

    volume: int
    offset: int
    size_bytes: int
    crc: int
    state: int
    since: int
    target: int


_ABSENT = Location(0, 0, 0, 0, 0, 0, 0)
"""No row, not even one that says the key has none."""


class Change(NamedTuple):
    """`key` moves from `old` to `new`; None: no row."""

    key: bytes
    old: Location | None
    new: Location | None


class VolumeRow(NamedTuple):
    """How far a volume has been taken in."""

    number: int
    salt: bytes
    scanned_to: int
    sealed: bool
    foreign: bool


@dataclass(slots=True)
class VolumeUse:
    """What of a volume is needed: live shards, live records of temps, tombstones in force."""

    shard_count: int = 0
    shard_bytes: int = 0
    temp_count: int = 0
    temp_bytes: int = 0
    tombstone_count: int = 0

    @property
    def live_count(self) -> int:
        """Records that compaction must keep, without tombstones."""
        return self.shard_count + self.temp_count

    @property
    def live_bytes(self) -> int:
        """What these take."""
        return self.shard_bytes + self.temp_bytes


class IndexUnusable(Exception):
    """The index file is corrupt, of another layout, or cannot be written."""


def merged(old: Location | None, new: Location) -> Location:
    """Which of two records of one identity counts, whatever order they are found in.

    A tombstone wins always (SAFETY rule 2), an intact record over a damaged one, else the
    later one. The volumes that hold any of them stay within the winner's [since, target].
    """
    if old is None:
        return new
    since = min(old.since, new.since, old.volume, new.volume)
    old_place, new_place = (old.volume, old.offset), (new.volume, new.offset)
    if State.DELETED in (old.state, new.state):
        winner, loser = (old, new) if old.state == State.DELETED else (new, old)
        if loser.state == State.DELETED:
            winner = max(old, new)
            last = max(old.target, new.target)
            return winner._replace(since=min(old.since, new.since), target=last)
        first = min(winner.since, loser.since, loser.volume)
        return winner._replace(since=first, target=max(winner.target, loser.volume))
    if old_place == new_place:
        winner = new._replace(state=max(old.state, new.state))
    elif (old.state == State.DAMAGED) != (new.state == State.DAMAGED):
        winner = new if old.state == State.DAMAGED else old
    else:
        winner = new if new_place > old_place else old
    return winner._replace(since=since)


class Index:
    """The two layers. `find` may run in any thread; changes are serialised by a lock."""

    def __init__(
        self, reader: sqlite3.Connection, writer: sqlite3.Connection, path: Path | None = None
    ) -> None:
        self.use: dict[int, VolumeUse] = {}
        self.volumes: dict[int, VolumeRow] = {}
        self._path = path
        self._reader = reader
        self._writer = writer
        self._fresh: dict[bytes, Location | None] = {}
        self._stale_volumes: set[int] = set()
        self._lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._flush_lock = threading.Lock()
        # One connection serves both roles in memory, so it needs one lock for both.
        self._write_lock = self._read_lock if reader is writer else threading.Lock()
        self._load()

    @classmethod
    def open(cls, path: Path) -> "Index":
        """Open or make the index at `path`. Raises IndexUnusable."""
        try:
            if path == IN_MEMORY:
                connection = _connect(":memory:")
                return cls(connection, connection)
            writer = _connect(str(path))
            return cls(_connect(str(path)), writer, path)
        except sqlite3.Error as error:
            raise IndexUnusable(str(error)) from error

    @property
    def fresh_count(self) -> int:
        """Rows that only memory holds."""
        return len(self._fresh)

    @property
    def dirty(self) -> bool:
        """Whether a flush would write anything."""
        return bool(self._fresh or self._stale_volumes)

    def find(self, key: bytes) -> Location | None:
        """Where the record of an identity lies, tombstones included. Raises IndexUnusable."""
        # Flush commits to SQLite before it drops a fresh row: missed here, it is there.
        try:
            return self._fresh[key]
        except KeyError:
            pass
        try:
            with self._read_lock:
                row = self._reader.execute(_FIND, (key,)).fetchone()
        except sqlite3.Error as error:
            raise IndexUnusable(str(error)) from error
        return Location._make(row) if row is not None else None

    def find_many(self, keys: Sequence[bytes]) -> dict[bytes, Location]:
        """`find` for many keys, by few statements; those without a row are left out."""
        found: dict[bytes, Location] = {}
        unknown: list[bytes] = []
        for key in keys:
            row = self._fresh.get(key, _ABSENT)
            if row is _ABSENT:
                unknown.append(key)
            elif row is not None:
                found[key] = row
        for at in range(0, len(unknown), _FIND_MANY_KEYS):
            part = unknown[at : at + _FIND_MANY_KEYS]
            # Filled up, so that few different statements are compiled and kept.
            count = 1 if len(part) == 1 else _FIND_MANY_KEYS
            part += part[-1:] * (count - len(part))
            marks = ", ".join("?" * count)
            found.update(self._rows(f"{_FIND_MANY} ({marks})", part))
        return found

    def publish(self, changes: Iterable[Change], volume: VolumeRow | None = None) -> None:
        """Make changes visible to lookups, and note how far `volume` has been taken in."""
        with self._lock:
            for key, old, new in changes:
                self._fresh[key] = new
                if old is not None:
                    self._count(key, old, -1)
                if new is not None:
                    self._count(key, new, 1)
            if volume is not None:
                self.volumes[volume.number] = volume
                self._stale_volumes.add(volume.number)

    def merge(self, key: bytes, found: Location) -> None:
        """Take in a record found by a scan; any order, any number of times."""
        old = self.find(key)
        new = merged(old, found)
        if new != old:
            self.publish([Change(key, old, new)])

    def swap(self, key: bytes, old: Location | None, new: Location | None) -> bool:
        """Publish `new` only if the row is still `old`. Raises IndexUnusable."""
        with self._lock:
            if self.find(key) != old:
                return False
            self._fresh[key] = new
            self._count(key, old, -1)
            self._count(key, new, 1)
            return True

    def forget_volume(self, number: int) -> None:
        """A volume was unlinked."""
        with self._lock:
            self.volumes.pop(number, None)
            self.use.pop(number, None)
            self._stale_volumes.add(number)

    def flush(self) -> None:
        """Write fresh rows to SQLite, durable on return. Raises IndexUnusable.

        Lookups and changes go on meanwhile.
        """
        with self._flush_lock:
            with self._lock:
                rows = dict(self._fresh)
                numbers, self._stale_volumes = self._stale_volumes, set()
                volumes = [self.volumes[n] for n in numbers if n in self.volumes]
            try:
                self._write(rows, numbers, volumes)
            except sqlite3.Error as error:
                with self._lock:
                    self._stale_volumes |= numbers
                raise IndexUnusable(str(error)) from error
            with self._lock:
                for key, location in rows.items():
                    if self._fresh.get(key, location) is location:
                        self._fresh.pop(key, None)

    def page(
        self, after: bytes, limit: int, *, before: bytes = TEMP_MARK
    ) -> list[tuple[bytes, Location]]:
        """Up to `limit` records behind key `after`, in order, without deleted ones.

        Only those in front of `before`: shards, unless told otherwise. Fewer than `limit`
        only at the end. Raises IndexUnusable.
        """
        found: list[tuple[bytes, Location]] = []
        while len(found) < limit:
            wanted = limit - len(found)
            # Fresh rows first: what a flush moves meanwhile is then seen in SQLite.
            fresh = {key: row for key, row in self._snapshot().items() if after < key < before}
            stored = self._rows(_PAGE, (after, before, wanted))
            complete = len(stored) < wanted
            last = stored[-1][0] if stored else after
            together: dict[bytes, Location | None] = dict(stored)
            together.update((k, row) for k, row in fresh.items() if complete or k <= last)
            keys = sorted(together)
            for key in keys:
                row = together[key]
                if row is not None and row.state != State.DELETED and len(found) < limit:
                    found.append((key, row))
            if complete:
                break
            after = last
        return found

    def in_volume(self, number: int, *, behind: int, limit: int) -> list[tuple[bytes, Location]]:
        """Flushed rows that point into a volume behind an offset, in order of offset.

        Call `flush` first. Raises IndexUnusable.
        """
        return self._rows(_IN_VOLUME, (number, behind, limit))

    def damaged(self, limit: int) -> list[bytes]:
        """Flushed keys of shards known to be damaged."""
        sql = "SELECT key FROM shards WHERE state = 1 AND key < ? ORDER BY key LIMIT ?"
        try:
            with self._read_lock:
                return [key for (key,) in self._reader.execute(sql, (TEMP_MARK, limit))]
        except sqlite3.Error as error:
            raise IndexUnusable(str(error)) from error

    def condemn(self) -> None:
        """Unlink the file, found wrong or unreadable, so that the next start rebuilds it."""
        if self._path is not None:
            remove_index(self._path)

    def close(self) -> None:
        """Close both connections without flushing."""
        self._reader.close()
        self._writer.close()

    def _rows(self, sql: str, arguments: Sequence[object]) -> list[tuple[bytes, Location]]:
        try:
            with self._read_lock:
                rows = self._reader.execute(sql, tuple(arguments)).fetchall()
        except sqlite3.Error as error:
            raise IndexUnusable(str(error)) from error
        return [(row[0], Location._make(row[1:])) for row in rows]

    def _snapshot(self) -> dict[bytes, Location | None]:
        with self._lock:
            return dict(self._fresh)

    def _write(
        self,
        rows: dict[bytes, Location | None],
        numbers: Iterable[int],
        volumes: Iterable[VolumeRow],
    ) -> None:
        with self._write_lock, self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.executemany(
                "DELETE FROM shards WHERE key = ?", [(k,) for k, row in rows.items() if row is None]
            )
            self._writer.executemany(
                _PUT, [(key, *row) for key, row in rows.items() if row is not None]
            )
            self._writer.executemany(
                "DELETE FROM volumes WHERE number = ?", [(n,) for n in numbers]
            )
            self._writer.executemany("INSERT INTO volumes VALUES (?, ?, ?, ?, ?)", volumes)

    def _count(self, key: bytes, location: Location | None, sign: int) -> None:
        if location is None:
            return
        use = self.use.setdefault(location.volume, VolumeUse())
        if location.state == State.DELETED:
            use.tombstone_count += sign
        elif is_temp(key):
            use.temp_count += sign
            use.temp_bytes += sign * record_bytes(location.size_bytes)
        else:
            use.shard_count += sign
            use.shard_bytes += sign * record_bytes(location.size_bytes)

    def _load(self) -> None:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version == 0:
            _make_tables(self._writer)
        elif version != LAYOUT_VERSION:
            raise IndexUnusable(f"index layout {version}, not {LAYOUT_VERSION}")
        for number, salt, scanned_to, sealed, foreign in self._writer.execute(
            "SELECT number, salt, scanned_to, sealed, foreign_records FROM volumes"
        ):
            row = VolumeRow(number, salt, scanned_to, bool(sealed), bool(foreign))
            self.volumes[number] = row
        for volume, deleted, temp, count, size_bytes in self._writer.execute(_USE):
            use = self.use.setdefault(volume, VolumeUse())
            if deleted:
                use.tombstone_count += count
            elif temp:
                use.temp_count, use.temp_bytes = count, size_bytes
            else:
                use.shard_count, use.shard_bytes = count, size_bytes


def _make_tables(connection: sqlite3.Connection) -> None:
    with absent("numpy"):
        from sqlite_utils import Database
    store = Database(connection, recursive_triggers=False, execute_plugins=False)
    with store.atomic():
        store.executescript(_SCHEMA)
        store.execute(f"PRAGMA user_version = {LAYOUT_VERSION}")


def _connect(name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(name, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    # A commit is on the disk when it returns: compaction unlinks volumes after it.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -4096")
    return connection


def remove_index(path: Path) -> None:
    """Delete an index file and what SQLite keeps beside it, so that it is rebuilt."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
