"""Jobs that encode buckets anew, and stripes that several buckets share: SAFETY rules 5, 8."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from osscore.model import Profile
from raftmeta.commands import (
    BeginUpload,
    CopyBody,
    DeleteBucket,
    Done,
    PutObject,
    SetDiskState,
    Stage,
    StripeQuestion,
)
from raftmeta.reencoding import (
    CancelReencode,
    FinishReencode,
    SetProfile,
)
from tests.raftmeta.catalog.harness import GRACE_MS, Driver, refusal
from tests.raftmeta.catalog.reencoding import (
    ONE_TWO,
    THREE_TWO,
    TWO_ONE,
    anew,
    begin,
    bucket_of,
    found,
    job_of,
    listed,
    opened,
    stripe_of,
    swap,
    tasks_of,
)

FIVE = (1, 2, 3, 4, 5)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path / "catalog.sqlite")
    made.form(nodes=6)
    yield made
    assert made.catalog.contradictions() == []
    made.catalog.close()


def copy(driver: Driver, source: str, target: str) -> None:
    """Share the bytes of `k` with another bucket."""
    body = CopyBody(bucket=source, key="k", number=1)
    attributes = driver.put_command("k", b"").attributes
    command = PutObject(
        bucket=target,
        key="k",
        attributes=msgspec.structs.replace(attributes, size_bytes=1000),
        body=body,
    )
    assert not refusal(driver.run(command))


def ask(driver: Driver, profile: Profile) -> int:
    """The row that a writer of content 1 would be offered."""
    upload = driver.new_id()
    driver.run(BeginUpload(upload=upload, bucket="bucket", key="up", ttl_ms=GRACE_MS))
    digest = (1).to_bytes(32, "big")
    question = StripeQuestion(profile=profile, domain=b"", digest=digest, plain_bytes=1000)
    staged = driver.run(Stage(upload=upload, position=0, ask=(question,)))
    return staged.hits[0]  # type: ignore[union-attr]


# --- who shares it ---------------------------------------------------------------------------


def test_the_stripes_of_other_buckets_are_left_alone(driver: Driver) -> None:
    bucket_of(driver, "other", TWO_ONE)
    driver.put("k", driver.draft(1), bucket="other")
    driver.put("k", driver.draft(2))
    job = begin(driver, THREE_TWO)
    assert [each.row for each in found(driver, job).stripes] == [stripe_of(driver).row]


def test_a_shared_stripe_becomes_more_durable_for_all(driver: Driver) -> None:
    bucket_of(driver, "other", TWO_ONE)
    driver.put("k", driver.draft(1))
    copy(driver, "bucket", "other")
    job = begin(driver, THREE_TWO)
    assert len(found(driver, job).stripes) == 1
    assert opened(driver, stripe_of(driver), THREE_TWO, job) == 1
    (task,) = tasks_of(driver)
    assert swap(driver, task, anew(driver, task, FIVE)).done
    assert stripe_of(driver, bucket="other").profile == THREE_TWO


@pytest.mark.parametrize("other", [ONE_TWO, None])
def test_a_shared_stripe_never_becomes_less_durable_than_another_asks(
    driver: Driver, other: Profile | None
) -> None:
    safer(driver)
    bucket_of(driver, "other", other)
    copy(driver, "bucket", "other")
    job = begin(driver, TWO_ONE)
    assert (found(driver, job).stripes, found(driver, job).kept_stripes) == ((), 1)
    assert opened(driver, stripe_of(driver), TWO_ONE, job) == 0
    # Once nobody else asks for more, it follows.
    driver.run(SetProfile(bucket="other", profile=Profile(3, 1)))
    assert len(found(driver, job).stripes) == 1
    assert opened(driver, stripe_of(driver), TWO_ONE, job) == 1


def test_a_stripe_that_is_shared_while_it_is_encoded_keeps_its_coding(driver: Driver) -> None:
    safer(driver)
    job = begin(driver, TWO_ONE)
    opened(driver, stripe_of(driver), TWO_ONE, job)
    (task,) = tasks_of(driver)
    draft = anew(driver, task, (4, 5, 6))
    bucket_of(driver, "safer", ONE_TWO)
    copy(driver, "bucket", "safer")
    assert swap(driver, task, draft).why == "Others who share the stripe ask for more."
    assert stripe_of(driver).profile == ONE_TWO


def test_a_stripe_that_an_upload_holds_is_not_made_less_durable(driver: Driver) -> None:
    safer(driver)
    assert ask(driver, ONE_TWO) == stripe_of(driver).row
    job = begin(driver, TWO_ONE)
    assert found(driver, job).kept_stripes == 1
    assert opened(driver, stripe_of(driver), TWO_ONE, job) == 0


def safer(driver: Driver) -> None:
    """Have `k` in its bucket as 1+2."""
    driver.put("k", driver.draft(1))
    job = begin(driver, ONE_TWO)
    opened(driver, stripe_of(driver), ONE_TWO, job)
    (task,) = tasks_of(driver)
    assert swap(driver, task, anew(driver, task, (1, 2, 3))).done


# --- jobs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bucket", "profile", "code"),
    [
        ("nowhere", TWO_ONE, "NoSuchBucket"),
        ("bucket", Profile(0, 1), "InvalidArgument"),
        ("bucket", Profile(2, 0), "InvalidArgument"),
        ("bucket", Profile(17, 2), "InvalidArgument"),
        ("bucket", Profile(6, 1), "Conflict"),
        ("bucket", Profile(16, 2), "Conflict"),
    ],
)
@pytest.mark.parametrize("reencodes", [False, True])
def test_a_refused_profile_changes_nothing(
    driver: Driver, bucket: str, profile: Profile, code: str, reencodes: bool
) -> None:
    running = begin(driver, THREE_TWO)
    command = SetProfile(bucket=bucket, profile=profile, reencodes=reencodes)
    assert refusal(driver.run(command)) == code
    job = job_of(driver)
    assert (job.job, job.state, job.profile) == (running, "running", THREE_TWO)


def test_nodes_that_are_not_in_hold_nothing(driver: Driver) -> None:
    assert not refusal(driver.run(SetProfile(bucket="bucket", profile=Profile(5, 1))))
    driver.run(SetDiskState(disk=6, state="draining"))
    assert refusal(driver.run(SetProfile(bucket="bucket", profile=Profile(5, 1)))) == "Conflict"


def test_a_job_ends_by_its_end_by_word_or_by_another_profile(driver: Driver) -> None:
    first = begin(driver, THREE_TWO)
    driver.run(FinishReencode(job=first, kept_stripes=2))
    assert (job_of(driver).state, job_of(driver).kept_stripes) == ("done", 2)
    assert job_of(driver).ended_at_ms
    assert refusal(driver.run(CancelReencode(bucket="bucket"))) == "Conflict"
    second = begin(driver, ONE_TWO)
    driver.run(FinishReencode(job=first))  # of a leader that is late
    assert (job_of(driver).job, job_of(driver).state) == (second, "running")
    assert driver.run(CancelReencode(bucket="bucket")) == Done()
    assert job_of(driver).state == "cancelled"
    third = begin(driver, THREE_TWO)
    result = driver.run(SetProfile(bucket="bucket", profile=ONE_TWO))
    assert result.ended_job == third  # type: ignore[union-attr]
    assert job_of(driver).state == "cancelled"
    assert refusal(driver.run(CancelReencode(bucket="nowhere"))) == "NoSuchBucket"


def test_a_removed_bucket_has_no_job(driver: Driver) -> None:
    begin(driver, THREE_TWO)
    assert driver.run(DeleteBucket(bucket="bucket")) == Done()
    assert listed(driver).jobs == ()
