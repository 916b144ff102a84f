"""Buckets: made, removed, listed, and what profile one asks for."""

from frontend.flows.store import Proposer, Store
from osscore.errors import BucketAlreadyExists, NoSuchBucket
from osscore.model import Profile
from osscore.placement import default_profile
from raftmeta.commands import CreateBucket, DeleteBucket, Done, SetQuota
from raftmeta.credentials import AuditNote
from raftmeta.queries import BucketInfo, BucketsListed, GetBucket, ListBuckets

_PROFILE_KNOWN_S = 5.0
_PROFILES_MAX = 10_000
_QUOTA_MAX = 1 + (1 << 62)
"""The first that is refused."""


async def create_bucket(
    store: Store, bucket: str, profile: Profile | None, *, audit: AuditNote | None = None
) -> None:
    """Make an empty bucket. Raises BucketAlreadyExists."""
    await store.meta.propose(CreateBucket(bucket=bucket, profile=profile), Done, audit=audit)
    store.profiles.pop(bucket, None)


async def ensure_bucket(store: Store, bucket: str, *, proposer: Proposer | None = None) -> None:
    """Make a bucket unless it exists."""
    try:
        await (proposer or store.meta).propose(CreateBucket(bucket=bucket), Done)
        store.profiles.pop(bucket, None)
    except BucketAlreadyExists:
        pass  # somebody was faster, which is as good


async def delete_bucket(store: Store, bucket: str, *, audit: AuditNote | None = None) -> None:
    """Remove an empty bucket. Raises NoSuchBucket, BucketNotEmpty."""
    await store.meta.propose(DeleteBucket(bucket=bucket), Done, audit=audit)
    store.profiles.pop(bucket, None)


async def find_bucket(store: Store, bucket: str) -> BucketInfo:
    """One bucket. Raises NoSuchBucket."""
    return (await store.meta.query(GetBucket(bucket=bucket), BucketsListed)).buckets[0]


async def list_buckets(store: Store) -> tuple[BucketInfo, ...]:
    """All buckets by name."""
    return (await store.meta.query(ListBuckets(), BucketsListed)).buckets


async def write_profile(
    store: Store,
    bucket: str,
    asked: Profile | None,
    *,
    creates_bucket: bool,
    proposer: Proposer | None = None,
) -> Profile:
    """The profile of a write: the request's, else the bucket's, else the default now.

    Raises NoSuchBucket unless `creates_bucket`: then it is made, by `proposer`.
    """
    of_bucket = await _bucket_profile(
        store, bucket, creates_bucket=creates_bucket, proposer=proposer
    )
    # By the nodes that exist, dead or alive: an outage must not thin out what is written
    # during it; placement copes with the dead.
    state = await store.cluster.current()
    return asked or of_bucket or default_profile(state.node_count)


async def _bucket_profile(
    store: Store, bucket: str, *, creates_bucket: bool, proposer: Proposer | None
) -> Profile | None:
    # A few seconds of the former profile are harmless: every stripe records its own, and what
    # encodes a bucket anew does not end before all frontends know (raftmeta.stewards.rewalk).
    now_s = store.clock.monotonic_s()
    known = store.profiles.get(bucket)
    if known is not None and now_s - known[0] < _PROFILE_KNOWN_S:
        return known[1]
    try:
        profile = (await find_bucket(store, bucket)).profile
    except NoSuchBucket:
        if not creates_bucket:
            raise
        await ensure_bucket(store, bucket, proposer=proposer)
        profile = None
    if len(store.profiles) >= _PROFILES_MAX:
        store.profiles.clear()
    store.profiles[bucket] = (now_s, profile)
    return profile


async def set_quota_bytes(
    store: Store, bucket: str, size_bytes: int, *, audit: AuditNote | None = None
) -> None:
    """The bucket holds at most so many bytes, old versions included; 0: any. Raises
    NoSuchBucket, InvalidArgument."""
    command = SetQuota(bucket=bucket, size_bytes=min(size_bytes, _QUOTA_MAX))
    await store.meta.propose(command, Done, audit=audit)


async def set_quota_versions(
    store: Store, bucket: str, count: int, *, audit: AuditNote | None = None
) -> None:
    """The bucket holds at most so many versions; 0: any. Raises NoSuchBucket, InvalidArgument."""
    command = SetQuota(bucket=bucket, versions=min(count, _QUOTA_MAX))
    await store.meta.propose(command, Done, audit=audit)
