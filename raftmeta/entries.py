"""The log entry: one batch of commands, each under its request id (docs/formats/commands.md)."""

import msgspec

from raftmeta.commands import (
    AbortUpload,
    BeginUpload,
    Collect,
    Collected,
    ConfirmTime,
    CreateBucket,
    DeleteBucket,
    DeleteObject,
    DeleteVersion,
    Done,
    FormCluster,
    HoldManifest,
    KeepChunk,
    LinkChunks,
    MarkBad,
    MarkGood,
    NodeRegistered,
    ObjectDeleted,
    ObjectPut,
    OpenSession,
    PruneVersions,
    PutObject,
    Refused,
    RegisterNode,
    SealUpload,
    SessionOpened,
    SetDiskState,
    SetKeepVersions,
    SetQuota,
    Stage,
    Staged,
    TrashDone,
    Undelete,
    VersionsPruned,
)
from raftmeta.credentials import (
    AuditNote,
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
from raftmeta.generations import AdoptGeneration, BeginGeneration, ConfirmCensus
from raftmeta.healing import DrainDisk, JudgeDisk, PauseWork
from raftmeta.lifecycle import Expired, ExpireObject, ExpireVersions, SetLifecycle
from raftmeta.members import SetMembers
from raftmeta.moving import CloseTasks, MoveSlot, OpenTasks, SlotMoved, TasksOpened
from raftmeta.reencoding import (
    CancelReencode,
    CloseReencodes,
    FinishReencode,
    OpenReencodes,
    ProfileSet,
    Reencode,
    Reencoded,
    ReencodesOpened,
    SetProfile,
)
from raftmeta.rejoining import BeginRejoin, CompareSlots, FinishRejoin
from raftmeta.timetravel import (
    ObjectRestored,
    RestoreObject,
)

BATCH = b"\x00"
"""First byte of a log entry that holds a batch; those without one (`membership.MEMBERS` has one,
too) change nothing."""

AnyCommand = (
    OpenSession
    | FormCluster
    | SetMembers
    | CreateBucket
    | DeleteBucket
    | PutObject
    | DeleteObject
    | DeleteVersion
    | Undelete
    | RestoreObject
    | SetKeepVersions
    | SetQuota
    | PruneVersions
    | SetLifecycle
    | ExpireObject
    | ExpireVersions
    | BeginUpload
    | Stage
    | SealUpload
    | KeepChunk
    | LinkChunks
    | AbortUpload
    | HoldManifest
    | RegisterNode
    | SetDiskState
    | JudgeDisk
    | DrainDisk
    | PauseWork
    | MarkBad
    | MarkGood
    | OpenTasks
    | MoveSlot
    | CloseTasks
    | Collect
    | TrashDone
    | ConfirmTime
    | BeginGeneration
    | ConfirmCensus
    | AdoptGeneration
    | PutAccessKey
    | ChangeAccessKey
    | RotateAccessKey
    | RevokeAccessKey
    | SetSystemToken
    | RotateSigningKey
    | RevokeTokens
    | NoteAudit
    | IfKeyUnchanged
    | SetProfile
    | CancelReencode
    | FinishReencode
    | OpenReencodes
    | CloseReencodes
    | Reencode
    | BeginRejoin
    | CompareSlots
    | FinishRejoin
)

AnyResult = (
    Done
    | Refused
    | SessionOpened
    | ObjectPut
    | ObjectDeleted
    | ObjectRestored
    | Staged
    | NodeRegistered
    | Collected
    | VersionsPruned
    | Expired
    | TasksOpened
    | SlotMoved
    | ProfileSet
    | ReencodesOpened
    | Reencoded
)


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One command under its request id (session, seq). Session 0: not remembered, and only
    for commands whose repetition is harmless (OpenSession, FormCluster, BeginGeneration,
    Collect, ConfirmTime, PruneVersions, ExpireObject, ExpireVersions, OpenTasks, CloseTasks,
    JudgeDisk, OpenReencodes, CloseReencodes, FinishReencode)."""

    session: int
    seq: int
    command: AnyCommand
    acked_below: int = 0
    """Results of this session with a lower seq were received and may be dropped."""
    audit: AuditNote | None = None
    """Recorded together with what the command did, or with its refusal; once, as the command
    is applied once."""


class Batch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One Raft entry: commands of many requests, in order, and the proposer's clock."""

    format: int = 1
    time_ms: int
    entries: tuple[Entry, ...]
