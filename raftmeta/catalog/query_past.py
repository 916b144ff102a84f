"""Pages of what was, and of what would become of it: over the keys a bucket ever had.

A page reads a bounded number of rows (SAFETY rule 24), also where most keys are not there at
that time, and then ends without being full.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from osscore.model import VersionInfo
from raftmeta.catalog import past, versions
from raftmeta.catalog.past import Was
from raftmeta.catalog.query_listing import PAGE_ROWS_MAX, common_prefix, successor
from raftmeta.catalog.reading import Reading
from raftmeta.timetravel import (
    ChangesFound,
    FindChanges,
    FindDeleted,
    GoneObject,
    KeyChange,
    ListObjectsAt,
    ObjectsListedAt,
    RestoreOutcome,
)

ROWS_READ_MAX = PAGE_ROWS_MAX
"""A page ends before the key at which it has read this many rows; one key takes at most about
a thousand more."""
_FOUND_MAX = 1000

_KEYS = "SELECT key FROM keys WHERE bucket = ? AND key {operator} ? AND key < ? ORDER BY key"
KEYS_FROM = _KEYS.format(operator=">=")
KEYS_AFTER = _KEYS.format(operator=">")


def list_objects_at(reading: Reading, query: ListObjectsAt) -> ObjectsListedAt:
    """One page of the objects of that time. Refuses NoSuchBucket."""
    bucket = versions.find_bucket(reading.db, query.bucket)
    limit = min(query.limit, PAGE_ROWS_MAX)
    if limit <= 0:
        return ObjectsListedAt(objects=(), prefixes=())
    page = _Page(query, limit)
    # SQLite orders blobs above all text, which makes an empty blob the open upper end.
    end = successor(query.prefix) or b""
    sql, start = _begin(query)
    while start is not None:
        jump = None
        for (key,) in reading.db.execute(sql, (bucket, start, end)):
            if page.is_full:
                return page.answer(is_last=False)
            jump = page.look_at(key, past.state_at(reading.db, bucket, key, query.at_ms))
            if jump is not None:
                break
        else:
            return page.answer(is_last=True)
        sql, start = KEYS_FROM, successor(jump)
    return page.answer(is_last=True)


@dataclass(slots=True)
class _Page:
    """A page of a listing while it grows."""

    query: ListObjectsAt
    limit: int
    objects: list[VersionInfo] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    gone: list[GoneObject] = field(default_factory=list)
    last: str = ""
    rows_read: int = 0

    @property
    def is_full(self) -> bool:
        """Whether it may not take another key."""
        count = len(self.objects) + len(self.prefixes) + len(self.gone)
        return count >= self.limit or self.rows_read >= ROWS_READ_MAX

    def look_at(self, key: str, state: past.State) -> str | None:
        """Take a key in; answers the common prefix whose other keys are to be jumped over."""
        self.rows_read += 1 + state.rows_read
        prefix = common_prefix(key, self.query)
        if state.was is Was.ABSENT:
            # As an `after`, a name that is a common prefix would skip all keys under it; no
            # name has a NUL, so none lies between it and this.
            self.last = key + "\0" if prefix == key else key
            return None
        self.last = key if prefix is None else prefix
        if prefix is not None:
            self.prefixes.append(prefix)
        elif state.row is not None:
            self.objects.append(versions.version_info(self.query.bucket, state.row))
        else:
            is_certain = state.was is Was.REMOVED
            self.gone.append(GoneObject(key=key, number=state.number, is_certain=is_certain))
        return prefix

    def answer(self, *, is_last: bool) -> ObjectsListedAt:
        """The page as it is."""
        return ObjectsListedAt(
            objects=tuple(self.objects),
            prefixes=tuple(self.prefixes),
            gone=tuple(self.gone),
            next=None if is_last else self.last,
        )


def find_changes(reading: Reading, query: FindChanges) -> ChangesFound:
    """One page of what a restore would do. Refuses NoSuchBucket."""
    began_ms = query.began_ms or reading.number("catalog_time_ms")

    def look(bucket: int, key: str) -> tuple[KeyChange, int]:
        change = past.change_to(reading.db, bucket, key, at_ms=query.at_ms, began_ms=began_ms)
        size_bytes = 0
        if change.wanted is not None:
            size_bytes = versions.version_info("", change.wanted).attributes.size_bytes
        found = KeyChange(
            key=key, outcome=change.outcome, number=change.number, size_bytes=size_bytes
        )
        return found, change.rows_read

    return _changes(reading, query, began_ms, look)


def find_deleted(reading: Reading, query: FindDeleted) -> ChangesFound:
    """One page of what undeleting would do. Refuses NoSuchBucket."""
    until_ms = query.until_ms or reading.number("catalog_time_ms")

    def look(bucket: int, key: str) -> tuple[KeyChange, int]:
        outcome, rows_read = past.undeletion(
            reading.db, bucket, key, since_ms=query.since_ms, until_ms=until_ms
        )
        return KeyChange(key=key, outcome=outcome), rows_read

    return _changes(reading, query, until_ms, look)


def _changes(
    reading: Reading,
    query: FindChanges | FindDeleted,
    began_ms: int,
    look: Callable[[int, str], tuple[KeyChange, int]],
) -> ChangesFound:
    bucket = versions.find_bucket(reading.db, query.bucket)
    started = query.after_key and query.after_key >= query.prefix
    sql, start = (KEYS_AFTER, query.after_key) if started else (KEYS_FROM, query.prefix)
    end = successor(query.prefix) or b""
    limit = max(1, min(query.limit, _FOUND_MAX))
    changes: list[KeyChange] = []
    visited = rows_read = 0
    last = query.after_key
    for (key,) in reading.db.execute(sql, (bucket, start, end)):
        if len(changes) >= limit or rows_read >= ROWS_READ_MAX:
            return ChangesFound(
                changes=tuple(changes), visited=visited, began_ms=began_ms, next=last
            )
        change, rows = look(bucket, key)
        visited += 1
        rows_read += 1 + rows
        last = key
        if change.outcome is not RestoreOutcome.UNCHANGED:
            changes.append(change)
    return ChangesFound(changes=tuple(changes), visited=visited, began_ms=began_ms)


def _begin(query: ListObjectsAt) -> tuple[str, str | None]:
    """Where the page begins: at the prefix, behind a key, or past a whole common prefix."""
    if query.after < query.prefix or not query.after:
        return KEYS_FROM, query.prefix
    if common_prefix(query.after, query) == query.after:
        return KEYS_FROM, successor(query.after)
    return KEYS_AFTER, query.after
