"""Uploads under way, and the chunks they hold."""

import msgspec

from osscore.errors import NoSuchUpload
from raftmeta.catalog.reading import Reading
from raftmeta.catalog.uploads import CHUNK, UPLOAD, decode_plan
from raftmeta.commands import CHUNK_NUMBER_MAX, ObjectPut
from raftmeta.queries import Chunk, ChunksListed, FindUpload, ListChunks, UploadFound

_BUCKET = "(SELECT name FROM buckets b WHERE b.bucket = u.bucket)"


def find_upload(reading: Reading, query: FindUpload) -> UploadFound:
    """An upload, or what it became. Refuses NoSuchUpload."""
    row = reading.db.execute(
        f"SELECT {_BUCKET}, key, plan, created_at_ms, expires_at_ms, staged_count, staged_bytes,"
        " manifest, sealed FROM uploads u WHERE upload = ? AND kind = ? AND expires_at_ms >= ?",
        (query.upload, UPLOAD, reading.number("catalog_time_ms")),
    ).fetchone()
    if row is None:
        return _find_finished(reading, query.upload)
    bucket, key, plan, created_at_ms, expires_at_ms, count, size_bytes, manifest, sealed = row
    return UploadFound(
        upload=query.upload,
        bucket=bucket,
        key=key,
        plan=decode_plan(plan),
        created_at_ms=created_at_ms,
        expires_at_ms=expires_at_ms,
        staged_count=count,
        staged_bytes=size_bytes,
        manifest=manifest,
        sealed=bool(sealed),
    )


def list_chunks(reading: Reading, query: ListChunks) -> ChunksListed:
    """The chunks of an upload by number. Refuses NoSuchUpload."""
    found = find_upload(reading, FindUpload(upload=query.upload))
    rows = reading.db.execute(
        "SELECT number, upload, staged_bytes, plan, manifest, staged_count FROM uploads"
        " WHERE family = ? AND number > ? AND kind = ? ORDER BY number LIMIT ?",
        (found.manifest, query.after, CHUNK, max(1, min(query.limit, CHUNK_NUMBER_MAX + 1))),
    )
    return ChunksListed(
        chunks=tuple(
            Chunk(number, upload, size_bytes, plan.sha256, manifest, count, plan.is_declared)
            for number, upload, size_bytes, plan, manifest, count in (
                (*row[:3], decode_plan(row[3]), *row[4:]) for row in rows
            )
        )
    )


def _find_finished(reading: Reading, upload: bytes) -> UploadFound:
    row = reading.db.execute(
        f"SELECT {_BUCKET}, key, plan, created_at_ms, expires_at_ms, size_bytes, result"
        " FROM finished_uploads u WHERE upload = ? AND expires_at_ms >= ?",
        (upload, reading.number("catalog_time_ms")),
    ).fetchone()
    if row is None:
        raise NoSuchUpload()
    bucket, key, plan, created_at_ms, expires_at_ms, size_bytes, result = row
    return UploadFound(
        upload=upload,
        bucket=bucket,
        key=key,
        plan=decode_plan(plan),
        created_at_ms=created_at_ms,
        expires_at_ms=expires_at_ms,
        staged_count=0,
        staged_bytes=size_bytes,
        manifest=0,
        sealed=True,
        finished=msgspec.msgpack.decode(result, type=ObjectPut),
    )
