"""What planners and targets of moves ask: stripes that need one, and tasks that are open."""

from collections.abc import Iterable
from typing import Any

import msgspec

from osscore.errors import CommandTooLarge
from osscore.model import Coding, CodingKind, Profile, Stripe, unpack_slots
from raftmeta.catalog.query_objects import STRIPE_COLUMNS, stripe_of
from raftmeta.catalog.reading import Reading
from raftmeta.moving import (
    CodingFound,
    CodingsFound,
    CodingsOn,
    CountUnderSpread,
    DamagedStripes,
    ListTasks,
    OpenTask,
    PlannedStripe,
    ReadTasks,
    StripesAt,
    StripesOfDisk,
    StripesPlanned,
    TaskInfo,
    TasksListed,
    TasksRead,
    UnderSpreadCounted,
)

_PAGE_MAX = 1000
_TASKS_MAX = 256
_DISKS_MAX = 256
_COLUMN_COUNT = len(STRIPE_COLUMNS.split(","))

_TASKS = (
    f"SELECT {STRIPE_COLUMNS}, t.task, t.shard_index, t.reason, t.opened_at_ms"
    " FROM tasks t JOIN stripes s ON s.row = t.stripe_row"
    " WHERE t.target = ? AND t.task > ? ORDER BY t.task LIMIT ?"
)
_LIST = (
    "SELECT t.task, t.stripe_row, t.shard_index, t.disk, t.target, t.reason, t.opened_at_ms,"
    " s.shard_bytes, s.slots FROM tasks t JOIN stripes s ON s.row = t.stripe_row"
    " WHERE t.task > ? ORDER BY t.task LIMIT ?"
)
_OF_DISK = (
    f"SELECT {STRIPE_COLUMNS} FROM slots_by_disk d JOIN stripes s ON s.row = d.stripe_row"
    " WHERE d.disk = ? AND d.stripe_row > ? AND s.dead_since_ms IS NULL"
    " ORDER BY d.stripe_row LIMIT ?"
)
_DAMAGED = (
    f"SELECT {STRIPE_COLUMNS} FROM stripes s INDEXED BY stripes_damaged"
    " WHERE s.missing_count > 0 AND s.dead_since_ms IS NULL AND s.row > ?"
    " ORDER BY s.row LIMIT ?"
)
_UNDER_SPREAD = (
    f"SELECT {STRIPE_COLUMNS} FROM stripes s INDEXED BY stripes_to_spread"
    " WHERE s.under_spread = 1 AND s.dead_since_ms IS NULL AND s.row > ?"
    " ORDER BY s.row LIMIT ?"
)


_AT = f"SELECT {STRIPE_COLUMNS} FROM stripes s WHERE s.row = ? AND s.dead_since_ms IS NULL"


def read_tasks(reading: Reading, query: ReadTasks) -> TasksRead:
    """What a disk has to write, oldest first."""
    limit = max(1, min(query.limit, _TASKS_MAX))
    rows = reading.db.execute(_TASKS, (query.target, query.after, limit))
    return TasksRead(tasks=tuple(_open_task(row, query.target) for row in rows))


def list_tasks(reading: Reading, query: ListTasks) -> TasksListed:
    """A page of all open tasks."""
    limit = max(1, min(query.limit, _PAGE_MAX))
    tasks = tuple(_task_info(row) for row in reading.db.execute(_LIST, (query.after, limit)))
    return TasksListed(tasks=tasks, next=tasks[-1].task if len(tasks) == limit else 0)


def stripes_of_disk(reading: Reading, query: StripesOfDisk) -> StripesPlanned:
    """A page of the living stripes with a slot on a disk."""
    limit = max(1, min(query.limit, _PAGE_MAX))
    return _planned(
        reading, reading.db.execute(_OF_DISK, (query.disk, query.after_row, limit)), limit
    )


def damaged_stripes(reading: Reading, query: DamagedStripes) -> StripesPlanned:
    """A page of the stripes that miss slots, or lie too close together."""
    limit = max(1, min(query.limit, _PAGE_MAX))
    sql = _UNDER_SPREAD if query.under_spread else _DAMAGED
    return _planned(reading, reading.db.execute(sql, (query.after_row, limit)), limit)


def stripes_at(reading: Reading, query: StripesAt) -> StripesPlanned:
    """Living stripes by their rows. Refuses CommandTooLarge."""
    if len(query.rows) > _PAGE_MAX:
        raise CommandTooLarge(f"At most {_PAGE_MAX} stripes are looked up at once.")
    rows = [reading.db.execute(_AT, (row,)).fetchone() for row in sorted(set(query.rows))]
    return _planned(reading, [row for row in rows if row is not None], _PAGE_MAX + 1)


def codings_on(reading: Reading, query: CodingsOn) -> CodingsFound:
    """Living stripes with a shard on any of these disks, by coding. Refuses CommandTooLarge."""
    if len(query.disks) > _DISKS_MAX:
        raise CommandTooLarge(f"At most {_DISKS_MAX} disks are looked at together.")
    marks = ", ".join("?" for _ in query.disks)
    rows = reading.db.execute(
        "SELECT s.profile_data, s.profile_parity, s.coding_kind, s.coding_data, s.coding_parity,"
        " COUNT(*) FROM (SELECT DISTINCT stripe_row FROM slots_by_disk"
        f" WHERE disk IN ({marks})) d JOIN stripes s ON s.row = d.stripe_row"
        " WHERE s.dead_since_ms IS NULL GROUP BY 1, 2, 3, 4, 5",
        query.disks,
    )
    return CodingsFound(
        codings=tuple(
            CodingFound(
                Profile(profile_data, profile_parity),
                Coding(CodingKind(kind), data_count, parity_count),
                count,
            )
            for profile_data, profile_parity, kind, data_count, parity_count, count in rows
        )
    )


def count_under_spread(reading: Reading, _: CountUnderSpread) -> UnderSpreadCounted:
    """Living stripes that lie too close together."""
    counts = dict(
        reading.db.execute(
            "SELECT coding_kind, COUNT(*) FROM stripes INDEXED BY stripes_to_spread"
            " WHERE under_spread = 1 AND dead_since_ms IS NULL GROUP BY coding_kind"
        )
    )
    return UnderSpreadCounted(
        crowded=counts.get(int(CodingKind.REED_SOLOMON), 0),
        replicas=counts.get(int(CodingKind.REPLICA), 0),
    )


def _planned(reading: Reading, rows: Iterable[Any], limit: int) -> StripesPlanned:
    stripes = [stripe_of(row) for row in rows]
    return StripesPlanned(
        stripes=tuple(PlannedStripe(stripe, _tasks_of(reading, stripe)) for stripe in stripes),
        next_row=stripes[-1].row if len(stripes) == limit else 0,
    )


def _tasks_of(reading: Reading, stripe: Stripe) -> tuple[int, ...]:
    rows = reading.db.execute(
        "SELECT shard_index FROM tasks WHERE stripe_row = ? ORDER BY shard_index", (stripe.row,)
    )
    return tuple(index for (index,) in rows)


def _task_info(row: Any) -> TaskInfo:
    *facts, packed = row
    info = TaskInfo(*facts)
    state = next((s.state for s in unpack_slots(packed) if s.index == info.index), 0)
    return msgspec.structs.replace(info, state=int(state))


def _open_task(row: Any, target: int) -> OpenTask:
    task, index, reason, opened_at_ms = row[_COLUMN_COUNT:]
    return OpenTask(task, index, reason, opened_at_ms, target, stripe_of(row[:_COLUMN_COUNT]))
