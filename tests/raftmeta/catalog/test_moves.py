"""Tasks, moved slots and what becomes of the shards: SAFETY rules 2, 3, 7, 9, 10."""

import msgspec
import pytest

from osscore.model import Profile, ShardIdentity, Slot, SlotState, Stripe, reed_solomon
from raftmeta.commands import (
    Collected,
    DeleteVersion,
    Done,
    MarkBad,
    MarkGood,
    SetDiskState,
)
from raftmeta.moving import (
    REPAIR,
    TASKS_AT_ONCE,
    CloseTasks,
    DamagedStripes,
    ListTasks,
    MoveSlot,
    OpenTask,
    OpenTasks,
    PlannedStripe,
    ReadTasks,
    SlotMoved,
    StripesOfDisk,
    StripesPlanned,
    TaskDraft,
    TasksListed,
    TasksOpened,
    TasksRead,
)
from raftmeta.queries import FindObject, FindUnwanted, Found, ReadTrash, TrashRead, Unwanted
from tests.raftmeta.catalog.harness import (
    GRACE_MS,
    MINUTE_MS,
    Driver,
    refusal,
    register_command,
)


def stripe_of(driver: Driver, key: str = "k") -> Stripe:
    found = driver.ask(FindObject(bucket="bucket", key=key))
    assert isinstance(found, Found), found
    return found.segments[0].stripe


def move(driver: Driver, index: int, target: int, *, reason: str = REPAIR) -> TaskDraft:
    """A task for slot `index` of the object's stripe as it is now."""
    stripe = stripe_of(driver)
    slot = stripe.slots[index]
    return TaskDraft(stripe.row, index, slot.gen, slot.disk, target, reason)


def opened(driver: Driver, *drafts: TaskDraft) -> int:
    result = driver.run(OpenTasks(tasks=drafts))
    assert isinstance(result, TasksOpened), result
    return result.opened


def tasks_of(driver: Driver, target: int) -> tuple[OpenTask, ...]:
    answer = driver.ask(ReadTasks(target=target))
    assert isinstance(answer, TasksRead)
    return answer.tasks


def trash(driver: Driver, disk: int) -> set[tuple[int, int]]:
    """(index, gen) of what the disk is to delete now."""
    answer = driver.ask(ReadTrash(disk=disk))
    assert isinstance(answer, TrashRead)
    return {(row.identity.index, row.identity.gen) for row in answer.rows}


def is_unwanted(driver: Driver, index: int, gen: int, disk: int) -> bool:
    identity = ShardIdentity(stripe_of(driver).stripe, index, gen)
    answer = driver.ask(FindUnwanted(disk=disk, grace_ms=GRACE_MS, identities=(identity,)))
    assert isinstance(answer, Unwanted)
    return bool(answer.identities)


def planned(driver: Driver, query: StripesOfDisk | DamagedStripes) -> tuple[PlannedStripe, ...]:
    answer = driver.ask(query)
    assert isinstance(answer, StripesPlanned)
    return answer.stripes


def whole(driver: Driver) -> None:
    assert driver.catalog.contradictions() == []


@pytest.fixture
def filled(driver: Driver) -> Driver:
    """Four nodes of a disk each; object k at 2+1 on disks 1 to 3."""
    driver.run(register_command(4))
    driver.put("k", driver.draft(1))
    return driver


def test_a_lost_slot_moves_and_what_it_was_goes_to_trash_after_its_readers(filled: Driver) -> None:
    filled.run(SetDiskState(disk=2, state="lost"))
    assert opened(filled, move(filled, 1, 4)) == 1
    (task,) = tasks_of(filled, 4)
    assert (task.index, task.reason, task.stripe) == (1, REPAIR, stripe_of(filled))
    assert filled.run(MoveSlot(task=task.task)) == SlotMoved(moved=True)
    assert stripe_of(filled).slots[1] == Slot(1, task.task, 4, SlotState.GOOD)
    assert tasks_of(filled, 4) == ()
    assert trash(filled, 2) == set()
    filled.pass_time(11 * MINUTE_MS)
    assert trash(filled, 2) == {(1, 0)}
    whole(filled)


def test_a_slot_has_one_task_and_no_number_comes_twice(filled: Driver) -> None:
    draft = move(filled, 1, 4)
    assert opened(filled, draft, draft) == 1
    assert opened(filled, draft) == 0
    (first,) = tasks_of(filled, 4)
    filled.run(CloseTasks(tasks=(first.task, 999)))
    assert opened(filled, draft) == 1
    (second,) = tasks_of(filled, 4)
    assert second.task > first.task
    whole(filled)


@pytest.mark.parametrize("change", ["gen", "disk", "index", "row"])
def test_a_slot_that_is_another_gets_no_task(filled: Driver, change: str) -> None:
    right = move(filled, 1, 4)
    wrong = {
        "gen": TaskDraft(right.row, 1, 7, right.disk, 4, REPAIR),
        "disk": TaskDraft(right.row, 1, 0, 3, 4, REPAIR),
        "index": TaskDraft(right.row, 9, 0, 2, 4, REPAIR),
        "row": TaskDraft(999, 1, 0, 2, 4, REPAIR),
    }[change]
    assert opened(filled, wrong) == 0
    assert opened(filled, right) == 1
    whole(filled)


@pytest.mark.parametrize("state", ["draining", "lost", "removed"])
def test_only_a_disk_that_is_in_becomes_a_target(filled: Driver, state: str) -> None:
    filled.run(SetDiskState(disk=4, state=state))
    assert opened(filled, move(filled, 1, 4)) == 0


def test_no_node_gets_more_of_a_stripe_than_its_loss_may_cost(filled: Driver) -> None:
    assert opened(filled, move(filled, 1, 3)) == 0  # disk 3 holds shard 2 of a 2+1
    assert opened(filled, move(filled, 1, 2)) == 1  # its own disk: the same place, written anew


def test_a_bad_shard_is_written_anew_where_it_lies(filled: Driver) -> None:
    stripe = stripe_of(filled)
    filled.run(MarkBad(identity=ShardIdentity(stripe.stripe, 1, 0), disk=2))
    assert [each.stripe.row for each in planned(filled, DamagedStripes())] == [stripe.row]
    assert opened(filled, move(filled, 1, 2)) == 1
    (task,) = tasks_of(filled, 2)
    assert planned(filled, DamagedStripes())[0].tasks == (1,)
    assert filled.run(MoveSlot(task=task.task)) == SlotMoved(moved=True)
    assert planned(filled, DamagedStripes()) == ()
    assert stripe_of(filled).slots[1] == Slot(1, task.task, 2, SlotState.GOOD)
    whole(filled)


def test_the_old_owner_cannot_make_its_shard_good_again_once_it_moved(filled: Driver) -> None:
    stripe = stripe_of(filled)
    filled.run(MarkBad(identity=ShardIdentity(stripe.stripe, 1, 0), disk=2))
    opened(filled, move(filled, 1, 4))
    (task,) = tasks_of(filled, 4)
    filled.run(MoveSlot(task=task.task))
    filled.run(MarkGood(identity=ShardIdentity(stripe.stripe, 1, 0), disk=2))
    assert stripe_of(filled).slots[1].disk == 4
    whole(filled)


def refuse_task(filled: Driver, task: int) -> str:
    result = filled.run(MoveSlot(task=task))
    assert isinstance(result, SlotMoved) and not result.moved
    return result.why


def test_what_a_closed_task_wrote_goes_to_trash_and_is_never_named(filled: Driver) -> None:
    opened(filled, move(filled, 1, 4))
    (task,) = tasks_of(filled, 4)
    before = stripe_of(filled)
    filled.run(CloseTasks(tasks=(task.task,)))
    assert trash(filled, 4) == {(1, task.task)}
    assert refuse_task(filled, task.task) == "The task was closed."
    assert stripe_of(filled) == before
    whole(filled)


def test_a_task_whose_target_leaves_ends_for_nothing(filled: Driver) -> None:
    opened(filled, move(filled, 1, 4))
    (task,) = tasks_of(filled, 4)
    filled.run(SetDiskState(disk=4, state="draining"))
    assert "target" in refuse_task(filled, task.task)
    assert stripe_of(filled).slots[1].disk == 2
    assert trash(filled, 4) == {(1, task.task)}
    whole(filled)


def test_a_healthy_stripe_is_never_moved_into_less_safety(filled: Driver) -> None:
    """2+1 on three nodes: slot 0 of node 1 to a second disk of node 2 would cost two shards."""
    filled.run(register_command(5, node="blob-2"))
    assert opened(filled, move(filled, 0, 5)) == 0
    assert opened(filled, move(filled, 1, 5)) == 1  # from one disk of node 2 to its other
    assert opened(filled, move(filled, 0, 4)) == 1


def test_a_dead_stripe_takes_its_tasks_with_it(filled: Driver) -> None:
    opened(filled, move(filled, 1, 4))
    (task,) = tasks_of(filled, 4)
    filled.run(DeleteVersion(bucket="bucket", key="k", number=1))
    assert "dead" in refuse_task(filled, task.task)
    filled.put("k", filled.draft(2))
    opened(filled, move(filled, 1, 4))
    (task,) = tasks_of(filled, 4)
    filled.run(DeleteVersion(bucket="bucket", key="k", number=2))
    filled.pass_time(GRACE_MS + MINUTE_MS)
    while filled.collect() != Collected():
        pass
    assert (1, task.task) in trash(filled, 4)
    listed = filled.ask(ListTasks())
    assert isinstance(listed, TasksListed) and listed.tasks == ()
    whole(filled)


def test_what_a_task_writes_is_wanted_while_it_is_open(filled: Driver) -> None:
    filled.pass_time(2 * GRACE_MS)
    opened(filled, move(filled, 1, 4))
    (task,) = tasks_of(filled, 4)
    assert not is_unwanted(filled, 1, task.task, 4)
    assert is_unwanted(filled, 1, task.task, 3)  # elsewhere it is nobody's
    assert is_unwanted(filled, 2, task.task, 4)
    filled.run(MoveSlot(task=task.task))
    assert not is_unwanted(filled, 1, task.task, 4)


def test_the_sweep_leaves_what_was_moved_to_its_readers(filled: Driver) -> None:
    filled.pass_time(2 * GRACE_MS)
    opened(filled, move(filled, 1, 4))
    (task,) = tasks_of(filled, 4)
    filled.run(MoveSlot(task=task.task))
    assert not is_unwanted(filled, 1, 0, 2)
    filled.pass_time(9 * MINUTE_MS)
    assert not is_unwanted(filled, 1, 0, 2)
    filled.pass_time(2 * MINUTE_MS)
    assert is_unwanted(filled, 1, 0, 2)


def test_a_disk_is_not_removed_while_it_is_written_to(filled: Driver) -> None:
    opened(filled, move(filled, 1, 4))
    assert refusal(filled.run(SetDiskState(disk=4, state="removed"))) == "Conflict"
    (task,) = tasks_of(filled, 4)
    filled.run(CloseTasks(tasks=(task.task,)))
    assert filled.run(SetDiskState(disk=4, state="removed")) == Done()


def test_a_moved_stripe_holds_its_dedup_key_again(filled: Driver) -> None:
    """Marked bad twice it is offered to nobody; repaired it is."""
    stripe = stripe_of(filled)
    for index, disk in ((0, 1), (1, 2)):
        filled.run(MarkBad(identity=ShardIdentity(stripe.stripe, index, 0), disk=disk))
    for index, target in ((0, 1), (1, 4)):
        opened(filled, move(filled, index, target))
        (task,) = tasks_of(filled, target)
        assert filled.run(MoveSlot(task=task.task)) == SlotMoved(moved=True)
    filled.put("twin", filled.draft(1))
    assert stripe_of(filled, "twin").row == stripe.row
    whole(filled)


def test_pages_of_a_disk_and_of_tasks(driver: Driver) -> None:
    driver.run(register_command(4))
    for number in range(1, 6):
        driver.put(f"k{number}", driver.draft(number))
    first = driver.ask(StripesOfDisk(disk=2, limit=3))
    assert isinstance(first, StripesPlanned)
    rest = driver.ask(StripesOfDisk(disk=2, after_row=first.next_row, limit=3))
    assert isinstance(rest, StripesPlanned) and rest.next_row == 0
    rows = [each.stripe.row for each in (*first.stripes, *rest.stripes)]
    assert rows == sorted(set(rows)) and len(rows) == 5
    drafts = tuple(TaskDraft(row, 1, 0, 2, 4, REPAIR) for row in rows)
    assert opened(driver, *drafts) == 5
    page = driver.ask(ListTasks(limit=2))
    assert isinstance(page, TasksListed)
    assert [task.row for task in page.tasks] == rows[:2] and page.next == page.tasks[-1].task
    assert [task.stripe.row for task in tasks_of(driver, 4)] == rows
    assert planned(driver, StripesOfDisk(disk=4)) == ()


def test_what_is_malformed_is_refused(filled: Driver) -> None:
    draft = move(filled, 1, 4)
    many = (draft,) * (TASKS_AT_ONCE + 1)
    assert refusal(filled.run(OpenTasks(tasks=many))) == "CommandTooLarge"
    assert refusal(filled.run(CloseTasks(tasks=(1,) * 201))) == "CommandTooLarge"
    odd = move(filled, 1, 4, reason="whim")
    assert refusal(filled.run(OpenTasks(tasks=(odd,)))) == "InvalidArgument"


def test_a_damaged_stripe_is_not_repaired_onto_a_node_that_holds_its_share(filled: Driver) -> None:
    filled.run(SetDiskState(disk=2, state="lost"))
    assert opened(filled, move(filled, 1, 3)) == 0
    assert opened(filled, move(filled, 1, 4)) == 1


def test_a_stripe_that_misses_a_shard_is_not_moved_closer_together(driver: Driver) -> None:
    """2+2 with three good shards: two of them on one node would be too many to lose."""
    for number, node in ((4, ""), (5, "blob-2")):
        driver.run(register_command(number, node=node))
    profile = Profile(2, 2)
    slots = (*driver.draft(1).slots, Slot(3, 0, 4, SlotState.MISSING))
    driver.put(
        "k",
        msgspec.structs.replace(
            driver.draft(1),
            profile=profile,
            coding=reed_solomon(profile),
            shard_crcs=(1, 2, 3, 4),
            slots=slots,
        ),
    )
    assert opened(driver, move(driver, 0, 5)) == 0
    assert opened(driver, move(driver, 3, 5)) == 1  # the missing one makes it no worse
