"""The newest N versions stay: what counts, what goes, and never more than a bounded part."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osscore.model import ObjectAttributes
from raftmeta.catalog import pruning, query_prune
from raftmeta.commands import (
    BeginUpload,
    CreateBucket,
    DeleteBucket,
    DeleteObject,
    DeleteVersion,
    PruneVersions,
    PutObject,
    Refused,
    SetKeepVersions,
    Stage,
    Undelete,
    UploadBody,
    VersionsPruned,
)
from raftmeta.entries import Entry
from raftmeta.queries import (
    BucketsListed,
    CatalogCounted,
    CountCatalog,
    FindPrunable,
    GetBucket,
    ListVersions,
    PrunableFound,
    PrunableKey,
    VersionsListed,
)
from tests.raftmeta.catalog.harness import GRACE_MS, Driver, refusal


def write(driver: Driver, history: str, key: str = "k") -> None:
    """A key's life in letters: v a version of 10 bytes, d a delete marker."""
    for letter in history:
        if letter == "v":
            driver.put_inline(key, b"0123456789")
        else:
            driver.run(DeleteObject(bucket="bucket", key=key))


def history(driver: Driver, key: str = "k") -> str:
    """What is left of it, oldest first."""
    listed = driver.ask(ListVersions(bucket="bucket", key=key, limit=10_000))
    assert isinstance(listed, VersionsListed)
    return "".join("d" if version.is_marker else "v" for version in reversed(listed.versions))


def prune(driver: Driver, keep: int, **more: int) -> VersionsPruned:
    result = driver.run(PruneVersions(bucket="bucket", key="k", keep=keep, **more))
    assert isinstance(result, VersionsPruned), result
    return result


def prunable(driver: Driver, keep: int, **more: object) -> PrunableFound:
    answer = driver.ask(FindPrunable(bucket="bucket", keep=keep, **more))  # type: ignore[arg-type]
    assert isinstance(answer, PrunableFound), answer
    return answer


@pytest.mark.parametrize(
    ("before", "keep", "after"),
    [
        ("vvv", 5, "vvv"),
        ("vvvvvv", 5, "vvvvv"),
        ("vvv", 1, "v"),
        ("vvd", 1, "vd"),  # deleted it stays, and what it held last can be brought back
        ("vvdd", 1, "vdd"),
        ("vdvdv", 2, "vdv"),  # a marker between kept versions is part of their history
        ("dvv", 2, "vv"),  # below the oldest kept one it tells nothing
        ("dvv", 3, "dvv"),
        ("dd", 1, "dd"),
        ("vdvdvd", 1, "vd"),
    ],
)
def test_only_real_versions_count_and_markers_go_by_their_age(
    driver: Driver, before: str, keep: int, after: str
) -> None:
    # A key cannot begin with a marker by deletion: its first version was removed for good.
    write(driver, "v" + before if before[0] == "d" else before)
    if before[0] == "d":
        driver.run(DeleteVersion(bucket="bucket", key="k", number=1))
    said = prunable(driver, keep).keys
    done = prune(driver, keep)
    assert history(driver) == after
    gone = len(before) - len(after)
    assert (done.versions + done.markers, done.is_done) == (gone, True)
    assert done.versions == before.count("v") - after.count("v")
    assert done.size_bytes == 10 * done.versions
    key = PrunableKey(
        key="k", versions=done.versions, markers=done.markers, size_bytes=done.size_bytes
    )
    assert said == ((key,) if gone else ())
    assert prune(driver, keep) == VersionsPruned()


@settings(max_examples=30, deadline=None)
@given(before=st.text("vd", min_size=1, max_size=12), keep=st.integers(1, 4))
def test_the_newest_real_versions_are_never_touched(
    tmp_path_factory: pytest.TempPathFactory, before: str, keep: int
) -> None:
    driver = Driver(tmp_path_factory.mktemp("any") / "catalog.sqlite")
    driver.form()
    write(driver, "v" + before)
    prune(driver, keep, rows_max=5)
    while not prune(driver, keep, rows_max=5).is_done:
        pass
    after = history(driver)
    assert ("v" + before).endswith(after)
    assert after.count("v") == min(keep, ("v" + before).count("v"))
    assert driver.catalog.contradictions() == []
    driver.catalog.close()


def test_a_deleted_object_that_was_pruned_can_be_brought_back(driver: Driver) -> None:
    write(driver, "vvvd")
    prune(driver, 1)
    assert not isinstance(driver.run(Undelete(bucket="bucket", key="k")), Refused)
    assert history(driver) == "v"


def test_a_cut_off_pruning_has_removed_the_oldest_first(driver: Driver) -> None:
    write(driver, "vvvvvvvvvv")
    done = prune(driver, 2, rows_max=8)
    assert 0 < done.versions < 8 and not done.is_done
    listed = driver.ask(ListVersions(bucket="bucket", key="k"))
    assert isinstance(listed, VersionsListed)
    numbers = [version.number for version in listed.versions]
    assert numbers == list(range(10, done.versions, -1))
    while not prune(driver, 2, rows_max=8).is_done:
        pass
    assert history(driver) == "vv"


def test_bytes_shared_with_a_kept_version_stay_and_others_die(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    driver.put("k", driver.draft(2))
    driver.put("k", driver.draft(1))  # the same bytes as the first: one stripe for both
    prune(driver, 1)
    counted = driver.ask(CountCatalog())
    assert isinstance(counted, CatalogCounted)
    assert (counted.stripes, counted.dead_stripes) == (1, 1)
    assert (counted.pruned_versions, counted.pruned_bytes) == (2, 2000)


def test_a_bucket_asks_for_itself_and_only_while_it_does(driver: Driver) -> None:
    write(driver, "vvvv")
    assert prune(driver, 0) == VersionsPruned() and prunable(driver, 0).keys == ()
    driver.run(SetKeepVersions(bucket="bucket", keep_versions=3))
    found = driver.ask(GetBucket(bucket="bucket"))
    assert isinstance(found, BucketsListed) and found.buckets[0].keep_versions == 3
    assert [key.versions for key in prunable(driver, 0).keys] == [1]
    driver.run(SetKeepVersions(bucket="bucket", keep_versions=0))
    assert prune(driver, 0) == VersionsPruned()  # what was planned before finds it changed
    driver.run(SetKeepVersions(bucket="bucket", keep_versions=2))
    assert prune(driver, 0).versions == 2


def test_it_needs_no_session_since_repeating_it_is_harmless(driver: Driver) -> None:
    write(driver, "vvv")
    command = PruneVersions(bucket="bucket", key="k", keep=1)
    first, again = driver.apply(Entry(0, 0, command), Entry(0, 0, command))
    assert (first, again) == (VersionsPruned(versions=2, size_bytes=20), VersionsPruned())


def test_a_bucket_made_again_keeps_all(driver: Driver) -> None:
    driver.run(SetKeepVersions(bucket="bucket", keep_versions=2))
    driver.run(DeleteBucket(bucket="bucket"))
    driver.run(CreateBucket(bucket="bucket"))
    write(driver, "vvv")
    assert prune(driver, 0) == VersionsPruned()


@pytest.mark.parametrize("keep", [-1, pruning.KEEP_MAX + 1, 1 << 70])
def test_senseless_counts_are_refused_and_change_nothing(driver: Driver, keep: int) -> None:
    write(driver, "vv")
    if abs(keep) < 1 << 63:
        command = PruneVersions(bucket="bucket", key="k", keep=keep)
        assert refusal(driver.run(command)) == "InvalidArgument"
        setting = SetKeepVersions(bucket="bucket", keep_versions=keep)
        assert refusal(driver.run(setting)) == "InvalidArgument"
    assert refusal(driver.ask(FindPrunable(bucket="bucket", keep=keep))) == "InvalidArgument"
    assert history(driver) == "vv"


def test_unknown_names_are_refused(driver: Driver) -> None:
    assert refusal(driver.run(PruneVersions(bucket="none", key="k", keep=1))) == "NoSuchBucket"
    assert refusal(driver.run(SetKeepVersions(bucket="none", keep_versions=1))) == "NoSuchBucket"
    assert refusal(driver.ask(FindPrunable(bucket="none", keep=1))) == "NoSuchBucket"
    assert refusal(driver.ask(FindPrunable(bucket="bucket", key="x", keep=1))) == "NoSuchKey"
    assert prune(driver, 1) == VersionsPruned()  # a key that went meanwhile


def test_pages_go_through_every_key_once(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_prune, "KEYS_VISITED_MAX", 3)
    keys = [f"{folder}/{number}" for folder in ("a", "b", "c") for number in range(5)]
    for key in keys:
        write(driver, "vvv" if key[-1] in "024" else "v", key)
    seen, visited, after, pages = [], 0, "", 0
    while True:
        page = prunable(driver, 1, after_key=after, limit=2)
        seen += [found.key for found in page.keys]
        visited += page.visited
        pages += 1
        if page.next is None:
            break
        after = page.next
    assert seen == [key for key in keys if key[-1] in "024"] and visited == len(keys)
    assert pages > len(keys) / 3
    below = prunable(driver, 1, prefix="b/", limit=2)
    assert [found.key for found in below.keys] == ["b/0", "b/2"]
    rest = prunable(driver, 1, prefix="b/", after_key=below.next)
    assert [found.key for found in rest.keys] == ["b/4"]
    assert [found.key for found in prunable(driver, 1, key="a/2").keys] == ["a/2"]


def test_a_page_ends_when_it_has_counted_enough(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_prune, "ROWS_COUNTED_MAX", 4)
    for key in "abc":
        write(driver, "vvvv", key)
    page = prunable(driver, 1)
    assert ([found.key for found in page.keys], page.next) == (["a", "b"], "b")


def test_what_is_hidden_under_endless_markers_is_left_alone(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "LOOKED_AT_MAX", 4)
    write(driver, "vvvdddd")
    assert prune(driver, 1) == VersionsPruned() and prunable(driver, 1).keys == ()


def test_long_manifests_are_buried_and_not_taken_apart_at_once(driver: Driver) -> None:
    upload = b"u" * 16
    driver.run(BeginUpload(upload=upload, bucket="bucket", key="k", ttl_ms=GRACE_MS))
    drafts = tuple(driver.draft(number) for number in range(70))
    driver.run(Stage(upload=upload, position=0, append=drafts))
    attributes = ObjectAttributes(size_bytes=70_000)
    body = UploadBody(upload=upload)
    driver.run(PutObject(bucket="bucket", key="k", attributes=attributes, body=body))
    write(driver, "v")
    before = driver.catalog._writer.total_changes
    assert prune(driver, 1).size_bytes == 70_000
    assert driver.catalog._writer.total_changes - before < 40
