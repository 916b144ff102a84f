"""Upload rows: what a long body, or a long read, keeps alive (SAFETY rule 4).

An upload owns a manifest from its beginning and Stage appends to that, so a commit hands
over one number however long the body is. A hold is a row that shares another's manifest.
"""

from dataclasses import dataclass

from osscore.errors import InvalidArgument, NoSuchStripe, NoSuchUpload
from raftmeta.catalog import manifests, stripes
from raftmeta.catalog.transaction import Transaction

UPLOAD = "upload"
HOLD = "hold"
_ID_BYTES = 16
_TTL_MS_MAX = 400 * 86_400_000


@dataclass(frozen=True, slots=True)
class Upload:
    """A row of uploads. `bucket` is None for a hold."""

    upload: bytes
    kind: str
    bucket: int | None
    key: str
    manifest: int
    staged_count: int
    staged_bytes: int
    reserved_count: int
    ttl_ms: int
    expires_at_ms: int


def find(tx: Transaction, upload: bytes) -> Upload | None:
    """The row, expired or not: only Collect ends it."""
    row = tx.db.execute(
        "SELECT upload, kind, bucket, key, manifest, staged_count, staged_bytes,"
        " reserved_count, ttl_ms, expires_at_ms FROM uploads WHERE upload = ?",
        (upload,),
    ).fetchone()
    return Upload(*row) if row else None


def begin(
    tx: Transaction, upload: bytes, ttl_ms: int, manifest: int, target: tuple[int, str]
) -> None:
    """Write the row of an upload for (bucket, key); it takes over one manifest reference."""
    _insert(tx, Upload(upload, UPLOAD, *target, manifest, 0, 0, 0, ttl_ms, tx.time_ms + ttl_ms))


def hold(tx: Transaction, upload: bytes, ttl_ms: int, manifest: int) -> None:
    """Write the row of a hold; it takes over one manifest reference."""
    _insert(tx, Upload(upload, HOLD, None, "", manifest, 0, 0, 0, ttl_ms, tx.time_ms + ttl_ms))


def renew(tx: Transaction, upload: bytes, ttl_ms: int) -> None:
    """Put the expiry `ttl_ms` ahead of now."""
    tx.db.execute(
        "UPDATE uploads SET ttl_ms = ?, expires_at_ms = ? WHERE upload = ?",
        (ttl_ms, tx.time_ms + ttl_ms, upload),
    )


def check_form(upload: bytes, ttl_ms: int) -> None:
    """Refuses InvalidArgument unless the id has 16 bytes and the life is sensible."""
    if len(upload) != _ID_BYTES or not 0 < ttl_ms <= _TTL_MS_MAX:
        raise InvalidArgument("An upload has an id of 16 bytes and lives up to 400 days.")


def finish(tx: Transaction, upload: bytes, bucket: int, key: str) -> tuple[int, int]:
    """End an upload by its commit; answers its manifest, handed over, and its size.

    Refuses NoSuchUpload, also when it was begun for another object.
    """
    found = find(tx, upload)
    if found is None or (found.kind, found.bucket, found.key) != (UPLOAD, bucket, key):
        raise NoSuchUpload()
    _release_reserved(tx, upload)
    _delete(tx, upload)
    return found.manifest, found.staged_bytes


def end(tx: Transaction, found: Upload) -> None:
    """End an upload or hold without a commit."""
    _release_reserved(tx, found.upload)
    _delete(tx, found.upload)
    manifests.release(tx, found.manifest)


def rows_to_end(found: Upload) -> int:
    """Most rows that ending it writes: its own, its manifest's, two for each reference."""
    segments = found.staged_count if found.staged_count <= manifests.SEGMENTS_AT_ONCE else 0
    if found.kind == HOLD:  # it may be the last to refer to another's manifest
        segments = manifests.SEGMENTS_AT_ONCE
    return 4 + 2 * (found.reserved_count + segments)


def reserve(tx: Transaction, upload: bytes, stripe_row: int) -> None:
    """Note a reference the upload holds on a dedup hit."""
    tx.db.execute(
        "INSERT INTO upload_refs (upload, stripe_row, ref_count) VALUES (?, ?, 1)"
        " ON CONFLICT (upload, stripe_row) DO UPDATE SET ref_count = ref_count + 1",
        (upload, stripe_row),
    )


def consume(tx: Transaction, upload: bytes, stripe_row: int) -> None:
    """Turn one held reference into the caller's. Refuses NoSuchStripe if none is held."""
    found = tx.db.execute(
        "SELECT ref_count FROM upload_refs WHERE upload = ? AND stripe_row = ?",
        (upload, stripe_row),
    ).fetchone()
    if found is None:
        raise NoSuchStripe("The upload holds no reference on that stripe.")
    if found[0] == 1:
        tx.db.execute(
            "DELETE FROM upload_refs WHERE upload = ? AND stripe_row = ?", (upload, stripe_row)
        )
        return
    tx.db.execute(
        "UPDATE upload_refs SET ref_count = ref_count - 1 WHERE upload = ? AND stripe_row = ?",
        (upload, stripe_row),
    )


def _insert(tx: Transaction, row: Upload) -> None:
    tx.db.execute(
        "INSERT INTO uploads (upload, kind, bucket, key, manifest, staged_count, staged_bytes,"
        " reserved_count, ttl_ms, expires_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.upload,
            row.kind,
            row.bucket,
            row.key,
            row.manifest,
            row.staged_count,
            row.staged_bytes,
            row.reserved_count,
            row.ttl_ms,
            row.expires_at_ms,
        ),
    )
    tx.meta.add("total_uploads", 1)


def _release_reserved(tx: Transaction, upload: bytes) -> int:
    held = tx.db.execute(
        "SELECT stripe_row, ref_count FROM upload_refs WHERE upload = ? ORDER BY stripe_row",
        (upload,),
    ).fetchall()
    for stripe_row, ref_count in held:
        stripes.release(tx, stripe_row, ref_count)
    tx.db.execute("DELETE FROM upload_refs WHERE upload = ?", (upload,))
    return len(held)


def _delete(tx: Transaction, upload: bytes) -> None:
    tx.db.execute("DELETE FROM uploads WHERE upload = ?", (upload,))
    tx.meta.add("total_uploads", -1)
