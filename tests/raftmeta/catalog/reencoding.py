"""Encoding anew as tests do it: by hand, step by step."""

from osscore.model import Profile, Slot, SlotState, Stripe, StripeDraft, reed_solomon
from osscore.names import StripeId
from raftmeta.commands import BeginUpload, CreateBucket, Stage, Staged, StripeQuestion
from raftmeta.queries import FindObject, Found
from raftmeta.reencoding import (
    FindReencodable,
    ListReencodes,
    OpenReencode,
    OpenReencodes,
    ProfileSet,
    ReadReencodes,
    ReencodableFound,
    Reencode,
    Reencoded,
    ReencodeDraft,
    ReencodeJob,
    ReencodesListed,
    ReencodesOpened,
    ReencodesRead,
    SetProfile,
)
from tests.raftmeta.catalog.harness import GRACE_MS, Driver

ONE_TWO, THREE_TWO, TWO_ONE = Profile(1, 2), Profile(3, 2), Profile(2, 1)
PROFILES = (ONE_TWO, THREE_TWO, TWO_ONE)


def bucket_of(driver: Driver, name: str, profile: Profile | None) -> str:
    driver.run(CreateBucket(bucket=name, profile=profile))
    return name


def stripe_of(driver: Driver, key: str = "k", bucket: str = "bucket") -> Stripe:
    found = driver.ask(FindObject(bucket=bucket, key=key))
    assert isinstance(found, Found), found
    return found.segments[0].stripe


def begin(driver: Driver, profile: Profile, bucket: str = "bucket") -> int:
    """A job for the bucket."""
    result = driver.run(SetProfile(bucket=bucket, profile=profile, reencodes=True))
    assert isinstance(result, ProfileSet) and result.job, result
    return result.job


def opened(driver: Driver, stripe: Stripe, profile: Profile, job: int, *, worker: int = 1) -> int:
    """How many tasks of one were opened."""
    draft = ReencodeDraft(stripe.row, stripe.stripe, profile, worker, job)
    result = driver.run(OpenReencodes(tasks=(draft,)))
    assert isinstance(result, ReencodesOpened), result
    return result.opened


def tasks_of(driver: Driver, worker: int = 1) -> tuple[OpenReencode, ...]:
    read = driver.ask(ReadReencodes(worker=worker))
    assert isinstance(read, ReencodesRead)
    return read.tasks


def listed(driver: Driver) -> ReencodesListed:
    answer = driver.ask(ListReencodes())
    assert isinstance(answer, ReencodesListed)
    return answer


def job_of(driver: Driver, bucket: str = "bucket") -> ReencodeJob:
    return next(job for job in listed(driver).jobs if job.bucket == bucket)


def found(driver: Driver, job: int) -> ReencodableFound:
    answer = driver.ask(FindReencodable(job=job))
    assert isinstance(answer, ReencodableFound)
    return answer


def anew(
    driver: Driver,
    task: OpenReencode,
    disks: tuple[int, ...],
    *,
    stripe: StripeId | None = None,
    missing: tuple[int, ...] = (),
) -> StripeDraft:
    """What the worker made of a task's stripe; shards of `missing` indexes came to nothing."""
    old, coding = task.stripe, reed_solomon(task.profile)
    return StripeDraft(
        stripe=stripe or driver.new_id(),
        profile=task.profile,
        domain=task.domain,
        digest=task.digest,
        plain_bytes=old.plain_bytes,
        stored_bytes=old.stored_bytes,
        stored_crc=old.stored_crc,
        frames=old.frames,
        coding=coding,
        shard_bytes=-(-old.stored_bytes // coding.data_count),
        shard_crcs=tuple(range(coding.shard_count)),
        slots=tuple(
            Slot(
                index,
                0,
                disks[index],
                SlotState.MISSING if index in missing else SlotState.GOOD,
            )
            for index in range(coding.shard_count)
        ),
    )


def swap(driver: Driver, task: OpenReencode, draft: StripeDraft) -> Reencoded:
    result = driver.run(Reencode(task=task.task, draft=draft))
    assert isinstance(result, Reencoded), result
    return result


def hold(driver: Driver, upload: bytes, stripe: Stripe, *, content: int) -> None:
    """An upload of the bucket reserves the stripe of that content."""
    driver.run(BeginUpload(upload=upload, bucket="bucket", key="up", ttl_ms=GRACE_MS))
    question = StripeQuestion(
        profile=stripe.profile,
        domain=b"",
        digest=content.to_bytes(32, "big"),
        plain_bytes=stripe.plain_bytes,
    )
    staged = driver.run(Stage(upload=upload, position=0, ask=(question,)))
    assert isinstance(staged, Staged) and staged.hits == (stripe.row,)
