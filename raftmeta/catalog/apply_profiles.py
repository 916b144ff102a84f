"""What profile a bucket has, and the jobs that give it to what is there (SAFETY rule 8)."""

from osscore.errors import Conflict
from osscore.model import Profile
from raftmeta.catalog.transaction import Transaction
from raftmeta.catalog.versions import find_bucket
from raftmeta.commands import Done
from raftmeta.reencoding import (
    CANCELLED,
    DONE,
    RUNNING,
    CancelReencode,
    FinishReencode,
    ProfileSet,
    SetProfile,
)


def set_profile(tx: Transaction, command: SetProfile) -> ProfileSet:
    """Refuses NoSuchBucket, InvalidArgument, Conflict (the nodes could not hold it)."""
    bucket = find_bucket(tx.db, command.bucket)
    profile = Profile.parse(str(command.profile))
    _check_fits(tx, profile)
    tx.db.execute(
        "UPDATE buckets SET data_count = ?, parity_count = ? WHERE bucket = ?",
        (profile.data_count, profile.parity_count, bucket),
    )
    ended = _end_running(tx, bucket)
    if not command.reencodes:
        return ProfileSet(ended_job=ended)
    tx.db.execute("DELETE FROM reencode_jobs WHERE bucket = ?", (bucket,))
    # From the series of tasks: a restored catalog goes on far beyond it, too.
    job = tx.meta.take("next_task")
    tx.db.execute(
        "INSERT INTO reencode_jobs (job, bucket, profile_data, profile_parity, state,"
        " begun_at_ms) VALUES (?, ?, ?, ?, ?, ?)",
        (job, bucket, profile.data_count, profile.parity_count, RUNNING, tx.time_ms),
    )
    return ProfileSet(job=job, ended_job=ended)


def cancel_reencode(tx: Transaction, command: CancelReencode) -> Done:
    """Refuses NoSuchBucket, Conflict (none runs)."""
    if not _end_running(tx, find_bucket(tx.db, command.bucket)):
        raise Conflict(f"Nothing of bucket {command.bucket!r} is being encoded anew.")
    return Done()


def finish_reencode(tx: Transaction, command: FinishReencode) -> Done:
    """The leader found nothing more to do."""
    tx.db.execute(
        "UPDATE reencode_jobs SET state = ?, ended_at_ms = ?, kept_stripes = ?"
        " WHERE job = ? AND state = ?",
        (DONE, tx.time_ms, command.kept_stripes, command.job, RUNNING),
    )
    return Done()


def forget_job_of(tx: Transaction, bucket: int) -> None:
    """The bucket is being removed."""
    tx.db.execute("DELETE FROM reencode_jobs WHERE bucket = ?", (bucket,))


def _end_running(tx: Transaction, bucket: int) -> int:
    """The job that ran, 0: none. Its open tasks are closed by the leader, and not carried out."""
    found = tx.db.execute(
        "SELECT job FROM reencode_jobs WHERE bucket = ? AND state = ?", (bucket, RUNNING)
    ).fetchone()
    if found is None:
        return 0
    tx.db.execute(
        "UPDATE reencode_jobs SET state = ?, ended_at_ms = ? WHERE job = ?",
        (CANCELLED, tx.time_ms, found[0]),
    )
    return int(found[0])


def _check_fits(tx: Transaction, profile: Profile) -> None:
    nodes = {disk.node for disk in tx.disks().values() if disk.state == "in"}
    if len(nodes) < profile.nodes_min:
        raise Conflict(
            f"Profile {profile} needs {profile.nodes_min} nodes at least, so that the loss of any"
            f" one costs no more than {profile.parity_count} of {profile.shard_count} shards:"
            f" {len(nodes)} are in."
        )
