"""Uploads that come in numbered chunks: each is an upload of its own until they are linked."""

import msgspec

from osscore.errors import (
    ChunkAlreadyHeld,
    CommandTooLarge,
    Conflict,
    EntityTooLarge,
    InvalidArgument,
    NoSuchUpload,
    UploadOutOfOrder,
)
from raftmeta.catalog import manifests, uploads
from raftmeta.catalog.apply_uploads import ROWS_MAX, check_size
from raftmeta.catalog.transaction import Transaction
from raftmeta.catalog.uploads import CHUNK, Upload
from raftmeta.commands import (
    CHUNK_NUMBER_MAX,
    CHUNK_SEGMENTS_MAX,
    Done,
    KeepChunk,
    LinkChunks,
    Staged,
)

_ROWS_PER_CHUNK = 4
_ROWS_PER_SEGMENT = 2


def keep_chunk(tx: Transaction, command: KeepChunk) -> Done:
    """Make an upload a chunk of another (see KeepChunk for what is refused)."""
    if not 0 <= command.number <= CHUNK_NUMBER_MAX:
        raise InvalidArgument(f"Chunks are numbered 0 to {CHUNK_NUMBER_MAX}.")
    parent = uploads.require(tx, command.parent)
    chunk = uploads.find(tx, command.upload)
    if chunk is not None and _is_kept_so(chunk, parent, command):
        return Done()
    chunk = uploads.require(tx, command.upload)
    _check_match(chunk, parent, command)
    held = _held(tx, parent, command.number)
    if held is not None and not command.replaces:
        raise ChunkAlreadyHeld(f"The upload holds a chunk {command.number} already.")
    if held is not None:
        uploads.end(tx, held)
    plan = msgspec.structs.replace(
        uploads.decode_plan(chunk.plan), size_bytes=command.size_bytes, sha256=command.sha256
    )
    uploads.adopt(tx, chunk, parent=parent, number=command.number, plan=plan)
    uploads.renew(tx, parent.upload, parent.ttl_ms)
    return Done()


def link_chunks(tx: Transaction, command: LinkChunks) -> Staged:
    """Append chunks to their upload (see LinkChunks for what is refused)."""
    parent = uploads.require(tx, command.upload)
    if parent.sealed or command.position != parent.staged_count:
        raise UploadOutOfOrder(
            f"The upload stands at stripe {parent.staged_count}, not {command.position}."
        )
    if len(set(command.chunks)) < len(command.chunks):
        raise InvalidArgument("A chunk can be linked once.")
    chunks = [_require_chunk(tx, parent, upload) for upload in command.chunks]
    rows = sum(_ROWS_PER_CHUNK + _ROWS_PER_SEGMENT * chunk.staged_count for chunk in chunks)
    if rows > ROWS_MAX:
        raise CommandTooLarge(f"Linking these chunks would write {rows} rows.")
    staged_bytes = parent.staged_bytes
    for chunk in chunks:
        manifests.move(tx, chunk.manifest, to=parent.manifest, start=staged_bytes)
        staged_bytes += chunk.staged_bytes
        uploads.end(tx, chunk)
    staged_count = parent.staged_count + sum(chunk.staged_count for chunk in chunks)
    tx.db.execute(
        "UPDATE uploads SET staged_count = ?, staged_bytes = ?, expires_at_ms = ? WHERE upload = ?",
        (staged_count, staged_bytes, tx.time_ms + parent.ttl_ms, parent.upload),
    )
    return Staged(hits=(), staged_bytes=staged_bytes)


def end_families(tx: Transaction, *, rows_max: int) -> tuple[int, int]:
    """End chunks whose upload has ended, as far as `rows_max` goes, but at least one.

    Answers how many ended and the rows that took.
    """
    ended = rows = 0
    while rows < rows_max:
        found = tx.db.execute(
            "SELECT family FROM ended_families ORDER BY family LIMIT 1"
        ).fetchone()
        if found is None:
            break
        chunk = _first_of(tx, found[0])
        if chunk is None:
            tx.db.execute("DELETE FROM ended_families WHERE family = ?", found)
            rows += 1
            continue
        cost = uploads.rows_to_end(chunk)
        if ended and rows + cost > rows_max:
            break
        uploads.end(tx, chunk)
        ended, rows = ended + 1, rows + cost
    return ended, rows


def _is_kept_so(chunk: Upload, parent: Upload, command: KeepChunk) -> bool:
    return (chunk.kind, chunk.family, chunk.number) == (CHUNK, parent.manifest, command.number)


def _check_match(chunk: Upload, parent: Upload, command: KeepChunk) -> None:
    if (chunk.bucket, chunk.key) != (parent.bucket, parent.key) or chunk == parent:
        raise InvalidArgument("A chunk and its upload are of the same object.")
    if parent.sealed or parent.staged_count:
        raise Conflict("The chunks of this upload are being put together.")
    check_size(chunk, command.size_bytes)
    if chunk.staged_count > CHUNK_SEGMENTS_MAX:
        raise EntityTooLarge(f"A chunk has at most {CHUNK_SEGMENTS_MAX} stripes.")


def _held(tx: Transaction, parent: Upload, number: int) -> Upload | None:
    return _find(
        tx, "SELECT upload FROM uploads WHERE family = ? AND number = ?", (parent.manifest, number)
    )


def _first_of(tx: Transaction, family: int) -> Upload | None:
    return _find(
        tx, "SELECT upload FROM uploads WHERE family = ? ORDER BY number LIMIT 1", (family,)
    )


def _find(tx: Transaction, sql: str, values: tuple[int, ...]) -> Upload | None:
    row = tx.db.execute(sql, values).fetchone()
    return uploads.find(tx, row[0]) if row else None


def _require_chunk(tx: Transaction, parent: Upload, upload: bytes) -> Upload:
    found = uploads.find(tx, upload)
    if found is None or (found.kind, found.family) != (CHUNK, parent.manifest):
        raise NoSuchUpload("That chunk is not held by this upload.")
    return found
