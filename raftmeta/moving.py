"""Moving shards: the tasks of repair, drain and rebalance, and the questions about them.

A task is a row, written before a byte is pulled, unique for a stripe's slot. Its number is the
`gen` of the shard that the target writes, so whatever becomes of it, that shard is told apart
from all others for ever (SAFETY rules 2, 9 to 11).
"""

import msgspec

from osscore.model import Coding, Profile, Stripe
from raftmeta.commands import Command, Result
from raftmeta.queries import Answer, Query

REPAIR, DRAIN, REBALANCE, SPREAD = "repair", "drain", "rebalance", "spread"
REASONS = (REPAIR, DRAIN, REBALANCE, SPREAD)

TASKS_AT_ONCE = 200
"""Most tasks that one command opens or closes."""


class TaskDraft(msgspec.Struct, frozen=True, array_like=True):
    """Write shard `index` of the stripe of `row` anew on disk `target`.

    Its slot is (`gen`, `disk`) as the planner saw it: a compare-and-set.
    """

    row: int
    index: int
    gen: int
    disk: int
    target: int
    reason: str


class OpenTasks(Command, frozen=True, kw_only=True):
    """Open those of these tasks that fit what the catalog says now. Answers TasksOpened.

    Not opened: the slot differs or has a task, the stripe is dead, the target takes no new
    shards or would hold more of the stripe than SAFETY rule 7 allows. Repeating it is harmless.
    Refused CommandTooLarge, InvalidArgument.
    """

    tasks: tuple[TaskDraft, ...]


class TasksOpened(Result, frozen=True, kw_only=True):
    """How many were opened."""

    opened: int


class MoveSlot(Command, frozen=True, kw_only=True):
    """The target holds the task's shard, durable and verified. Answers SlotMoved.

    The slot becomes (index, gen = `task`, target), good, and the task ends; the shard it
    replaces goes to trash. If that is not possible any more the task ends, too, and the new
    shard goes to trash instead.
    """

    task: int


class SlotMoved(Result, frozen=True, kw_only=True):
    """`moved` False: the shard is of no use; `why` says why not, for people."""

    moved: bool
    why: str = ""


class CloseTasks(Command, frozen=True, kw_only=True):
    """Give these tasks up: their targets are gone, too slow, or cannot do it. Answers Done.

    What a target may have written goes to trash. Unknown ones are skipped.
    """

    tasks: tuple[int, ...]


class ReadTasks(Query, frozen=True, kw_only=True):
    """What a disk has to write, in the order of opening, behind task `after`. Answers TasksRead."""

    target: int
    after: int = 0
    limit: int = 64


class OpenTask(msgspec.Struct, frozen=True, array_like=True):
    """A task and its stripe as it is now. `index`: the slot to write anew."""

    task: int
    index: int
    reason: str
    opened_at_ms: int
    target: int
    stripe: Stripe


class TasksRead(Answer, frozen=True, kw_only=True):
    """The tasks, oldest first."""

    tasks: tuple[OpenTask, ...]


class ListTasks(Query, frozen=True, kw_only=True):
    """Open tasks of all disks by number, behind `after`, without their stripes. Answers
    TasksListed."""

    after: int = 0
    limit: int = 1000


class TaskInfo(msgspec.Struct, frozen=True, array_like=True):
    """An open task. `disk`: what it replaces lies, or was meant to lie, there; `state`: as what
    (SlotState)."""

    task: int
    row: int
    index: int
    disk: int
    target: int
    reason: str
    opened_at_ms: int
    size_bytes: int
    state: int = 0


class TasksListed(Answer, frozen=True, kw_only=True):
    """`next` 0: that was all; else the next page's `after`."""

    tasks: tuple[TaskInfo, ...]
    next: int = 0


class StripesOfDisk(Query, frozen=True, kw_only=True):
    """Living stripes with a slot on `disk`, behind `after_row`, by row. Answers
    StripesPlanned."""

    disk: int
    after_row: int = 0
    limit: int = 500


class DamagedStripes(Query, frozen=True, kw_only=True):
    """Living stripes with slots that are missing or bad, behind `after_row`, by row; with
    `under_spread` those that lie too close together instead. Answers StripesPlanned."""

    after_row: int = 0
    limit: int = 500
    under_spread: bool = False


class StripesAt(Query, frozen=True, kw_only=True):
    """Those of these stripes that live, by row. Answers StripesPlanned."""

    rows: tuple[int, ...]


class CodingsOn(Query, frozen=True, kw_only=True):
    """Of how many living stripes with a shard on one of these disks, by their coding. Answers
    CodingsFound. It looks at every one of them. Refused CommandTooLarge."""

    disks: tuple[int, ...]


class CodingFound(msgspec.Struct, frozen=True, array_like=True):
    """So many stripes of that profile are written with that coding now."""

    profile: Profile
    coding: Coding
    stripes: int


class CodingsFound(Answer, frozen=True, kw_only=True):
    """In no particular order."""

    codings: tuple[CodingFound, ...]


class CountUnderSpread(Query, frozen=True, kw_only=True):
    """Answers UnderSpreadCounted."""


class UnderSpreadCounted(Answer, frozen=True, kw_only=True):
    """Living stripes that lie too close together: `crowded` with several shards on a node,
    `replicas` written as such because nodes were missing."""

    crowded: int
    replicas: int


class PlannedStripe(msgspec.Struct, frozen=True, array_like=True):
    """What planning needs of a stripe. `tasks`: indexes of slots that have an open task."""

    stripe: Stripe
    tasks: tuple[int, ...]


class StripesPlanned(Answer, frozen=True, kw_only=True):
    """`next_row` 0: that was all."""

    stripes: tuple[PlannedStripe, ...]
    next_row: int = 0


class CountDamagedObjects(Query, frozen=True, kw_only=True):
    """How many versions of objects have stripes with shards that are missing, bad or on lost
    disks? Answers DamagedObjectsCounted; no more than `stripes_max` (<= 2,000) stripes are
    looked at."""

    stripes_max: int = 2000


class DamagedObjectsCounted(Answer, frozen=True, kw_only=True):
    """`by_missing[n]`: versions, old ones too, of which no stripe misses more than n shards and
    one does. `is_partial`: of the stripes looked at; there are more."""

    by_missing: dict[int, int]
    is_partial: bool = False
