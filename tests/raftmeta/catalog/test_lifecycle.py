"""What buckets want gone by time: what is due, what is not, and never more than a bounded part."""

import sqlite3
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osscore.model import ObjectAttributes
from raftmeta.catalog import lifecycle
from raftmeta.commands import (
    BeginUpload,
    ConfirmTime,
    CreateBucket,
    DeleteBucket,
    DeleteObject,
    DeleteVersion,
    Done,
    ObjectPut,
    PutObject,
    Refused,
    SetQuota,
    Stage,
    Staged,
    Undelete,
    UploadBody,
)
from raftmeta.entries import AnyCommand, Entry
from raftmeta.expiring import ExpiringFound, FindExpiring
from raftmeta.lifecycle import Expired, ExpireObject, ExpireVersions, Lifecycle, SetLifecycle
from raftmeta.queries import (
    BucketsListed,
    CatalogCounted,
    CountCatalog,
    FindObject,
    FindUpload,
    Found,
    GetBucket,
    ListVersions,
    UploadFound,
    VersionsListed,
)
from tests.raftmeta.catalog.harness import GRACE_MS, MINUTE_MS, Driver, refusal

DAY_MS = 86_400_000


def ask_for(driver: Driver, **asked: int) -> None:
    assert driver.run(SetLifecycle(bucket="bucket", **asked)) == Done()


def expiring(driver: Driver, limit: int = 1000) -> ExpiringFound:
    found = driver.ask(FindExpiring(bucket="bucket", at_ms=driver.now_ms + 10, limit=limit))
    assert isinstance(found, ExpiringFound), found
    return found


def step(driver: Driver, command: AnyCommand) -> Expired:
    driver.now_ms += 10
    (result,) = driver.apply(Entry(0, 0, command))
    assert isinstance(result, Expired), result
    return result


def expire(driver: Driver, rows_max: int = 500) -> list[Expired]:
    """All that is due, as the leader does it."""
    done: list[Expired] = []
    while True:
        found = expiring(driver)
        steps = [step(driver, ExpireObject(bucket="bucket", key=key)) for key in found.keys]
        if found.has_more:
            steps.append(step(driver, ExpireVersions(bucket="bucket", rows_max=rows_max)))
        done += steps
        if not any(each.count for each in steps):
            return done


def history(driver: Driver, key: str = "k") -> str:
    """A key in letters, oldest first: v a version, d a delete marker."""
    listed = driver.ask(ListVersions(bucket="bucket", key=key, limit=10_000))
    assert isinstance(listed, VersionsListed)
    return "".join("d" if version.is_marker else "v" for version in reversed(listed.versions))


def write(driver: Driver, letters: str, key: str = "k") -> None:
    for letter in letters:
        if letter == "v":
            driver.put_inline(key, b"0123456789")
        else:
            driver.run(DeleteObject(bucket="bucket", key=key))


# --- objects and versions ---------------------------------------------------------------------


def test_an_object_expires_into_a_delete_marker_and_can_be_brought_back(driver: Driver) -> None:
    ask_for(driver, expire_after_ms=DAY_MS)
    write(driver, "vv")
    driver.pass_time(DAY_MS - MINUTE_MS)
    assert expire(driver) == [] and history(driver) == "vv"
    driver.pass_time(MINUTE_MS)
    assert expire(driver) == [Expired(objects=1)]
    assert history(driver) == "vvd"
    assert refusal(driver.ask(FindObject(bucket="bucket", key="k"))) == "NoSuchKey"
    driver.run(Undelete(bucket="bucket", key="k"))
    found = driver.ask(FindObject(bucket="bucket", key="k"))
    assert isinstance(found, Found) and found.version.number == 2


def test_an_object_written_again_since_it_was_looked_at_stays(driver: Driver) -> None:
    ask_for(driver, expire_after_ms=DAY_MS)
    write(driver, "v")
    driver.pass_time(DAY_MS)
    assert expiring(driver).keys == ("k",)
    write(driver, "v")
    assert step(driver, ExpireObject(bucket="bucket", key="k")) == Expired()
    assert history(driver) == "vv"


def test_a_setting_taken_back_holds_for_what_was_planned(driver: Driver) -> None:
    ask_for(driver, expire_after_ms=DAY_MS, expire_noncurrent_after_ms=DAY_MS)
    write(driver, "vv")
    driver.pass_time(2 * DAY_MS)
    found = expiring(driver)
    assert found.keys == ("k",) and found.has_more
    ask_for(driver, expire_after_ms=0, expire_noncurrent_after_ms=0)
    assert step(driver, ExpireObject(bucket="bucket", key="k")) == Expired()
    assert step(driver, ExpireVersions(bucket="bucket")) == Expired()
    assert history(driver) == "vv" and expiring(driver) == ExpiringFound(keys=())


def test_old_versions_go_so_long_after_a_newer_one_came(driver: Driver) -> None:
    ask_for(driver, expire_noncurrent_after_ms=DAY_MS)
    write(driver, "v")
    driver.pass_time(10 * DAY_MS)  # however old: it is the newest
    assert expire(driver) == []
    write(driver, "v")
    driver.pass_time(DAY_MS // 2)
    write(driver, "d")
    driver.pass_time(DAY_MS // 2 + MINUTE_MS)
    assert [each.versions for each in expire(driver)] == [1]
    assert history(driver) == "vd"
    driver.pass_time(DAY_MS)
    done = expire(driver)
    assert (done[0].versions, done[0].markers, done[0].size_bytes) == (1, 1, 10)
    assert history(driver) == "", "the marker has nothing behind it any more"


def test_what_is_the_newest_again_is_not_old(driver: Driver) -> None:
    ask_for(driver, expire_noncurrent_after_ms=DAY_MS)
    write(driver, "vd")
    driver.run(Undelete(bucket="bucket", key="k"))
    driver.pass_time(2 * DAY_MS)
    assert expire(driver) == [] and history(driver) == "v"
    write(driver, "d")
    driver.pass_time(DAY_MS // 2)
    assert expire(driver) == [] and history(driver) == "vd", "its time began anew"


@pytest.mark.parametrize("setting", ["expire_after_ms", "expire_noncurrent_after_ms"])
def test_delete_markers_with_nothing_behind_them_go(driver: Driver, setting: str) -> None:
    write(driver, "vdd")
    driver.run(DeleteVersion(bucket="bucket", key="k", number=1))
    ask_for(driver, abort_uploads_after_ms=DAY_MS)
    assert expire(driver) == [] and history(driver) == "dd", "nobody asked for it"
    ask_for(driver, **{setting: 100 * DAY_MS})
    assert [each.markers for each in expire(driver)] == [2]
    assert history(driver) == ""
    write(driver, "v")
    found = driver.ask(FindObject(bucket="bucket", key="k"))
    assert isinstance(found, Found) and found.version.number == 4, "numbers go on"


def test_other_buckets_keep_what_they_have(driver: Driver) -> None:
    driver.run(CreateBucket(bucket="other"))
    driver.put_inline("k", b"x", bucket="other")
    driver.put_inline("k", b"x", bucket="other")
    ask_for(driver, expire_after_ms=1, expire_noncurrent_after_ms=1)
    driver.pass_time(DAY_MS)
    assert expire(driver) == []
    listed = driver.ask(ListVersions(bucket="other"))
    assert isinstance(listed, VersionsListed) and len(listed.versions) == 2


def test_a_full_bucket_expires_too(driver: Driver) -> None:
    ask_for(driver, expire_after_ms=DAY_MS)
    write(driver, "v")
    driver.run(SetQuota(bucket="bucket", size_bytes=1, versions=1))
    driver.pass_time(DAY_MS)
    assert expire(driver) == [Expired(objects=1)]


# --- bounds, time, generations ----------------------------------------------------------------


def test_a_step_removes_a_bounded_part_the_oldest_first(driver: Driver) -> None:
    write(driver, "v" * 30)
    ask_for(driver, expire_noncurrent_after_ms=1)
    driver.pass_time(MINUTE_MS)
    done = step(driver, ExpireVersions(bucket="bucket", rows_max=40))
    assert 0 < done.versions < 10
    listed = driver.ask(ListVersions(bucket="bucket", key="k"))
    assert isinstance(listed, VersionsListed)
    numbers = [version.number for version in listed.versions]
    assert numbers == list(range(30, done.versions, -1))
    expire(driver, rows_max=40)
    assert history(driver) == "v"


def test_a_stack_of_bare_markers_goes_in_bounded_steps(driver: Driver) -> None:
    write(driver, "v" + "d" * 30)
    driver.run(DeleteVersion(bucket="bucket", key="k", number=1))
    ask_for(driver, expire_after_ms=1)
    assert 0 < step(driver, ExpireVersions(bucket="bucket", rows_max=40)).markers < 10
    expire(driver, rows_max=40)
    assert history(driver) == ""


def test_nothing_goes_by_a_leap_of_time_until_it_is_confirmed(driver: Driver) -> None:
    write(driver, "vv")
    ask_for(driver, expire_after_ms=DAY_MS, expire_noncurrent_after_ms=DAY_MS)
    driver.now_ms += 300 * DAY_MS
    assert expiring(driver).keys == ("k",)
    assert expire(driver) == [Expired(), Expired()] and history(driver) == "vv"
    driver.run(ConfirmTime())
    expire(driver)
    assert history(driver) == "d" or history(driver) == "vd"


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (lifecycle.CURRENT, "versions_current_by_age (bucket=? AND created_at_ms<?)"),
        (lifecycle.SUPERSEDED, "versions_superseded (bucket=? AND superseded_at_ms<?)"),
        (lifecycle.BARE, "PRIMARY KEY (bucket=?)"),
        (lifecycle.UPLOADS, "uploads_by_life (bucket=? AND ttl_ms>?)"),
    ],
)
def test_what_is_due_is_a_seek_and_never_a_scan(driver: Driver, sql: str, index: str) -> None:
    writer: sqlite3.Connection = driver.catalog._writer
    arguments = (1,) * (sql.count("?") if "?1" not in sql else 3)
    plan = [row[3] for row in writer.execute(f"EXPLAIN QUERY PLAN {sql}", arguments)]
    assert any(index in line for line in plan), plan
    assert not any("SCAN versions" in line or "TEMP B-TREE" in line for line in plan), plan


# --- uploads ----------------------------------------------------------------------------------


def begin(driver: Driver, letter: bytes, *, waits: bool = True) -> None:
    command = BeginUpload(upload=letter * 16, bucket="bucket", key="k", ttl_ms=DAY_MS, waits=waits)
    assert driver.run(command) == Done()


def expiry_ms(driver: Driver, letter: bytes) -> int:
    found = driver.ask(FindUpload(upload=letter * 16))
    assert isinstance(found, UploadFound), found
    return found.expires_at_ms


def test_the_bucket_says_how_long_uploads_wait_for_requests(driver: Driver) -> None:
    begin(driver, b"a")
    begun_ms = expiry_ms(driver, b"a") - DAY_MS
    begin(driver, b"b", waits=False)  # one request: its process knows
    ask_for(driver, abort_uploads_after_ms=GRACE_MS)
    assert expiry_ms(driver, b"a") == begun_ms + GRACE_MS, "also one that is under way"
    begin(driver, b"c")
    assert expiry_ms(driver, b"c") == driver.catalog.head.catalog_time_ms + GRACE_MS
    driver.pass_time(GRACE_MS // 2)
    stage = Stage(upload=b"c" * 16, position=0, append=(driver.draft(1),))
    assert isinstance(driver.run(stage), Staged)
    driver.pass_time(GRACE_MS // 2 + MINUTE_MS)
    while driver.collect().uploads:  # type: ignore[union-attr]
        pass
    assert refusal(driver.ask(FindUpload(upload=b"a" * 16))) == "NoSuchUpload"
    assert expiry_ms(driver, b"b") and expiry_ms(driver, b"c")


def test_a_longer_time_holds_for_uploads_under_way_too(driver: Driver) -> None:
    begin(driver, b"a")
    ask_for(driver, abort_uploads_after_ms=3 * DAY_MS)
    driver.pass_time(2 * DAY_MS)
    driver.collect()
    assert expiry_ms(driver, b"a")
    ask_for(driver, abort_uploads_after_ms=0)
    begin(driver, b"b")
    assert expiry_ms(driver, b"b") == driver.catalog.head.catalog_time_ms + DAY_MS


def test_uploads_that_one_command_cannot_reach_are_reached_by_steps(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftmeta.catalog.apply_lifecycle.RETIMED_AT_ONCE", 2)
    letters = [bytes([97 + number]) for number in range(6)]
    for letter in letters:
        begin(driver, letter)
    ask_for(driver, abort_uploads_after_ms=GRACE_MS)
    lives = [expiry_ms(driver, letter) - driver.now_ms < DAY_MS // 2 for letter in letters]
    assert sum(lives) == 2
    assert [each.uploads for each in expire(driver, rows_max=3)] == [3, 1]
    assert all(expiry_ms(driver, letter) - driver.now_ms < DAY_MS // 2 for letter in letters)


def test_a_finished_upload_is_remembered_for_as_long_as_it_might_have_waited(
    driver: Driver,
) -> None:
    ask_for(driver, abort_uploads_after_ms=GRACE_MS)
    begin(driver, b"a")
    driver.run(Stage(upload=b"a" * 16, position=0, append=(driver.draft(1),)))
    put = PutObject(
        bucket="bucket",
        key="k",
        attributes=ObjectAttributes(size_bytes=1000),
        body=UploadBody(upload=b"a" * 16),
        finishes=b"a" * 16,
    )
    first = driver.run(put)
    driver.pass_time(GRACE_MS - MINUTE_MS)
    assert isinstance(first, ObjectPut) and driver.run(put) == first


# --- settings ---------------------------------------------------------------------------------


def test_settings_change_one_by_one_and_end_with_their_bucket(driver: Driver) -> None:
    ask_for(driver, expire_after_ms=1, expire_noncurrent_after_ms=2, abort_uploads_after_ms=3)
    ask_for(driver, expire_noncurrent_after_ms=5)
    assert seen(driver) == Lifecycle(
        expire_after_ms=1, expire_noncurrent_after_ms=5, abort_uploads_after_ms=3
    )
    driver.run(DeleteBucket(bucket="bucket"))
    driver.run(CreateBucket(bucket="bucket"))
    assert seen(driver) == Lifecycle()


def seen(driver: Driver) -> Lifecycle:
    found = driver.ask(GetBucket(bucket="bucket"))
    assert isinstance(found, BucketsListed)
    return found.buckets[0].lifecycle


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"expire_after_ms": -1}, "InvalidArgument"),
        ({"expire_after_ms": 1 << 62}, "InvalidArgument"),
        ({"expire_noncurrent_after_ms": 36_501 * DAY_MS}, "InvalidArgument"),
        ({"abort_uploads_after_ms": 400 * DAY_MS}, "InvalidArgument"),
    ],
)
def test_times_out_of_bounds_are_refused(driver: Driver, asked: dict[str, int], code: str) -> None:
    assert refusal(driver.run(SetLifecycle(bucket="bucket", **asked))) == code
    assert seen(driver) == Lifecycle()


def test_a_bucket_that_is_gone_is_refused(driver: Driver) -> None:
    for command in (
        SetLifecycle(bucket="none", expire_after_ms=1),
        ExpireObject(bucket="none", key="k"),
        ExpireVersions(bucket="none"),
    ):
        assert refusal(driver.run(command)) == "NoSuchBucket"
    assert refusal(driver.ask(FindExpiring(bucket="none", at_ms=0))) == "NoSuchBucket"


# --- against a plain model --------------------------------------------------------------------


@dataclass
class Version:
    number: int
    is_real: bool
    made_ms: int
    superseded_ms: int | None = None


@dataclass
class Model:
    """Each key as a stack; times as the catalog gives them."""

    stacks: dict[str, list[Version]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def push(self, key: str, now_ms: int, *, is_real: bool) -> None:
        stack = self.stacks.setdefault(key, [])
        self.numbers[key] = self.numbers.get(key, 0) + 1
        if stack:
            stack[-1].superseded_ms = now_ms
        stack.append(Version(self.numbers[key], is_real, now_ms))

    def drop(self, key: str, number: int) -> None:
        self.stacks[key] = [each for each in self.stacks[key] if each.number != number]
        if self.stacks[key]:
            self.stacks[key][-1].superseded_ms = None

    def expire(self, now_ms: int, asked: Lifecycle) -> None:
        """All that is due, key by key, in the words of the settings."""
        for key in self.stacks:
            top = self.stacks[key][-1] if self.stacks[key] else None
            after_ms = asked.expire_after_ms
            if top and after_ms and top.is_real and top.made_ms + after_ms <= now_ms:
                self.push(key, now_ms, is_real=False)
            old_ms = asked.expire_noncurrent_after_ms
            if old_ms:
                self.stacks[key] = [
                    each
                    for each in self.stacks[key]
                    if each.superseded_ms is None or each.superseded_ms + old_ms > now_ms
                ]
            while asked.removes_markers and self.stacks[key] and not self.stacks[key][0].is_real:
                self.stacks[key].pop(0)

    def shown(self, key: str) -> list[tuple[int, bool, int]]:
        return [(v.number, v.is_real, v.made_ms) for v in self.stacks.get(key, [])]


KEYS = ("a", "b")
CHANGES = st.tuples(
    st.sampled_from(["put", "put", "delete", "remove", "undelete", "wait", "wait", "expire"]),
    st.sampled_from(KEYS),
    st.integers(0, 40),
)
TIMES_MIN = st.sampled_from([0, 15, 45, 90])


@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(CHANGES, min_size=5, max_size=40),
    expire_min=TIMES_MIN,
    noncurrent_min=TIMES_MIN,
    rows_max=st.sampled_from([1, 500]),
)
def test_any_history_expires_as_the_plain_model_does(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[str, str, int]],
    expire_min: int,
    noncurrent_min: int,
    rows_max: int,
) -> None:
    driver = Driver(tmp_path_factory.mktemp("any") / "catalog.sqlite")
    driver.form()
    asked = Lifecycle(
        expire_after_ms=expire_min * MINUTE_MS,
        expire_noncurrent_after_ms=noncurrent_min * MINUTE_MS,
    )
    ask_for(
        driver,
        expire_after_ms=asked.expire_after_ms,
        expire_noncurrent_after_ms=asked.expire_noncurrent_after_ms,
    )
    model = Model()
    for what, key, pick in [*changes, ("expire", "a", 0)]:
        change(driver, model, what, key, pick)
        if what == "expire":
            expire(driver, rows_max)
            model.expire(driver.now_ms, asked)
        for each in KEYS:
            # When a step put a marker there is known to within the steps of one round.
            assert [v[:2] for v in listed(driver, each)] == [v[:2] for v in model.shown(each)]
        assert driver.catalog.contradictions() == []
    counted = driver.ask(CountCatalog())
    assert isinstance(counted, CatalogCounted)
    assert counted.versions == sum(v.is_real for key in KEYS for v in model.stacks.get(key, []))
    driver.catalog.close()


def change(driver: Driver, model: Model, what: str, key: str, pick: int) -> None:
    stack = model.stacks.get(key, [])
    if what == "put":
        driver.put_inline(key, b"x")
        model.push(key, driver.catalog.head.catalog_time_ms, is_real=True)
    elif what == "delete" and stack:
        driver.run(DeleteObject(bucket="bucket", key=key))
        model.push(key, driver.catalog.head.catalog_time_ms, is_real=False)
    elif what == "remove" and stack:
        number = stack[pick % len(stack)].number
        driver.run(DeleteVersion(bucket="bucket", key=key, number=number))
        model.drop(key, number)
    elif what == "undelete" and any(each.is_real for each in stack):
        assert not isinstance(driver.run(Undelete(bucket="bucket", key=key)), Refused)
        while not model.stacks[key][-1].is_real:
            model.drop(key, model.stacks[key][-1].number)
    elif what == "wait":
        driver.pass_time((1 + pick) * MINUTE_MS)


def listed(driver: Driver, key: str) -> list[tuple[int, bool, int]]:
    found = driver.ask(ListVersions(bucket="bucket", key=key, limit=1000))
    assert isinstance(found, VersionsListed)
    return [(v.number, not v.is_marker, v.created_at_ms) for v in reversed(found.versions)]
