"""What a bucket asks for by time: objects that expire, old versions that go, uploads given up."""

import msgspec

from raftmeta.commands import Command, Result

LIFE_MS_MAX = 36_500 * 86_400_000
"""Longest time a bucket may ask for: a hundred years."""


class Lifecycle(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket's settings, in ms of catalog time; 0: never.

    `expire_after_ms`: an object gets a delete marker so long after its current version was
    made. `expire_noncurrent_after_ms`: a version or marker is removed for good so long after a
    newer one was put on top of it. `abort_uploads_after_ms`: an upload of several requests is
    given up so long after its last sign of life, instead of after what its process is set to.
    """

    expire_after_ms: int = 0
    expire_noncurrent_after_ms: int = 0
    abort_uploads_after_ms: int = 0

    @property
    def removes_markers(self) -> bool:
        """Whether delete markers with nothing behind them go."""
        return bool(self.expire_after_ms or self.expire_noncurrent_after_ms)

    @property
    def asks(self) -> bool:
        """Whether there is anything to do by time."""
        return self.removes_markers or bool(self.abort_uploads_after_ms)


class SetLifecycle(Command, frozen=True, kw_only=True):
    """What the bucket asks for from now on, also of what it holds already; None: as before.

    Uploads under way take `abort_uploads_after_ms` over; 0 leaves them as they are. Refused
    NoSuchBucket, InvalidArgument.
    """

    bucket: str
    expire_after_ms: int | None = None
    expire_noncurrent_after_ms: int | None = None
    abort_uploads_after_ms: int | None = None


class ExpireObject(Command, frozen=True, kw_only=True):
    """Put a delete marker on top of bucket/key, if its current version is as old as the bucket
    asks for when this is applied. Answers Expired. Refused NoSuchBucket. Repeating it is
    harmless: what is deleted does not expire."""

    bucket: str
    key: str


class ExpireVersions(Command, frozen=True, kw_only=True):
    """One bounded step, at most about `rows_max` rows, of what the bucket asks for when this is
    applied: versions and markers that were not the newest for so long go for good, and delete
    markers with nothing behind them; uploads under way learn when they are to be given up.

    Answers Expired. Refused NoSuchBucket. Repeating it is harmless.
    """

    bucket: str
    rows_max: int = 500


class Expired(Result, frozen=True, kw_only=True):
    """`objects` got a delete marker; `versions`, of `size_bytes` as users see them, and
    `markers` were removed; `uploads` were told a new time. All zero: nothing is due, or all
    expiry waits (SAFETY rules 16 and 17)."""

    objects: int = 0
    versions: int = 0
    markers: int = 0
    size_bytes: int = 0
    uploads: int = 0

    @property
    def count(self) -> int:
        """How much was done."""
        return self.objects + self.versions + self.markers + self.uploads


class ExpiredTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Since the cluster was formed: `objects` that expired, and the `versions`, of `size_bytes`
    as users see them, and `markers` that were removed for good by time."""

    objects: int = 0
    versions: int = 0
    markers: int = 0
    size_bytes: int = 0


class LifecycleState(msgspec.Struct, frozen=True, kw_only=True):
    """How far the leader is: buckets that ask for anything by time, and in this round so far (or
    in the last, while it rests) objects that expired and versions and markers removed.
    `last_round_s_ago`: since a whole round ended under this leader; -1: none has."""

    buckets: int
    buckets_done: int
    objects: int
    removed: int
    last_round_s_ago: float
