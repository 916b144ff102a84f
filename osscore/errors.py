"""Every error this store raises on purpose, as one tree.

::

    StoreError
    ├── RequestError        the caller must change the request               4xx
    ├── Unavailable         true but not now; the same request may succeed   503
    └── Corrupt             the bytes are not those we wrote                 500

Facts are attributes, the message is for people. A leaf's class name is its wire code
(`Refused.code`, the `code` of an error body), so names here are part of the API.
"""

from typing import ClassVar


class StoreError(Exception):
    """Base of every error this store raises on purpose."""

    http_status: ClassVar[int] = 500

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])

    @property
    def code(self) -> str:
        """The stable name a program may compare."""
        return type(self).__name__

    @property
    def message(self) -> str:
        """What a person should read."""
        return str(self.args[0])


class RequestError(StoreError):
    """The request cannot succeed as it is; change it."""

    http_status = 400


class Unavailable(StoreError):
    """The store cannot do this now; the same request may succeed later."""

    http_status = 503
    retry_after_s: ClassVar[int] = 1


class Corrupt(StoreError):
    """The bytes are not those that were written."""

    http_status = 500


# --- RequestError: what the caller asked for ---------------------------------------


class InvalidName(RequestError):
    """The bucket or object name is not allowed."""


class InvalidArgument(RequestError):
    """A parameter or header has a value that is not allowed."""


class InvalidRange(RequestError):
    """No byte of the requested range lies inside the object."""

    http_status = 416

    def __init__(self, message: str = "", *, size_bytes: int = 0) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes


class MalformedBody(RequestError):
    """The body is not of the form this request needs."""


class IncompleteBody(RequestError):
    """The body ended before its declared length."""


class BadDigest(RequestError):
    """The body does not have the digest the request declares."""


class EntityTooLarge(RequestError):
    """The body is larger than this store or this request allows."""

    http_status = 413


class AccessDenied(RequestError):
    """These credentials do not permit this."""

    http_status = 403


class QuotaExceeded(RequestError):
    """The bucket may not hold more."""

    http_status = 403


class Unauthenticated(RequestError):
    """This needs valid credentials."""

    http_status = 401


class MalformedToken(Unauthenticated):
    """This is no token."""


class ForgedToken(Unauthenticated):
    """The signature of the token is not one of ours."""


class ExpiredToken(Unauthenticated):
    """The token has expired."""


class RevokedToken(Unauthenticated):
    """The token, or the key that signed it, is not in use any more."""


class WrongTokenType(AccessDenied):
    """The token is not for this."""


class NotFound(RequestError):
    """There is nothing of that name."""

    http_status = 404


class NoSuchBucket(NotFound):
    """There is no bucket of that name."""


class NoSuchKey(NotFound):
    """There is no object of that name."""


class NoSuchVersion(NotFound):
    """The object has no version of that number or id."""


class NoSuchUpload(NotFound):
    """The upload does not exist, was finished, or has expired."""


class NoSuchShard(NotFound):
    """This disk does not hold that shard."""


class NoSuchStripe(NotFound):
    """The stripe does not exist or has been collected."""


class NoSuchNode(NotFound):
    """There is no node or disk of that name."""


class NoSuchAccessKey(NotFound):
    """There is no access key of that id."""


class MethodNotAllowed(RequestError):
    """This resource does not support that method."""

    http_status = 405

    def __init__(self, message: str = "", *, allow: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allow = allow


class Conflict(RequestError):
    """The request contradicts what is already there."""

    http_status = 409


class AccessKeyExists(Conflict):
    """An access key of that id exists."""


class KeyChanged(Conflict):
    """The access key is not what it was when its caller was checked; nothing was applied."""


class LastAdminKey(Conflict):
    """This is the last access key that may everything and never expires; make another first."""


class BucketAlreadyExists(Conflict):
    """A bucket of that name exists."""


class BucketNotEmpty(Conflict):
    """The bucket still holds objects or versions."""


class ShardConflict(Conflict):
    """Another shard of the same identity is stored here."""


class StaleStripe(Conflict):
    """The stripe's birth lies too far back to be named now; write it again."""


class UnderReplicated(Conflict):
    """The stripe's durable slots do not meet the acknowledgement rule."""


class UploadOutOfOrder(Conflict):
    """The staged stripes do not continue the upload where it stands."""


class ChunkAlreadyHeld(Conflict):
    """The upload holds a chunk of that number already."""


class SessionExpired(Conflict):
    """The session of this command has expired; nothing was applied."""


class StaleOrder(Conflict):
    """The delete order carries an older catalog generation or index than one seen before."""


class AlreadyFormed(Conflict):
    """The cluster was formed before; a cluster forms once."""


class MetanodeExists(Conflict):
    """A metanode of that id counts already."""


class MetanodeRemoved(Conflict):
    """This metanode was removed; it may join again with an empty folder."""


class QuorumAtRisk(Conflict):
    """Too few of the metanodes there would be afterwards are able to decide."""


class DiskRefused(Conflict):
    """The disk is a rolled-back or second copy of a registered one, or of another cluster."""


class PreconditionFailed(RequestError):
    """A condition of the request does not hold."""

    http_status = 412


class LengthRequired(RequestError):
    """This request needs a Content-Length."""

    http_status = 411


class ContentMismatch(RequestError):
    """The assembled content is not what the request promised."""

    http_status = 422


class CommandTooLarge(RequestError):
    """The command would write more rows than one log entry may."""


# --- Unavailable: not now --------------------------------------------------------------


class NoLeader(Unavailable):
    """No metadata leader could be reached."""


class NotLeader(Unavailable):
    """This metanode is not the leader."""

    http_status = 421

    def __init__(self, message: str = "", *, leader_url: str | None = None) -> None:
        super().__init__(message)
        self.leader_url = leader_url


class OutcomeUnknown(Unavailable):
    """The command may or may not have been applied; retry under the same request id."""


class MetadataLowSpace(Unavailable):
    """The metanodes are low on space; only requests that free space are admitted."""


class TooFewNodes(Unavailable):
    """Too few living blob daemons to store this durably."""


class QuorumLost(Unavailable):
    """Too few shards became durable in time."""


class StripeUnreadable(Unavailable):
    """Too few good shards of a stripe can be reached now."""

    def __init__(self, message: str = "", *, stripe_id: str = "") -> None:
        super().__init__(message)
        self.stripe_id = stripe_id


class DiskFull(Unavailable):
    """The disk has no room outside its reserve."""

    http_status = 507


class DiskFailing(Unavailable):
    """The disk reported an error and is read-only until its daemon restarts."""


class Overloaded(Unavailable):
    """The process is at its memory or request bound."""


class DeadlineExceeded(Unavailable):
    """A peer did not answer in time."""


class PeerUnreachable(Unavailable):
    """A peer could not be connected to."""


class NoFrontend(Unavailable):
    """No frontend has been heard lately that could take this in."""


class NotReady(Unavailable):
    """The node is starting, joining or stopping."""


# --- Corrupt: wrong bytes ----------------------------------------------------------------


class CorruptShard(Corrupt):
    """A stored shard fails its checksum."""


class CorruptStripe(Corrupt):
    """A decoded stripe fails its checksum."""


class CorruptJournal(Corrupt):
    """The Raft journal is damaged below an offset known to be synced."""


class CorruptVolume(Corrupt):
    """A volume file holds bytes that are no record."""


class CorruptCatalog(Corrupt):
    """The catalog contradicts itself or its checksum."""


def leaves() -> dict[str, type[StoreError]]:
    """Every error class by its wire code, the inner nodes of the tree included."""
    found: dict[str, type[StoreError]] = {}
    todo: list[type[StoreError]] = [StoreError]
    while todo:
        kind = todo.pop()
        found[kind.__name__] = kind
        todo.extend(kind.__subclasses__())
    return found


def from_code(code: str, message: str) -> StoreError:
    """The error a peer reported, rebuilt from its wire form; unknown codes give StoreError."""
    return leaves().get(code, StoreError)(message)
