"""Pages of objects, versions and buckets: index range scans that seek past what they skip.

Every row visited becomes an entry of the page or the first of a common prefix, whose other
keys are jumped over, so a page visits at most its limit of rows (SAFETY rule 24).
"""

from collections.abc import Iterator

from osscore.errors import NoSuchBucket
from osscore.model import Profile, VersionInfo
from raftmeta.catalog import versions
from raftmeta.catalog.lifecycle import SETTINGS, lifecycle
from raftmeta.catalog.reading import Reading
from raftmeta.catalog.versions import Row
from raftmeta.queries import (
    BucketInfo,
    BucketsListed,
    GetBucket,
    ListBuckets,
    ListObjects,
    ListVersions,
    ObjectsListed,
    VersionsListed,
)
from raftmeta.timetravel import (
    ListObjectsAt,
)

PAGE_ROWS_MAX = 10_000
_LAST_CHARACTER = "\U0010ffff"

_CURRENT = (
    f"SELECT {versions.COLUMNS} FROM versions"
    " WHERE bucket = ? AND is_latest = 1 AND is_marker = 0 AND key {operator} ? AND key < ?"
    " ORDER BY key LIMIT ?"
)
CURRENT_FROM = _CURRENT.format(operator=">=")
CURRENT_AFTER = _CURRENT.format(operator=">")

# The rest of the key begun, then one range over (key, number DESC) for all keys behind it.
VERSIONS_OF_KEY = (
    f"SELECT {versions.COLUMNS} FROM versions WHERE bucket = ? AND key = ? AND number < ?"
    " ORDER BY number DESC LIMIT ?"
)
_VERSIONS = (
    f"SELECT {versions.COLUMNS} FROM versions WHERE bucket = ? AND key {{operator}} ? AND key < ?"
    " ORDER BY key, number DESC LIMIT ?"
)
VERSIONS_FROM = _VERSIONS.format(operator=">=")
VERSIONS_AFTER = _VERSIONS.format(operator=">")
_NUMBER_MAX = (1 << 63) - 1


def list_objects(reading: Reading, query: ListObjects) -> ObjectsListed:
    """One page of current objects and common prefixes. Refuses NoSuchBucket."""
    bucket = versions.find_bucket(reading.db, query.bucket)
    limit = min(query.limit, PAGE_ROWS_MAX)
    if limit <= 0:
        return ObjectsListed(objects=(), prefixes=())
    objects: list[VersionInfo] = []
    prefixes: list[str] = []
    last = ""
    for key, row in _entries(reading, bucket, query, limit):
        if len(objects) + len(prefixes) == limit:
            return ObjectsListed(objects=tuple(objects), prefixes=tuple(prefixes), next=last)
        if row is None:
            prefixes.append(key)
        else:
            objects.append(versions.version_info(query.bucket, row))
        last = key
    return ObjectsListed(objects=tuple(objects), prefixes=tuple(prefixes))


def list_versions(reading: Reading, query: ListVersions) -> VersionsListed:
    """One page of versions and markers. Refuses NoSuchBucket."""
    bucket = versions.find_bucket(reading.db, query.bucket)
    limit = min(query.limit, PAGE_ROWS_MAX)
    if limit <= 0:
        return VersionsListed(versions=())
    rows = _version_rows(reading, bucket, query, limit + 1)
    page = tuple(versions.version_info(query.bucket, row) for row in rows[:limit])
    if len(rows) <= limit:
        return VersionsListed(versions=page)
    return VersionsListed(versions=page, next=(page[-1].key, page[-1].number))


def get_bucket(reading: Reading, query: GetBucket) -> BucketsListed:
    """One bucket. Refuses NoSuchBucket."""
    found = _buckets(reading, " AND name = ?", (query.bucket,))
    if not found:
        raise NoSuchBucket(f"There is no bucket {query.bucket[:80]!r}.")
    return BucketsListed(buckets=found)


def list_buckets(reading: Reading, _: ListBuckets) -> BucketsListed:
    """All buckets by name."""
    return BucketsListed(buckets=_buckets(reading, "", ()))


def successor(prefix: str) -> str | None:
    """The least text above everything that begins with `prefix`; None: there is none."""
    stem = prefix.rstrip(_LAST_CHARACTER)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    if 0xD800 <= following <= 0xDFFF:  # surrogates are no characters
        following = 0xE000
    return stem[:-1] + chr(following)


def _entries(
    reading: Reading, bucket: int, query: ListObjects, limit: int
) -> Iterator[tuple[str, Row | None]]:
    """(key, its row) of objects and (prefix, None) of common prefixes, in order."""
    # SQLite orders blobs above all text, which makes an empty blob the open upper end.
    end = successor(query.prefix) or b""
    sql, start = _begin(query)
    while start is not None:
        jump = None
        for row in reading.db.execute(sql, (bucket, start, end, limit + 1)):
            prefix = common_prefix(row[0], query)
            if prefix is None:
                yield row[0], row
                continue
            yield prefix, None
            jump = successor(prefix)
            break
        else:
            return
        sql, start = CURRENT_FROM, jump


def _begin(query: ListObjects) -> tuple[str, str | None]:
    """Where the page begins: at the prefix, behind a key, or past a whole common prefix."""
    if query.after < query.prefix or not query.after:
        return CURRENT_FROM, query.prefix
    if common_prefix(query.after, query) == query.after:
        return CURRENT_FROM, successor(query.after)
    return CURRENT_AFTER, query.after


def common_prefix(key: str, query: ListObjects | ListObjectsAt) -> str | None:
    """The entry that stands for the key and its neighbours; None: the key is its own."""
    if not query.delimiter or not key.startswith(query.prefix):
        return None
    at = key.find(query.delimiter, len(query.prefix))
    return None if at < 0 else key[: at + len(query.delimiter)]


def _version_rows(reading: Reading, bucket: int, query: ListVersions, limit: int) -> list[Row]:
    if query.key:
        below = query.after_number if query.after_key == query.key else _NUMBER_MAX
        arguments = (bucket, query.key, below, limit)
        return reading.db.execute(VERSIONS_OF_KEY, arguments).fetchall()
    rows: list[Row] = []
    if query.after_key.startswith(query.prefix) and query.after_number:
        arguments = (bucket, query.after_key, query.after_number, limit)
        rows = reading.db.execute(VERSIONS_OF_KEY, arguments).fetchall()
    # One lower bound only: with two, SQLite may scan from the prefix on each page.
    started = query.after_key and query.after_key >= query.prefix
    sql, start = (VERSIONS_AFTER, query.after_key) if started else (VERSIONS_FROM, query.prefix)
    end = successor(query.prefix) or b""
    return rows + reading.db.execute(sql, (bucket, start, end, limit - len(rows))).fetchall()


def _buckets(reading: Reading, where: str, arguments: tuple[str, ...]) -> tuple[BucketInfo, ...]:
    rows = reading.db.execute(
        "SELECT name, created_at_ms, data_count, parity_count, keep_versions, used_bytes,"
        f" used_versions, quota_bytes, quota_versions, {SETTINGS} FROM buckets"
        f" WHERE live = 1{where} ORDER BY name",
        arguments,
    )
    return tuple(
        BucketInfo(
            name=name,
            created_at_ms=created_at_ms,
            profile=None if data_count is None else Profile(data_count, parity_count),
            keep_versions=keep_versions,
            used_bytes=used_bytes,
            used_versions=used_versions,
            quota_bytes=quota_bytes,
            quota_versions=quota_versions,
            lifecycle=lifecycle(*settings),
        )
        for (
            name,
            created_at_ms,
            data_count,
            parity_count,
            keep_versions,
            used_bytes,
            used_versions,
            quota_bytes,
            quota_versions,
            *settings,
        ) in rows
    )
