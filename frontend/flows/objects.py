"""Finding, hiding, removing and revealing versions."""

from dataclasses import dataclass

from frontend.flows.store import Proposer, Store
from osscore.errors import NoSuchKey, NoSuchVersion, NotFound, PreconditionFailed
from raftmeta.commands import (
    Conditions,
    DeleteObject,
    DeleteVersion,
    ObjectDeleted,
    Undelete,
)
from raftmeta.credentials import AuditNote
from raftmeta.queries import FindObject, Found

FIRST_SEGMENTS = 16
_NUMBER_MAX = (1 << 63) - 1
_UNDELETES_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """An object, and one version of it by number or id; neither: the current one, or the one
    that was current at `at_ms`, unless 0."""

    bucket: str
    key: str
    number: int | None = None
    version_id: str = ""
    at_ms: int = 0

    @property
    def names_version(self) -> bool:
        """Whether a certain version is meant."""
        return self.number is not None or bool(self.version_id)


async def find_object(
    store: Store,
    ref: ObjectRef,
    *,
    first: int = 0,
    segments_max: int = FIRST_SEGMENTS,
    head_only: bool = False,
) -> Found:
    """A version and where its bytes from `first` on lie; a marker only if named.

    Raises NoSuchBucket, NoSuchKey, NoSuchVersion.
    """
    _check_number(ref)
    return await store.meta.query(
        FindObject(
            bucket=ref.bucket,
            key=ref.key,
            number=ref.number or 0,
            version_id=ref.version_id,
            at_ms=ref.at_ms,
            first=first,
            segments_max=segments_max,
            head_only=head_only,
        ),
        Found,
    )


async def check_conditions(store: Store, bucket: str, key: str, conditions: Conditions) -> None:
    """Raises PreconditionFailed if the conditions do not hold now."""
    if not conditions.if_match and not conditions.if_none_match:
        return
    try:
        found = await find_object(store, ObjectRef(bucket=bucket, key=key), head_only=True)
    except NotFound:
        etag = None
    else:
        etag = found.version.etag
    if conditions.if_match and not _matches(conditions.if_match, etag):
        raise PreconditionFailed()
    if conditions.if_none_match and _matches(conditions.if_none_match, etag):
        raise PreconditionFailed()


async def delete_object(
    proposer: Proposer, ref: ObjectRef, conditions: Conditions, *, audit: AuditNote | None = None
) -> ObjectDeleted:
    """Hide the object behind a marker, or remove the version named, for good.

    Raises NoSuchBucket, NoSuchKey, NoSuchVersion, PreconditionFailed.
    """
    if ref.names_version:
        _check_number(ref)
        command = DeleteVersion(
            bucket=ref.bucket, key=ref.key, number=ref.number or 0, version_id=ref.version_id
        )
        return await proposer.propose(command, ObjectDeleted, audit=audit)
    hide = DeleteObject(bucket=ref.bucket, key=ref.key, conditions=conditions)
    return await proposer.propose(hide, ObjectDeleted, audit=audit)


@dataclass(frozen=True, slots=True)
class Undeleted:
    """The version that is current now. `was_deleted`: whether markers lay on top of it."""

    number: int
    version_id: str
    was_deleted: bool


async def undelete_object(store: Store, proposer: Proposer, ref: ObjectRef) -> Undeleted:
    """Remove the markers on top; none: no change. Raises NoSuchKey where no version is left."""
    try:
        current = (await find_object(store, ref, head_only=True)).version
    except NoSuchKey:
        revealed = await _reveal(proposer, ref)
        return Undeleted(revealed.number, revealed.version_id, was_deleted=True)
    return Undeleted(current.number, current.version_id, was_deleted=False)


async def _reveal(proposer: Proposer, ref: ObjectRef) -> ObjectDeleted:
    for _ in range(_UNDELETES_MAX):
        revealed = await proposer.propose(Undelete(bucket=ref.bucket, key=ref.key), ObjectDeleted)
        if not revealed.is_marker:  # one command removes a bounded number of markers
            return revealed
    raise NoSuchKey("Under very many delete markers no version was found.")


def _check_number(ref: ObjectRef) -> None:
    if ref.number is not None and not 1 <= ref.number <= _NUMBER_MAX:
        raise NoSuchVersion(f"There is no version {ref.number}: they count from 1.")


def _matches(wanted: tuple[str, ...], etag: str | None) -> bool:
    return etag is not None and ("*" in wanted or etag in wanted)
