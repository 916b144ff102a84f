"""The plan of repair: what is opened first, where, how much at a time, and what is closed."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osscore.model import Profile, ShardIdentity, SlotState, replicas
from raftmeta.catalog.soft import SoftState
from raftmeta.commands import MarkBad, SetDiskState
from raftmeta.healing import JudgeDisk, PauseWork
from raftmeta.moving import REPAIR
from raftmeta.stewards import fleet, healing, survey, useless
from tests.raftmeta.healing_stage import GIB, Stage, replaced

FOUR_TWO, TWO_ONE = Profile(4, 2), Profile(2, 1)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Seven nodes of a disk each, numbered alike."""
    stage = Stage(tmp_path)
    for _ in range(7):
        stage.add_node(100 * GIB)
    return stage


def lose(stage: Stage, *disks: int) -> None:
    for disk in disks:
        stage.silent.add(disk)
        stage.driver.run(JudgeDisk(disk=disk, is_lost=True))


def mark_bad(stage: Stage, row: int, index: int) -> None:
    stripe = stage.stripe(row)
    slot = stripe.slots[index]
    identity = ShardIdentity(stripe.stripe, index, slot.gen)
    stage.driver.run(MarkBad(identity=identity, disk=slot.disk))


def test_a_healthy_store_gets_no_commands(stage: Stage) -> None:
    stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    before = stage.driver.index
    stage.plan(5)
    assert stage.driver.index == before and stage.steward.state.is_surveyed
    assert stage.steward.state.missing == {}


def test_shards_of_a_lost_disk_are_written_on_other_nodes_and_then_it_is_quiet(
    stage: Stage,
) -> None:
    rows = [stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO) for _ in range(30)]
    lose(stage, 2)
    stage.plan()
    assert stage.steward.state.missing == {1: 30}
    assert stage.steward.state.repair_bytes == 30 * 500
    assert {(task.disk, task.target, task.reason) for task in stage.tasks()} == {(2, 7, REPAIR)}
    assert stage.heal() == 30
    assert all(stage.disks_of(row) == [1, 7, 3, 4, 5, 6] for row in rows)
    before = stage.driver.index
    stage.plan(3)
    assert stage.driver.index == before and stage.steward.state.missing == {}
    assert stage.driver.catalog.contradictions() == []


def test_the_stripe_that_can_lose_least_comes_first_whatever_its_code(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "TASKS_MAX", 1)
    three_left = stage.put([1, 2, 3], profile=TWO_ONE, coding=replicas(3))
    five_left = stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    four_left = stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    two_of_three = stage.put([1, 2, 4], profile=TWO_ONE)
    for row, index in ((three_left, 0), (five_left, 0), (four_left, 0), (four_left, 1)):
        mark_bad(stage, row, index)
    mark_bad(stage, two_of_three, 0)
    order = []
    for _ in range(5):
        stage.plan()
        (task,) = stage.tasks()
        order.append(task.row)
        stage.work()
    # 2+1 and 4+2 with nothing to spare, the scarcer first; one to spare: the two replicas left
    # before five shards of six.
    assert order[:2] == [two_of_three, four_left]
    assert Counter(order[2:]) == Counter([four_left, three_left, five_left])
    assert order[-1] == five_left


def test_a_bad_shard_is_written_where_it_lies(stage: Stage) -> None:
    row = stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    mark_bad(stage, row, 3)
    stage.plan()
    assert [(task.index, task.disk, task.target) for task in stage.tasks()] == [(3, 4, 4)]
    stage.work()
    slot = stage.stripe(row).slots[3]
    assert (slot.disk, slot.state) == (4, SlotState.GOOD) and slot.gen > 0


def test_a_bad_shard_on_a_disk_that_takes_none_goes_elsewhere(stage: Stage) -> None:
    row = stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    mark_bad(stage, row, 3)
    stage.soft[4] = replaced(stage.soft[4], writable=False, free_bytes=0)
    stage.plan()
    assert [task.target for task in stage.tasks()] == [7]


def test_what_a_write_left_missing_is_written_at_once(stage: Stage) -> None:
    row = stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO, missing=[5])
    assert stage.heal() == 1
    assert all(slot.state == SlotState.GOOD for slot in stage.stripe(row).slots)


def test_too_few_shards_are_told_and_not_tried(stage: Stage) -> None:
    stage.put([1, 2, 3], profile=TWO_ONE)
    lose(stage, 1, 2)
    stage.plan(2)
    state = stage.steward.state
    assert (state.missing, state.unreadable, state.repair_bytes) == ({2: 1}, 1, 0)
    assert stage.tasks() == []
    stage.silent -= {1, 2}
    stage.driver.run(JudgeDisk(disk=1, is_lost=False))
    stage.heal()
    assert stage.steward.state.missing == {}


def test_shards_on_silent_disks_that_are_not_lost_yet_cannot_be_read(stage: Stage) -> None:
    row = stage.put([1, 2, 3], profile=TWO_ONE)
    mark_bad(stage, row, 0)
    stage.silent.add(2)
    stage.plan()
    assert stage.tasks() == []
    stage.silent.clear()
    stage.plan(2)
    assert len(stage.tasks()) == 1


def test_what_cannot_be_read_now_does_not_keep_others_waiting(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healing, "ROWS_AT_ONCE", 2)
    stuck = [stage.put([1, 2, 3], profile=TWO_ONE) for _ in range(20)]
    other = stage.put([4, 5, 6], profile=TWO_ONE, missing=[])
    for row in stuck:
        mark_bad(stage, row, 0)
    mark_bad(stage, other, 0)
    stage.silent.add(2)
    stage.plan(10)
    assert [task.row for task in stage.tasks()] == [other]


def test_no_target_gets_more_than_its_part_and_all_is_done_in_the_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "TASKS_PER_TARGET", 3)
    monkeypatch.setattr(fleet, "TASKS_MAX", 10)
    for number in range(40):
        disks = [1 + (number + step) % 7 for step in range(3)]
        stage.put(disks, profile=TWO_ONE)
    lose(stage, 1)
    lost = sum(slot.disk == 1 for each in stage.stripes() for slot in each.slots)
    stage.plan()
    per_target = Counter(task.target for task in stage.tasks())
    assert max(per_target.values()) <= 3 and per_target.total() == 10
    assert stage.heal() == lost
    assert all(slot.disk != 1 for each in stage.stripes() for slot in each.slots)


def test_bytes_bound_what_is_open_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "BYTES_PER_TARGET", 1000)
    for _ in range(10):
        stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    lose(stage, 1)
    stage.plan()
    assert Counter(task.target for task in stage.tasks()) == {7: 2}


def test_paused_repair_closes_its_tasks_and_goes_on_when_told(stage: Stage) -> None:
    stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    lose(stage, 1)
    stage.plan()
    assert len(stage.tasks()) == 1
    stage.driver.run(PauseWork(work="repair", paused=True))
    stage.plan(3)
    assert stage.tasks() == [] and stage.steward.state.missing == {1: 1}
    stage.new_leader()
    stage.plan(3)
    assert stage.tasks() == []
    stage.driver.run(PauseWork(work="repair", paused=False))
    assert stage.heal() == 1


def test_progress_is_what_was_written(stage: Stage) -> None:
    for _ in range(10):
        stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    lose(stage, 1)
    stage.plan()
    state = stage.steward.state
    assert (state.tasks, state.task_bytes, state.bytes_per_s) == ({}, 0, 0)
    stage.plan()
    assert stage.steward.state.tasks == {"repair": 10}
    assert stage.steward.state.task_bytes == 5000
    assert stage.work().total() == 10
    stage.plan()
    assert stage.steward.state.bytes_per_s == pytest.approx(5000 / 60)
    assert stage.steward.state.tasks == {}
    stage.plan(2)
    assert stage.steward.state.bytes_per_s == 0


@pytest.mark.parametrize("trouble", ["silent", "draining", "full", "broken", "old"])
def test_a_task_that_gets_nowhere_is_closed_and_planned_elsewhere(
    stage: Stage, trouble: str
) -> None:
    stage.add_node(100 * GIB)
    row = stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    lose(stage, 1)
    stage.plan()
    (first,) = stage.tasks()
    if trouble == "silent":
        stage.silent.add(first.target)
    elif trouble == "draining":
        stage.driver.run(SetDiskState(disk=first.target, state="draining"))
    elif trouble == "full":
        stage.soft[first.target] = replaced(stage.soft[first.target], free_bytes=1)
    elif trouble == "broken":
        stage.soft[first.target] = replaced(stage.soft[first.target], problem="EIO")
    else:
        stage.clock.advance(useless.TASK_AGE_MS / 1000)
    stage.plan()
    (second,) = stage.tasks()
    assert second.task > first.task and second.row == row
    if trouble != "old":
        assert second.target == 15 - first.target


def test_a_leader_that_has_not_heard_of_a_target_leaves_its_tasks(stage: Stage) -> None:
    stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    lose(stage, 1)
    stage.plan()
    (task,) = stage.tasks()
    known = stage.soft_state
    stage.soft_state = SoftState  # type: ignore[method-assign]
    stage.new_leader()
    stage.plan()
    assert stage.tasks() == [task]
    stage.soft_state = known  # type: ignore[method-assign]
    assert stage.heal() == 1


def test_a_disk_that_comes_back_needs_no_repair_any_more(stage: Stage) -> None:
    row = stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    lose(stage, 1)
    stage.plan()
    assert len(stage.tasks()) == 1
    stage.silent.clear()
    stage.driver.run(JudgeDisk(disk=1, is_lost=False))
    stage.plan()
    assert stage.tasks() == [] and stage.disks_of(row)[0] == 1


def test_a_second_lost_disk_is_noticed_in_the_middle_of_the_first_ones_repair(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "TASKS_MAX", 2)
    for _ in range(10):
        stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    urgent = stage.put([1, 2, 3], profile=TWO_ONE)
    stage.driver.run(SetDiskState(disk=1, state="in"))
    lose(stage, 6)
    stage.plan()
    stage.work()
    lose(stage, 1)
    stage.plan()
    assert urgent in {task.row for task in stage.tasks()}


def test_new_damage_does_not_wait_for_the_walk_over_a_lost_disk(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "TASKS_MAX", 1)
    monkeypatch.setattr(survey, "PAGE_STRIPES", 2)
    monkeypatch.setattr(healing, "PAGES_PER_ROUND", 2)
    for _ in range(30):
        stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    urgent = stage.put([2, 3, 4], profile=TWO_ONE)
    lose(stage, 1)
    stage.plan(2)
    stage.work()
    mark_bad(stage, urgent, 0)
    stage.plan(2)
    assert [task.row for task in stage.tasks()] == [urgent]


def test_a_new_leader_goes_on_where_the_former_was(stage: Stage) -> None:
    for _ in range(10):
        stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    lose(stage, 3)
    stage.plan()
    before = stage.tasks()
    stage.new_leader()
    stage.plan()
    assert stage.tasks() == before
    assert stage.heal() == 10


PLACES = st.lists(st.permutations(range(1, 8)), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(places=PLACES, lost=st.sets(st.integers(1, 7), max_size=2), data=st.data())
def test_whatever_is_lost_is_healed_and_spread_as_before(
    tmp_path_factory: pytest.TempPathFactory,
    places: list[list[int]],
    lost: set[int],
    data: st.DataObject,
) -> None:
    """Any two disks lost and some shards bad: every stripe ends whole, on as many nodes as it can,
    none on a lost disk; and then nothing more is proposed."""
    stage = Stage(tmp_path_factory.mktemp("stage"))
    for _ in range(7):
        stage.add_node(100 * GIB)
    rows = [stage.put(order[:6], profile=FOUR_TWO) for order in places]
    lose(stage, *lost)
    for row in rows:
        gone = sum(disk in lost for disk in stage.disks_of(row))
        bad = data.draw(st.sets(st.integers(0, 5), max_size=2 - gone))
        for index in bad:
            mark_bad(stage, row, index)
    stage.heal()
    for row in rows:
        slots = stage.stripe(row).slots
        assert all(slot.state == SlotState.GOOD and slot.disk not in lost for slot in slots)
        per_disk = Counter(slot.disk for slot in slots)
        assert len(per_disk) == min(6, 7 - len(lost)) and max(per_disk.values()) <= 2
    before = stage.driver.index
    stage.plan(3)
    assert stage.driver.index == before
    assert stage.driver.catalog.contradictions() == []
    stage.driver.catalog.close()
