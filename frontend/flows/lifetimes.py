"""What a bucket wants gone by time: objects, old versions, uploads."""

from frontend.flows.store import Store
from raftmeta.commands import Done
from raftmeta.credentials import AuditNote
from raftmeta.lifecycle import LIFE_MS_MAX, SetLifecycle

_S_MAX = 1 + LIFE_MS_MAX // 1000
"""The first that is refused of any of them."""


async def expire_after(
    store: Store, bucket: str, life_s: int, *, audit: AuditNote | None = None
) -> None:
    """Objects get a delete marker so long after they were written; 0: never.

    Raises NoSuchBucket, InvalidArgument, as the others do.
    """
    await _set(store, SetLifecycle(bucket=bucket, expire_after_ms=_ms(life_s)), audit)


async def expire_noncurrent_after(
    store: Store, bucket: str, life_s: int, *, audit: AuditNote | None = None
) -> None:
    """Versions are removed for good so long after a newer one came; 0: never."""
    await _set(store, SetLifecycle(bucket=bucket, expire_noncurrent_after_ms=_ms(life_s)), audit)


async def abort_uploads_after(
    store: Store, bucket: str, life_s: int, *, audit: AuditNote | None = None
) -> None:
    """Uploads of several requests are given up so long after their last sign of life; 0: as
    the processes are set to."""
    await _set(store, SetLifecycle(bucket=bucket, abort_uploads_after_ms=_ms(life_s)), audit)


def _ms(life_s: int) -> int:
    return 1000 * min(life_s, _S_MAX)


async def _set(store: Store, command: SetLifecycle, audit: AuditNote | None) -> None:
    await store.meta.propose(command, Done, audit=audit)
