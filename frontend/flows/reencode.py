"""A bucket's profile changed, and how far the encoding anew of what is there has come."""

from dataclasses import dataclass

from frontend.flows.store import Store
from osscore.errors import NoSuchBucket, NotReady
from osscore.model import Profile
from raftmeta.commands import Done
from raftmeta.credentials import AuditNote
from raftmeta.healing import REENCODING, ReencodeProgress
from raftmeta.reencoding import (
    REPLICAS,
    RUNNING,
    CancelReencode,
    ListReencodes,
    ProfileSet,
    ReencodeJob,
    ReencodesListed,
    SetProfile,
)

LIST_DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A job and what the leader knows of what is left; None: it has ended, or the leader has not
    looked yet."""

    job: ReencodeJob
    left: ReencodeProgress | None
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class ReencodeProgresses:
    """`replicas`: stripes written as such while nodes were missing. `done_*`: since the cluster
    was formed. `bytes_per_s`: plain bytes, of all jobs together."""

    is_paused: bool
    task_count: int
    bytes_per_s: float
    done_stripes: int
    done_bytes: int
    replicas: ReencodeProgress
    jobs: tuple[JobProgress, ...]


async def set_profile(
    store: Store, bucket: str, profile: Profile, *, reencodes: bool, audit: AuditNote
) -> ProfileSet:
    """What is written from now on has this profile, with `reencodes` what is there, too. Raises
    NoSuchBucket, InvalidArgument, Conflict (the nodes could not hold it)."""
    command = SetProfile(bucket=bucket, profile=profile, reencodes=reencodes)
    result = await store.meta.propose(command, ProfileSet, audit=audit)
    store.profiles.pop(bucket, None)
    return result


async def cancel(store: Store, bucket: str, *, audit: AuditNote) -> None:
    """End the bucket's job where it is. Raises NoSuchBucket, Conflict (none runs)."""
    await store.meta.propose(CancelReencode(bucket=bucket), Done, audit=audit)


async def progress(store: Store, bucket: str = "") -> ReencodeProgresses:
    """Of all jobs, or of one bucket's. Raises NotReady while the leader has not looked yet,
    NoSuchBucket (it never had a job, or there is none of that name), Unavailable."""
    described = (await store.cluster.refresh()).described
    if described.healing is None:
        raise NotReady("The metadata leader has only just begun to look; ask again.")
    state = described.healing.reencoding
    listed = await store.meta.query(ListReencodes(), ReencodesListed, deadline_s=LIST_DEADLINE_S)
    jobs = [job for job in listed.jobs if bucket in ("", job.bucket)]
    if bucket and not jobs:
        raise NoSuchBucket(f"Nothing was encoded anew of a bucket {bucket!r}.")
    left = {each.job: each for each in state.progress}
    is_paused = REENCODING in described.paused
    rate = 0.0 if is_paused else state.bytes_per_s
    return ReencodeProgresses(
        is_paused=is_paused,
        task_count=len(listed.tasks),
        bytes_per_s=state.bytes_per_s,
        done_stripes=listed.total_stripes,
        done_bytes=listed.total_bytes,
        replicas=left.get(REPLICAS, ReencodeProgress(job=REPLICAS)),
        jobs=tuple(_progress(job, left.get(job.job), rate) for job in jobs),
    )


def _progress(job: ReencodeJob, left: ReencodeProgress | None, rate: float) -> JobProgress:
    if job.state != RUNNING or left is None:
        return JobProgress(job, None, None)
    has_end = left.is_surveyed and left.left_bytes > 0 and rate > 0
    return JobProgress(job, left, left.left_bytes / rate if has_end else None)
