"""A restored catalog: frozen until adopted, and nothing it gives out was given out before."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osscore.errors import InvalidArgument
from osscore.model import ShardIdentity
from osscore.names import stripe_id
from raftmeta.catalog import copies, restored
from raftmeta.catalog.catalog import Catalog
from raftmeta.catalog.meta import _INITIAL, Meta
from raftmeta.commands import (
    AbortUpload,
    BeginUpload,
    Collected,
    ConfirmTime,
    DeleteObject,
    DeleteVersion,
    DiskGrant,
    Done,
    HoldManifest,
    NodeRegistered,
    ObjectPut,
    PruneVersions,
    SetDiskState,
    SetKeepVersions,
    VersionsPruned,
)
from raftmeta.entries import Entry
from raftmeta.generations import AdoptGeneration, BeginGeneration, ConfirmCensus
from raftmeta.lifecycle import Expired, ExpireObject, ExpireVersions, SetLifecycle
from raftmeta.moving import REPAIR, OpenTasks, ReadTasks, TaskDraft, TasksOpened, TasksRead
from raftmeta.queries import (
    ClusterDescribed,
    FindObject,
    FindUnwanted,
    FindUpload,
    Found,
    GetCluster,
    ReadTrash,
    TrashRead,
    Unwanted,
    UploadFound,
)
from tests.raftmeta.catalog import reencoding
from tests.raftmeta.catalog.harness import (
    GRACE_MS,
    MINUTE_MS,
    START_MS,
    Driver,
    disk_uuid,
    refusal,
    register_command,
)

UPLOAD = b"u" * 16
HOUR_MS = 60 * MINUTE_MS


def restore(driver: Driver, *, later_ms: int = 10 * HOUR_MS, name: str = "restored") -> Driver:
    """What a cluster restored from a copy of this catalog begins with."""
    copy = driver.path.with_name(f"{name}.db")
    driver.catalog.copy_to(copy)
    copies.settle(copy)
    begun = restored.prepare(copy, now_ms=driver.now_ms + later_ms)
    again = Driver(copy)
    again.index, again.now_ms = begun.applied_index, driver.now_ms + later_ms
    again._stripes = 1000
    assert again.apply(Entry(0, 0, BeginGeneration(generation=begun.generation))) == [Done()]
    return again


def described(driver: Driver) -> ClusterDescribed:
    answer = driver.ask(GetCluster())
    assert isinstance(answer, ClusterDescribed)
    return answer


def trash(driver: Driver, disk: int) -> int:
    read = driver.ask(ReadTrash(disk=disk))
    assert isinstance(read, TrashRead)
    return len(read.rows)


def unwanted(driver: Driver, identity: ShardIdentity) -> bool:
    answer = driver.ask(FindUnwanted(disk=1, grace_ms=0, identities=(identity,)))
    assert isinstance(answer, Unwanted)
    return identity in answer.identities


def collect_all(driver: Driver) -> int:
    """Stripes claimed until nothing is left to do."""
    claimed = 0
    while (done := driver.collect()) != Collected():
        assert isinstance(done, Collected)
        claimed += done.stripes
    return claimed


def confirm_time(driver: Driver) -> None:
    assert driver.apply(Entry(0, 0, ConfirmTime())) == [Done()]


def adopt(driver: Driver, *, force: bool = False) -> object:
    generation = driver.catalog.head.generation
    return driver.run(AdoptGeneration(generation=generation, force=force))


def test_nothing_that_leads_to_a_shards_deletion_happens_until_it_is_adopted(
    driver: Driver,
) -> None:
    driver.put("dead", driver.draft(1))
    driver.put("claimed", driver.draft(2))
    driver.run(DeleteVersion(bucket="bucket", key="claimed", number=1))
    driver.pass_time(GRACE_MS + MINUTE_MS)
    assert collect_all(driver) == 1 and trash(driver, 1) == 1
    driver.run(DeleteVersion(bucket="bucket", key="dead", number=1))
    driver.run(BeginUpload(upload=UPLOAD, bucket="bucket", key="k", ttl_ms=GRACE_MS))
    after = restore(driver)
    confirm_time(after)
    nobodys = ShardIdentity(stripe_id(START_MS, b"0123456789"), 0, 0)
    after.pass_time(3 * GRACE_MS)
    assert (collect_all(after), trash(after, 1), unwanted(after, nobodys)) == (0, 0, False)
    after.run(DeleteObject(bucket="bucket", key="dead"))

    state = described(after).deletion
    assert state.frozen and (state.disk_count, state.confirmed_count) == (3, 0)
    assert adopt(after, force=True) == Done()
    assert not described(after).deletion.frozen
    assert (trash(after, 1), unwanted(after, nobodys)) == (1, True)
    assert collect_all(after) == 1  # the one that was dead at the backup
    assert refusal(after.ask(FindUpload(upload=UPLOAD))) == "NoSuchUpload"
    assert after.catalog.contradictions() == []


def test_a_stripe_that_only_an_expired_upload_or_reader_holds_is_held_while_frozen(
    driver: Driver,
) -> None:
    driver.put("read", driver.draft(1))
    found = driver.ask(FindObject(bucket="bucket", key="read"))
    assert isinstance(found, Found)
    hold = HoldManifest(upload=UPLOAD, manifest=found.version.manifest, ttl_ms=MINUTE_MS)
    assert driver.run(hold) == Done()
    driver.run(DeleteVersion(bucket="bucket", key="read", number=1))
    after = restore(driver)
    confirm_time(after)
    after.pass_time(3 * GRACE_MS)
    collect_all(after)
    counts = after.catalog.contradictions()
    assert counts == [] and after.catalog._meta.number("total_uploads") == 1
    adopt(after, force=True)
    collect_all(after)
    assert after.catalog._meta.number("total_uploads") == 0


def test_the_leader_prunes_nothing_while_frozen_but_who_asks_may(driver: Driver) -> None:
    for number in range(4):
        driver.put_inline("k", b"%d" % number)
    driver.run(SetKeepVersions(bucket="bucket", keep_versions=2))
    after = restore(driver)
    assert after.run(PruneVersions(bucket="bucket", key="k")) == VersionsPruned()
    asked = after.run(PruneVersions(bucket="bucket", key="k", keep=3))
    assert isinstance(asked, VersionsPruned) and asked.versions == 1
    adopt(after, force=True)
    pruned = after.run(PruneVersions(bucket="bucket", key="k"))
    assert isinstance(pruned, VersionsPruned) and pruned.versions == 1


def test_nothing_goes_by_time_while_frozen(driver: Driver) -> None:
    for _ in range(2):
        driver.put_inline("k", b"x")
    asked = SetLifecycle(bucket="bucket", expire_after_ms=1, expire_noncurrent_after_ms=1)
    assert driver.run(asked) == Done()
    driver.pass_time(MINUTE_MS)
    after = restore(driver)
    after.run(ConfirmTime())
    for command in (ExpireVersions(bucket="bucket"), ExpireObject(bucket="bucket", key="k")):
        assert after.run(command) == Expired()
    adopt(after, force=True)
    gone = after.run(ExpireVersions(bucket="bucket"))
    assert isinstance(gone, Expired) and gone.versions == 1
    assert after.run(ExpireObject(bucket="bucket", key="k")) == Expired(objects=1)


def test_adopting_waits_for_a_census_of_every_disk_that_counts(driver: Driver) -> None:
    after = restore(driver)
    generation = after.catalog.head.generation
    refused = after.run(AdoptGeneration(generation=generation))
    assert refusal(refused) == "Conflict" and "disks 1, 2, 3" in str(refused)
    for disk in (1, 2):
        assert after.run(ConfirmCensus(disk=disk, generation=generation)) == Done()
    assert described(after).deletion.unconfirmed == (3,)
    assert refusal(adopt(after)) == "Conflict"
    # A lost disk holds nothing that counts.
    after.run(SetDiskState(disk=3, state="lost"))
    assert adopt(after) == Done() and adopt(after) == Done()


def test_a_census_of_another_generation_does_not_count(driver: Driver) -> None:
    first = restore(driver, name="first")
    old = first.catalog.head.generation
    for disk in (1, 2, 3):
        first.run(ConfirmCensus(disk=disk, generation=old))
    second = restore(first, name="second")
    assert described(second).deletion.confirmed_count == 0
    assert refusal(adopt(second)) == "Conflict"
    for command in (
        ConfirmCensus(disk=1, generation=old),
        AdoptGeneration(generation=old, force=True),
        BeginGeneration(generation=old),
    ):
        assert refusal(second.run(command)) == "Conflict"
    assert refusal(second.run(ConfirmCensus(disk=9, generation=second.catalog.head.generation)))
    assert described(second).deletion.frozen


def test_a_cluster_never_restored_is_not_frozen(driver: Driver) -> None:
    assert not described(driver).deletion.frozen and described(driver).generation == 1
    assert driver.run(AdoptGeneration(generation=1)) == Done()


def test_a_cluster_being_restored_is_not_formed_yet(driver: Driver) -> None:
    copy = driver.path.with_name("begun.db")
    driver.catalog.copy_to(copy)
    begun = restored.prepare(copy, now_ms=driver.now_ms)
    again = Driver(copy)
    again.index = begun.applied_index
    assert described(again).cluster_id == b"" and described(again).deletion.frozen
    again.apply(Entry(0, 0, BeginGeneration(generation=begun.generation)))
    assert described(again).cluster_id == described(driver).cluster_id


def test_a_stripe_born_before_the_restore_is_never_named(driver: Driver) -> None:
    """A daemon of the lost cluster may have deleted its shards: it was mapped onto a twin."""
    driver.put("first", driver.draft(1))
    loser = driver.draft(1)
    in_flight = driver.draft(2)
    after = restore(driver, later_ms=MINUTE_MS)
    assert isinstance(driver.put("second", loser), ObjectPut)  # after the backup
    assert refusal(after.put("second", loser)) == "StaleStripe"
    assert refusal(after.put("other", in_flight)) == "StaleStripe"
    assert isinstance(after.put("other", after.draft(2)), ObjectPut)


def test_commands_of_sessions_of_the_lost_cluster_are_not_applied(driver: Driver) -> None:
    entry = driver.next(AbortUpload(upload=UPLOAD))
    after = restore(driver)
    assert [refusal(each) for each in after.apply(entry)] == ["SessionExpired"]
    assert after.open() != driver.session


def test_a_disk_ahead_of_the_restored_catalog_is_accepted_and_new_ones_get_new_numbers(
    driver: Driver,
) -> None:
    after = restore(driver)
    for number in (1, 4):
        for epoch in (1, 2, 3):  # what the lost cluster went on to
            driver.run(register_command(number, epoch=epoch))
    known = after.run(register_command(1, epoch=7))
    assert known == NodeRegistered(
        granted=(DiskGrant(uuid=disk_uuid(1), disk=1, epoch=8),), refused={}
    )
    later = after.run(register_command(4, epoch=7))
    assert isinstance(later, NodeRegistered)
    assert later.granted[0].disk == (1 << 16) + 1 and later.granted[0].epoch == 8


def test_open_tasks_are_forgotten_and_their_numbers_not_given_again(driver: Driver) -> None:
    """The lost cluster may have carried one out, and deleted what it wrote."""
    driver.put("k", driver.draft(1))
    driver.run(register_command(4))
    driver.run(SetDiskState(disk=1, state="lost"))

    def repair(catalog: Driver) -> None:
        draft = TaskDraft(1, 0, 0, 1, 4, REPAIR)
        assert catalog.run(OpenTasks(tasks=(draft,))) == TasksOpened(opened=1)

    def tasks(catalog: Driver) -> list[int]:
        read = catalog.ask(ReadTasks(target=4, limit=10))
        assert isinstance(read, TasksRead)
        return [task.task for task in read.tasks]

    repair(driver)
    after = restore(driver)
    assert len(tasks(driver)) == 1 and tasks(after) == []
    repair(after)
    assert tasks(after)[0] > tasks(driver)[0] + (1 << 40)
    assert after.catalog.contradictions() == []


def test_what_is_encoded_anew_goes_on_with_other_tasks(driver: Driver) -> None:
    """The job is the user's wish and stays; what was open may have been carried out elsewhere."""
    driver.put("k", driver.draft(1))
    job = reencoding.begin(driver, reencoding.ONE_TWO)

    def open_one(catalog: Driver) -> int:
        stripe = reencoding.stripe_of(catalog)
        assert reencoding.opened(catalog, stripe, reencoding.ONE_TWO, job, worker=2) == 1
        return reencoding.tasks_of(catalog, 2)[0].task

    before = open_one(driver)
    after = restore(driver)
    assert reencoding.tasks_of(after, 2) == () and reencoding.job_of(after).state == "running"
    assert open_one(after) > before + (1 << 40)
    assert after.catalog.contradictions() == []


def test_every_series_of_the_catalog_was_judged() -> None:
    """A new series in `meta`: may a number of it live on outside the catalog?"""
    series = {name for name in _INITIAL if name.startswith("next_")} | {"keys_epoch"}
    assert series == {*restored.ROW_SERIES, *restored.KEPT_SERIES, "next_disk"}


def test_version_ids_given_after_the_backup_are_not_given_again(driver: Driver) -> None:
    after = restore(driver)
    ids = set()
    for one in (driver, after):
        put = one.put_inline("k", b"x")
        assert isinstance(put, ObjectPut)
        ids.add(put.version_id)
    assert len(ids) == 2 and min(ids) < max(ids)


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Driver(tmp_path_factory.mktemp("backup") / "catalog.sqlite")
    made.form()
    made.put("k", made.draft(1))
    made.catalog.copy_to(made.path.with_name("copy.db"))
    made.catalog.close()
    return made.path.with_name("copy.db")


def numbers(path: Path) -> dict[str, int]:
    catalog = Catalog(path)
    try:
        meta = Meta(catalog._writer)
        names = (*restored.ROW_SERIES, "applied_index", "next_disk", "generation")
        return {name: meta.number(name) for name in names}
    finally:
        catalog.close()


YEARS_MS = 30 * 365 * 86_400_000


@settings(max_examples=20, deadline=None)
@given(
    lost_after_ms=st.integers(0, YEARS_MS),
    restores_ms=st.lists(st.integers(1, YEARS_MS), min_size=1, max_size=2),
)
def test_whatever_the_lost_and_the_restored_use_up_no_later_restore_of_the_backup_gives_out(
    backup: Path,
    tmp_path_factory: pytest.TempPathFactory,
    lost_after_ms: int,
    restores_ms: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("restores")
    began, now_ms = numbers(backup), START_MS
    for life_ms in (lost_after_ms, *restores_ms):
        # As much as this life of the cluster can have used up at its end.
        used = {name: began[name] + restored.ROWS_PER_MS * life_ms for name in restored.ROW_SERIES}
        used["applied_index"] = began["applied_index"] + restored.INDEXES_PER_MS * life_ms
        used["generation"] = began["generation"]
        now_ms += life_ms + MINUTE_MS  # the backup was taken some time after START_MS
        shutil.copy(backup, folder / "copy")
        restored.prepare(folder / "copy", now_ms=now_ms)
        began = numbers(folder / "copy")
        assert all(began[name] > number for name, number in used.items())


def test_clocks_that_went_back_leave_weeks_of_writing(backup: Path, tmp_path: Path) -> None:
    shutil.copy(backup, tmp_path / "copy")
    restored.prepare(tmp_path / "copy", now_ms=1)
    before, after = numbers(backup), numbers(tmp_path / "copy")
    assert after["generation"] == before["generation"] + 1
    assert after["applied_index"] == before["applied_index"] + (1 << 32)
    assert after["next_stripe_row"] == before["next_stripe_row"] + (1 << 40)


def test_a_series_that_is_used_up_is_refused_and_nothing_changed(
    backup: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copy(backup, copy)
    before = copy.read_bytes()
    with pytest.raises(InvalidArgument, match="too often"):
        restored.prepare(copy, now_ms=START_MS + (1 << 44))
    assert numbers(copy) == numbers(backup)
    assert len(copy.read_bytes()) == len(before)


def test_a_found_upload_of_the_backup_goes_on(driver: Driver) -> None:
    driver.run(BeginUpload(upload=UPLOAD, bucket="bucket", key="k", ttl_ms=10 * GRACE_MS))
    after = restore(driver, later_ms=MINUTE_MS)
    assert isinstance(after.ask(FindUpload(upload=UPLOAD)), UploadFound)
