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

from osscore.errors import CorruptCatalog, InvalidArgument, KeyChanged, RequestError, Unavailable
from raftmeta.catalog import (
    apply_audit,
    apply_buckets,
    apply_chunks,
    apply_cluster,
    apply_collect,
    apply_credentials,
    apply_generation,
    apply_healing,
    apply_lifecycle,
    apply_moves,
    apply_nodes,
    apply_objects,
    apply_past,
    apply_profiles,
    apply_prune,
    apply_reencode,
    apply_rejoin,
    apply_sessions,
    apply_uploads,
)
from raftmeta.catalog.meta import Meta
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import (
    AbortUpload,
    BeginUpload,
    Collect,
    ConfirmTime,
    CreateBucket,
    DeleteBucket,
    DeleteObject,
    DeleteVersion,
    FormCluster,
    HoldManifest,
    KeepChunk,
    LinkChunks,
    MarkBad,
    MarkGood,
    OpenSession,
    PruneVersions,
    PutObject,
    RegisterNode,
    SealUpload,
    SetDiskState,
    SetKeepVersions,
    SetQuota,
    Stage,
    TrashDone,
    Undelete,
)
from raftmeta.credentials import (
    ChangeAccessKey,
    IfKeyUnchanged,
    NoteAudit,
    PutAccessKey,
    RevokeAccessKey,
    RevokeTokens,
    RotateAccessKey,
    RotateSigningKey,
    SetSystemToken,
)
from raftmeta.entries import AnyCommand, AnyResult, Batch, Entry
from raftmeta.generations import AdoptGeneration, BeginGeneration, ConfirmCensus
from raftmeta.healing import DrainDisk, JudgeDisk, PauseWork
from raftmeta.lifecycle import ExpireObject, ExpireVersions, SetLifecycle
from raftmeta.members import SetMembers
from raftmeta.moving import CloseTasks, MoveSlot, OpenTasks
from raftmeta.reencoding import (
    CancelReencode,
    CloseReencodes,
    FinishReencode,
    OpenReencodes,
    Reencode,
    SetProfile,
)
from raftmeta.rejoining import BeginRejoin, CompareSlots, FinishRejoin
from raftmeta.timetravel import (
    RestoreObject,
)

BATCH_FORMAT = 1
TIME_JUMP_MS = 3_600_000
"""A longer leap of catalog time pauses expiry until ConfirmTime."""

_ENTRIES_MAX = 1 << 16
_TIME_MS_MAX = 1 << 46  # the year 4199: beyond it a clock is broken, and ids would overflow
_decode = msgspec.msgpack.Decoder(Batch).decode

SESSIONLESS = (
    OpenSession,
    FormCluster,
    BeginGeneration,
    SetMembers,
    Collect,
    ConfirmTime,
    PruneVersions,
    ExpireObject,
    ExpireVersions,
    OpenTasks,
    CloseTasks,
    JudgeDisk,
    OpenReencodes,
    CloseReencodes,
    FinishReencode,
)
"""Commands whose repetition is harmless: they may come without a session."""

HANDLERS: Mapping[type, Callable[[Transaction, Any], AnyResult]] = MappingProxyType(
    {
        OpenSession: apply_sessions.open_session,
        FormCluster: apply_cluster.form_cluster,
        SetMembers: apply_cluster.set_members,
        ConfirmTime: apply_cluster.confirm_time,
        BeginGeneration: apply_generation.begin_generation,
        ConfirmCensus: apply_generation.confirm_census,
        AdoptGeneration: apply_generation.adopt_generation,
        PutAccessKey: apply_credentials.put_access_key,
        ChangeAccessKey: apply_credentials.change_access_key,
        RotateAccessKey: apply_credentials.rotate_access_key,
        RevokeAccessKey: apply_credentials.revoke_access_key,
        SetSystemToken: apply_credentials.set_system_token,
        RotateSigningKey: apply_credentials.rotate_signing_key,
        RevokeTokens: apply_credentials.revoke_tokens,
        NoteAudit: apply_audit.note_audit,
        CreateBucket: apply_buckets.create_bucket,
        DeleteBucket: apply_buckets.delete_bucket,
        PutObject: apply_objects.put_object,
        DeleteObject: apply_objects.delete_object,
        DeleteVersion: apply_objects.delete_version,
        Undelete: apply_objects.undelete,
        RestoreObject: apply_past.restore_object,
        SetQuota: apply_buckets.set_quota,
        SetKeepVersions: apply_prune.set_keep_versions,
        PruneVersions: apply_prune.prune_versions,
        SetLifecycle: apply_lifecycle.set_lifecycle,
        ExpireObject: apply_lifecycle.expire_object,
        ExpireVersions: apply_lifecycle.expire_versions,
        BeginUpload: apply_uploads.begin_upload,
        Stage: apply_uploads.stage,
        SealUpload: apply_uploads.seal_upload,
        KeepChunk: apply_chunks.keep_chunk,
        LinkChunks: apply_chunks.link_chunks,
        AbortUpload: apply_uploads.abort_upload,
        HoldManifest: apply_uploads.hold_manifest,
        RegisterNode: apply_nodes.register_node,
        SetDiskState: apply_nodes.set_disk_state,
        JudgeDisk: apply_healing.judge_disk,
        DrainDisk: apply_healing.drain_disk,
        PauseWork: apply_healing.pause_work,
        BeginRejoin: apply_rejoin.begin_rejoin,
        CompareSlots: apply_rejoin.compare_slots,
        FinishRejoin: apply_rejoin.finish_rejoin,
        MarkBad: apply_nodes.mark_bad,
        MarkGood: apply_nodes.mark_good,
        OpenTasks: apply_moves.open_tasks,
        MoveSlot: apply_moves.move_slot,
        CloseTasks: apply_moves.close_tasks,
        SetProfile: apply_profiles.set_profile,
        CancelReencode: apply_profiles.cancel_reencode,
        FinishReencode: apply_profiles.finish_reencode,
        OpenReencodes: apply_reencode.open_reencodes,
        CloseReencodes: apply_reencode.close_reencodes,
        Reencode: apply_reencode.reencode,
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
        return apply_sessions.apply_once(tx, entry, lambda: _run_audited(tx, entry))
    if isinstance(entry.command, SESSIONLESS):
        return _run_audited(tx, entry)
    return apply_sessions.refused(InvalidArgument("This command needs a session."))


def _run_audited(tx: Transaction, entry: Entry) -> AnyResult:
    """Run the entry's command; its audit row stays even where the command is refused."""
    command = entry.command
    if isinstance(command, IfKeyUnchanged):
        if not apply_credentials.is_key_unchanged(tx, command):
            # Not even audited: whoever may not is refused before anything is tried.
            return apply_sessions.refused(KeyChanged())
        command = command.command
    result = _run(tx, command)
    if entry.audit is not None:
        apply_audit.record(tx, entry.audit, result)
    return result


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
