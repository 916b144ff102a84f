"""What finished uploads became, remembered so that finishing one again makes no second version."""

from dataclasses import dataclass

import msgspec

from osscore.errors import Conflict
from raftmeta.catalog import uploads
from raftmeta.catalog.transaction import Transaction
from raftmeta.catalog.uploads import Upload
from raftmeta.commands import ObjectPut

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ObjectPut).decode


@dataclass(frozen=True, slots=True)
class Finished:
    """A row of finished_uploads."""

    bucket: int
    key: str
    put: ObjectPut


def find(tx: Transaction, upload: bytes) -> Finished | None:
    """What the upload became, if that is still remembered."""
    row = tx.db.execute(
        "SELECT bucket, key, result FROM finished_uploads WHERE upload = ? AND expires_at_ms >= ?",
        (upload, tx.time_ms),
    ).fetchone()
    return Finished(row[0], row[1], _decode(row[2])) if row else None


def find_same(tx: Transaction, upload: bytes, bucket: int, key: str) -> ObjectPut | None:
    """As `find`. Refuses Conflict if it became a version of another object."""
    found = find(tx, upload)
    if found is None:
        return None
    if (found.bucket, found.key) != (bucket, key):
        raise Conflict("The upload of this id became another object.")
    return found.put


def remember(tx: Transaction, row: Upload, *, size_bytes: int, put: ObjectPut) -> None:
    """Keep what `row`, which has just ended, became, for as long as it might have waited."""
    tx.db.execute(
        "INSERT INTO finished_uploads (upload, bucket, key, plan, created_at_ms, size_bytes,"
        " result, expires_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.upload,
            row.bucket,
            row.key,
            row.plan,
            row.created_at_ms,
            size_bytes,
            _encode(put),
            tx.time_ms + row.ttl_ms,
        ),
    )


def forget(tx: Transaction, upload: bytes) -> None:
    """Let an upload of this id begin anew."""
    tx.db.execute("DELETE FROM finished_uploads WHERE upload = ?", (upload,))


def require_open(tx: Transaction, upload: bytes, bucket: int, key: str) -> Upload:
    """The row of an upload that may be finished now. Refuses NoSuchUpload, Conflict."""
    found = uploads.require(tx, upload)
    if (found.bucket, found.key) != (bucket, key):
        raise Conflict("The upload of this id was begun for another object.")
    return found
