"""The language of questions: every way to ask the catalog, and what it answers.

Queries are linearizable: the leader confirms its term with a majority (ReadIndex) before
it reads. Many queries travel in one request and share one confirmation.
"""

import msgspec

from osscore.model import Profile, Segment, ShardIdentity, Stripe, VersionInfo
from raftmeta.archived import ArchiveState
from raftmeta.commands import ObjectPut, UploadPlan
from raftmeta.generations import DeletionState
from raftmeta.healing import HealingState
from raftmeta.lifecycle import ExpiredTotals, Lifecycle, LifecycleState
from raftmeta.upkeep import DiskCensus, DiskScrub


class Query(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Base of all queries."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Base of all answers."""


class FindObject(Query, frozen=True, kw_only=True):
    """A version and where its bytes lie. Answers Found.

    `number` 0 and `version_id` empty: the current one, or with `at_ms` the one that was current
    then (NoSuchVersion where it was removed since, or nobody can tell). Segments cover at least
    bytes [first, ...] in order, at most `segments_max` of them. Refused: NoSuchBucket,
    NoSuchKey (none, or the current one is a marker), NoSuchVersion. A marker asked for by
    number is found, without bytes.
    """

    bucket: str
    key: str
    number: int = 0
    version_id: str = ""
    at_ms: int = 0
    first: int = 0
    last: int = -1
    """Last wanted byte, inclusive; -1: to the end. first beyond the end: no segments."""
    segments_max: int = 64
    head_only: bool = False
    """True: neither inline bytes nor segments."""


class Found(Answer, frozen=True, kw_only=True):
    """`inline` is the whole body of an inline object, else None and `segments` count."""

    version: VersionInfo
    inline: bytes | None = None
    segments: tuple[Segment, ...] = ()


class ReadSegments(Query, frozen=True, kw_only=True):
    """The segments of a manifest from byte `first` on. Answers SegmentsRead. Used for the
    rest of a large object, and again when a shard turns out to have moved (SAFETY rule 3).
    Refused NoSuchVersion when the manifest is gone."""

    manifest: int
    first: int
    last: int = -1
    segments_max: int = 64


class SegmentsRead(Answer, frozen=True, kw_only=True):
    """Segments in object order."""

    segments: tuple[Segment, ...]


class FindUpload(Query, frozen=True, kw_only=True):
    """An upload under way, or the version that one became. Answers UploadFound. Refused
    NoSuchUpload: never begun, ended, or expired by catalog time."""

    upload: bytes


class UploadFound(Answer, frozen=True, kw_only=True):
    """`staged_count` stripes of `staged_bytes` in all are held by `manifest`.

    `sealed`: whole and verified. `finished`: the version it became; its bytes are that
    version's then and `manifest` is 0.
    """

    upload: bytes
    bucket: str
    key: str
    plan: UploadPlan
    created_at_ms: int
    expires_at_ms: int
    staged_count: int
    staged_bytes: int
    manifest: int
    sealed: bool
    finished: ObjectPut | None = None


class ListChunks(Query, frozen=True, kw_only=True):
    """The chunks an upload holds, by number, from `after` on (exclusive). Answers
    ChunksListed. Refused NoSuchUpload."""

    upload: bytes
    after: int = -1
    limit: int = 10_001


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """One chunk: an upload of its own, whole, of `segment_count` stripes. `is_declared`: who sent
    it said its SHA-256, and it was compared."""

    number: int
    upload: bytes
    size_bytes: int
    sha256: bytes
    manifest: int
    segment_count: int
    is_declared: bool = False


class ChunksListed(Answer, frozen=True, kw_only=True):
    """Chunks by number."""

    chunks: tuple[Chunk, ...]


class ListObjects(Query, frozen=True, kw_only=True):
    """One page of current objects by key order. Answers ObjectsListed. Refused NoSuchBucket.

    `after`: exclusive; a key, or a common prefix returned before (all keys under it are
    skipped). At most `limit` (<= 10,000) keys and prefixes together.
    """

    bucket: str
    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    limit: int = 1000


class ObjectsListed(Answer, frozen=True, kw_only=True):
    """`next` is None at the end, else the `after` of the next page."""

    objects: tuple[VersionInfo, ...]
    prefixes: tuple[str, ...]
    next: str | None = None


class ListVersions(Query, frozen=True, kw_only=True):
    """All versions and markers, newest first within a key, keys in order. Answers
    VersionsListed. `key` not empty: of that key alone. Refused NoSuchBucket."""

    bucket: str
    prefix: str = ""
    key: str = ""
    after_key: str = ""
    after_number: int = 0
    """With after_key: resume below this number of that key; 0: at the next key."""
    limit: int = 1000


class VersionsListed(Answer, frozen=True, kw_only=True):
    """`next` is None at the end, else (after_key, after_number)."""

    versions: tuple[VersionInfo, ...]
    next: tuple[str, int] | None = None


class BucketInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket. `profile` None: the cluster's default at each write. `keep_versions`: how
    many of each object are kept, 0: all."""

    name: str
    created_at_ms: int
    profile: Profile | None
    keep_versions: int = 0
    used_bytes: int = 0
    used_versions: int = 0
    quota_bytes: int = 0
    quota_versions: int = 0
    lifecycle: Lifecycle = Lifecycle()


class GetBucket(Query, frozen=True, kw_only=True):
    """Answers BucketsListed with one bucket. Refused NoSuchBucket."""

    bucket: str


class ListBuckets(Query, frozen=True, kw_only=True):
    """Answers BucketsListed, by name."""


class BucketsListed(Answer, frozen=True, kw_only=True):
    """Buckets by name."""

    buckets: tuple[BucketInfo, ...]


class FindPrunable(Query, frozen=True, kw_only=True):
    """Keys with versions older than the newest `keep` (0: as many as the bucket asks for; see
    PruneVersions). Answers PrunableFound.

    `key` not empty: that key alone, else those with `prefix` behind `after_key`, at most
    `limit` of them (<= 1000) and at most 5,000 looked at. Refused NoSuchBucket, NoSuchKey,
    InvalidArgument.
    """

    bucket: str
    keep: int = 0
    key: str = ""
    prefix: str = ""
    after_key: str = ""
    limit: int = 1000


class PrunableKey(msgspec.Struct, frozen=True, kw_only=True):
    """What PruneVersions would remove of a key."""

    key: str
    versions: int
    markers: int
    size_bytes: int


class PrunableFound(Answer, frozen=True, kw_only=True):
    """`visited`: keys looked at. `next` is None at the end, else the next page's `after_key`."""

    keys: tuple[PrunableKey, ...]
    visited: int = 0
    next: str | None = None


class ListStripes(Query, frozen=True, kw_only=True):
    """Living stripes by row, behind `after_row`, at most `limit` (<= 1000). Answers
    StripesListed. `bucket` not empty: only those that versions of objects there with `prefix`
    need. Refused NoSuchBucket."""

    after_row: int = 0
    limit: int = 100
    bucket: str = ""
    prefix: str = ""


class StripesListed(Answer, frozen=True, kw_only=True):
    """`next_row` 0: that was all; else the next page's `after_row`, which may lie behind stripes
    that were only looked at. `last_row`: the highest row given so far."""

    stripes: tuple[Stripe, ...]
    next_row: int = 0
    last_row: int = 0


class FindOwners(Query, frozen=True, kw_only=True):
    """Versions whose bytes lie, in part, in the stripe of that row. Answers ObjectsFound in no
    particular order, at most `limit`."""

    row: int
    limit: int = 10


class CountReferences(Query, frozen=True, kw_only=True):
    """How often each of these stripe rows, 1000 at most, is referred to. Answers
    ReferencesCounted. Refused CommandTooLarge."""

    rows: tuple[int, ...]


class ReferencesCounted(Answer, frozen=True, kw_only=True):
    """One count a row, in order; 0: it is gone."""

    counts: tuple[int, ...]


class FindDigest(Query, frozen=True, kw_only=True):
    """Current versions anywhere whose whole content has this SHA-256. Answers
    ObjectsFound; at most `limit`."""

    sha256: bytes
    limit: int = 1


class ObjectsFound(Answer, frozen=True, kw_only=True):
    """Versions, oldest first."""

    versions: tuple[VersionInfo, ...]


class GetCluster(Query, frozen=True, kw_only=True):
    """Everything a frontend or daemon must know of the others. Answers ClusterDescribed."""


class DiskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A disk. `state`: in, draining, lost, removed. `free_bytes`, `writable`, `problem`,
    `census` and `scrub`: from the last heartbeat the leader had; no census means unknown, not
    healthy. `is_silent`: it is not heard of now, be it that its node beats without it.
    `slot_count`, `slot_bytes`: shards that are there or should be, those of dead stripes
    included."""

    disk: int
    uuid: bytes
    state: str
    capacity_bytes: int
    free_bytes: int
    writable: bool
    problem: str = ""
    census: DiskCensus | None = None
    is_silent: bool = False
    scrub: DiskScrub | None = None
    slot_count: int = 0
    slot_bytes: int = 0


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A blob daemon. `health`: up, suspect, down (the leader's judgement, SAFETY rule 23),
    unknown while a new leader has not yet heard of it."""

    node: str
    url: str
    zone: str
    health: str
    last_heartbeat_ms_ago: int
    disks: tuple[DiskInfo, ...]


class FrontendInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A frontend by its heartbeats alone. `health`: as of NodeInfo. `url` is its own."""

    frontend: str
    url: str
    health: str
    last_heartbeat_ms_ago: int


class PruningState(msgspec.Struct, frozen=True, kw_only=True):
    """How far the leader's pruning is: buckets that ask for it, and in this round so far (or in
    the last, while it rests) keys looked at and versions and markers removed.
    `last_round_s_ago`: since a whole round ended under this leader; -1: none has."""

    buckets: int
    buckets_done: int
    keys_visited: int
    removed: int
    last_round_s_ago: float


class ClusterDescribed(Answer, frozen=True, kw_only=True):
    """`keys_epoch` grows whenever any access key changes. `admits_writes` is False while
    metanodes are low on space (SAFETY rule 14). `paused`: kinds of work that are."""

    cluster_id: bytes
    catalog_key_wrapped: bytes
    system_token_digest: bytes
    keys_epoch: int
    nodes: tuple[NodeInfo, ...]
    admits_writes: bool
    inline_bytes_max: int
    generation: int
    frontends: tuple[FrontendInfo, ...] = ()
    pruning: PruningState | None = None
    lifecycle: LifecycleState | None = None
    healing: HealingState | None = None
    deletion: DeletionState = DeletionState()
    paused: tuple[str, ...] = ()
    archive: ArchiveState | None = None


class ReadTrash(Query, frozen=True, kw_only=True):
    """Shards a disk must delete now: not_before has passed; none while deletion is frozen.
    Answers TrashRead."""

    disk: int
    limit: int = 500


class TrashRow(msgspec.Struct, frozen=True, array_like=True):
    """One deletion; `row` is confirmed by TrashDone."""

    row: int
    identity: ShardIdentity


class TrashRead(Answer, frozen=True, kw_only=True):
    """The order carries the generation and applied index of the enclosing reply."""

    rows: tuple[TrashRow, ...]


class FindUnwanted(Query, frozen=True, kw_only=True):
    """Which of these shards on `disk` can never be named again (SAFETY rule 1)? Answers
    Unwanted; none while deletion is frozen. One linearizable read together with catalog time.
    `tells_shared`: also which of the others belong to more than one object or version."""

    disk: int
    grace_ms: int
    identities: tuple[ShardIdentity, ...]
    tells_shared: bool = False


class Unwanted(Answer, frozen=True, kw_only=True):
    """Those that may be deleted."""

    identities: tuple[ShardIdentity, ...]
    shared: tuple[ShardIdentity, ...] = ()


class ExpectedSlots(Query, frozen=True, kw_only=True):
    """The slots of a disk in stripe-row order after `after_row`. Answers SlotsExpected."""

    disk: int
    after_row: int = 0
    limit: int = 1000


class ExpectedSlot(msgspec.Struct, frozen=True, array_like=True):
    """A shard the catalog believes is on the disk. `size_bytes` -1: not told. `is_needed`
    False: its stripe is dead and waits to be claimed."""

    row: int
    identity: ShardIdentity
    state: int
    crc: int
    size_bytes: int = -1
    is_needed: bool = True


class SlotsExpected(Answer, frozen=True, kw_only=True):
    """`next_row` 0: that was all."""

    slots: tuple[ExpectedSlot, ...]
    next_row: int = 0


class FindStrays(Query, frozen=True, kw_only=True):
    """Which of these shards on `disk` are no slot of it and belong to no open task? Answers
    StraysFound, whether deletion is frozen or not. Refused CommandTooLarge."""

    disk: int
    identities: tuple[ShardIdentity, ...]


class StraysFound(Answer, frozen=True, kw_only=True):
    """No order to delete: only FindUnwanted and ReadTrash are."""

    identities: tuple[ShardIdentity, ...]


class CountDisk(Query, frozen=True, kw_only=True):
    """How many stripes, living or dead, have a slot on a disk? Answers DiskCounted; no more
    than `limit` (<= 1,000,000) are counted."""

    disk: int
    limit: int = 1_000_000


class DiskCounted(Answer, frozen=True, kw_only=True):
    """`is_more`: at least so many."""

    stripes: int
    is_more: bool = False


class CountCatalog(Query, frozen=True, kw_only=True):
    """Totals for status, tests and the census. Answers CatalogCounted."""


class CatalogCounted(Answer, frozen=True, kw_only=True):
    """Counts of rows now; `missing[n]` = stripes with n slots missing or bad.

    `time_jumped`: catalog time leapt over an hour, and expiry and collection wait for
    ConfirmTime (SAFETY rule 17). `pruned_*`: removed since the cluster was formed for being
    older than the newest to be kept. `moved_*`: written anew by tasks since then;
    `reencoded_*`: stripes encoded anew since then, and their plain bytes.
    """

    buckets: int
    versions: int
    markers: int
    stripes: int
    dead_stripes: int
    segments: int
    uploads: int
    trash: int
    graveyard: int
    sessions: int
    logical_bytes: int
    stored_bytes: int
    missing: dict[int, int]
    time_jumped: bool = False
    pruned_versions: int = 0
    pruned_markers: int = 0
    pruned_bytes: int = 0
    expired: ExpiredTotals = ExpiredTotals()
    moved_shards: int = 0
    moved_bytes: int = 0
    reencoded_stripes: int = 0
    reencoded_bytes: int = 0
