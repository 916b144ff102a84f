"""Pages of objects and of versions."""

from frontend.flows.store import Store
from raftmeta.queries import ListObjects, ListVersions, ObjectsListed, VersionsListed

LIMIT_DEFAULT = 1000
LIMIT_MAX = 10_000


async def list_objects(
    store: Store, bucket: str, *, prefix: str, delimiter: str, after: str, limit: int
) -> ObjectsListed:
    """One page of current objects by key order. Raises NoSuchBucket."""
    return await store.meta.query(
        ListObjects(bucket=bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit),
        ObjectsListed,
    )


async def list_versions(
    store: Store,
    bucket: str,
    *,
    prefix: str = "",
    key: str = "",
    after: tuple[str, int] = ("", 0),
    limit: int,
) -> VersionsListed:
    """One page of versions and markers, keys in order, newest first. Raises NoSuchBucket."""
    return await store.meta.query(
        ListVersions(
            bucket=bucket,
            prefix=prefix,
            key=key,
            after_key=after[0],
            after_number=after[1],
            limit=limit,
        ),
        VersionsListed,
    )
