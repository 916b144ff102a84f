"""The part of any history that moves shards."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from osscore.model import Slot, SlotState
from raftmeta.credentials import AuditNote
from raftmeta.entries import AnyCommand, AnyResult
from raftmeta.healing import DrainDisk, JudgeDisk
from raftmeta.moving import (
    REASONS,
    CloseTasks,
    ListTasks,
    MoveSlot,
    OpenTasks,
    SlotMoved,
    TaskDraft,
    TaskInfo,
    TasksListed,
    TasksOpened,
)
from raftmeta.queries import ListStripes, StripesListed
from tests.raftmeta.catalog.harness import Driver


class MovingRules(RuleBasedStateMachine):
    """Rules for a machine that drives a formed catalog of four disks."""

    driver: Driver

    def run_command(self, command: AnyCommand, audit: AuditNote | None = None) -> AnyResult:
        raise NotImplementedError

    @rule(
        pick=st.integers(0, 1000),
        index=st.integers(0, 3),
        disk=st.integers(1, 5),
        lag=st.sampled_from([0, 0, 0, 1]),
    )
    def open_task(self, pick: int, index: int, disk: int, lag: int) -> None:
        stripes = self.driver.ask(ListStripes())
        assert isinstance(stripes, StripesListed)
        if not stripes.stripes:
            return
        stripe = stripes.stripes[pick % len(stripes.stripes)]
        slot = stripe.slots[index % len(stripe.slots)]
        draft = TaskDraft(
            stripe.row, index, slot.gen + lag, slot.disk, disk, REASONS[pick % len(REASONS)]
        )
        before = self._tasks()
        result = self.run_command(OpenTasks(tasks=(draft,)))
        assert isinstance(result, TasksOpened)
        assert len(self._tasks()) == len(before) + result.opened

    @rule(pick=st.integers(0, 1000))
    def move_slot(self, pick: int) -> None:
        tasks = self._tasks()
        if not tasks:
            return
        task = tasks[pick % len(tasks)]
        result = self.run_command(MoveSlot(task=task.task))
        assert isinstance(result, SlotMoved)
        assert task not in self._tasks()
        if result.moved:
            slot = self._slot(task)
            assert slot == Slot(task.index, task.task, task.target, SlotState.GOOD)
        else:
            assert result.why

    @rule(pick=st.integers(0, 1000))
    def close_task(self, pick: int) -> None:
        tasks = self._tasks()
        if tasks:
            self.run_command(CloseTasks(tasks=(tasks[pick % len(tasks)].task,)))
            assert len(self._tasks()) == len(tasks) - 1

    @rule(disk=st.integers(3, 5), is_lost=st.booleans())
    def judge_disk(self, disk: int, is_lost: bool) -> None:
        self.run_command(JudgeDisk(disk=disk, is_lost=is_lost))

    @rule(disk=st.integers(3, 5), drains=st.booleans())
    def drain_disk(self, disk: int, drains: bool) -> None:
        self.run_command(DrainDisk(disk=disk, drains=drains))

    def _tasks(self) -> list[TaskInfo]:
        listed = self.driver.ask(ListTasks())
        assert isinstance(listed, TasksListed)
        return list(listed.tasks)

    def _slot(self, task: TaskInfo) -> Slot:
        listed = self.driver.ask(ListStripes(after_row=task.row - 1, limit=1))
        assert isinstance(listed, StripesListed)
        return listed.stripes[0].slots[task.index]
