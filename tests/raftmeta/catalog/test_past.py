"""What was, against a model that remembers everything; and making it so again."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmeta.catalog import past, query_past, removed, schema, steps
from raftmeta.commands import (
    CopyBody,
    DeleteObject,
    DeleteVersion,
    ObjectDeleted,
    PruneVersions,
    PutObject,
    Undelete,
)
from raftmeta.queries import (
    CatalogCounted,
    CountCatalog,
    FindObject,
    Found,
    ListObjects,
    ListVersions,
    ObjectsListed,
    VersionsListed,
)
from raftmeta.timetravel import (
    ChangesFound,
    FindChanges,
    FindDeleted,
    GoneObject,
    ListObjectsAt,
    ObjectRestored,
    ObjectsListedAt,
    RestoreObject,
    RestoreOutcome,
)
from tests.raftmeta.catalog.harness import Driver, refusal
from tests.raftmeta.catalog.history_past import KEYS, Model, histories

BUCKET = "bucket"


@contextmanager
def played(
    folders: pytest.TempPathFactory, history: list[list[tuple[str, str, int]]]
) -> Iterator[tuple[Driver, Model]]:
    """A catalog and the model, both after that history."""
    driver = Driver(folders.mktemp("past") / "catalog.sqlite")
    driver.form()
    model = Model()
    for batch in history:
        model.play(driver, batch)
    try:
        yield driver, model
    finally:
        driver.catalog.close()


def pages(driver: Driver, at_ms: int, *, limit: int = 2, **more: str) -> list[ObjectsListedAt]:
    """All pages of a listing of then."""
    found: list[ObjectsListedAt] = []
    after: str | None = ""
    while after is not None:
        query = ListObjectsAt(bucket=BUCKET, at_ms=at_ms, after=after, limit=limit, **more)
        page = driver.ask(query)
        assert isinstance(page, ObjectsListedAt), page
        assert len(page.objects) + len(page.prefixes) + len(page.gone) <= limit
        found.append(page)
        assert len(found) < 100
        after = page.next
    return found


def now(driver: Driver) -> int:
    """Catalog time."""
    return driver.catalog.head.catalog_time_ms


def current(driver: Driver) -> dict[str, bytes | None]:
    """Key -> content of every current object."""
    listed = driver.ask(ListObjects(bucket=BUCKET))
    assert isinstance(listed, ObjectsListed)
    found = {}
    for version in listed.objects:
        one = driver.ask(FindObject(bucket=BUCKET, key=version.key))
        assert isinstance(one, Found)
        found[version.key] = one.inline
    return found


def version_count(driver: Driver) -> int:
    listed = driver.ask(ListVersions(bucket=BUCKET, limit=10_000))
    assert isinstance(listed, VersionsListed)
    return len(listed.versions)


@settings(max_examples=25, deadline=None)
@given(history=histories)
def test_at_any_time_the_listing_equals_the_models(
    tmp_path_factory: pytest.TempPathFactory, history: list[list[tuple[str, str, int]]]
) -> None:
    with played(tmp_path_factory, history) as (driver, model):
        for at_ms in model.moments():
            expected = model.at(at_ms)
            kept = {key for key, (number, _) in expected.items() if model.holds(key, number)}
            found = pages(driver, at_ms)
            objects = {v.key: v.number for page in found for v in page.objects}
            gone = [each for page in found for each in page.gone]
            assert objects == {key: expected[key][0] for key in kept}
            assert [each.key for each in gone] == sorted(set(expected) - kept)
            for each in gone:
                assert each.is_certain and each.number in (0, expected[each.key][0])
            for key in KEYS:
                check_one(driver, key, at_ms, expected.get(key), is_kept=key in kept)
            check_folders(driver, at_ms, set(expected))
        assert driver.catalog.contradictions() == []


def check_one(
    driver: Driver, key: str, at_ms: int, was: tuple[int, bytes] | None, *, is_kept: bool
) -> None:
    answer = driver.ask(FindObject(bucket=BUCKET, key=key, at_ms=at_ms))
    if was is None:
        assert refusal(answer) == "NoSuchKey"
    elif not is_kept:
        assert refusal(answer) == "NoSuchVersion"
    else:
        assert isinstance(answer, Found)
        assert (answer.version.number, answer.inline) == was


def check_folders(driver: Driver, at_ms: int, keys: set[str]) -> None:
    for limit in (1, 10):
        found = pages(driver, at_ms, limit=limit, delimiter="/")
        folders = [prefix for page in found for prefix in page.prefixes]
        assert folders == (["b/"] if any(key.startswith("b/") for key in keys) else [])
        below = pages(driver, at_ms, limit=limit, prefix="b/", delimiter="/")
        names = [v.key for page in below for v in (*page.objects, *page.gone)]
        assert sorted(names) == sorted(key for key in keys if key.startswith("b/"))


@settings(max_examples=25, deadline=None)
@given(history=histories, runs_kept=st.integers(2, 3), rows=st.integers(1, 4))
def test_what_is_no_longer_remembered_is_said_to_be_unknown_and_never_told_wrong(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[list[tuple[str, str, int]]],
    runs_kept: int,
    rows: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(removed, "RUNS_KEPT", runs_kept)
        patch.setattr(query_past, "ROWS_READ_MAX", rows)
        with played(tmp_path_factory, history) as (driver, model):
            for at_ms in model.moments():
                expected = model.at(at_ms)
                found = pages(driver, at_ms)
                objects = {v.key: v.number for page in found for v in page.objects}
                gone = {each.key: each for page in found for each in page.gone}
                for key in KEYS:
                    if key in gone:
                        if gone[key].is_certain:
                            number = expected[key][0]
                            assert gone[key].number in (0, number)
                            assert not model.holds(key, number)
                    else:
                        assert objects.get(key) == expected.get(key, (None,))[0]
            rows_of_keys = [len(removed.runs(db, 1, key)) for db in _reader(driver) for key in KEYS]
            assert max(rows_of_keys) <= runs_kept


def _reader(driver: Driver) -> Iterator[sqlite3.Connection]:
    db = schema.open_reader(driver.path)
    yield db
    db.close()


@settings(max_examples=30, deadline=None)
@given(history=histories, data=st.data())
def test_a_restore_makes_the_listing_what_it_was_and_destroys_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[list[tuple[str, str, int]]],
    data: st.DataObject,
) -> None:
    with played(tmp_path_factory, history) as (driver, model):
        at_ms = data.draw(st.sampled_from(model.moments()))
        expected, before = model.at(at_ms), version_count(driver)
        planned = driver.ask(FindChanges(bucket=BUCKET, at_ms=at_ms))
        assert isinstance(planned, ChangesFound)
        standing = current(driver)
        done = {key: restore(driver, key, at_ms, planned.began_ms) for key in KEYS}
        assert {each.key: each.outcome for each in planned.changes} == {
            key: one.outcome for key, one in done.items() if one.outcome != "unchanged"
        }
        lost = {key for key, one in done.items() if one.outcome == "removed"}
        assert lost == {k for k, (number, _) in expected.items() if not model.holds(k, number)}
        wanted = {key: body for key, (_, body) in expected.items()}
        for key in lost:
            wanted.pop(key)
            if key in standing:
                wanted[key] = standing[key]
        assert current(driver) == wanted
        made = [one for one in done.values() if one.outcome in ("restored", "hidden")]
        assert version_count(driver) == before + len(made)
        # Again with the same beginning, as after a lost answer: told the same, nothing written.
        assert {key: restore(driver, key, at_ms, planned.began_ms) for key in KEYS} == done
        assert version_count(driver) == before + len(made)
        assert driver.catalog.contradictions() == []


def restore(driver: Driver, key: str, at_ms: int, began_ms: int) -> ObjectRestored:
    result = driver.run(RestoreObject(bucket=BUCKET, key=key, at_ms=at_ms, began_ms=began_ms))
    assert isinstance(result, ObjectRestored), result
    return result


@pytest.mark.parametrize("write", ["put", "delete", "same"])
def test_what_others_write_meanwhile_is_not_overwritten(driver: Driver, write: str) -> None:
    driver.put_inline("k", b"old")
    at_ms = now(driver)
    driver.put_inline("k", b"newer")
    driver.put_inline("made since", b"x")
    began_ms = now(driver)
    if write == "delete":
        driver.run(DeleteObject(bucket=BUCKET, key="k"))
    else:
        driver.put_inline("k", b"old" if write == "same" else b"theirs")
    driver.put_inline("made since", b"y")
    before = version_count(driver)
    outcome = RestoreOutcome.RESTORED if write == "same" else RestoreOutcome.CHANGED
    assert restore(driver, "k", at_ms, began_ms).outcome is outcome
    assert restore(driver, "made since", at_ms, began_ms).outcome is RestoreOutcome.CHANGED
    assert version_count(driver) == before


def test_long_bodies_are_shared_and_not_copied(driver: Driver) -> None:
    driver.put("k", driver.draft(1), driver.draft(2))
    at_ms = now(driver)
    driver.put("k", driver.draft(3))
    counted = driver.ask(CountCatalog())
    done = restore(driver, "k", at_ms, now(driver))
    assert (done.outcome, done.number, done.size_bytes) == (RestoreOutcome.RESTORED, 1, 2000)
    one = driver.ask(FindObject(bucket=BUCKET, key="k"))
    first = driver.ask(FindObject(bucket=BUCKET, key="k", number=1))
    assert isinstance(one, Found) and isinstance(first, Found)
    assert (one.segments, one.version.number) == (first.segments, 3)
    after = driver.ask(CountCatalog())
    assert isinstance(counted, CatalogCounted) and isinstance(after, CatalogCounted)
    assert (after.stripes, after.dead_stripes) == (counted.stripes, 0)
    driver.run(DeleteVersion(bucket=BUCKET, key="k", number=1))
    driver.run(DeleteVersion(bucket=BUCKET, key="k", number=3))
    assert driver.catalog.contradictions() == []


def test_the_same_content_under_other_headers_is_not_the_same(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    at_ms = now(driver)
    one = driver.ask(FindObject(bucket=BUCKET, key="k"))
    assert isinstance(one, Found)
    copy = CopyBody(bucket=BUCKET, key="k", number=1)
    same = PutObject(bucket=BUCKET, key="k", attributes=one.version.attributes, body=copy)
    driver.run(same)
    assert restore(driver, "k", at_ms, now(driver)).outcome is RestoreOutcome.UNCHANGED
    typed = type(one.version.attributes)(size_bytes=1000, content={"content-type": "text/css"})
    driver.run(PutObject(bucket=BUCKET, key="k", attributes=typed, body=copy))
    assert restore(driver, "k", at_ms, now(driver)).outcome is RestoreOutcome.RESTORED


# --- undelete of many ----------------------------------------------------------------------


def undelete(driver: Driver, key: str, since_ms: int, until_ms: int = 0) -> object:
    return driver.run(Undelete(bucket=BUCKET, key=key, since_ms=since_ms, until_ms=until_ms))


def deleted_since(driver: Driver, since_ms: int, until_ms: int = 0) -> dict[str, str]:
    query = FindDeleted(bucket=BUCKET, since_ms=since_ms, until_ms=until_ms)
    found = driver.ask(query)
    assert isinstance(found, ChangesFound)
    return {each.key: each.outcome for each in found.changes}


def test_only_objects_that_were_deleted_since_then_come_back(driver: Driver) -> None:
    for key in ("before", "again", "since", "twice", "there", "empty"):
        driver.put_inline(key, b"x")
    for key in ("before", "again"):
        driver.run(DeleteObject(bucket=BUCKET, key=key))
    since_ms = now(driver) + 1
    for key in ("again", "since", "twice", "twice", "empty"):
        driver.run(DeleteObject(bucket=BUCKET, key=key))
    driver.run(DeleteVersion(bucket=BUCKET, key="empty", number=1))
    until_ms = now(driver)
    expected = {"since": "restored", "twice": "restored", "empty": "removed"}
    assert deleted_since(driver, since_ms) == expected
    for key in ("before", "again", "since", "twice", "there"):
        result = undelete(driver, key, since_ms, until_ms)
        assert isinstance(result, ObjectDeleted)
        assert result.is_marker == (key in ("before", "again"))
    assert refusal(undelete(driver, "empty", since_ms, until_ms)) == "NoSuchKey"
    assert set(current(driver)) == {"since", "twice", "there"}


def test_what_is_deleted_again_meanwhile_stays_deleted(driver: Driver) -> None:
    driver.put_inline("k", b"x")
    since_ms = now(driver) + 1
    driver.run(DeleteObject(bucket=BUCKET, key="k"))
    until_ms = now(driver)
    driver.run(DeleteObject(bucket=BUCKET, key="k"))
    assert deleted_since(driver, since_ms, until_ms) == {"k": "changed"}
    result = undelete(driver, "k", since_ms, until_ms)
    assert isinstance(result, ObjectDeleted) and result.is_marker and result.number == 3


def test_an_undelete_takes_off_a_bounded_number_of_markers(driver: Driver) -> None:
    driver.put_inline("k", b"x")
    for _ in range(5):
        driver.run(DeleteObject(bucket=BUCKET, key="k"))
    command = Undelete(bucket=BUCKET, key="k", markers_max=2)
    left = [driver.run(command) for _ in range(3)]
    assert [isinstance(e, ObjectDeleted) and e.number for e in left] == [4, 2, 1]


# --- bounds and old files ------------------------------------------------------------------


def test_an_old_version_among_many_is_found_by_halving(driver: Driver) -> None:
    for number in range(1, 301):
        driver.put_inline("k", b"%d" % number)
        if number == 7:
            at_ms = now(driver)
    db = schema.open_reader(driver.path)
    state = past.state_at(db, 1, "k", at_ms)
    db.close()
    assert (state.number, state.rows_read <= 12) == (7, True)


def test_a_page_reads_a_bounded_number_of_rows_and_tells_where_it_stopped(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_past, "ROWS_READ_MAX", 10)
    early = now(driver)
    for number in range(30):
        driver.put_inline(f"d{number:02}/", b"x")
        driver.put_inline(f"d{number:02}/file", b"x")
    driver.put_inline("z", b"x")
    late = now(driver)
    for delimiter in ("", "/"):
        found = pages(driver, early, limit=1000, delimiter=delimiter)
        assert len(found) > 5 and not any(page.objects or page.prefixes for page in found)
    found = pages(driver, late, limit=1000, delimiter="/")
    assert [p for page in found for p in page.prefixes] == [f"d{n:02}/" for n in range(30)]
    changes: list[str] = []
    after: str | None = ""
    while after is not None:
        page = driver.ask(FindChanges(bucket=BUCKET, at_ms=early, after_key=after))
        assert isinstance(page, ChangesFound) and page.visited <= 10
        changes += [each.key for each in page.changes]
        after = page.next
    assert len(changes) == len(set(changes)) == 61


def test_a_page_that_ends_at_a_name_like_a_folder_goes_on_inside_that(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_past, "ROWS_READ_MAX", 1)
    driver.put_inline("d/file", b"x")
    at_ms = now(driver)
    driver.put_inline("d/", b"x")
    found = pages(driver, at_ms, delimiter="/")
    assert [prefix for page in found for prefix in page.prefixes] == ["d/"]


def test_removals_run_together_only_where_nothing_else_was_between(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removed, "RUNS_KEPT", 1)

    def remove(key: str, number: int) -> None:
        driver.run(DeleteVersion(bucket=BUCKET, key=key, number=number))

    moments = {}
    for number in (1, 2, 3):
        for key in ("between", "whole"):
            driver.put_inline(key, b"x")
            moments[key, number] = now(driver)
    for key, number in (("between", 1), ("between", 3), ("whole", 1), ("whole", 2)):
        remove(key, number)
    for number in (1, 2):
        driver.put_inline("absent", b"x")
        remove("absent", number)
        moments["absent", number] = now(driver)
    db = schema.open_reader(driver.path)
    was = {each: past.state_at(db, 1, each[0], at_ms).was for each, at_ms in moments.items()}
    db.close()
    assert was == {
        ("between", 1): past.Was.UNKNOWN,
        ("between", 2): past.Was.UNKNOWN,
        ("between", 3): past.Was.UNKNOWN,
        ("whole", 1): past.Was.REMOVED,
        ("whole", 2): past.Was.REMOVED,
        ("whole", 3): past.Was.PRESENT,
        ("absent", 1): past.Was.UNKNOWN,
        ("absent", 2): past.Was.ABSENT,
    }


def test_of_what_an_older_file_had_removed_nothing_is_claimed(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "catalog.sqlite")
    driver.form()
    for body in (b"1", b"2", b"3"):
        for key in ("whole", "pruned"):
            driver.put_inline(key, body)
    first = now(driver) - 40
    driver.run(PruneVersions(bucket=BUCKET, key="pruned", keep=1))
    driver.catalog.close()
    db = schema.open_writer(driver.path)
    db.execute("DROP TABLE removed_versions")
    db.execute(f"PRAGMA user_version = {steps.STEPS.index(steps._remember_removed_versions)}")
    schema.migrate(db, steps.STEPS[: steps.STEPS.index(steps._remember_removed_versions) + 1])
    db.execute(f"PRAGMA user_version = {steps.SCHEMA_VERSION}")
    db.close()
    driver = Driver(driver.path)
    page = pages(driver, first)[0]
    assert [(v.key, v.number) for v in page.objects] == [("whole", 1)]
    assert page.gone == (GoneObject(key="pruned", is_certain=False),)
    answer = driver.ask(FindObject(bucket=BUCKET, key="pruned", at_ms=first))
    assert refusal(answer) == "NoSuchVersion"
    assert [v.number for v in pages(driver, first + 10**6, limit=9)[0].objects] == [3, 3]
    driver.catalog.close()


def test_unknown_buckets_are_refused(driver: Driver) -> None:
    for query in (
        ListObjectsAt(bucket="none", at_ms=1),
        FindChanges(bucket="none", at_ms=1),
        FindDeleted(bucket="none", since_ms=1),
    ):
        assert refusal(driver.ask(query)) == "NoSuchBucket"
    command = RestoreObject(bucket="none", key="k", at_ms=1, began_ms=1)
    assert refusal(driver.run(command)) == "NoSuchBucket"
