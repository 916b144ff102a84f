"""Long bodies, window by window, and holds of long reads (SAFETY rule 4)."""

from osscore.errors import CommandTooLarge, Conflict, NoSuchUpload, UploadOutOfOrder
from osscore.model import StripeDraft
from osscore.names import ObjectKey
from raftmeta.catalog import manifests, stripes, uploads, versions
from raftmeta.catalog.transaction import Transaction
from raftmeta.catalog.uploads import HOLD, UPLOAD, Upload
from raftmeta.commands import AbortUpload, BeginUpload, Done, HoldManifest, Stage, Staged

ROWS_MAX = 2000
"""Most rows one command may write (SAFETY rule 18)."""
RESERVED_MAX = 512
"""Most dedup hits an upload may hold unused, so that its end stays one bounded command."""

_ROWS_PER_QUESTION = 3
_ROWS_PER_HIT = 3


def begin_upload(tx: Transaction, command: BeginUpload) -> Done:
    """Open an upload. Refuses NoSuchBucket, InvalidArgument, Conflict (id of another)."""
    uploads.check_form(command.upload, command.ttl_ms)
    ObjectKey.parse(command.key)
    bucket = versions.find_bucket(tx.db, command.bucket)
    found = uploads.find(tx, command.upload)
    if found is None:
        target = (bucket, command.key)
        uploads.begin(tx, command.upload, command.ttl_ms, manifests.create(tx), target)
    elif (found.kind, found.bucket, found.key) != (UPLOAD, bucket, command.key):
        raise Conflict("An upload of this id exists for something else.")
    return Done()


def stage(tx: Transaction, command: Stage) -> Staged:
    """Append stripes and answer dedup questions (see Stage for what is refused)."""
    upload = uploads.find(tx, command.upload)
    if upload is None or upload.kind != UPLOAD:
        raise NoSuchUpload()
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


def abort_upload(tx: Transaction, command: AbortUpload) -> Done:
    """End an upload or hold and give its references back."""
    found = uploads.find(tx, command.upload)
    if found is not None:
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
