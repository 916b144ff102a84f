"""Pages of objects and versions, against a plain model; and that no page scans a table."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osscore.model import ShardIdentity
from raftmeta.catalog import query_listing, query_objects, schema
from raftmeta.commands import (
    AbortUpload,
    BeginUpload,
    CreateBucket,
    DeleteObject,
    DeleteVersion,
    MarkBad,
    MarkGood,
    Stage,
    StripeQuestion,
    TrashDone,
    Undelete,
)
from raftmeta.queries import (
    AnyQuery,
    BucketsListed,
    CountCatalog,
    ExpectedSlots,
    FindAccessKey,
    FindDigest,
    FindObject,
    FindUnwanted,
    Found,
    GetBucket,
    GetCluster,
    ListBuckets,
    ListObjects,
    ListVersions,
    ObjectsListed,
    ReadSegments,
    ReadTrash,
    VersionsListed,
)
from tests.raftmeta.catalog.harness import TWO_ONE, Driver, refusal

KEYS = [
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a/c",
    "a//",
    "a//x",
    "a0",
    "b/ü",
    "b/üü",
    "zoo",
    "é",
    "\ud7ff/x",
    "\ue000/x",
    "\U0010ffff",
    "\U0010ffff/x",
    "\U0010ffff\U0010ffff",
]
texts = st.sampled_from(["", "a", "a/", "a/b", "b", "b/ü", "\U0010ffff", "\ud7ff", "nope"])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    driver = Driver(tmp_path_factory.mktemp("listing") / "catalog.sqlite")
    driver.form()
    driver.run(CreateBucket(bucket="other", profile=TWO_ONE))
    for key in KEYS:
        driver.put_inline(key, b"1")
        driver.put_inline(key, b"22")
        driver.put_inline(key, b"elsewhere", bucket="other")
    for key in ("hidden", "a/hidden"):
        driver.put_inline(key, b"x")
        driver.run(DeleteObject(bucket="bucket", key=key))
    yield driver
    driver.catalog.close()


def list_all(driver: Driver, prefix: str, delimiter: str, limit: int) -> list[str]:
    """Every entry over all pages; prefixes are marked by a leading '+'."""
    entries: list[str] = []
    after: str | None = ""
    while after is not None:
        page = driver.ask(
            ListObjects(
                bucket="bucket", prefix=prefix, delimiter=delimiter, after=after, limit=limit
            )
        )
        assert isinstance(page, ObjectsListed)
        found = sorted(
            [(v.key, v.key) for v in page.objects] + [(p, "+" + p) for p in page.prefixes]
        )
        assert len(found) <= limit
        entries += [entry for _, entry in found]
        after = page.next
    return entries


def model(prefix: str, delimiter: str) -> list[str]:
    entries: dict[str, str] = {}
    for key in sorted(KEYS):
        if not key.startswith(prefix):
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        if at >= 0:
            common = key[: at + len(delimiter)]
            entries[common] = "+" + common
        else:
            entries[key] = key
    return [entries[name] for name in sorted(entries)]


@settings(max_examples=150, deadline=None)
@given(prefix=texts, delimiter=st.sampled_from(["", "/", "//", "ü"]), limit=st.integers(1, 20))
def test_pages_together_equal_the_model(
    filled: Driver, prefix: str, delimiter: str, limit: int
) -> None:
    assert list_all(filled, prefix, delimiter, limit) == model(prefix, delimiter)


@settings(max_examples=60, deadline=None)
@given(after=st.sampled_from([*KEYS, "a/a", "b", "zzz"]), prefix=texts)
def test_after_is_exclusive(filled: Driver, after: str, prefix: str) -> None:
    page = filled.ask(ListObjects(bucket="bucket", prefix=prefix, after=after))
    assert isinstance(page, ObjectsListed)
    expected = [key for key in sorted(KEYS) if key.startswith(prefix) and key > after]
    assert [version.key for version in page.objects] == expected


def test_after_inside_a_common_prefix_still_shows_the_rest_of_it(filled: Driver) -> None:
    page = filled.ask(ListObjects(bucket="bucket", delimiter="/", after="a/b", limit=2))
    assert isinstance(page, ObjectsListed)
    assert page.prefixes == ("a/",)


def test_listed_objects_are_the_latest(filled: Driver) -> None:
    page = filled.ask(ListObjects(bucket="bucket", prefix="a0"))
    assert isinstance(page, ObjectsListed)
    assert [(v.number, v.attributes.size_bytes, v.is_latest) for v in page.objects] == [
        (2, 2, True)
    ]


@settings(max_examples=60, deadline=None)
@given(prefix=texts, limit=st.integers(1, 9))
def test_version_pages_together_equal_the_model(filled: Driver, prefix: str, limit: int) -> None:
    expected = [
        (key, number)
        for key in sorted([*KEYS, "hidden", "a/hidden"])
        if key.startswith(prefix)
        for number in (2, 1)
    ]
    found: list[tuple[str, int]] = []
    following: tuple[str, int] | None = ("", 0)
    while following is not None:
        page = filled.ask(
            ListVersions(
                bucket="bucket",
                prefix=prefix,
                after_key=following[0],
                after_number=following[1],
                limit=limit,
            )
        )
        assert isinstance(page, VersionsListed)
        found += [(version.key, version.number) for version in page.versions]
        following = page.next
    assert found == expected


def test_the_versions_of_one_key(filled: Driver) -> None:
    page = filled.ask(ListVersions(bucket="bucket", key="hidden", limit=1))
    assert isinstance(page, VersionsListed)
    assert [(v.number, v.is_marker, v.is_latest) for v in page.versions] == [(2, True, True)]
    rest = filled.ask(
        ListVersions(bucket="bucket", key="hidden", after_key="hidden", after_number=2)
    )
    assert isinstance(rest, VersionsListed)
    assert ([v.number for v in rest.versions], rest.next) == ([1], None)


def test_versions_after_a_key_resume_at_the_next(filled: Driver) -> None:
    page = filled.ask(ListVersions(bucket="bucket", after_key="a0", limit=1))
    assert isinstance(page, VersionsListed)
    assert page.versions[0].key == "b/ü"


def test_buckets_are_listed_by_name_with_their_profile(filled: Driver) -> None:
    listed = filled.ask(ListBuckets())
    assert isinstance(listed, BucketsListed)
    assert [(b.name, b.profile) for b in listed.buckets] == [("bucket", None), ("other", TWO_ONE)]
    one = filled.ask(GetBucket(bucket="other"))
    assert isinstance(one, BucketsListed) and one.buckets == listed.buckets[1:]


def test_unknown_buckets_are_refused(filled: Driver) -> None:
    for query in (
        ListObjects(bucket="none"),
        ListVersions(bucket="none"),
        GetBucket(bucket="none"),
    ):
        assert refusal(filled.ask(query)) == "NoSuchBucket"


def test_a_limit_of_nothing_gives_an_empty_last_page(filled: Driver) -> None:
    assert filled.ask(ListObjects(bucket="bucket", limit=0)) == ObjectsListed(
        objects=(), prefixes=()
    )


def test_a_page_has_at_most_ten_thousand_rows(
    filled: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_listing, "PAGE_ROWS_MAX", 5)
    page = filled.ask(ListObjects(bucket="bucket", limit=1_000_000))
    assert isinstance(page, ObjectsListed) and len(page.objects) == 5


# --- plans -------------------------------------------------------------------------------------

HOT = {
    "current objects": (query_listing.CURRENT_FROM, 4),
    "current objects after": (query_listing.CURRENT_AFTER, 4),
    "versions": (query_listing.VERSIONS_FROM, 4),
    "versions after": (query_listing.VERSIONS_AFTER, 4),
    "versions of a key": (query_listing.VERSIONS_OF_KEY, 4),
    "segments": (query_objects.SEGMENTS, 4),
}


@pytest.mark.parametrize("name", sorted(HOT))
def test_hot_queries_seek_an_index_and_sort_nothing(name: str, filled: Driver) -> None:
    sql, arguments = HOT[name]
    assert_seeks(filled.path, sql, arguments)


def test_every_statement_the_catalog_runs_seeks_an_index(tmp_path: Path) -> None:
    """All statements of a busy run, as SQLite saw them, planned again one by one."""
    driver = Driver(tmp_path / "catalog.sqlite")
    seen: set[str] = set()
    driver.catalog._writer.set_trace_callback(seen.add)
    exercise(driver)
    driver.catalog._writer.set_trace_callback(None)
    db = schema.open_reader(driver.path)
    planned = [sql for sql in seen if sql.split()[0] in ("SELECT", "UPDATE", "DELETE")]
    assert len(planned) > 50
    for sql in planned:
        if not sql.startswith(SMALL_TABLES):
            assert_seeks_planned(db, sql)
    db.close()
    driver.catalog.close()


def test_every_question_seeks_an_index(tmp_path: Path) -> None:
    """Likewise what is read for each kind of question."""
    driver = Driver(tmp_path / "catalog.sqlite")
    exercise(driver)
    driver.put("q", driver.draft(7))
    found = driver.ask(FindObject(bucket="bucket", key="q"))
    assert isinstance(found, Found)
    seen: set[str] = set()
    for db in driver.catalog._readers:
        db.set_trace_callback(seen.add)
    for query in questions(found):
        assert not refusal(driver.ask(query)), query
    for db in driver.catalog._readers:
        db.set_trace_callback(None)
    planned = [sql for sql in seen if sql.startswith("SELECT")]
    assert len(planned) > 15
    db = schema.open_reader(driver.path)
    for sql in planned:
        if not sql.startswith(SMALL_TABLES):
            assert_seeks_planned(db, sql)
    db.close()
    driver.catalog.close()


def questions(found: Found) -> list[AnyQuery]:
    """One of each kind that is asked while the store is in use."""
    version, identity = found.version, ShardIdentity(found.segments[0].stripe.stripe, 0, 0)
    of_q = {"bucket": "bucket", "key": "q"}
    return [
        FindObject(**of_q, first=10, last=20),
        FindObject(**of_q, number=version.number),
        FindObject(**of_q, version_id=version.version_id),
        ReadSegments(manifest=version.manifest, first=0),
        ListObjects(bucket="bucket", prefix="q", delimiter="/", after="a"),
        ListVersions(bucket="bucket", prefix="q", after_key="a", after_number=7),
        GetBucket(bucket="bucket"),
        FindDigest(sha256=bytes(32)),
        FindAccessKey(access_key="ROOT"),
        ReadTrash(disk=1),
        FindUnwanted(disk=1, grace_ms=0, identities=(identity, ShardIdentity(bytes(16), 0, 0))),
        ExpectedSlots(disk=1, after_row=1),
        GetCluster(),
        CountCatalog(),
    ]


# Read whole on purpose: a row a node or disk, the lowest graves, single values, and the
# index that holds nothing but damaged stripes.
SMALL_TABLES = (
    "SELECT disk, node, state FROM disks",
    "SELECT manifest FROM graveyard",
    "SELECT node, url, zone FROM nodes",
    "SELECT node, disk, uuid, state, capacity_bytes FROM disks",
    "SELECT name, value FROM meta",
    "SELECT missing_count, COUNT(*) FROM stripes",
)


def exercise(driver: Driver) -> None:
    driver.form()
    draft = driver.draft(1)
    driver.put("a", draft)
    driver.put("b", driver.draft(1))
    driver.put_inline("a", b"x")
    driver.run(DeleteObject(bucket="bucket", key="a"))
    driver.run(Undelete(bucket="bucket", key="a"))
    identity = ShardIdentity(draft.stripe, 0, 0)
    driver.run(MarkBad(identity=identity, disk=1))
    driver.run(MarkGood(identity=identity, disk=1))
    for upload in (b"1" * 16, b"2" * 16):
        driver.run(BeginUpload(upload=upload, bucket="bucket", key="c", ttl_ms=1000))
        question = StripeQuestion(
            profile=TWO_ONE, domain=b"", digest=draft.digest, plain_bytes=1000
        )
        driver.run(Stage(upload=upload, position=0, ask=(question,), append=(driver.draft(2),)))
    driver.run(AbortUpload(upload=b"1" * 16))
    for key, number in (("a", 1), ("a", 2), ("b", 1)):
        driver.run(DeleteVersion(bucket="bucket", key=key, number=number))
    driver.run(DeleteVersion(bucket="bucket", key="a", version_id="0" * 16))
    driver.pass_time(3 * 3_600_000, idle=True)
    driver.collect()
    driver.collect()
    driver.session = 0
    driver.run(TrashDone(disk=1, rows=(1, 2)))


def assert_seeks(path: Path, sql: str, argument_count: int) -> None:
    db = schema.open_reader(path)
    try:
        plan = db.execute(f"EXPLAIN QUERY PLAN {sql}", tuple(range(argument_count))).fetchall()
        check_plan(sql, plan)
    finally:
        db.close()


def assert_seeks_planned(db: sqlite3.Connection, sql: str) -> None:
    check_plan(sql, db.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall())


def check_plan(sql: str, plan: list[tuple[int, int, int, str]]) -> None:
    for *_, detail in plan:
        assert "SCAN" not in detail.replace("SCAN CONSTANT ROW", ""), f"{sql}\n{detail}"
        assert "TEMP B-TREE" not in detail, f"{sql}\n{detail}"
