"""Applying one log entry: catalog time, exactly once, one savepoint a command.

Deterministic and total: a refusal is a returned value that changed nothing; whatever else
is raised here means this replica must stop (SAFETY rules 17 to 19).
"""

import sqlite3
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from osscore.errors import CorruptCatalog, InvalidArgument, RequestError, Unavailable
from raftmeta.catalog import (
    apply_buckets,
    apply_cluster,
    apply_collect,
    apply_nodes,
    apply_objects,
    apply_sessions,
    apply_uploads,
)
from raftmeta.catalog.meta import Meta
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import (
    AbortUpload,
    AnyCommand,
    AnyResult,
    Batch,
    BeginUpload,
    Collect,
    ConfirmTime,
    CreateBucket,
    DeleteBucket,
    DeleteObject,
    DeleteVersion,
    Entry,
    FormCluster,
    HoldManifest,
    MarkBad,
    MarkGood,
    OpenSession,
    PutAccessKey,
    PutObject,
    RegisterNode,
    RevokeAccessKey,
    SetDiskState,
    Stage,
    TrashDone,
    Undelete,
)

BATCH_FORMAT = 1
TIME_JUMP_MS = 3_600_000
"""A longer leap of catalog time pauses expiry until ConfirmTime."""

_ENTRIES_MAX = 1 << 16
_TIME_MS_MAX = 1 << 46  # the year 4199: beyond it a clock is broken, and ids would overflow
_decode = msgspec.msgpack.Decoder(Batch).decode

HANDLERS: Mapping[type, Callable[[Transaction, Any], AnyResult]] = MappingProxyType(
    {
        OpenSession: apply_sessions.open_session,
        FormCluster: apply_cluster.form_cluster,
        ConfirmTime: apply_cluster.confirm_time,
        PutAccessKey: apply_cluster.put_access_key,
        RevokeAccessKey: apply_cluster.revoke_access_key,
        CreateBucket: apply_buckets.create_bucket,
        DeleteBucket: apply_buckets.delete_bucket,
        PutObject: apply_objects.put_object,
        DeleteObject: apply_objects.delete_object,
        DeleteVersion: apply_objects.delete_version,
        Undelete: apply_objects.undelete,
        BeginUpload: apply_uploads.begin_upload,
        Stage: apply_uploads.stage,
        AbortUpload: apply_uploads.abort_upload,
        HoldManifest: apply_uploads.hold_manifest,
        RegisterNode: apply_nodes.register_node,
        SetDiskState: apply_nodes.set_disk_state,
        MarkBad: apply_nodes.mark_bad,
        MarkGood: apply_nodes.mark_good,
        Collect: apply_collect.collect,
        TrashDone: apply_collect.trash_done,
    }
)


def decode_batch(blob: bytes) -> Batch:
    """Read a log entry. Raises CorruptCatalog: a replica that cannot read it must stop."""
    try:
        batch = _decode(blob)
    except msgspec.MsgspecError as error:
        raise CorruptCatalog(f"A log entry cannot be decoded: {error}") from error
    if batch.format != BATCH_FORMAT or len(batch.entries) >= _ENTRIES_MAX:
        raise CorruptCatalog(f"A log entry has format {batch.format} or too many commands.")
    return batch


def apply_batch(db: sqlite3.Connection, meta: Meta, index: int, batch: Batch) -> list[AnyResult]:
    """Apply all commands of entry `index` inside the open SQLite transaction."""
    tx = Transaction(db=db, meta=meta, index=index, time_ms=_advance_time(meta, batch.time_ms))
    results = []
    for position, entry in enumerate(batch.entries):
        tx.position = position
        results.append(_apply_entry(tx, entry))
    meta.set("applied_index", index)
    meta.save(db)
    return results


def _advance_time(meta: Meta, proposed_ms: int) -> int:
    """Catalog time: the batch's, but always later than before (SAFETY rule 17)."""
    before_ms = meta.number("catalog_time_ms")
    sane_ms = proposed_ms if proposed_ms < _TIME_MS_MAX else 0
    now_ms = max(before_ms + 1, sane_ms)
    if before_ms and now_ms - before_ms > TIME_JUMP_MS:
        meta.set("time_jumped", 1)
    meta.set("catalog_time_ms", now_ms)
    return now_ms


def _apply_entry(tx: Transaction, entry: Entry) -> AnyResult:
    if entry.session:
        return apply_sessions.apply_once(tx, entry, lambda: _run(tx, entry.command))
    if isinstance(entry.command, OpenSession | FormCluster | Collect | ConfirmTime):
        return _run(tx, entry.command)
    return apply_sessions.refused(InvalidArgument("This command needs a session."))


def _run(tx: Transaction, command: AnyCommand) -> AnyResult:
    """Run one handler; a refusal undoes whatever it wrote."""
    marked = tx.meta.mark()
    tx.db.execute("SAVEPOINT command")
    try:
        result = HANDLERS[type(command)](tx, command)
    except (RequestError, Unavailable) as error:
        result = apply_sessions.refused(error)
    except (OverflowError, struct.error):
        # A number of the command fits no column. Every replica meets the same number, so
        # this is a refusal; letting it stop them all would wedge the cluster for good.
        result = apply_sessions.refused(InvalidArgument("A number is out of range."))
    else:
        tx.db.execute("RELEASE command")
        return result
    tx.db.execute("ROLLBACK TO command")
    tx.db.execute("RELEASE command")
    tx.meta.restore(marked)
    tx.forget_disks()
    return result
