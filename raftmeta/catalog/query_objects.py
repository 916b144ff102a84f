"""Finding versions and where their bytes lie."""

from collections.abc import Sequence
from typing import Any

from osscore.errors import NoSuchKey, NoSuchVersion
from osscore.model import Coding, CodingKind, Profile, Segment, Stripe, unpack_slots
from osscore.names import StripeId
from osscore.times import iso_time
from raftmeta.catalog import past, versions
from raftmeta.catalog.reading import Reading
from raftmeta.catalog.stripes import unpack_u32
from raftmeta.queries import (
    FindDigest,
    FindObject,
    Found,
    ObjectsFound,
    ReadSegments,
    SegmentsRead,
)

_SEGMENTS_MAX = 1000
_VERSIONS_MAX = 1000

STRIPE_COLUMNS = (
    "s.row, s.stripe, s.profile_data, s.profile_parity, s.plain_bytes, s.stored_bytes,"
    " s.stored_crc, s.frames, s.coding_kind, s.coding_data, s.coding_parity, s.shard_bytes,"
    " s.shard_crcs, s.slots"
)

# The segment that holds byte `first` begins at or before it; those after it follow.
SEGMENTS = (
    f"SELECT g.start, g.length, g.stripe_offset, {STRIPE_COLUMNS}"
    " FROM segments g JOIN stripes s ON s.row = g.stripe_row"
    " WHERE g.manifest = ?1 AND g.start <= ?3 AND g.start >= COALESCE("
    "  (SELECT MAX(start) FROM segments WHERE manifest = ?1 AND start <= ?2), 0)"
    " AND g.start + g.length > ?2"
    " ORDER BY g.start LIMIT ?4"
)


def find_object(reading: Reading, query: FindObject) -> Found:
    """A version and its bytes. Refuses NoSuchBucket, NoSuchKey, NoSuchVersion."""
    bucket = versions.find_bucket(reading.db, query.bucket)
    row = _find_row(reading, bucket, query)
    info = versions.version_info(query.bucket, row)
    if query.head_only or info.is_marker:
        return Found(version=info)
    if not info.manifest:
        id_ = versions.parse_version_id(info.version_id)
        return Found(version=info, inline=versions.inline_body(reading.db, id_))
    segments = _segments(
        reading,
        info.manifest,
        first=query.first,
        last=_last(query.last, info.attributes.size_bytes),
        segments_max=query.segments_max,
    )
    return Found(version=info, segments=segments)


def read_segments(reading: Reading, query: ReadSegments) -> SegmentsRead:
    """Segments of a manifest. Refuses NoSuchVersion when it is gone."""
    found = reading.db.execute(
        "SELECT size_bytes FROM manifests WHERE manifest = ?", (query.manifest,)
    ).fetchone()
    if found is None:
        raise NoSuchVersion("The bytes of that version are gone.")
    segments = _segments(
        reading,
        query.manifest,
        first=query.first,
        last=_last(query.last, found[0]),
        segments_max=query.segments_max,
    )
    return SegmentsRead(segments=segments)


def find_digest(reading: Reading, query: FindDigest) -> ObjectsFound:
    """Current versions of these bytes, oldest first."""
    limit = max(0, min(query.limit, _VERSIONS_MAX))
    rows = reading.db.execute(
        f"SELECT (SELECT name FROM buckets b WHERE b.bucket = v.bucket), {versions.COLUMNS}"
        " FROM versions v WHERE sha256 = ? AND is_latest = 1 AND is_marker = 0"
        " ORDER BY id LIMIT ?",
        (query.sha256, limit),
    )
    return ObjectsFound(versions=tuple(versions.version_info(row[0], row[1:]) for row in rows))


def _find_row(reading: Reading, bucket: int, query: FindObject) -> versions.Row:
    if query.number or query.version_id:
        return versions.exact(
            reading.db, bucket, query.key, number=query.number, version_id=query.version_id
        )
    if query.at_ms:
        return _row_at(reading, bucket, query)
    row = versions.newest(reading.db, bucket, query.key)
    if row is None or versions.is_marker(row):
        raise NoSuchKey(f"There is no object {query.key[:80]!r}.")
    return row


def _row_at(reading: Reading, bucket: int, query: FindObject) -> versions.Row:
    state = past.state_at(reading.db, bucket, query.key, query.at_ms)
    if state.row is not None:
        return state.row
    what, when = f"object {query.key[:80]!r}", iso_time(query.at_ms)
    if state.was is past.Was.ABSENT:
        raise NoSuchKey(f"There was no {what} at {when}.")
    if state.was is past.Was.UNKNOWN:
        raise NoSuchVersion(
            f"What {what} was at {when} cannot be told: too many of its versions and delete"
            " markers were removed since."
        )
    which = f"Version {state.number}" if state.number else "A version"
    raise NoSuchVersion(
        f"{which} of {what} was current at {when}, and was removed since: pruned, expired or"
        " deleted for good."
    )


def _last(last: int, size_bytes: int) -> int:
    return size_bytes - 1 if last < 0 else min(last, size_bytes - 1)


def _segments(
    reading: Reading, manifest: int, *, first: int, last: int, segments_max: int
) -> tuple[Segment, ...]:
    limit = max(1, min(segments_max, _SEGMENTS_MAX))
    rows = reading.db.execute(SEGMENTS, (manifest, max(0, first), last, limit))
    return tuple(_segment(row) for row in rows)


def _segment(row: tuple[Any, ...]) -> Segment:
    start, length, offset, *stripe = row
    return Segment(start=start, length=length, offset=offset, stripe=stripe_of(stripe))


def stripe_of(columns: Sequence[Any]) -> Stripe:
    """A row of STRIPE_COLUMNS as its struct."""
    (row, stripe, profile_data, profile_parity, plain_bytes, stored_bytes, stored_crc) = columns[:7]
    (frames, kind, data_count, parity_count, shard_bytes, shard_crcs, slots) = columns[7:]
    return Stripe(
        row=row,
        stripe=StripeId(stripe),
        profile=Profile(profile_data, profile_parity),
        plain_bytes=plain_bytes,
        stored_bytes=stored_bytes,
        stored_crc=stored_crc,
        frames=unpack_u32(frames),
        coding=Coding(CodingKind(kind), data_count, parity_count),
        shard_bytes=shard_bytes,
        shard_crcs=unpack_u32(shard_crcs),
        slots=unpack_slots(slots),
    )
