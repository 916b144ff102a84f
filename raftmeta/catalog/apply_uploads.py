"""Long bodies, window by window, and holds of long reads (SAFETY rule 4)."""

import msgspec

from osscore.errors import CommandTooLarge, Conflict, ContentMismatch, UploadOutOfOrder
from osscore.model import StripeDraft
from osscore.names import ObjectKey
from raftmeta.catalog import finished, manifests, stripes, uploads, usage, versions
from raftmeta.catalog.lifecycle import settings_of
from raftmeta.catalog.transaction import Transaction
from raftmeta.catalog.uploads import CHUNK, HOLD, UPLOAD, Upload
from raftmeta.commands import (
    AbortUpload,
    BeginUpload,
    Done,
    HoldManifest,
    SealUpload,
    Stage,
    Staged,
)

ROWS_MAX = 2000
"""Most rows one command may write (SAFETY rule 18)."""
RESERVED_MAX = 512
"""Most dedup hits an upload may hold unused, so that its end stays one bounded command."""

_ROWS_PER_QUESTION = 3
_ROWS_PER_HIT = 3


def begin_upload(tx: Transaction, command: BeginUpload) -> Done:
    """Open an upload (see BeginUpload for what is refused)."""
    uploads.check_form(command.upload, command.ttl_ms)
    ObjectKey.parse(command.key)
    bucket = versions.find_bucket(tx.db, command.bucket)
    if _is_over(tx, command):
        return Done()
    found = uploads.find(tx, command.upload)
    if found is None:
        usage.check(tx, bucket, command.plan.size_bytes or 0)
        asked_ms = settings_of(tx.db, bucket).abort_uploads_after_ms if command.waits else 0
        uploads.begin(
            tx,
            command.upload,
            asked_ms or command.ttl_ms,
            (bucket, command.key),
            command.plan,
            waits=command.waits,
        )
    elif (found.kind, found.bucket, found.key) != (UPLOAD, bucket, command.key):
        raise Conflict("An upload of this id exists for something else.")
    return Done()


def _is_over(tx: Transaction, command: BeginUpload) -> bool:
    """Whether an upload of this id was finished, and that is to be remembered."""
    if not command.restarts and finished.find(tx, command.upload) is not None:
        return True
    finished.forget(tx, command.upload)
    return False


def stage(tx: Transaction, command: Stage) -> Staged:
    """Append stripes and answer dedup questions (see Stage for what is refused)."""
    upload = uploads.require(tx, command.upload)
    if command.append and upload.sealed:
        raise UploadOutOfOrder("The upload is whole; nothing can be added to it.")
    if command.append and command.position != upload.staged_count:
        raise UploadOutOfOrder(
            f"The upload stands at stripe {upload.staged_count}, not {command.position}."
        )
    _check_cost(command)
    pieces = [_take_piece(tx, upload, item) for item in command.append]
    staged_bytes = manifests.append(tx, upload.manifest, start=upload.staged_bytes, pieces=pieces)
    hits = tuple(_answer(tx, upload, command, number) for number in range(len(command.ask)))
    consumed = sum(isinstance(item, int) for item in command.append)
    reserved = upload.reserved_count - consumed + sum(hit != 0 for hit in hits)
    if reserved > RESERVED_MAX:
        raise CommandTooLarge(f"An upload holds at most {RESERVED_MAX} unused dedup hits.")
    tx.db.execute(
        "UPDATE uploads SET staged_count = ?, staged_bytes = ?, reserved_count = ?,"
        " expires_at_ms = ? WHERE upload = ?",
        (
            upload.staged_count + len(pieces),
            staged_bytes,
            reserved,
            tx.time_ms + upload.ttl_ms,
            upload.upload,
        ),
    )
    return Staged(hits=hits, staged_bytes=staged_bytes)


def seal_upload(tx: Transaction, command: SealUpload) -> Done:
    """Close a whole upload. Refuses NoSuchUpload, ContentMismatch, Conflict."""
    uploads.check_form(command.upload, command.ttl_ms)
    found = uploads.require(tx, command.upload)
    plan = uploads.decode_plan(found.plan)
    check_size(found, command.size_bytes)
    if found.sealed and plan.sha256 != command.sha256:
        raise Conflict("The upload was closed with another SHA-256.")
    whole = msgspec.structs.replace(plan, size_bytes=command.size_bytes, sha256=command.sha256)
    uploads.seal(tx, found, whole, command.ttl_ms)
    return Done()


def check_size(found: Upload, size_bytes: int) -> None:
    """Refuses ContentMismatch unless so much is staged."""
    if found.staged_bytes != size_bytes:
        raise ContentMismatch(f"The upload holds {found.staged_bytes} bytes, not {size_bytes}.")


def abort_upload(tx: Transaction, command: AbortUpload) -> Done:
    """End an upload or hold and give its references back.

    Not a chunk: who gives it up did not learn that it was kept, and others count on it.
    """
    found = uploads.find(tx, command.upload)
    if found is not None and found.kind != CHUNK:
        uploads.end(tx, found)
    return Done()


def hold_manifest(tx: Transaction, command: HoldManifest) -> Done:
    """Keep a manifest alive, or renew. Refuses NoSuchVersion, Conflict (id of another)."""
    uploads.check_form(command.upload, command.ttl_ms)
    found = uploads.find(tx, command.upload)
    if found is None:
        manifests.share(tx, command.manifest)
        uploads.hold(tx, command.upload, command.ttl_ms, command.manifest)
    elif (found.kind, found.manifest) != (HOLD, command.manifest):
        raise Conflict("An upload of this id exists for something else.")
    else:
        uploads.renew(tx, command.upload, command.ttl_ms)
    return Done()


def _check_cost(command: Stage) -> None:
    cost = len(command.ask) * _ROWS_PER_QUESTION + sum(
        stripes.row_cost(item) if isinstance(item, StripeDraft) else _ROWS_PER_HIT
        for item in command.append
    )
    if cost > ROWS_MAX:
        raise CommandTooLarge(f"This Stage would write {cost} rows; at most {ROWS_MAX} may be.")


def _take_piece(tx: Transaction, upload: Upload, item: StripeDraft | int) -> tuple[int, int]:
    """(stripe row, plain bytes) of one appended stripe, with a reference for the segment."""
    if isinstance(item, StripeDraft):
        return stripes.name_stripe(tx, item), item.plain_bytes
    uploads.consume(tx, upload.upload, item)
    return item, stripes.require_healthy(tx, item)


def _answer(tx: Transaction, upload: Upload, command: Stage, number: int) -> int:
    row = stripes.reserve_twin(tx, command.ask[number])
    if row:
        uploads.reserve(tx, upload.upload, row)
    return row
