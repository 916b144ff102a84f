"""Every living stripe once, whoever needs it; and who needs it."""

import pytest

from osscore.model import ObjectAttributes
from raftmeta.catalog import query_stripes
from raftmeta.commands import CopyBody, CreateBucket, DeleteVersion, ObjectPut, PutObject
from raftmeta.queries import FindOwners, ListStripes, ObjectsFound, StripesListed
from tests.raftmeta.catalog.harness import Driver, refusal


@pytest.fixture
def filled(driver: Driver) -> Driver:
    """Row 1: a/1 and a/2; 2: a/2 and a/1 of the other bucket, which has 4; 3: b; 5 is dead."""
    driver.run(CreateBucket(bucket="other"))
    driver.put("a/1", driver.draft(1))
    driver.put("a/2", driver.draft(2), driver.draft(1))
    driver.put("b", driver.draft(3))
    driver.put("a/1", driver.draft(4), driver.draft(2), bucket="other")
    driver.put("gone", driver.draft(5))
    driver.run(DeleteVersion(bucket="bucket", key="gone", number=1))
    driver.put_inline("small", b"x")
    return driver


def pages(driver: Driver, **query: object) -> list[list[int]]:
    """Rows page by page; the cursor always moves on."""
    found, after = [], 0
    while True:
        listed = driver.ask(ListStripes(after_row=after, **query))  # type: ignore[arg-type]
        assert isinstance(listed, StripesListed)
        assert listed.last_row == 5
        found.append([stripe.row for stripe in listed.stripes])
        if not listed.next_row:
            return found
        assert listed.next_row > after
        after = listed.next_row


def rows(driver: Driver, **query: object) -> list[int]:
    return [row for page in pages(driver, **query) for row in page]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_every_living_stripe_comes_once(filled: Driver, limit: int) -> None:
    assert rows(filled, limit=limit) == [1, 2, 3, 4]
    assert all(len(page) <= limit for page in pages(filled, limit=limit))


@pytest.mark.parametrize("visited_max", [1, 2, 5000])
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_those_of_a_bucket_or_prefix_come_once_too(
    filled: Driver, monkeypatch: pytest.MonkeyPatch, limit: int, visited_max: int
) -> None:
    monkeypatch.setattr(query_stripes, "VISITED_MAX", visited_max)
    assert rows(filled, bucket="bucket", limit=limit) == [1, 2, 3]
    assert rows(filled, bucket="bucket", prefix="a/", limit=limit) == [1, 2]
    assert rows(filled, bucket="bucket", prefix="a/1", limit=limit) == [1]
    assert rows(filled, bucket="other", limit=limit) == [2, 4]
    assert rows(filled, bucket="other", prefix="b", limit=limit) == []


def test_a_stripe_knows_its_objects(filled: Driver) -> None:
    copy = CopyBody(bucket="bucket", key="b", number=1)
    attributes = ObjectAttributes(size_bytes=1000)
    put = PutObject(bucket="other", key="copy", attributes=attributes, body=copy)
    assert isinstance(filled.run(put), ObjectPut)

    def owners(row: int, limit: int = 10) -> set[tuple[str, str, int]]:
        found = filled.ask(FindOwners(row=row, limit=limit))
        assert isinstance(found, ObjectsFound)
        return {(v.bucket, v.key, v.number) for v in found.versions}

    assert owners(1) == {("bucket", "a/1", 1), ("bucket", "a/2", 1)}
    assert owners(2) == {("bucket", "a/2", 1), ("other", "a/1", 1)}
    assert owners(3) == {("bucket", "b", 1), ("other", "copy", 1)}
    assert owners(5) == owners(77) == set()
    assert len(owners(1, limit=1)) == 1


def test_unknown_buckets_are_refused(filled: Driver) -> None:
    assert refusal(filled.ask(ListStripes(bucket="none"))) == "NoSuchBucket"
