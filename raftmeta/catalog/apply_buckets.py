"""Making and removing buckets."""

from osscore.errors import BucketAlreadyExists, BucketNotEmpty
from osscore.model import Profile
from osscore.names import BucketName
from raftmeta.catalog import usage
from raftmeta.catalog.apply_profiles import forget_job_of
from raftmeta.catalog.transaction import Transaction
from raftmeta.catalog.versions import find_bucket
from raftmeta.commands import CreateBucket, DeleteBucket, Done, SetQuota


def create_bucket(tx: Transaction, command: CreateBucket) -> Done:
    """Make a bucket. Refuses BucketAlreadyExists, InvalidName, InvalidArgument.

    A name used before keeps its number: the version numbers of its keys go on where they
    stood and are never used twice.
    """
    BucketName.parse(command.bucket)
    profile = command.profile
    if profile is not None:
        Profile.parse(str(profile))
    counts = (profile.data_count, profile.parity_count) if profile else (None, None)
    found = tx.db.execute(
        "SELECT bucket, live FROM buckets WHERE name = ?", (command.bucket,)
    ).fetchone()
    if found is not None and found[1]:
        raise BucketAlreadyExists(f"There is a bucket {command.bucket!r} already.")
    number = found[0] if found else tx.meta.take("next_bucket")
    tx.db.execute(
        "INSERT OR REPLACE INTO buckets"
        " (bucket, name, created_at_ms, data_count, parity_count, live) VALUES (?, ?, ?, ?, ?, 1)",
        (number, command.bucket, tx.time_ms, *counts),
    )
    tx.meta.add("total_buckets", 1)
    return Done()


def delete_bucket(tx: Transaction, command: DeleteBucket) -> Done:
    """Remove a bucket without versions and uploads. Refuses NoSuchBucket, BucketNotEmpty."""
    bucket = find_bucket(tx.db, command.bucket)
    in_use = tx.db.execute(
        "SELECT EXISTS (SELECT 1 FROM versions WHERE bucket = ?1)"
        " OR EXISTS (SELECT 1 FROM uploads WHERE bucket = ?1)",
        (bucket,),
    ).fetchone()[0]
    if in_use:
        raise BucketNotEmpty()
    forget_job_of(tx, bucket)
    tx.db.execute("UPDATE buckets SET live = 0 WHERE bucket = ?", (bucket,))
    tx.meta.add("total_buckets", -1)
    return Done()


def set_quota(tx: Transaction, command: SetQuota) -> Done:
    """Bound what a bucket may hold. Refuses NoSuchBucket, InvalidArgument."""
    return usage.set_quota(tx, find_bucket(tx.db, command.bucket), command)
