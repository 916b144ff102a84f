"""Upload rows: what a long body, or a long read, keeps alive (SAFETY rule 4).

An upload owns a manifest from its beginning and Stage appends to that, so a commit hands
over one number however long the body is. A hold is a row that shares another's manifest. A
chunk is an upload that belongs to another and waits to be linked into it.
"""

from dataclasses import astuple, dataclass

import msgspec

from osscore.errors import InvalidArgument, NoSuchStripe, NoSuchUpload
from raftmeta.catalog import manifests, stripes
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import UploadPlan

UPLOAD = "upload"
HOLD = "hold"
_ID_BYTES = 16
_TTL_MS_MAX = 400 * 86_400_000


CHUNK = "chunk"
_NEVER_MS = 1 << 60
"""When a chunk expires by itself: it lives and ends with the upload it belongs to."""
_COLUMNS = (
    "upload, kind, bucket, key, manifest, staged_count, staged_bytes, reserved_count, ttl_ms,"
    " expires_at_ms, plan, created_at_ms, sealed, family, number, waits"
)
_PLACES = ", ".join("?" * (_COLUMNS.count(",") + 1))


@dataclass(frozen=True, slots=True)
class Upload:
    """A row of uploads. `bucket` is None for a hold; `family` the manifest of the upload that
    a chunk belongs to: unlike the id of an upload, a manifest's number is never used again.
    `waits` 1: it outlives its request, and its bucket may say for how long."""

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
    plan: str = "{}"
    created_at_ms: int = 0
    sealed: int = 0
    family: int | None = None
    number: int | None = None
    waits: int = 0


def find(tx: Transaction, upload: bytes) -> Upload | None:
    """The row, expired or not: only Collect ends it."""
    row = tx.db.execute(f"SELECT {_COLUMNS} FROM uploads WHERE upload = ?", (upload,)).fetchone()
    return Upload(*row) if row else None


def require(tx: Transaction, upload: bytes) -> Upload:
    """The row of an upload that is neither a hold nor a chunk. Refuses NoSuchUpload."""
    found = find(tx, upload)
    if found is None or found.kind != UPLOAD:
        raise NoSuchUpload()
    return found


def begin(
    tx: Transaction,
    upload: bytes,
    ttl_ms: int,
    target: tuple[int, str],
    plan: UploadPlan,
    *,
    waits: bool,
) -> None:
    """Write the row of an upload for (bucket, key), with an empty manifest."""
    row = Upload(
        upload,
        UPLOAD,
        *target,
        manifests.create(tx),
        0,
        0,
        0,
        ttl_ms,
        tx.time_ms + ttl_ms,
        plan=encode_plan(plan),
        created_at_ms=tx.time_ms,
        waits=int(waits),
    )
    _insert(tx, row)


def hold(tx: Transaction, upload: bytes, ttl_ms: int, manifest: int) -> None:
    """Write the row of a hold; it takes over one manifest reference."""
    _insert(tx, Upload(upload, HOLD, None, "", manifest, 0, 0, 0, ttl_ms, tx.time_ms + ttl_ms))


def renew(tx: Transaction, upload: bytes, ttl_ms: int) -> None:
    """Put the expiry `ttl_ms` ahead of now."""
    tx.db.execute(
        "UPDATE uploads SET ttl_ms = ?, expires_at_ms = ? WHERE upload = ?",
        (ttl_ms, tx.time_ms + ttl_ms, upload),
    )


def seal(tx: Transaction, found: Upload, plan: UploadPlan, ttl_ms: int) -> None:
    """Let nothing more be staged."""
    tx.db.execute(
        "UPDATE uploads SET sealed = 1, plan = ? WHERE upload = ?",
        (encode_plan(plan), found.upload),
    )
    renew(tx, found.upload, ttl_ms)


def adopt(tx: Transaction, chunk: Upload, *, parent: Upload, number: int, plan: UploadPlan) -> None:
    """Make an upload a chunk of another. It asks for nothing more: what dedup hits it holds
    unused is given back, so that the end of many chunks is a bounded command."""
    _release_reserved(tx, chunk.upload)
    tx.db.execute(
        "UPDATE uploads SET kind = ?, sealed = 1, plan = ?, expires_at_ms = ?, family = ?,"
        " number = ?, reserved_count = 0 WHERE upload = ?",
        (CHUNK, encode_plan(plan), _NEVER_MS, parent.manifest, number, chunk.upload),
    )


def encode_plan(plan: UploadPlan) -> str:
    """The column form."""
    return msgspec.json.encode(plan).decode()


def decode_plan(text: str) -> UploadPlan:
    """Inverse of encode_plan."""
    return msgspec.json.decode(text, type=UploadPlan)


def check_form(upload: bytes, ttl_ms: int) -> None:
    """Refuses InvalidArgument unless the id has 16 bytes and the life is sensible."""
    if len(upload) != _ID_BYTES or not 0 < ttl_ms <= _TTL_MS_MAX:
        raise InvalidArgument("An upload has an id of 16 bytes and lives up to 400 days.")


def hand_over(tx: Transaction, upload: bytes, bucket: int, key: str) -> tuple[int, int]:
    """End an upload by its commit; answers its manifest, handed over, and its size.

    Refuses NoSuchUpload, also when it was begun for another object.
    """
    found = require(tx, upload)
    if (found.bucket, found.key) != (bucket, key):
        raise NoSuchUpload()
    _release_reserved(tx, upload)
    _delete(tx, found)
    return found.manifest, found.staged_bytes


def end(tx: Transaction, found: Upload) -> None:
    """End an upload, chunk or hold without a commit."""
    _release_reserved(tx, found.upload)
    _delete(tx, found)
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
        f"INSERT INTO uploads ({_COLUMNS}) VALUES ({_PLACES})",
        astuple(row),
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


def _delete(tx: Transaction, found: Upload) -> None:
    tx.db.execute("DELETE FROM uploads WHERE upload = ?", (found.upload,))
    tx.meta.add("total_uploads", -1)
    if found.kind == UPLOAD and has_chunks(tx, found):
        tx.db.execute("INSERT INTO ended_families (family) VALUES (?)", (found.manifest,))


def has_chunks(tx: Transaction, parent: Upload) -> bool:
    """Whether any chunk belongs to this upload."""
    found = tx.db.execute(
        "SELECT EXISTS (SELECT 1 FROM uploads WHERE family = ?)", (parent.manifest,)
    ).fetchone()
    return bool(found[0])
