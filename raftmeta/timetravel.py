"""The past of a bucket: its commands and questions (see `raftmeta.commands`, `raftmeta.queries`).

A time is one of catalog time, and stands for all that happened at or before that ms.
"""

from enum import StrEnum

import msgspec

from osscore.model import VersionInfo
from raftmeta.commands import Command, Result
from raftmeta.queries import Answer, Query


class RestoreOutcome(StrEnum):
    """What became of an object that shall be as it was at a moment."""

    RESTORED = "restored"
    """Its version of that time is current again, as a new version."""
    HIDDEN = "hidden"
    """It was not there then: a delete marker is on top."""
    UNCHANGED = "unchanged"
    """It was so already."""
    CHANGED = "changed"
    """Somebody wrote or deleted it after the work began: left as it is."""
    REMOVED = "removed"
    """The version of that time was removed for good since: left as it is."""
    UNKNOWN = "unknown"
    """Too much of its past was removed to tell what it was: left as it is."""


class RestoreObject(Command, frozen=True, kw_only=True):
    """Make bucket/key what it was at `at_ms` of catalog time: its version of then on top as a
    new one, which shares its bytes, or a delete marker. Answers ObjectRestored.

    A version or marker made after `began_ms` stays on top, whatever it is: so what others
    write meanwhile is not overwritten, and repeating this changes nothing. Refused NoSuchBucket,
    QuotaExceeded.
    """

    bucket: str
    key: str
    at_ms: int
    began_ms: int


class ObjectRestored(Result, frozen=True, kw_only=True):
    """`number`: the version of that time, of `size_bytes`, where RESTORED; 0: none, or not
    known which."""

    outcome: RestoreOutcome
    number: int = 0
    size_bytes: int = 0


class ListObjectsAt(Query, frozen=True, kw_only=True):
    """One page of what ListObjects would have answered at `at_ms` of catalog time. Answers
    ObjectsListedAt. Refused NoSuchBucket.

    A page reads at most about 10,000 rows: it may hold fewer entries than `limit`, even none,
    and yet have a next one.
    """

    bucket: str
    at_ms: int
    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    limit: int = 1000


class GoneObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object that was there, but its version was removed since. `number`: which; 0: not known.
    `is_certain` False: it may also have been deleted then."""

    key: str
    number: int = 0
    is_certain: bool = True


class ObjectsListedAt(Answer, frozen=True, kw_only=True):
    """As ObjectsListed. `gone` objects count as entries, and make a common prefix too."""

    objects: tuple[VersionInfo, ...]
    prefixes: tuple[str, ...]
    gone: tuple[GoneObject, ...] = ()
    next: str | None = None


class FindChanges(Query, frozen=True, kw_only=True):
    """What RestoreObject would do to each key with `prefix` behind `after_key`. Answers
    ChangesFound. `began_ms` 0: now. Refused NoSuchBucket."""

    bucket: str
    at_ms: int
    began_ms: int = 0
    prefix: str = ""
    after_key: str = ""
    limit: int = 500


class FindDeleted(Query, frozen=True, kw_only=True):
    """What Undelete from `since_ms` to `until_ms` (0: now) would do to each key with `prefix`
    behind `after_key`. Answers ChangesFound. Refused NoSuchBucket."""

    bucket: str
    since_ms: int
    until_ms: int = 0
    prefix: str = ""
    after_key: str = ""
    limit: int = 500


class KeyChange(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a key. `number` and `size_bytes`: of the version to come back."""

    key: str
    outcome: RestoreOutcome
    number: int = 0
    size_bytes: int = 0


class ChangesFound(Answer, frozen=True, kw_only=True):
    """Keys that are not UNCHANGED, of `visited` looked at; a page reads at most about 10,000 rows.

    `began_ms`: as given, or the catalog's time. `next` is None at the end, else the next page's
    `after_key`.
    """

    changes: tuple[KeyChange, ...]
    visited: int
    began_ms: int
    next: str | None = None
