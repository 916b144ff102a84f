"""Every version whose bytes the catalog keeps comes once, with them as they are kept."""

import pytest

from raftmeta.catalog import query_inline
from raftmeta.commands import CreateBucket, DeleteObject, DeleteVersion
from raftmeta.scanning import InlineListed, InlineVersion, ListInline
from tests.raftmeta.catalog.harness import Driver, refusal


@pytest.fixture
def filled(driver: Driver) -> Driver:
    """Small ones among large ones, markers and what was removed."""
    driver.run(CreateBucket(bucket="other"))
    driver.put_inline("a/1", b"one")
    driver.put("large", driver.draft(1))
    driver.put_inline("a/1", b"")
    driver.put_inline("a/1", b"of the other", bucket="other")
    driver.run(DeleteObject(bucket="bucket", key="a/1"))
    driver.put_inline("b", b"two")
    driver.put_inline("gone", b"three")
    driver.run(DeleteVersion(bucket="bucket", key="gone", number=1))
    driver.put("large", driver.draft(2))
    return driver


def kept(driver: Driver, **query: object) -> list[InlineVersion]:
    """Page after page; the cursor always moves on."""
    found: list[InlineVersion] = []
    after = 0
    while True:
        listed = driver.ask(ListInline(after_id=after, **query))  # type: ignore[arg-type]
        assert isinstance(listed, InlineListed)
        found += listed.versions
        if not listed.next_id:
            return found
        assert listed.next_id > after
        after = listed.next_id


def bodies(driver: Driver, **query: object) -> list[tuple[str, str, int, bytes | None]]:
    return [
        (each.version.bucket, each.version.key, each.version.number, each.data)
        for each in kept(driver, **query)
    ]


@pytest.mark.parametrize("visited_max", [1, 2, 5000])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_each_comes_once_whatever_the_pages(
    filled: Driver, monkeypatch: pytest.MonkeyPatch, limit: int, visited_max: int
) -> None:
    monkeypatch.setattr(query_inline, "VISITED_MAX", visited_max)
    first, empty = ("bucket", "a/1", 1, b"one"), ("bucket", "a/1", 2, b"")
    others, last = ("other", "a/1", 1, b"of the other"), ("bucket", "b", 1, b"two")
    assert bodies(filled, limit=limit) == [first, empty, others, last]
    assert bodies(filled, limit=limit, bucket="bucket") == [first, empty, last]
    assert bodies(filled, limit=limit, bucket="bucket", prefix="a/") == [first, empty]
    assert bodies(filled, limit=limit, bucket="other") == [others]
    assert bodies(filled, limit=limit, bucket="other", prefix="b") == []


def test_a_body_that_is_missing_is_told(filled: Driver) -> None:
    version = int(kept(filled)[0].version.version_id, 16)
    writer = filled.catalog._writer
    writer.execute("DELETE FROM inline_bodies WHERE version = ?", (version,))
    writer.commit()
    assert [each.data for each in kept(filled, bucket="bucket")] == [None, b"", b"two"]
    writer.execute("INSERT INTO inline_bodies (version, data) VALUES (?, ?)", (version, b"one"))
    writer.commit()


def test_an_unknown_bucket_is_refused(filled: Driver) -> None:
    assert refusal(filled.ask(ListInline(bucket="absent"))) == "NoSuchBucket"
    assert bodies(filled, limit=0) == bodies(filled, limit=10**6)
