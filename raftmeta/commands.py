"""The language of change: every way the catalog may change, and what each answers.

A batch of commands is one Raft entry and one SQLite transaction. Apply is deterministic
and total: a refusal is a returned `Refused`, anything else stops the process. The only
clock apply knows is catalog time (`Batch.time_ms`, made strictly increasing). All of them
together, and the log entry that carries them, are in `raftmeta.entries`.

Adding a command or a field with a default is compatible; changing or removing one needs
a new tag, since old entries stay in the log (docs/formats/commands.md).
"""

import msgspec

from osscore.errors import StoreError, from_code
from osscore.model import ObjectAttributes, Profile, ShardIdentity, StripeDraft


class Command(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Base of all commands."""


class Result(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Base of all results."""


class Done(Result, frozen=True, kw_only=True):
    """Applied (or already so); nothing more to say."""


class Refused(Result, frozen=True, kw_only=True):
    """Not applied, nothing changed but the audit: `refusal` is an osscore.errors class."""

    refusal: str
    message: str

    def error(self) -> StoreError:
        """The error a caller should raise."""
        return from_code(self.refusal, self.message)


# --- sessions (SAFETY rule 19) ----------------------------------------------------------


class OpenSession(Command, frozen=True, kw_only=True):
    """Start a session; later commands carry (session, seq). Answers SessionOpened.

    The only client command sent without a session: a retry opens a second session, which
    expires unused.
    """


class SessionOpened(Result, frozen=True, kw_only=True):
    """`session` expires after 10 idle minutes of catalog time."""

    session: int


# --- forming ------------------------------------------------------------------------------


class FormCluster(Command, frozen=True, kw_only=True):
    """First command of a cluster, proposed by its first leader. Repeating it changes nothing.

    `catalog_key_wrapped`: the random catalog key, sealed by a key derived from the cluster
    secret. `root_secret_sealed`: the root secret key, sealed by the catalog key.
    `system_token_digest`: BLAKE3-256 of the system token. `gc_grace_ms`: how long a stripe
    may stay unnamed or dead before its shards are deleted (SAFETY rule 1), fixed for ever.
    """

    cluster_id: bytes
    catalog_key_wrapped: bytes
    root_access_key: str
    root_secret_sealed: bytes
    system_token_digest: bytes
    gc_grace_ms: int = 3_600_000


# --- buckets --------------------------------------------------------------------------------


class CreateBucket(Command, frozen=True, kw_only=True):
    """Make an empty bucket. Refused BucketAlreadyExists. `profile` None: the default."""

    bucket: str
    profile: Profile | None = None


class DeleteBucket(Command, frozen=True, kw_only=True):
    """Remove an empty bucket. Refused NoSuchBucket, BucketNotEmpty (versions, uploads)."""

    bucket: str


# --- objects --------------------------------------------------------------------------------


class Conditions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What must hold of the current version when a command is applied, else PreconditionFailed.

    `if_match`: ETags without quotes, '*' for any object. `if_none_match`: likewise, '*'
    for 'no object'. Empty: no condition. A delete marker counts as no object.
    """

    if_match: tuple[str, ...] = ()
    if_none_match: tuple[str, ...] = ()


class InlineBody(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Up to 4 KiB of object bytes, kept in the catalog."""

    data: bytes


class StripesBody(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One or two stripes, in object order, whose shards are stored and not yet named."""

    stripes: tuple[StripeDraft, ...]


class UploadBody(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Everything staged under an upload, which ends with this command."""

    upload: bytes


class CopyBody(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The bytes of an existing version, shared and not copied."""

    bucket: str
    key: str
    number: int


Body = InlineBody | StripesBody | UploadBody | CopyBody


class PutObject(Command, frozen=True, kw_only=True):
    """Make a new current version of bucket/key. Answers ObjectPut.

    Refused: NoSuchBucket, PreconditionFailed, QuotaExceeded, NoSuchUpload, NoSuchVersion (copy
    source), StaleStripe, UnderReplicated, ContentMismatch (sizes do not add up). Stripes equal to
    living healthy ones are mapped onto those; the losers' shards go to trash.

    `finishes`: an upload of bucket/key that ends with this command and remembers the version
    for its `ttl_ms`. Any later command that finishes it answers that version, and changes
    nothing: so whoever carries an upload on after a crash makes no second one.
    """

    bucket: str
    key: str
    attributes: ObjectAttributes
    body: Body
    conditions: Conditions = Conditions()
    finishes: bytes = b""


class ObjectPut(Result, frozen=True, kw_only=True):
    """The new version."""

    number: int
    version_id: str
    created_at_ms: int


class DeleteObject(Command, frozen=True, kw_only=True):
    """Put a delete marker on top. Answers ObjectDeleted. Refused NoSuchBucket, NoSuchKey
    (no version at all), PreconditionFailed. On top of a marker: another marker."""

    bucket: str
    key: str
    conditions: Conditions = Conditions()


class DeleteVersion(Command, frozen=True, kw_only=True):
    """Remove one version for good: by `number`, or by `version_id` if that is not empty.

    Answers ObjectDeleted. Refused NoSuchBucket, NoSuchKey, NoSuchVersion.
    """

    bucket: str
    key: str
    number: int = 0
    version_id: str = ""


class Undelete(Command, frozen=True, kw_only=True):
    """Remove the delete markers on top of bucket/key. Answers ObjectDeleted for the version
    that is current afterwards. Refused NoSuchBucket, NoSuchKey; not deleted: no change.

    `since_ms`: only if the lowest of these markers is that young. `until_ms`, unless 0: only if
    the newest is no younger. Else no change. At most `markers_max` are removed, 0: as many as
    one command may; an answer that is a marker then means that more lie below it.
    """

    bucket: str
    key: str
    since_ms: int = 0
    until_ms: int = 0
    markers_max: int = 0


class SetKeepVersions(Command, frozen=True, kw_only=True):
    """Of each object of the bucket the leader keeps the newest `keep_versions` real versions,
    from now on and for ever; 0: all. Refused NoSuchBucket, InvalidArgument."""

    bucket: str
    keep_versions: int


class SetQuota(Command, frozen=True, kw_only=True):
    """A bucket holds at most so many bytes, old versions included, and so many versions; 0: any,
    None: as before. What it holds already stays. Refused NoSuchBucket, InvalidArgument."""

    bucket: str
    size_bytes: int | None = None
    versions: int | None = None


class PruneVersions(Command, frozen=True, kw_only=True):
    """Remove what is older than the newest `keep` real versions of bucket/key, for good.

    Markers do not count: those above the oldest kept version stay, those below go with the
    versions there. `keep` 0: as many as the bucket asks for when this is applied, which may
    be all. At most about `rows_max` rows are written. Answers VersionsPruned. Refused
    NoSuchBucket, InvalidArgument. Repeating it is harmless.
    """

    bucket: str
    key: str
    keep: int = 0
    rows_max: int = 500


class VersionsPruned(Result, frozen=True, kw_only=True):
    """What was removed, `size_bytes` as users see it. `is_done` False: there is more."""

    versions: int = 0
    markers: int = 0
    size_bytes: int = 0
    is_done: bool = True


class ObjectDeleted(Result, frozen=True, kw_only=True):
    """`number` and `version_id` of the marker written, or of the version removed or revealed."""

    number: int
    version_id: str
    is_marker: bool


# --- uploads: long bodies (SAFETY rule 4) ----------------------------------------------------


UPLOAD_LIFE_S_MAX = 399 * 86_400
"""An upload row lives at most 400 days of catalog time."""


class UploadPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an upload that outlives its request is to become; kept with its row.

    `owner`: the access key that began it; `owner_since_ms`: when that was created (catalog time;
    0: not said), which tells it from a later one of its id. `size_bytes` and `sha256`: of the
    whole body, as far as they were declared. `is_declared`: of a chunk, whether who sent it said
    its SHA-256, too. `profile` None: the bucket's. `content` and `user`:
    see ObjectAttributes.
    """

    owner: str = ""
    owner_since_ms: int = 0
    size_bytes: int | None = None
    sha256: bytes = b""
    is_declared: bool = False
    profile: Profile | None = None
    content: dict[str, str] = {}
    user: dict[str, str] = {}


class BeginUpload(Command, frozen=True, kw_only=True):
    """Open an upload for bucket/key under the caller's random 16-byte id. Same id: no change.

    It expires `ttl_ms` of catalog time after its last sign of life. `restarts`: begin anew
    where an upload of this id was finished and is only remembered. `waits`: for requests to
    come; where the bucket says for how long, that counts. Refused NoSuchBucket,
    InvalidArgument, Conflict (the id of another), QuotaExceeded (by `plan.size_bytes`).
    """

    upload: bytes
    bucket: str
    key: str
    ttl_ms: int
    plan: UploadPlan = UploadPlan()
    restarts: bool = False
    waits: bool = False


class StripeQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Is there a healthy stripe with these bytes? (dedup key, see StripeDraft)"""

    profile: Profile
    domain: bytes
    digest: bytes
    plain_bytes: int


class Stage(Command, frozen=True, kw_only=True):
    """Append to an upload and ask ahead. Answers Staged.

    `append`: stripes in object order starting at stripe number `position` of the upload;
    each is a StripeDraft (shards stored) or the bytes-id of a reserved hit (a
    `Staged.hits` stripe row of this upload). `ask`: dedup questions for stripes to come;
    each hit takes a reference held by the upload until it is appended or the upload ends.
    Refused: NoSuchUpload, UploadOutOfOrder (sealed, too), StaleStripe, UnderReplicated.
    """

    upload: bytes
    position: int
    append: tuple[StripeDraft | int, ...] = ()
    ask: tuple[StripeQuestion, ...] = ()


class Staged(Result, frozen=True, kw_only=True):
    """`hits[i]` is the row of the stripe that answers `ask[i]`, or 0."""

    hits: tuple[int, ...]
    staged_bytes: int


class SealUpload(Command, frozen=True, kw_only=True):
    """An upload is whole: so many bytes of this SHA-256, which the caller has verified.

    Nothing more can be staged; it waits to be named, `ttl_ms` at most. Sealed with the same
    facts before: no change. Refused NoSuchUpload, ContentMismatch (another size is staged),
    Conflict (sealed otherwise).
    """

    upload: bytes
    size_bytes: int
    sha256: bytes
    ttl_ms: int


CHUNK_NUMBER_MAX = 10_000
CHUNK_SEGMENTS_MAX = 600
"""A chunk of more segments could not be linked by one bounded command."""


class KeepChunk(Command, frozen=True, kw_only=True):
    """An upload whose bytes are all staged becomes chunk `number` of `parent`, an upload of
    the same object, and from now on lives and ends with it.

    `replaces`: also where another chunk has that number. Refused NoSuchUpload (either),
    ChunkAlreadyHeld, ContentMismatch (another size is staged), EntityTooLarge,
    InvalidArgument (number), Conflict (the chunks of `parent` are being linked).
    """

    upload: bytes
    parent: bytes
    number: int
    size_bytes: int
    sha256: bytes
    replaces: bool = False


class LinkChunks(Command, frozen=True, kw_only=True):
    """Append these chunks, in this order, to the upload they belong to, which stands at
    stripe number `position`; each ends. Answers Staged. Nothing is copied.

    Refused: NoSuchUpload (any), UploadOutOfOrder, CommandTooLarge (pass fewer),
    InvalidArgument (one named twice).
    """

    upload: bytes
    position: int
    chunks: tuple[bytes, ...]


class AbortUpload(Command, frozen=True, kw_only=True):
    """End an upload and give its references back. Unknown, or kept as a chunk: no change."""

    upload: bytes


class HoldManifest(Command, frozen=True, kw_only=True):
    """Keep a manifest's stripes alive for a long GET: an upload row of kind hold.

    The same id again renews. Released by AbortUpload or `ttl_ms` after the last renewal.
    Refused NoSuchVersion when the manifest is gone.
    """

    upload: bytes
    manifest: int
    ttl_ms: int


# --- nodes and disks --------------------------------------------------------------------------


class DiskReport(msgspec.Struct, frozen=True, kw_only=True):
    """One data folder as its daemon sees it. `epoch` is the one written on the disk."""

    uuid: bytes
    epoch: int
    capacity_bytes: int


class RegisterNode(Command, frozen=True, kw_only=True):
    """A blob daemon (re)appears at `url` with these disks. Answers NodeRegistered.

    Sent at start, before serving. Each accepted disk's epoch is bumped on both sides
    (SAFETY rule 15): a disk whose epoch is below the catalog's, or of another cluster, is
    listed in `refused` and stays read-only.
    """

    node: str
    url: str
    zone: str
    cluster_id: bytes
    disks: tuple[DiskReport, ...]


class DiskGrant(msgspec.Struct, frozen=True, kw_only=True):
    """The catalog's number for a disk and the epoch to write on it."""

    uuid: bytes
    disk: int
    epoch: int


class NodeRegistered(Result, frozen=True, kw_only=True):
    """Disks by uuid: granted, or refused with a reason for people."""

    granted: tuple[DiskGrant, ...]
    refused: dict[str, str]


class SetDiskState(Command, frozen=True, kw_only=True):
    """A disk is now 'in', 'draining', 'lost' or 'removed'; the leader judges by JudgeDisk.

    Refused NoSuchNode; 'removed' is refused Conflict while slots exist there.
    """

    disk: int
    state: str


class MarkBad(Command, frozen=True, kw_only=True):
    """The owner reread its shard and it fails (SAFETY rule 11). Compare-and-set on
    (index, gen, disk): a slot that moved meanwhile is left alone."""

    identity: ShardIdentity
    disk: int


class MarkGood(Command, frozen=True, kw_only=True):
    """The owner holds this shard durable and verified: a MISSING or BAD slot of exactly
    (index, gen, disk) becomes GOOD. Anything else: no change."""

    identity: ShardIdentity
    disk: int


# --- collection (SAFETY rules 1 to 4) ---------------------------------------------------------


class Collect(Command, frozen=True, kw_only=True):
    """One bounded step of the leader's collection, at most `rows_max` rows each of:

    expired uploads and sessions end; graveyard manifests lose segments; stripes dead for
    longer than `grace_ms` are claimed, their shards written to trash, and forgotten.
    Answers Collected.
    """

    grace_ms: int
    rows_max: int = 500


class Collected(Result, frozen=True, kw_only=True):
    """How many of each were dealt with; all zero: nothing to do now."""

    uploads: int = 0
    sessions: int = 0
    segments: int = 0
    stripes: int = 0


class TrashDone(Command, frozen=True, kw_only=True):
    """A blob daemon has durably deleted these trash rows of its disk. Unknown rows: skipped."""

    disk: int
    rows: tuple[int, ...]


class ConfirmTime(Command, frozen=True, kw_only=True):
    """An operator accepts a jump of catalog time of over an hour; expiry resumes (rule 17)."""
