"""What each bucket holds, and may hold.

Bytes and versions as users see them: every real version counts, old ones too, at its whole
size, whatever it shares with others. Delete markers are free, so that a full bucket can be emptied.
"""

from osscore.errors import InvalidArgument, QuotaExceeded
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import Done, SetQuota

_MAX = 1 << 62


def add(tx: Transaction, bucket: int, size_bytes: int) -> None:
    """One more version. Refuses QuotaExceeded."""
    check(tx, bucket, size_bytes)
    tx.db.execute(
        "UPDATE buckets SET used_bytes = used_bytes + ?, used_versions = used_versions + 1"
        " WHERE bucket = ?",
        (size_bytes, bucket),
    )


def give_back(tx: Transaction, bucket: int, size_bytes: int) -> None:
    """One version less."""
    tx.db.execute(
        "UPDATE buckets SET used_bytes = used_bytes - ?, used_versions = used_versions - 1"
        " WHERE bucket = ?",
        (size_bytes, bucket),
    )


def check(tx: Transaction, bucket: int, size_bytes: int) -> None:
    """Refuses QuotaExceeded if one more version of that size would be too much."""
    used_bytes, used_versions, quota_bytes, quota_versions = tx.db.execute(
        "SELECT used_bytes, used_versions, quota_bytes, quota_versions FROM buckets"
        " WHERE bucket = ?",
        (bucket,),
    ).fetchone()
    if quota_bytes and used_bytes + size_bytes > quota_bytes:
        raise QuotaExceeded(
            f"The bucket may hold {quota_bytes} bytes and holds {used_bytes}: "
            f"{size_bytes} more are too many."
        )
    if quota_versions and used_versions >= quota_versions:
        raise QuotaExceeded(f"The bucket may hold {quota_versions} versions and holds them all.")


def set_quota(tx: Transaction, bucket: int, command: SetQuota) -> Done:
    """Refuses InvalidArgument."""
    if not all(0 <= each <= _MAX for each in (command.size_bytes or 0, command.versions or 0)):
        raise InvalidArgument("A quota is a number of bytes or versions, or 0 for none.")
    tx.db.execute(
        "UPDATE buckets SET quota_bytes = COALESCE(?, quota_bytes),"
        " quota_versions = COALESCE(?, quota_versions) WHERE bucket = ?",
        (command.size_bytes, command.versions, bucket),
    )
    return Done()
