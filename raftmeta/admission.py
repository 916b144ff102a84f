"""What the leader lets into the log: nothing that is too much work for one entry, and when
room is short nothing that grows (SAFETY rules 14 and 18). Judged here, before proposing:
apply itself never decides on local space.
"""

from osscore.errors import CommandTooLarge, InvalidArgument, MetadataLowSpace, StoreError
from osscore.model import INLINE_BYTES_MAX, StripeDraft
from ossd.disk import Space
from raftmeta.catalog.apply_collect import STEP_ROWS_MAX
from raftmeta.catalog.apply_credentials import SIGNING_KEYS_MAX
from raftmeta.catalog.apply_lifecycle import RETIMED_AT_ONCE
from raftmeta.catalog.apply_lifecycle import ROWS_MAX as EXPIRE_ROWS_MAX
from raftmeta.catalog.apply_objects import MARKERS_AT_ONCE
from raftmeta.catalog.apply_prune import ROWS_MAX as PRUNE_ROWS_MAX
from raftmeta.catalog.apply_uploads import RESERVED_MAX
from raftmeta.catalog.manifests import SEGMENTS_AT_ONCE
from raftmeta.catalog.removed import ROWS_PER_REMOVAL
from raftmeta.commands import (
    AbortUpload,
    Collect,
    ConfirmTime,
    DeleteBucket,
    DeleteVersion,
    FormCluster,
    HoldManifest,
    InlineBody,
    KeepChunk,
    LinkChunks,
    MarkBad,
    MarkGood,
    OpenSession,
    PruneVersions,
    PutObject,
    Refused,
    RegisterNode,
    SetDiskState,
    SetKeepVersions,
    SetQuota,
    Stage,
    StripesBody,
    TrashDone,
    Undelete,
    UploadBody,
)
from raftmeta.credentials import (
    ChangeAccessKey,
    IfKeyUnchanged,
    NoteAudit,
    RevokeAccessKey,
    RevokeTokens,
    RotateAccessKey,
    RotateSigningKey,
    SetSystemToken,
)
from raftmeta.entries import AnyCommand, AnyResult
from raftmeta.generations import AdoptGeneration, BeginGeneration, ConfirmCensus
from raftmeta.healing import DrainDisk, JudgeDisk, PauseWork
from raftmeta.lifecycle import ExpireVersions, SetLifecycle
from raftmeta.members import SetMembers
from raftmeta.moving import CloseTasks, MoveSlot, OpenTasks
from raftmeta.reencoding import (
    CancelReencode,
    CloseReencodes,
    FinishReencode,
    OpenReencodes,
    Reencode,
)
from raftmeta.rejoining import BeginRejoin, CompareSlots, FinishRejoin

ROWS_MAX = 2000
STRIPES_MAX = 2
"""Most stripes a body brings along in its own command; longer ones are staged."""
_ROWS_PER_SLOT = 2  # the reverse table by disk, and trash if the stripe loses
_ROWS_PER_STRIPE = 4
_ROWS_PER_CHUNK = 4  # its segments are counted when it is linked, before anything is written
_ROWS_PER_TASK = 3
_ROWS_PER_SWAP = 24 * 6
"""A former slot: its trash, its disk's list, its open task and what that wrote; a new slot: its
disk's list."""
_ROWS_PER_MARKER = 2  # itself, and what becomes the latest
_ROWS_BASE = 16

ADMITTED_WHEN_LOW = (
    # What shrinks.
    DeleteVersion,
    PruneVersions,
    ExpireVersions,
    DeleteBucket,
    AbortUpload,
    RevokeAccessKey,
    Collect,
    TrashDone,
    # What shuts somebody out must not wait for room.
    ChangeAccessKey,
    RotateAccessKey,
    SetSystemToken,
    RotateSigningKey,
    RevokeTokens,
    NoteAudit,
    # What these need, or reading does; all of it bounded by nodes, slots and open reads.
    FormCluster,
    OpenSession,
    ConfirmTime,
    BeginGeneration,
    ConfirmCensus,
    AdoptGeneration,
    RegisterNode,
    BeginRejoin,
    CompareSlots,
    FinishRejoin,
    SetDiskState,
    JudgeDisk,
    DrainDisk,
    PauseWork,
    SetKeepVersions,
    SetLifecycle,
    SetQuota,
    MarkBad,
    MarkGood,
    OpenTasks,
    MoveSlot,
    CloseTasks,
    HoldManifest,
    # A row stays a row. No job begins then, but those that run go on or end.
    CancelReencode,
    FinishReencode,
    OpenReencodes,
    CloseReencodes,
    Reencode,
)


def rows_of(command: AnyCommand) -> int:
    """Upper bound on the rows that applying this writes."""
    if isinstance(command, IfKeyUnchanged):
        return rows_of(command.command)
    if isinstance(command, PutObject) and isinstance(command.body, StripesBody):
        return _ROWS_BASE + _rows_of_stripes(command.body.stripes) + _rows_of_releases(command)
    if isinstance(command, LinkChunks):
        return _ROWS_BASE + _ROWS_PER_CHUNK * len(command.chunks)
    if isinstance(command, Stage):
        drafts = tuple(each for each in command.append if isinstance(each, StripeDraft))
        hits = len(command.append) - len(drafts) + len(command.ask)
        return _ROWS_BASE + _rows_of_stripes(drafts) + _ROWS_PER_STRIPE * hits
    if isinstance(command, OpenTasks | CloseTasks | OpenReencodes | CloseReencodes):
        return _ROWS_BASE + _ROWS_PER_TASK * len(command.tasks)
    if isinstance(command, Reencode):
        return _ROWS_BASE + _ROWS_PER_SWAP
    if isinstance(command, RegisterNode):
        return _ROWS_BASE + 2 * len(command.disks)
    if isinstance(command, CompareSlots):
        return _ROWS_BASE + 2 * len(command.absent)
    if isinstance(command, TrashDone):
        return _ROWS_BASE + len(command.rows)
    if isinstance(command, RevokeTokens):
        return _ROWS_BASE + len(command.jtis)
    if isinstance(command, RotateSigningKey):
        return _ROWS_BASE + 2 * SIGNING_KEYS_MAX
    return _ROWS_BASE + _rows_of_releases(command)


def _rows_of_releases(command: AnyCommand) -> int:
    """Rows of giving references back: each is a row of its own and the count of a stripe."""
    if isinstance(command, DeleteVersion):
        return 2 * SEGMENTS_AT_ONCE
    if isinstance(command, PruneVersions):
        return min(command.rows_max, PRUNE_ROWS_MAX) + 2 * SEGMENTS_AT_ONCE
    if isinstance(command, ExpireVersions):
        return min(command.rows_max, EXPIRE_ROWS_MAX) + 2 * SEGMENTS_AT_ONCE
    if isinstance(command, SetLifecycle):
        return RETIMED_AT_ONCE
    if isinstance(command, AbortUpload | KeepChunk):
        return 2 * (SEGMENTS_AT_ONCE + RESERVED_MAX)
    if isinstance(command, PutObject) and command.finishes:
        return 2 * (SEGMENTS_AT_ONCE + RESERVED_MAX)
    if isinstance(command, PutObject) and isinstance(command.body, UploadBody):
        return 2 * RESERVED_MAX
    if isinstance(command, Undelete):
        markers = min(command.markers_max or MARKERS_AT_ONCE, MARKERS_AT_ONCE)
        return (_ROWS_PER_MARKER + ROWS_PER_REMOVAL) * max(1, markers)
    if isinstance(command, Collect):
        return STEP_ROWS_MAX
    return 0


def _rows_of_stripes(drafts: tuple[StripeDraft, ...]) -> int:
    return sum(_ROWS_PER_STRIPE + _ROWS_PER_SLOT * len(draft.slots) for draft in drafts)


def refusal(command: AnyCommand, *, admits_writes: bool) -> StoreError | None:
    """Why this command may not enter the log now; None: it may."""
    if isinstance(command, IfKeyUnchanged):
        return refusal(command.command, admits_writes=admits_writes)
    if isinstance(command, SetMembers):
        return InvalidArgument("Members are changed by a change of one, not by this command.")
    if rows_of(command) > ROWS_MAX:
        return CommandTooLarge(f"{type(command).__name__} would write {rows_of(command)} rows.")
    if isinstance(command, PutObject):
        if isinstance(command.body, InlineBody) and len(command.body.data) > INLINE_BYTES_MAX:
            return CommandTooLarge(f"An inline body has at most {INLINE_BYTES_MAX} bytes.")
        if isinstance(command.body, StripesBody) and len(command.body.stripes) > STRIPES_MAX:
            return CommandTooLarge(f"A body of over {STRIPES_MAX} stripes must be staged.")
    if not admits_writes and not isinstance(command, ADMITTED_WHEN_LOW):
        return MetadataLowSpace()
    return None


def refused(error: StoreError) -> AnyResult:
    """An error as the result of the one command it concerns."""
    return Refused(refusal=error.code, message=error.message)


def has_room(space: Space, *, low_bytes: int, low_percent: float) -> bool:
    """Whether a file system has enough free for the catalog and the log to grow."""
    return space.free_bytes >= min(low_bytes, space.total_bytes * low_percent / 100)
