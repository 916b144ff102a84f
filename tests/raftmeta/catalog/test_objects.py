"""Versions, markers, conditions, copies: what a user sees of a key."""

import pytest

from osscore.errors import NoSuchKey
from osscore.model import ObjectAttributes
from osscore.names import version_id
from raftmeta.commands import (
    Conditions,
    CopyBody,
    CreateBucket,
    DeleteBucket,
    DeleteObject,
    DeleteVersion,
    InlineBody,
    ObjectDeleted,
    ObjectPut,
    PutObject,
    StripesBody,
    Undelete,
)
from raftmeta.queries import (
    CatalogCounted,
    CountCatalog,
    FindDigest,
    FindObject,
    Found,
    ObjectsFound,
)
from tests.raftmeta.catalog.harness import Driver, refusal


def find(driver: Driver, key: str, **options: object) -> object:
    return driver.ask(FindObject(bucket="bucket", key=key, **options))  # type: ignore[arg-type]


def test_a_put_object_is_found_with_its_bytes_and_attributes(driver: Driver) -> None:
    attributes = ObjectAttributes(
        size_bytes=5, sha256=b"s" * 32, content={"content-type": "text/plain"}, user={"a": "ü"}
    )
    put = driver.run(
        PutObject(bucket="bucket", key="k", attributes=attributes, body=InlineBody(data=b"hello"))
    )
    found = find(driver, "k")
    assert isinstance(put, ObjectPut) and isinstance(found, Found)
    assert (put.number, found.inline, found.segments) == (1, b"hello", ())
    assert found.version.attributes == attributes
    assert found.version.version_id == put.version_id == version_id(driver.index, 0)
    assert found.version.is_latest and not found.version.is_marker


def test_segments_cover_the_wanted_range_only(driver: Driver) -> None:
    driver.put("k", driver.draft(1), driver.draft(2))
    found = find(driver, "k", first=1000, last=1000)
    assert isinstance(found, Found)
    assert [(s.start, s.length, s.stripe.plain_bytes) for s in found.segments] == [
        (1000, 1000, 1000)
    ]
    assert len(find(driver, "k", first=999, last=1000).segments) == 2  # type: ignore[attr-defined]
    assert find(driver, "k", first=2000).segments == ()  # type: ignore[attr-defined]
    assert find(driver, "k", head_only=True).segments == ()  # type: ignore[attr-defined]


def test_a_marker_hides_the_object_and_undelete_reveals_it(driver: Driver) -> None:
    driver.put_inline("k", b"one")
    driver.run(DeleteObject(bucket="bucket", key="k"))
    marker = driver.run(DeleteObject(bucket="bucket", key="k"))
    assert isinstance(marker, ObjectDeleted) and (marker.number, marker.is_marker) == (3, True)
    assert refusal(find(driver, "k")) == NoSuchKey.__name__
    assert find(driver, "k", number=1).inline == b"one"  # type: ignore[attr-defined]
    assert find(driver, "k", number=3).version.is_marker  # type: ignore[attr-defined]
    revealed = driver.run(Undelete(bucket="bucket", key="k"))
    assert isinstance(revealed, ObjectDeleted)
    assert (revealed.number, revealed.is_marker) == (1, False)
    assert find(driver, "k").version.is_latest  # type: ignore[attr-defined]
    again = driver.run(Undelete(bucket="bucket", key="k"))
    assert isinstance(again, ObjectDeleted) and again.number == 1


def test_version_numbers_are_never_used_twice(driver: Driver) -> None:
    for _ in range(3):
        driver.put_inline("k", b"x")
    for number in (3, 2, 1):
        driver.run(DeleteVersion(bucket="bucket", key="k", number=number))
    assert driver.put_inline("k", b"y").number == 4  # type: ignore[union-attr]
    driver.run(DeleteVersion(bucket="bucket", key="k", number=4))
    driver.run(DeleteBucket(bucket="bucket"))
    driver.run(CreateBucket(bucket="bucket"))
    assert driver.put_inline("k", b"z").number == 5  # type: ignore[union-attr]


def test_removing_the_latest_makes_the_newest_left_the_latest(driver: Driver) -> None:
    driver.put_inline("k", b"one")
    two = driver.put_inline("k", b"two")
    removed = driver.run(DeleteVersion(bucket="bucket", key="k", version_id=two.version_id))  # type: ignore[union-attr]
    assert isinstance(removed, ObjectDeleted) and removed.number == 2
    assert find(driver, "k").inline == b"one"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("conditions", "code"),
    [
        (Conditions(if_match=("*",)), ""),
        (Conditions(if_match=("aa" * 32,)), ""),
        (Conditions(if_match=("bb" * 32,)), "PreconditionFailed"),
        (Conditions(if_none_match=("*",)), "PreconditionFailed"),
        (Conditions(if_none_match=("bb" * 32,)), ""),
    ],
)
def test_conditions_are_judged_against_the_current_version(
    driver: Driver, conditions: Conditions, code: str
) -> None:
    attributes = ObjectAttributes(size_bytes=1, sha256=b"\xaa" * 32)
    body = InlineBody(data=b"x")
    driver.run(PutObject(bucket="bucket", key="k", attributes=attributes, body=body))
    result = driver.run(
        PutObject(bucket="bucket", key="k", attributes=attributes, body=body, conditions=conditions)
    )
    assert refusal(result) == code


def test_a_marker_counts_as_no_object_for_conditions(driver: Driver) -> None:
    driver.put_inline("k", b"x")
    driver.run(DeleteObject(bucket="bucket", key="k"))
    put = PutObject(
        bucket="bucket",
        key="k",
        attributes=ObjectAttributes(size_bytes=1),
        body=InlineBody(data=b"y"),
        conditions=Conditions(if_none_match=("*",)),
    )
    assert refusal(driver.run(put)) == ""
    delete = DeleteObject(bucket="bucket", key="k", conditions=Conditions(if_match=("nope",)))
    assert refusal(driver.run(delete)) == "PreconditionFailed"


def test_sizes_must_add_up_and_a_refusal_changes_nothing(driver: Driver) -> None:
    before = driver.ask(CountCatalog())
    draft = driver.draft(1)
    put = PutObject(
        bucket="bucket",
        key="k",
        attributes=ObjectAttributes(size_bytes=999),
        body=StripesBody(stripes=(draft,)),
    )
    assert refusal(driver.run(put)) == "ContentMismatch"
    assert driver.ask(CountCatalog()) == before
    assert isinstance(driver.put("k", draft), ObjectPut), "the refused draft may be named later"


def test_a_copy_shares_the_bytes_and_outlives_its_source(driver: Driver) -> None:
    driver.put("source", driver.draft(1))
    driver.put_inline("small", b"abc")
    for key, source, size in (("big-copy", "source", 1000), ("small-copy", "small", 3)):
        copy = PutObject(
            bucket="bucket",
            key=key,
            attributes=ObjectAttributes(size_bytes=size),
            body=CopyBody(bucket="bucket", key=source, number=1),
        )
        assert isinstance(driver.run(copy), ObjectPut)
        driver.run(DeleteVersion(bucket="bucket", key=source, number=1))
    assert len(find(driver, "big-copy").segments) == 1  # type: ignore[attr-defined]
    assert find(driver, "small-copy").inline == b"abc"  # type: ignore[attr-defined]
    counted = driver.ask(CountCatalog())
    assert isinstance(counted, CatalogCounted)
    assert (counted.segments, counted.dead_stripes, counted.versions) == (1, 0, 2)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (DeleteObject(bucket="none", key="k"), "NoSuchBucket"),
        (DeleteObject(bucket="bucket", key="k"), "NoSuchKey"),
        (DeleteVersion(bucket="bucket", key="k", number=1), "NoSuchKey"),
        (DeleteVersion(bucket="bucket", key="there", number=9), "NoSuchVersion"),
        (DeleteVersion(bucket="bucket", key="there", version_id="x"), "NoSuchVersion"),
        (DeleteVersion(bucket="bucket", key="there", number=1 << 63), "InvalidArgument"),
        (Undelete(bucket="bucket", key="k"), "NoSuchKey"),
        (CreateBucket(bucket="bucket"), "BucketAlreadyExists"),
        (CreateBucket(bucket="Bad"), "InvalidName"),
        (DeleteBucket(bucket="bucket"), "BucketNotEmpty"),
        (DeleteBucket(bucket="none"), "NoSuchBucket"),
        (
            PutObject(
                bucket="bucket",
                key="k",
                attributes=ObjectAttributes(size_bytes=1),
                body=CopyBody(bucket="none", key="k", number=1),
            ),
            "NoSuchVersion",
        ),
        (
            PutObject(
                bucket="bucket",
                key="k",
                attributes=ObjectAttributes(size_bytes=4097),
                body=InlineBody(data=b"x" * 4097),
            ),
            "EntityTooLarge",
        ),
    ],
)
def test_refusals(driver: Driver, command: object, code: str) -> None:
    driver.put_inline("there", b"x")
    assert refusal(driver.run(command)) == code  # type: ignore[arg-type]


def test_current_objects_are_found_by_digest_oldest_first(driver: Driver) -> None:
    attributes = ObjectAttributes(size_bytes=1, sha256=b"d" * 32)
    body = InlineBody(data=b"x")
    for key in ("b", "a", "hidden"):
        driver.run(PutObject(bucket="bucket", key=key, attributes=attributes, body=body))
    driver.run(DeleteObject(bucket="bucket", key="hidden"))
    found = driver.ask(FindDigest(sha256=b"d" * 32, limit=5))
    assert isinstance(found, ObjectsFound)
    assert [version.key for version in found.versions] == ["b", "a"]
