"""The language of questions: every way to ask the catalog, and what it answers.

Queries are linearizable: the leader confirms its term with a majority (ReadIndex) before
it reads. Many queries travel in one request and share one confirmation.
"""

import msgspec

from osscore.model import Profile, Segment, ShardIdentity, VersionInfo
from raftmeta.commands import Refused


class Query(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Base of all queries."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Base of all answers."""


class FindObject(Query, frozen=True, kw_only=True):
    """A version and where its bytes lie. Answers Found.

    `number` 0 and `version_id` empty: the current one. Segments cover at least bytes
    [first, ...] in order, at most `segments_max` of them. Refused: NoSuchBucket,
    NoSuchKey (none, or the current one is a marker), NoSuchVersion. A marker asked for by
    number is found, without bytes.
    """

    bucket: str
    key: str
    number: int = 0
    version_id: str = ""
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
    """One bucket. `profile` None: the cluster's default at each write."""

    name: str
    created_at_ms: int
    profile: Profile | None


class GetBucket(Query, frozen=True, kw_only=True):
    """Answers BucketsListed with one bucket. Refused NoSuchBucket."""

    bucket: str


class ListBuckets(Query, frozen=True, kw_only=True):
    """Answers BucketsListed, by name."""


class BucketsListed(Answer, frozen=True, kw_only=True):
    """Buckets by name."""

    buckets: tuple[BucketInfo, ...]


class FindDigest(Query, frozen=True, kw_only=True):
    """Current versions anywhere whose whole content has this SHA-256. Answers
    ObjectsFound; at most `limit`."""

    sha256: bytes
    limit: int = 1


class ObjectsFound(Answer, frozen=True, kw_only=True):
    """Versions, oldest first."""

    versions: tuple[VersionInfo, ...]


class FindAccessKey(Query, frozen=True, kw_only=True):
    """Answers AccessKeyFound. Refused NoSuchAccessKey (unknown or expired)."""

    access_key: str


class AccessKeyFound(Answer, frozen=True, kw_only=True):
    """As PutAccessKey stored it."""

    access_key: str
    secret_sealed: bytes
    scopes: tuple[str, ...]
    buckets: tuple[str, ...]
    expires_at_ms: int


class GetCluster(Query, frozen=True, kw_only=True):
    """Everything a frontend or daemon must know of the others. Answers ClusterDescribed."""


class DiskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A disk. `state`: in, draining, lost, removed. `free_bytes`, `writable` and
    `problem`: from the last heartbeat the leader had."""

    disk: int
    uuid: bytes
    state: str
    capacity_bytes: int
    free_bytes: int
    writable: bool
    problem: str = ""


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A blob daemon. `health`: up, suspect, down (the leader's judgement, SAFETY rule 23),
    unknown while a new leader has not yet heard of it."""

    node: str
    url: str
    zone: str
    health: str
    last_heartbeat_ms_ago: int
    disks: tuple[DiskInfo, ...]


class ClusterDescribed(Answer, frozen=True, kw_only=True):
    """`keys_epoch` grows whenever any access key changes. `admits_writes` is False while
    metanodes are low on space (SAFETY rule 14)."""

    cluster_id: bytes
    catalog_key_wrapped: bytes
    system_token_digest: bytes
    keys_epoch: int
    nodes: tuple[NodeInfo, ...]
    admits_writes: bool
    inline_bytes_max: int
    generation: int


class ReadTrash(Query, frozen=True, kw_only=True):
    """Shards a disk must delete now: not_before has passed. Answers TrashRead."""

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
    Unwanted. One linearizable read together with catalog time."""

    disk: int
    grace_ms: int
    identities: tuple[ShardIdentity, ...]


class Unwanted(Answer, frozen=True, kw_only=True):
    """Those that may be deleted."""

    identities: tuple[ShardIdentity, ...]


class ExpectedSlots(Query, frozen=True, kw_only=True):
    """The slots of a disk in stripe-row order after `after_row`. Answers SlotsExpected."""

    disk: int
    after_row: int = 0
    limit: int = 1000


class ExpectedSlot(msgspec.Struct, frozen=True, array_like=True):
    """A shard the catalog believes is on the disk."""

    row: int
    identity: ShardIdentity
    state: int
    crc: int


class SlotsExpected(Answer, frozen=True, kw_only=True):
    """`next_row` 0: that was all."""

    slots: tuple[ExpectedSlot, ...]
    next_row: int = 0


class CountCatalog(Query, frozen=True, kw_only=True):
    """Totals for status, tests and the census. Answers CatalogCounted."""


class CatalogCounted(Answer, frozen=True, kw_only=True):
    """Counts of rows now; `missing[n]` = stripes with n slots missing or bad.

    `time_jumped`: catalog time leapt over an hour, and expiry and collection wait for
    ConfirmTime (SAFETY rule 17).
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


AnyQuery = (
    FindObject
    | ReadSegments
    | ListObjects
    | ListVersions
    | GetBucket
    | ListBuckets
    | FindDigest
    | FindAccessKey
    | GetCluster
    | ReadTrash
    | FindUnwanted
    | ExpectedSlots
    | CountCatalog
)

AnyAnswer = (
    Refused
    | Found
    | SegmentsRead
    | ObjectsListed
    | VersionsListed
    | BucketsListed
    | ObjectsFound
    | AccessKeyFound
    | ClusterDescribed
    | TrashRead
    | Unwanted
    | SlotsExpected
    | CatalogCounted
)
