"""A bucket holds what it may and not more; what it holds can always be removed."""

import pytest

from osscore.model import ObjectAttributes
from raftmeta.commands import (
    BeginUpload,
    CopyBody,
    DeleteObject,
    DeleteVersion,
    Done,
    ObjectDeleted,
    ObjectPut,
    PutObject,
    SetQuota,
    Undelete,
    UploadPlan,
)
from raftmeta.queries import BucketInfo, BucketsListed, GetBucket
from tests.raftmeta.catalog.harness import Driver, refusal


def bucket(driver: Driver) -> BucketInfo:
    listed = driver.ask(GetBucket(bucket="bucket"))
    assert isinstance(listed, BucketsListed)
    return listed.buckets[0]


def quota(driver: Driver, **bounds: int) -> str:
    return refusal(driver.run(SetQuota(bucket="bucket", **bounds)))


def used(driver: Driver) -> tuple[int, int]:
    return bucket(driver).used_versions, bucket(driver).used_bytes


def test_what_is_held_is_counted_through_every_change(driver: Driver) -> None:
    driver.put_inline("a", b"12345")
    driver.put("a", driver.draft(1))
    assert used(driver) == (2, 1005)
    driver.run(DeleteObject(bucket="bucket", key="a"))
    assert used(driver) == (2, 1005)  # a marker is free
    driver.run(Undelete(bucket="bucket", key="a"))
    copy = CopyBody(bucket="bucket", key="a", number=2)
    attributes = ObjectAttributes(size_bytes=1000)
    driver.run(PutObject(bucket="bucket", key="b", attributes=attributes, body=copy))
    assert used(driver) == (3, 2005)  # shared bytes count as often as they are seen
    driver.run(DeleteVersion(bucket="bucket", key="a", number=1))
    assert used(driver) == (2, 2000)


def test_one_byte_too_many_is_refused_and_changes_nothing(driver: Driver) -> None:
    assert quota(driver, size_bytes=10) == ""
    assert isinstance(driver.put_inline("a", b"12345"), ObjectPut)
    assert refusal(driver.put_inline("a", b"123456")) == "QuotaExceeded"
    assert used(driver) == (1, 5)
    assert isinstance(driver.put_inline("a", b"67890"), ObjectPut)
    assert refusal(driver.put_inline("b", b"x")) == "QuotaExceeded"
    assert isinstance(driver.put_inline("empty", b""), ObjectPut)


def test_a_full_bucket_can_be_emptied(driver: Driver) -> None:
    driver.put_inline("a", b"12345")
    assert quota(driver, size_bytes=1, versions=1) == ""
    assert refusal(driver.put_inline("a", b"")) == "QuotaExceeded"
    hidden = driver.run(DeleteObject(bucket="bucket", key="a"))
    assert isinstance(hidden, ObjectDeleted)
    gone = driver.run(DeleteVersion(bucket="bucket", key="a", number=1))
    assert isinstance(gone, ObjectDeleted)
    assert isinstance(driver.put_inline("a", b"1"), ObjectPut)


def test_the_number_of_versions_is_bounded(driver: Driver) -> None:
    assert quota(driver, versions=2) == ""
    driver.put_inline("a", b"1")
    driver.put_inline("a", b"2")
    assert refusal(driver.put_inline("b", b"")) == "QuotaExceeded"
    assert quota(driver, versions=0) == ""
    assert isinstance(driver.put_inline("b", b""), ObjectPut)


def test_each_bound_is_set_by_itself(driver: Driver) -> None:
    quota(driver, size_bytes=7)
    quota(driver, versions=3)
    assert (bucket(driver).quota_bytes, bucket(driver).quota_versions) == (7, 3)
    quota(driver, size_bytes=0)
    assert (bucket(driver).quota_bytes, bucket(driver).quota_versions) == (0, 3)


@pytest.mark.parametrize(("size_bytes", "code"), [(10, ""), (11, "QuotaExceeded")])
def test_an_upload_of_known_size_is_refused_before_it_begins(
    driver: Driver, size_bytes: int, code: str
) -> None:
    quota(driver, size_bytes=10)
    begin = BeginUpload(
        upload=b"u" * 16,
        bucket="bucket",
        key="k",
        ttl_ms=60_000,
        plan=UploadPlan(size_bytes=size_bytes),
    )
    result = driver.run(begin)
    assert refusal(result) == code
    assert code or result == Done()


def test_bad_bounds_are_refused(driver: Driver) -> None:
    assert quota(driver, size_bytes=-1) == "InvalidArgument"
    assert quota(driver, versions=1 << 63) == "InvalidArgument"
    assert refusal(driver.run(SetQuota(bucket="none", size_bytes=1))) == "NoSuchBucket"
    assert (bucket(driver).quota_bytes, bucket(driver).quota_versions) == (0, 0)
