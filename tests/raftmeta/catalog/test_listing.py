"""Pages of objects and versions, against a plain model; and that no page scans a table."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osscore.model import ObjectAttributes, ShardIdentity
from raftmeta.catalog import query_listing, query_objects, schema
from raftmeta.commands import (
    AbortUpload,
    BeginUpload,
    CreateBucket,
    DeleteObject,
    DeleteVersion,
    KeepChunk,
    LinkChunks,
    MarkBad,
    MarkGood,
    PruneVersions,
    PutObject,
    SetKeepVersions,
    Stage,
    StripeQuestion,
    TrashDone,
    Undelete,
    UploadBody,
)
from raftmeta.credentials import (
    AuditNote,
    ChangeAccessKey,
    CheckToken,
    FindAccessKey,
    FindSigningKeys,
    FindSystemToken,
    ListAccessKeys,
    ListAudit,
    PutAccessKey,
    RevokeAccessKey,
    RevokeTokens,
    RotateAccessKey,
    RotateSigningKey,
    SetSystemToken,
)
from raftmeta.queries import (
    BucketsListed,
    CountCatalog,
    ExpectedSlots,
    FindDigest,
    FindObject,
    FindOwners,
    FindPrunable,
    FindUnwanted,
    FindUpload,
    Found,
    GetBucket,
    GetCluster,
    ListBuckets,
    ListChunks,
    ListObjects,
    ListStripes,
    ListVersions,
    ObjectsListed,
    ReadSegments,
    ReadTrash,
    VersionsListed,
)
from raftmeta.questions import AnyQuery
from raftmeta.scanning import ListInline
from raftmeta.timetravel import (
    FindChanges,
    FindDeleted,
    ListObjectsAt,
    RestoreObject,
)
from tests.raftmeta.catalog.harness import GRACE_MS, TWO_ONE, Driver, refusal

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
    driver.run(BeginUpload(upload=b"u" * 16, bucket="bucket", key="u", ttl_ms=GRACE_MS))
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
        FindObject(**of_q, at_ms=version.created_at_ms),
        FindObject(**of_q, at_ms=version.created_at_ms + 10**9),
        ListObjectsAt(bucket="bucket", at_ms=version.created_at_ms, prefix="q", after="a"),
        ListObjectsAt(bucket="bucket", at_ms=version.created_at_ms, delimiter="/"),
        FindChanges(bucket="bucket", at_ms=version.created_at_ms - 1, after_key="a"),
        FindDeleted(bucket="bucket", since_ms=1, prefix="q"),
        FindPrunable(bucket="bucket", keep=1, prefix="a"),
        FindPrunable(bucket="bucket", keep=1, after_key="a"),
        FindPrunable(bucket="bucket", keep=1, key="q"),
        FindPrunable(bucket="bucket"),
        ListStripes(after_row=1),
        ListInline(after_id=1),
        ListInline(bucket="bucket", prefix="q"),
        ListStripes(bucket="bucket", prefix="q"),
        FindOwners(row=found.segments[0].stripe.row),
        FindDigest(sha256=bytes(32)),
        FindAccessKey(access_key="ROOT"),
        ListAccessKeys(after="A"),
        ListAccessKeys(access_key="ROOT"),
        FindSystemToken(),
        FindSigningKeys(),
        CheckToken(kid="k", jti="j"),
        ListAudit(),
        ListAudit(newest_first=True, after=5, actor="x"),
        ReadTrash(disk=1),
        FindUnwanted(disk=1, grace_ms=0, identities=(identity, ShardIdentity(bytes(16), 0, 0))),
        FindUnwanted(disk=1, grace_ms=0, identities=(identity,), tells_shared=True),
        ExpectedSlots(disk=1, after_row=1),
        GetCluster(),
        CountCatalog(),
        FindUpload(upload=b"u" * 16),
        ListChunks(upload=b"u" * 16),
    ]


# Read whole on purpose: a row a node or disk, the lowest graves, single values, the index
# that holds nothing but damaged stripes, and what is said beside it.
SMALL_TABLES = (
    "SELECT d.disk, d.node, d.state, r.disk IS NOT NULL, d.sure_from_ms FROM disks",
    "SELECT manifest FROM graveyard",
    "SELECT family FROM ended_families",
    "SELECT node, url, zone FROM nodes",
    "SELECT node, disk, uuid, state, capacity_bytes FROM disks",
    "SELECT name, value FROM meta",
    "SELECT missing_count, COUNT(*) FROM stripes",
    # Until the first key that may everything; only when one is changed.
    "SELECT 1 FROM access_keys WHERE disabled = 0",
    # SIGNING_KEYS_MAX rows.
    "SELECT kid, secret_sealed, created_at_ms, retires_at_ms FROM signing_keys WHERE retires",
    "SELECT COUNT(*), COALESCE(SUM(kid",
    "UPDATE signing_keys",
    "DELETE FROM signing_keys",
)


def exercise(driver: Driver) -> None:
    driver.form()
    draft = driver.draft(1)
    driver.put("a", draft)
    driver.put("b", driver.draft(1))
    driver.put_inline("a", b"x")
    driver.run(DeleteObject(bucket="bucket", key="a"))
    driver.run(RestoreObject(bucket="bucket", key="a", at_ms=driver.now_ms - 20, began_ms=1 << 45))
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
    exercise_chunks(driver)
    admin = PutAccessKey(access_key="A", secret_sealed=b"s", scopes=("admin",))
    for command in (
        admin,
        ChangeAccessKey(access_key="A", note="n", disabled=True),
        RotateAccessKey(access_key="A", secret_sealed=b"t", overlap_ms=5),
        RevokeAccessKey(access_key="A"),
        RevokeAccessKey(access_key="ROOT"),
        SetSystemToken(digest=bytes(32)),
        RotateSigningKey(kid="j", secret_sealed=b"s", only_if_none=True),
        RotateSigningKey(kid="k", secret_sealed=b"s"),
        RevokeTokens(jtis=("i",)),
    ):
        audited = driver.next(command)
        note = AuditNote(actor="ROOT", action="exercise")
        driver.apply(msgspec.structs.replace(audited, audit=note))
    for key, number in (("a", 1), ("a", 2), ("b", 1)):
        driver.run(DeleteVersion(bucket="bucket", key=key, number=number))
    driver.run(DeleteVersion(bucket="bucket", key="a", version_id="0" * 16))
    driver.run(SetKeepVersions(bucket="bucket", keep_versions=1))
    driver.run(PruneVersions(bucket="bucket", key="c"))
    driver.put("d", driver.draft(5))
    driver.put("d", driver.draft(6))
    driver.run(PruneVersions(bucket="bucket", key="d", keep=1))
    driver.pass_time(3 * 3_600_000, idle=True)
    driver.collect()
    driver.collect()
    driver.session = 0
    driver.run(TrashDone(disk=1, rows=(1, 2)))


def exercise_chunks(driver: Driver) -> None:
    parent = b"3" * 16
    driver.run(BeginUpload(upload=parent, bucket="bucket", key="d", ttl_ms=1000))
    for number in range(3):
        chunk = number.to_bytes(16, "big")
        driver.run(BeginUpload(upload=chunk, bucket="bucket", key="d", ttl_ms=1000))
        kept = KeepChunk(upload=chunk, parent=parent, number=number, size_bytes=0, sha256=b"")
        driver.run(kept)
    driver.run(LinkChunks(upload=parent, position=0, chunks=(bytes(16),)))
    for _ in range(2):
        driver.run(
            PutObject(
                bucket="bucket",
                key="d",
                attributes=ObjectAttributes(size_bytes=0),
                body=UploadBody(upload=parent),
                finishes=parent,
            )
        )


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
