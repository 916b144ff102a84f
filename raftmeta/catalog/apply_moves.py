"""Tasks are opened, end with a moved slot, or are given up (SAFETY rules 2, 3, 7, 9, 10)."""

from collections import Counter
from dataclasses import dataclass

from osscore.errors import CommandTooLarge, CorruptCatalog, InvalidArgument
from osscore.model import (
    Coding,
    CodingKind,
    Profile,
    Slot,
    SlotState,
    pack_slots,
    unpack_slots,
)
from osscore.quorum import node_share_max
from raftmeta.catalog import stripes
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import Done
from raftmeta.moving import (
    REASONS,
    TASKS_AT_ONCE,
    CloseTasks,
    MoveSlot,
    OpenTasks,
    SlotMoved,
    TaskDraft,
    TasksOpened,
)

READERS_MS = 600_000
"""For so long a shard that was moved away stays for readers of the stripe as it was."""


@dataclass(frozen=True, slots=True)
class _Task:
    """A row of tasks. `gen`, `disk`: of the slot it replaces."""

    task: int
    row: int
    index: int
    gen: int
    disk: int
    target: int
    opened_at_ms: int


@dataclass(frozen=True, slots=True)
class _Stripe:
    """What moving must know of a living stripe."""

    row: int
    stripe: bytes
    profile: Profile
    coding: Coding
    shard_bytes: int
    slots: tuple[Slot, ...]


def open_tasks(tx: Transaction, command: OpenTasks) -> TasksOpened:
    """Open what fits. Refuses CommandTooLarge, InvalidArgument."""
    if len(command.tasks) > TASKS_AT_ONCE:
        raise CommandTooLarge(f"At most {TASKS_AT_ONCE} tasks are opened at once.")
    if any(draft.reason not in REASONS for draft in command.tasks):
        raise InvalidArgument(f"A task is opened for {', '.join(REASONS)}.")
    return TasksOpened(opened=sum(_open(tx, draft) for draft in command.tasks))


def move_slot(tx: Transaction, command: MoveSlot) -> SlotMoved:
    """End a task whose shard is written: its slot names that shard, or nothing ever will."""
    task = _find(tx, command.task)
    if task is None:
        return SlotMoved(moved=False, why="The task was closed.")
    stripe = _living(tx, task.row)
    obstacle = "The stripe is dead." if stripe is None else _obstacle(tx, stripe, task)
    if stripe is None or obstacle:
        _give_up(tx, task)
        return SlotMoved(moved=False, why=obstacle)
    _forget(tx, task)
    _replace(tx, stripe, task)
    tx.meta.add("moved_shards", 1)
    tx.meta.add("moved_bytes", stripe.shard_bytes)
    return SlotMoved(moved=True)


def close_tasks(tx: Transaction, command: CloseTasks) -> Done:
    """Give tasks up. Refuses CommandTooLarge."""
    if len(command.tasks) > TASKS_AT_ONCE:
        raise CommandTooLarge(f"At most {TASKS_AT_ONCE} tasks are closed at once.")
    for number in command.tasks:
        task = _find(tx, number)
        if task is not None:
            _give_up(tx, task)
    return Done()


def close_tasks_of(tx: Transaction, row: int) -> int:
    """Give up all tasks of a stripe that is about to be forgotten; answers how many."""
    numbers = tx.db.execute("SELECT task FROM tasks WHERE stripe_row = ?", (row,)).fetchall()
    for (number,) in numbers:
        task = _find(tx, number)
        assert task is not None
        _give_up(tx, task)
    return len(numbers)


def is_target(tx: Transaction, disk: int) -> bool:
    """Whether a shard is being written there."""
    found = tx.db.execute("SELECT 1 FROM tasks WHERE target = ? LIMIT 1", (disk,)).fetchone()
    return found is not None


def _open(tx: Transaction, draft: TaskDraft) -> bool:
    stripe = _living(tx, draft.row)
    task = _Task(0, draft.row, draft.index, draft.gen, draft.disk, draft.target, tx.time_ms)
    if stripe is None or _obstacle(tx, stripe, task):
        return False
    known = tx.db.execute(
        "SELECT 1 FROM tasks WHERE stripe_row = ? AND shard_index = ?", (draft.row, draft.index)
    ).fetchone()
    if known is not None:
        return False
    tx.db.execute(
        "INSERT INTO tasks (task, stripe_row, shard_index, gen, disk, target, reason,"
        " opened_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            tx.meta.take("next_task"),
            draft.row,
            draft.index,
            draft.gen,
            draft.disk,
            draft.target,
            draft.reason,
            tx.time_ms,
        ),
    )
    tx.meta.add("total_tasks", 1)
    return True


def _obstacle(tx: Transaction, stripe: _Stripe, task: _Task) -> str:
    """Why the slot must not become the task's shard; empty: nothing is in the way."""
    slot = next((each for each in stripe.slots if each.index == task.index), None)
    if slot is None or (slot.gen, slot.disk) != (task.gen, task.disk):
        return "The slot is another by now."
    disks = tx.disks()
    target = disks.get(task.target)
    if target is None or target.state != "in" or not target.holds(task.opened_at_ms):
        return "The target takes no new shards."
    per_node = Counter(
        disks[each.disk].node
        for each in stripe.slots
        if each.index != task.index and each.disk in disks
    )
    if per_node[target.node] >= node_share_max(stripe.coding):
        return "The target's node would hold too many shards of the stripe."
    after = _slots_after(stripe, task)
    if stripes.healthy(tx, stripe.coding, stripe.slots) and not stripes.healthy(
        tx, stripe.coding, after
    ):
        return "The stripe would survive less than now."
    return ""


def _slots_after(stripe: _Stripe, task: _Task) -> tuple[Slot, ...]:
    moved = Slot(task.index, task.task, task.target, SlotState.GOOD)
    return tuple(moved if each.index == task.index else each for each in stripe.slots)


def _replace(tx: Transaction, stripe: _Stripe, task: _Task) -> None:
    before = next(each for each in stripe.slots if each.index == task.index)
    after = _slots_after(stripe, task)
    tx.db.execute(
        "UPDATE stripes SET slots = ?, missing_count = ?, under_spread = ? WHERE row = ?",
        (
            pack_slots(after),
            sum(each.state != SlotState.GOOD for each in after),
            int(stripes.under_spread(tx, stripe.coding, stripe.profile, after)),
            stripe.row,
        ),
    )
    if all(each.disk != before.disk for each in after):
        tx.db.execute(
            "DELETE FROM slots_by_disk WHERE disk = ? AND stripe_row = ?", (before.disk, stripe.row)
        )
    tx.db.execute(
        "INSERT OR IGNORE INTO slots_by_disk (disk, stripe_row) VALUES (?, ?)",
        (task.target, stripe.row),
    )
    moved = [each for each in after if each.index == task.index]
    stripes.count_slots(tx, [before], stripe.shard_bytes, is_gone=True)
    stripes.count_slots(tx, moved, stripe.shard_bytes)
    delay_ms = min(READERS_MS, tx.meta.number("gc_grace_ms"))
    stripes.trash_shards(tx, stripe.stripe, [before], delay_ms=delay_ms)
    if stripes.healthy(tx, stripe.coding, after):
        stripes.offer_if_free(tx, stripe.row)


def _give_up(tx: Transaction, task: _Task) -> None:
    """End a task for nothing: nobody may name what its target wrote, or still writes."""
    _forget(tx, task)
    found = tx.db.execute("SELECT stripe FROM stripes WHERE row = ?", (task.row,)).fetchone()
    if found is None:
        raise CorruptCatalog(f"Task {task.task} names stripe row {task.row}, which is forgotten.")
    written = Slot(task.index, task.task, task.target)
    stripes.trash_shards(tx, found[0], [written])


def _forget(tx: Transaction, task: _Task) -> None:
    tx.db.execute("DELETE FROM tasks WHERE task = ?", (task.task,))
    tx.meta.add("total_tasks", -1)


def _find(tx: Transaction, number: int) -> _Task | None:
    row = tx.db.execute(
        "SELECT task, stripe_row, shard_index, gen, disk, target, opened_at_ms FROM tasks"
        " WHERE task = ?",
        (number,),
    ).fetchone()
    return _Task(*row) if row else None


def _living(tx: Transaction, row: int) -> _Stripe | None:
    found = tx.db.execute(
        "SELECT stripe, profile_data, profile_parity, coding_kind, coding_data, coding_parity,"
        " shard_bytes, slots FROM stripes WHERE row = ? AND dead_since_ms IS NULL",
        (row,),
    ).fetchone()
    if found is None:
        return None
    stripe, profile_data, profile_parity, kind, data_count, parity_count, size, packed = found
    return _Stripe(
        row=row,
        stripe=stripe,
        profile=Profile(profile_data, profile_parity),
        coding=Coding(CodingKind(kind), data_count, parity_count),
        shard_bytes=size,
        slots=unpack_slots(packed),
    )
