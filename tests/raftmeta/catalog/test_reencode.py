"""Stripes encoded anew in place: SAFETY rules 1, 3, 5, 7, 8, 18, and who shares them."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from osscore.model import CodingKind, Profile, ShardIdentity, reed_solomon
from raftmeta.commands import (
    BeginUpload,
    Collected,
    DeleteVersion,
    Done,
    SetDiskState,
    Stage,
    StripeQuestion,
)
from raftmeta.moving import (
    REPAIR,
    CountUnderSpread,
    MoveSlot,
    OpenTasks,
    SlotMoved,
    TaskDraft,
    UnderSpreadCounted,
)
from raftmeta.queries import (
    CatalogCounted,
    CountCatalog,
    CountReferences,
    FindUnwanted,
    ReadTrash,
    ReferencesCounted,
    TrashRead,
    Unwanted,
)
from raftmeta.reencoding import (
    REPLICAS,
    TASKS_AT_ONCE,
    CancelReencode,
    CloseReencodes,
    OpenReencodes,
    Reencode,
    Reencoded,
    ReencodeDraft,
)
from tests.raftmeta.catalog.harness import GRACE_MS, MINUTE_MS, Driver, refusal
from tests.raftmeta.catalog.reencoding import (
    ONE_TWO,
    THREE_TWO,
    TWO_ONE,
    anew,
    begin,
    bucket_of,
    found,
    job_of,
    listed,
    opened,
    stripe_of,
    swap,
    tasks_of,
)

FIVE = (1, 2, 3, 4, 5)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path / "catalog.sqlite")
    made.form(nodes=6)
    yield made
    assert made.catalog.contradictions() == []
    made.catalog.close()


def trash(driver: Driver, disk: int) -> set[ShardIdentity]:
    """What the disk is to delete now."""
    answer = driver.ask(ReadTrash(disk=disk))
    assert isinstance(answer, TrashRead)
    return {row.identity for row in answer.rows}


def unwanted(driver: Driver, disk: int, *identities: ShardIdentity) -> tuple[ShardIdentity, ...]:
    answer = driver.ask(FindUnwanted(disk=disk, grace_ms=GRACE_MS, identities=identities))
    assert isinstance(answer, Unwanted)
    return answer.identities


# --- the swap -------------------------------------------------------------------------------


def test_a_stripe_keeps_its_row_and_takes_another_coding(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    driver.put("twin", driver.draft(1))
    before = stripe_of(driver)
    job = begin(driver, THREE_TWO)
    assert opened(driver, before, THREE_TWO, job) == 1
    (task,) = tasks_of(driver)
    assert task.stripe == before and task.digest == (1).to_bytes(32, "big")
    draft = anew(driver, task, FIVE)
    assert swap(driver, task, draft) == Reencoded(done=True)
    after = stripe_of(driver)
    assert after == stripe_of(driver, "twin")
    assert (after.row, after.plain_bytes) == (before.row, before.plain_bytes)
    assert (after.stripe, after.coding) == (draft.stripe, reed_solomon(THREE_TWO))
    assert after.profile == THREE_TWO and after.slots == draft.slots
    assert tasks_of(driver) == ()
    assert (job_of(driver).stripes, job_of(driver).size_bytes) == (1, 1000)
    counted = driver.ask(CountCatalog())
    assert isinstance(counted, CatalogCounted)
    assert (counted.reencoded_stripes, counted.reencoded_bytes) == (1, 1000)


def test_former_shards_stay_for_their_readers_then_go(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    before = stripe_of(driver)
    driver.pass_time(2 * GRACE_MS)  # its birth protects it no longer
    job = begin(driver, THREE_TWO)
    opened(driver, before, THREE_TWO, job)
    (task,) = tasks_of(driver)
    swap(driver, task, anew(driver, task, FIVE))
    former = ShardIdentity(before.stripe, 0, 0)
    assert trash(driver, 1) == set()
    assert unwanted(driver, 1, former) == (), "a sweep would take it from its readers"
    driver.pass_time(9 * MINUTE_MS)
    assert trash(driver, 1) == set()
    driver.pass_time(2 * MINUTE_MS)
    assert trash(driver, 1) == {former}
    assert [trash(driver, disk) for disk in (4, 5)] == [set(), set()]


def test_the_former_id_is_never_named_again(driver: Driver) -> None:
    draft = driver.draft(1)
    driver.put("k", draft)
    job = begin(driver, THREE_TWO)
    opened(driver, stripe_of(driver), THREE_TWO, job)
    (task,) = tasks_of(driver)
    swap(driver, task, anew(driver, task, FIVE))
    again = driver.draft(2, stripe=draft.stripe)
    assert refusal(driver.put("other", again)) == "Conflict"


def test_an_answer_that_was_lost_costs_nothing_when_asked_again(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    job = begin(driver, THREE_TWO)
    opened(driver, stripe_of(driver), THREE_TWO, job)
    (task,) = tasks_of(driver)
    draft = anew(driver, task, FIVE)
    swap(driver, task, draft)
    assert refusal(driver.run(Reencode(task=task.task, draft=draft))) == "Conflict"
    driver.pass_time(2 * GRACE_MS)
    assert refusal(driver.run(Reencode(task=task.task, draft=draft))) == "StaleStripe"
    for disk in FIVE:
        assert all(identity.stripe != draft.stripe for identity in trash(driver, disk))


def spoil(driver: Driver, how: str) -> None:
    """Something that happens between the opening of a task and its end."""
    if how == "closed":
        (task,) = tasks_of(driver)
        assert driver.run(CloseReencodes(tasks=(task.task,))) == Done()
    elif how == "dead":
        driver.run(DeleteVersion(bucket="bucket", key="k", number=1))
    elif how == "cancelled":
        assert driver.run(CancelReencode(bucket="bucket")) == Done()
    elif how == "disk lost":
        driver.run(SetDiskState(disk=5, state="lost"))


@pytest.mark.parametrize("how", ["closed", "dead", "cancelled", "disk lost"])
def test_what_came_too_late_goes_to_trash_and_changes_nothing(driver: Driver, how: str) -> None:
    driver.put("k", driver.draft(1))
    before = stripe_of(driver)
    job = begin(driver, THREE_TWO)
    opened(driver, before, THREE_TWO, job)
    (task,) = tasks_of(driver)
    draft = anew(driver, task, FIVE)
    spoil(driver, how)
    result = swap(driver, task, draft)
    assert not result.done and result.why
    if how != "dead":
        assert stripe_of(driver) == before
    driver.pass_time(MINUTE_MS)
    for index, disk in enumerate(FIVE):
        assert ShardIdentity(draft.stripe, index, 0) in trash(driver, disk)
    assert job_of(driver).stripes == 0 and tasks_of(driver) == ()
    assert refusal(driver.run(Reencode(task=task.task, draft=draft))) == "Conflict"


@pytest.mark.parametrize(
    ("changes", "disks", "missing"),
    [
        ({}, FIVE, (4,)),
        ({}, (1, 1, 1, 2, 3), ()),
        ({"stored_crc": 9}, FIVE, ()),
        ({"digest": bytes(32)}, FIVE, ()),
        ({"plain_bytes": 999}, FIVE, ()),
    ],
)
def test_a_stripe_never_takes_less_or_other_bytes(
    driver: Driver, changes: dict[str, object], disks: tuple[int, ...], missing: tuple[int, ...]
) -> None:
    driver.put("k", driver.draft(1))
    before = stripe_of(driver)
    job = begin(driver, THREE_TWO)
    opened(driver, before, THREE_TWO, job)
    (task,) = tasks_of(driver)
    draft = anew(driver, task, disks, missing=missing)
    assert not swap(driver, task, msgspec.structs.replace(draft, **changes)).done
    assert stripe_of(driver) == before


def test_crowded_shards_never_replace_apart_ones_that_survive_more(driver: Driver) -> None:
    bucket_of(driver, "safe", ONE_TWO)
    driver.put("k", driver.draft(1), bucket="safe")
    job = begin(driver, ONE_TWO, "safe")
    opened(driver, stripe_of(driver, bucket="safe"), ONE_TWO, job)
    (task,) = tasks_of(driver)
    swap(driver, task, anew(driver, task, (1, 2, 3)))
    job = begin(driver, THREE_TWO, "safe")
    opened(driver, stripe_of(driver, bucket="safe"), THREE_TWO, job)
    (task,) = tasks_of(driver)
    # Two on each node: one loss less than the three copies survive now.
    assert not swap(driver, task, anew(driver, task, (1, 1, 2, 2, 3))).done
    assert stripe_of(driver, bucket="safe").profile == ONE_TWO


def test_moves_of_the_former_shards_end_with_them(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    before = stripe_of(driver)
    driver.run(OpenTasks(tasks=(TaskDraft(before.row, 0, 0, 1, 6, REPAIR),)))
    job = begin(driver, THREE_TWO)
    opened(driver, before, THREE_TWO, job)
    (task,) = tasks_of(driver)
    move = task.task - 2  # the job took the number between them
    swap(driver, task, anew(driver, task, FIVE))
    assert trash(driver, 6) == {ShardIdentity(before.stripe, 0, move)}
    result = driver.run(MoveSlot(task=move))
    assert isinstance(result, SlotMoved) and not result.moved


def test_a_stripe_that_moved_meanwhile_is_swapped_and_nothing_is_left(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    before = stripe_of(driver)
    job = begin(driver, THREE_TWO)
    opened(driver, before, THREE_TWO, job)
    (task,) = tasks_of(driver)
    driver.run(OpenTasks(tasks=(TaskDraft(before.row, 0, 0, 1, 6, REPAIR),)))
    driver.run(MoveSlot(task=task.task + 1))
    swap(driver, task, anew(driver, task, FIVE))
    driver.pass_time(11 * MINUTE_MS)
    assert trash(driver, 6) == {ShardIdentity(before.stripe, 0, task.task + 1)}
    assert trash(driver, 1) == {ShardIdentity(before.stripe, 0, 0)}


def test_however_many_refer_to_it_one_bounded_command_suffices(driver: Driver) -> None:
    for number in range(300):
        driver.put(f"k{number}", driver.draft(1), driver.draft(1))
    stripe = stripe_of(driver, "k0")
    job = begin(driver, THREE_TWO)
    assert [each.row for each in found(driver, job).stripes] == [stripe.row]
    opened(driver, stripe, THREE_TWO, job)
    (task,) = tasks_of(driver)
    before = driver.catalog._writer.total_changes
    assert swap(driver, task, anew(driver, task, FIVE)).done
    assert driver.catalog._writer.total_changes - before < 50
    counts = driver.ask(CountReferences(rows=(stripe.row,)))
    assert counts == ReferencesCounted(counts=(600,))


def test_a_forgotten_stripe_has_no_task(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    job = begin(driver, THREE_TWO)
    opened(driver, stripe_of(driver), THREE_TWO, job)
    driver.run(DeleteVersion(bucket="bucket", key="k", number=1))
    driver.pass_time(2 * GRACE_MS)
    while driver.collect() != Collected():
        pass
    assert listed(driver).tasks == ()


# --- dedup ----------------------------------------------------------------------------------


def ask(driver: Driver, profile: Profile) -> int:
    """The row that a writer of content 1 would be offered."""
    upload = driver.new_id()
    driver.run(BeginUpload(upload=upload, bucket="bucket", key="up", ttl_ms=GRACE_MS))
    digest = (1).to_bytes(32, "big")
    question = StripeQuestion(profile=profile, domain=b"", digest=digest, plain_bytes=1000)
    staged = driver.run(Stage(upload=upload, position=0, ask=(question,)))
    return staged.hits[0]  # type: ignore[union-attr]


def test_writers_find_a_stripe_under_the_profile_it_has_now(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    stripe = stripe_of(driver)
    job = begin(driver, THREE_TWO)
    opened(driver, stripe, THREE_TWO, job)
    (task,) = tasks_of(driver)
    assert (ask(driver, THREE_TWO), ask(driver, TWO_ONE)) == (0, stripe.row)
    swap(driver, task, anew(driver, task, FIVE))
    assert (ask(driver, THREE_TWO), ask(driver, TWO_ONE)) == (stripe.row, 0)


def test_where_both_profiles_were_written_both_stripes_stay(driver: Driver) -> None:
    """The newer one keeps its place among those that writers are offered."""
    driver.put("k", driver.draft(1))
    stripe = stripe_of(driver)
    job = begin(driver, THREE_TWO)
    opened(driver, stripe, THREE_TWO, job)
    (task,) = tasks_of(driver)
    written = anew(driver, task, FIVE)
    driver.put("new", written)
    assert stripe_of(driver, "new").row != stripe.row
    assert swap(driver, task, anew(driver, task, FIVE)).done
    assert ask(driver, THREE_TWO) == stripe_of(driver, "new").row
    driver.run(DeleteVersion(bucket="bucket", key="new", number=1))


# --- replicas --------------------------------------------------------------------------------


def test_replicas_go_back_to_their_profile_without_any_job(driver: Driver) -> None:
    driver.put("k", driver.draft(1, copies=True))
    stripe = stripe_of(driver)
    assert stripe.coding.kind is CodingKind.REPLICA
    assert [each.row for each in found(driver, REPLICAS).stripes] == [stripe.row]
    assert opened(driver, stripe, THREE_TWO, REPLICAS) == 0
    assert opened(driver, stripe, TWO_ONE, REPLICAS) == 1
    (task,) = tasks_of(driver)
    assert swap(driver, task, anew(driver, task, (4, 5, 6))).done
    assert found(driver, REPLICAS).stripes == ()
    assert driver.ask(CountUnderSpread()) == UnderSpreadCounted(crowded=0, replicas=0)


def test_what_is_coded_as_it_should_be_is_no_task(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    assert opened(driver, stripe_of(driver), TWO_ONE, REPLICAS) == 0
    job = begin(driver, TWO_ONE)
    assert found(driver, job).stripes == ()
    assert opened(driver, stripe_of(driver), TWO_ONE, job) == 0


# --- tasks -----------------------------------------------------------------------------------


def test_a_stripe_has_one_task_at_most(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    job = begin(driver, THREE_TWO)
    assert opened(driver, stripe_of(driver), THREE_TWO, job, worker=1) == 1
    assert opened(driver, stripe_of(driver), THREE_TWO, job, worker=2) == 0


def test_tasks_open_for_what_the_planner_saw(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    stripe = stripe_of(driver)
    job = begin(driver, THREE_TWO)
    driver.run(SetDiskState(disk=6, state="draining"))
    assert opened(driver, stripe, THREE_TWO, job, worker=6) == 0
    assert opened(driver, stripe, THREE_TWO, job, worker=99) == 0
    assert opened(driver, stripe, ONE_TWO, job) == 0
    assert opened(driver, stripe, THREE_TWO, job + 1) == 0
    other = msgspec.structs.replace(stripe, stripe=driver.new_id())
    assert opened(driver, other, THREE_TWO, job) == 0
    assert opened(driver, stripe, THREE_TWO, job) == 1


def test_too_many_tasks_at_once_are_refused(driver: Driver) -> None:
    drafts = (ReencodeDraft(1, driver.new_id(), TWO_ONE, 1, 0),) * (TASKS_AT_ONCE + 1)
    assert refusal(driver.run(OpenReencodes(tasks=drafts))) == "CommandTooLarge"
    numbers = tuple(range(TASKS_AT_ONCE + 1))
    assert refusal(driver.run(CloseReencodes(tasks=numbers))) == "CommandTooLarge"
