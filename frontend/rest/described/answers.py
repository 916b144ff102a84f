"""Bodies of the native dialect's answers."""

from typing import Annotated

from msgspec import Meta

from frontend.openapi.shapes import (
    BucketText,
    Count,
    Etag,
    HandleText,
    ProfileText,
    RunText,
    Sha256Hex,
    Sha256HexOrNone,
    Shape,
    Size,
    Time,
    VersionIdText,
    VersionNumber,
)

# --- objects and uploads -----------------------------------------------------------------------


class Stored(Shape, frozen=True):
    """The version that was made."""

    version: VersionNumber
    version_id: VersionIdText
    size: Size
    sha256: Sha256Hex
    etag: Etag


class Revealed(Shape, frozen=True):
    """The version that is current now, and whether a delete marker had hidden it."""

    version: VersionNumber
    version_id: VersionIdText
    was_deleted: bool


class Begun(Shape, frozen=True):
    """An upload that goes on at `/temp/TOKEN`."""

    token: HandleText
    upload_offset: Size
    size: Size


class Held(Shape, frozen=True):
    """How much of an upload is held."""

    upload_offset: Size
    size: Size


class Waiting(Shape, frozen=True):
    """A body that waits for its PATCH."""

    id: HandleText
    sha256: Sha256Hex
    size: Size
    expires_at: Time


class Confirmed(Shape, frozen=True):
    """The version that a waiting body became."""

    name: str
    version: VersionNumber
    sha256: Sha256Hex
    size: Size


# --- listings ----------------------------------------------------------------------------------


class ObjectShown(Shape, frozen=True):
    """The current version of one object."""

    key: str
    size: Size
    etag: Etag
    version: VersionNumber
    version_id: VersionIdText
    modified: Time


class ObjectsPage(Shape, frozen=True):
    """A page of current objects; `prefixes` stand for all names that begin with them."""

    objects: list[ObjectShown]
    prefixes: list[str]
    next: Annotated[str | None, Meta(description="`after` of the next page; null at the end.")]


class GoneShown(Shape, frozen=True):
    """An object that was there, but whose version of that time was removed since."""

    key: str
    version: Annotated[VersionNumber | None, Meta(description="null: not known which.")]
    was: Annotated[
        str, Meta(description="`removed`; `unknown`: it may also have been deleted at that time.")
    ]


class ObjectsPageThen(Shape, frozen=True):
    """A page of the objects of a time, which may hold few or none and yet have a next one."""

    objects: list[ObjectShown]
    prefixes: list[str]
    gone: list[GoneShown]
    next: Annotated[str | None, Meta(description="`after` of the next page; null at the end.")]


class VersionShown(Shape, frozen=True):
    """One version, which may be a delete marker."""

    key: str
    version: VersionNumber
    version_id: VersionIdText
    size: Size
    sha256: Sha256HexOrNone
    etag: Etag
    is_marker: bool
    is_latest: bool
    modified: Time


class VersionsPage(Shape, frozen=True):
    """A page of versions: names in order, newest first within a name."""

    versions: list[VersionShown]
    next: Annotated[str | None, Meta(description="`after` of the next page; null at the end.")]


class VersionLine(Shape, frozen=True, rename="pascal"):
    """One version as the older store wrote it; `Hash` is empty for a delete marker."""

    name: str
    version: VersionNumber
    size: Size
    hash: Annotated[str, Meta(description="Base64 of the SHA-256.")]


class LocatedStripe(Shape, frozen=True):
    """Bytes [start, start + length) of an object and where their shards lie."""

    start: Size
    length: Size
    stripe: Annotated[str, Meta(description="Hex; empty where the bytes lie in the catalog.")]
    shards: dict[str, str]


class Located(Shape, frozen=True):
    """Every stripe of an object."""

    stripes: list[LocatedStripe]


# --- buckets -----------------------------------------------------------------------------------


class BucketMade(Shape, frozen=True):
    """A bucket that was made."""

    name: BucketText
    profile: ProfileText | None


class BucketShown(Shape, frozen=True):
    """A bucket; `keep_versions` 0: all are kept; a quota of 0: none; a time of 0: never. What
    is used counts old versions too, at their whole size."""

    name: BucketText
    created: Time
    profile: ProfileText | None
    keep_versions: Count
    used_bytes: Size
    used_versions: Count
    quota_bytes: Size
    quota_versions: Count
    expire_after_s: Count
    expire_noncurrent_after_s: Count
    abort_uploads_after_s: Count


class BucketsShown(Shape, frozen=True):
    """All buckets that the key may see."""

    buckets: list[BucketShown]


# --- the cluster -------------------------------------------------------------------------------


class Metanode(Shape, frozen=True):
    """A metanode as it describes itself."""

    id: str
    url: str
    state: Annotated[str, Meta(description="leader, follower, candidate, joining, down, ...")]
    term: Count
    applied_index: Count
    leader: str | None
    free_bytes: Size


class MemberShown(Shape, frozen=True):
    """A metanode as the leader sees it."""

    id: str
    raft: str
    url: str
    state: Annotated[str, Meta(description="leader, member, or joining: it does not count yet.")]
    entries_behind: Count
    silent_ms: Count


class MembersShown(Shape, frozen=True):
    """The metanodes; `members_index` is the log entry that set those that count."""

    leader: str
    term: Count
    applied_index: Count
    members_index: Count
    metanodes: list[MemberShown]


class DiskCensus(Shape, frozen=True):
    """The last whole comparison of a disk's shards with the catalog; times are ms since 1970."""

    generation: Count
    begun_at_ms: Count
    finished_at_ms: Count
    finished_ms_ago: Count
    expected: Annotated[int, Meta(ge=0, description="`present` and `missing` together.")]
    present: Count
    missing: Count
    surplus: Annotated[int, Meta(ge=0, description="Held, but named by nothing any more.")]
    young: Annotated[int, Meta(ge=0, description="Held, and may still be named.")]


class Disk(Shape, frozen=True):
    """One data folder of a blob daemon."""

    disk: Count
    uuid: str
    state: Annotated[str, Meta(description="in, draining, lost or removed")]
    capacity_bytes: Size
    free_bytes: Size
    writable: bool
    problem: str
    silent: Annotated[bool, Meta(description="Not heard of now, though its node may be.")]
    shards: Annotated[int, Meta(ge=0, description="There, or meant to be there.")]
    bytes: Size
    census: Annotated[
        DiskCensus | None, Meta(description="null: none yet, which is not the same as healthy.")
    ]


class BlobDaemon(Shape, frozen=True):
    """A blob daemon as the leader judges it."""

    id: str
    state: Annotated[str, Meta(description="up, suspect, down, unknown")]
    url: str
    zone: str
    last_heartbeat_ms_ago: int
    disks: list[Disk]


class FrontendShown(Shape, frozen=True, omit_defaults=True):
    """A frontend that was heard; the one that answers, heard or not."""

    id: str
    state: str
    url: str = ""
    last_heartbeat_ms_ago: int = 0


class Expired(Shape, frozen=True):
    """`objects` got a delete marker; `versions` and `markers` were removed for good."""

    objects: Count
    versions: Count
    markers: Count
    size_bytes: Size


class Census(Shape, frozen=True):
    """Counts of the catalog now; `missing["n"]`: stripes with n slots missing or bad."""

    buckets: Count
    versions: Count
    markers: Count
    stripes: Count
    dead_stripes: Count
    segments: Count
    uploads: Count
    trash: Count
    graveyard: Count
    sessions: Count
    logical_bytes: Size
    stored_bytes: Size
    missing: dict[str, int]
    time_jumped: bool
    pruned_versions: Count
    pruned_markers: Count
    pruned_bytes: Size
    expired: Annotated[Expired, Meta(description="By time, since the cluster was formed.")]
    moved_shards: Count
    moved_bytes: Size
    reencoded_stripes: Count
    reencoded_bytes: Size


class Pruning(Shape, frozen=True):
    """How far the leader's round is that keeps the newest versions of buckets."""

    buckets: Count
    buckets_done: Count
    keys_visited: Count
    removed: Count
    last_round_s_ago: Annotated[float, Meta(description="-1: no round has ended yet.")]


class LifecycleShown(Shape, frozen=True):
    """How far the leader's round is over the buckets that want anything gone by time."""

    buckets: Count
    buckets_done: Count
    objects: Annotated[Count, Meta(description="That got a delete marker.")]
    removed: Annotated[Count, Meta(description="Versions and markers, for good.")]
    last_round_s_ago: Annotated[float, Meta(description="-1: no round has ended yet.")]


class Deletion(Shape, frozen=True):
    """Whether shards may be deleted; the rest tells of a catalog that was restored."""

    frozen: bool
    restored_at_ms: Annotated[int | None, Meta(description="Catalog time; null: never.")]
    disks: Count
    disks_confirmed: Annotated[Count, Meta(description="Whose census is finished.")]
    disks_unconfirmed: Annotated[list[Count], Meta(description="The first of the others.")]


class HealingShort(Shape, frozen=True):
    """How healing stands, in short."""

    alarm: Annotated[str | None, Meta(description="Why no disk is judged lost now.")]
    paused: list[str]
    tasks: Annotated[dict[str, int], Meta(description="Open ones by reason.")]
    unreadable: Annotated[int, Meta(ge=0, description="Stripes with too few shards left.")]
    bytes_per_s: float


class ArchiveKeeper(Shape, frozen=True):
    """A disk that keeps an archive of the catalog up to log entry `end`."""

    node: str
    disk: Annotated[str, Meta(description="Its uuid.")]
    end: Count
    is_whole: Annotated[bool, Meta(description="A catalog can be made of this disk alone.")]
    problem: str


class Archive(Shape, frozen=True):
    """What would be left of the catalog if every metanode were lost now."""

    archived_index: Annotated[Count, Meta(description="In as many archives as there can be.")]
    applied_index: Count
    lag_ms: Annotated[Count, Meta(description="How old the first entry behind that is, at most.")]
    copies: Annotated[Count, Meta(description="Whole archives up to that entry.")]
    copies_wanted: Count
    keepers: list[ArchiveKeeper]
    snapshot_index: Count
    snapshot_bytes: Count
    log_bytes: Annotated[Count, Meta(description="Of the log behind that snapshot.")]
    problem: Annotated[str, Meta(description="Empty: all is well.")]


class Cluster(Shape, frozen=True):
    """Everything the frontend knows of the cluster."""

    cluster_id: str
    metanodes: list[Metanode]
    blobs: list[BlobDaemon]
    frontends: list[FrontendShown]
    admits_writes: bool
    census: Annotated[Census | None, Meta(description="null while there is no leader")]
    pruning: Pruning | None
    lifecycle: LifecycleShown | None
    healing: Annotated[HealingShort | None, Meta(description="null while no leader tells.")]
    generation: Annotated[Count, Meta(description="Of the catalog; a restore begins another.")]
    deletion: Deletion
    archive: Annotated[Archive | None, Meta(description="null while no leader tells.")]


class Adopted(Shape, frozen=True):
    """A restored catalog under which deletion goes on."""

    generation: Count
    deletion: Deletion


class Status(Shape, frozen=True):
    """The process that answers."""

    id: str
    role: str
    version: str
    pid: Count
    state: Annotated[str, Meta(description="ready, no metadata or stopping")]
    cluster_id: str


class MayStop(Shape, frozen=True):
    """A node that may be stopped now without losing availability."""

    node: str
    may_stop: bool


# --- maintenance -------------------------------------------------------------------------------


class PrunedObject(Shape, frozen=True):
    """What goes of one object."""

    key: str
    versions: Count
    markers: Count
    bytes: Size


class PruneStepDone(Shape, frozen=True):
    """One step: what it removed, or would."""

    bucket: BucketText
    keep: Count
    dry_run: bool
    visited: Count
    versions: Count
    markers: Count
    bytes: Size
    objects: list[PrunedObject]
    next: Annotated[str | None, Meta(description="`after` of the next step; null at the end.")]
    run: RunText
