"""Which open tasks are of no use any more, and why."""

from collections.abc import Collection

from osscore.model import SlotState
from raftmeta.healing import REBALANCING, REPAIRS
from raftmeta.moving import DRAIN, REPAIR, TaskInfo
from raftmeta.stewards.fleet import Fleet

TASK_AGE_MS = 900_000
"""An older task is given up: its target does not get on with it."""


def work_of(reason: str) -> str:
    """The kind of work that a task for this reason belongs to, as it is paused."""
    return REPAIRS if reason == REPAIR else REBALANCING


def why_useless(task: TaskInfo, fleet: Fleet, *, now_ms: int, paused: Collection[str]) -> str:
    """Why a task should be closed, in a word for the log; empty: it should not.

    What was opened for a disk that is no longer lost or draining has become needless.
    """
    target, source = fleet.disks.get(task.target), fleet.disks.get(task.disk)
    if target is None or target.is_unfit:
        return "unfit"
    if now_ms - task.opened_at_ms > TASK_AGE_MS:
        return "old"
    if work_of(task.reason) in paused:
        return "paused"
    is_whole = task.state == SlotState.GOOD and source is not None and source.is_usable
    if task.reason == REPAIR and is_whole:
        return "needless"
    if task.reason == DRAIN and is_whole and source is not None and source.state == "in":
        return "needless"
    return ""
