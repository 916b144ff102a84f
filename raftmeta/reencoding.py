"""Stripes encoded anew: jobs for whole buckets, tasks for single stripes, and how far they are.

A job is a row: one bucket's stripes are to have one profile. A task is a row, too: one daemon
reads a stripe, encodes it anew under a fresh id, and says so by one command, which puts the new
coding into the stripe's row. Segments name the row, so none of them changes, however many there
are (SAFETY rules 1, 3, 8).
"""

import msgspec

from osscore.model import Profile, Stripe, StripeDraft
from osscore.names import StripeId
from raftmeta.commands import Command, Result
from raftmeta.queries import Answer, Query

REPLICAS = 0
"""In place of a job: the stripe was written as replicas, and goes back to its own profile."""
RUNNING, DONE, CANCELLED = "running", "done", "cancelled"
TASKS_AT_ONCE = 100
"""Most tasks that one command opens or closes."""


class SetProfile(Command, frozen=True, kw_only=True):
    """What is written to the bucket from now on has this profile. Answers ProfileSet.

    `reencodes`: a job begins that gives it to what is there, too. Without it a job of the
    bucket that runs ends. Refused, with no change: NoSuchBucket, InvalidArgument (no such
    profile), Conflict (the nodes that are in could not hold it).
    """

    bucket: str
    profile: Profile
    reencodes: bool = False


class ProfileSet(Result, frozen=True, kw_only=True):
    """`job`: the one begun, 0: none. `ended_job`: one that ran for another profile, or whose
    bucket is not to be encoded anew any more; 0: none."""

    job: int = 0
    ended_job: int = 0


class CancelReencode(Command, frozen=True, kw_only=True):
    """End the bucket's job where it is; what it has done stays. Answers Done. Refused
    NoSuchBucket, Conflict (none runs)."""

    bucket: str


class FinishReencode(Command, frozen=True, kw_only=True):
    """The leader has gone over all stripes of the job's bucket and found none to be encoded
    anew but those that stay as they are, `kept_stripes`. Ended before: no change."""

    job: int
    kept_stripes: int = 0


class ReencodeDraft(msgspec.Struct, frozen=True, array_like=True):
    """Have the daemon of disk `worker` encode the stripe of `row` for `profile`.

    `stripe`: its id as the planner saw it, a compare-and-set. `job`: for whom, or REPLICAS.
    """

    row: int
    stripe: StripeId
    profile: Profile
    worker: int
    job: int


class OpenReencodes(Command, frozen=True, kw_only=True):
    """Open those of these tasks that fit what the catalog says now. Answers ReencodesOpened.

    Not opened: the stripe is dead, another by now, has a task, is to stay as it is, or its job
    does not run. Repeating it is harmless. Refused CommandTooLarge.
    """

    tasks: tuple[ReencodeDraft, ...]


class ReencodesOpened(Result, frozen=True, kw_only=True):
    """How many were opened."""

    opened: int


class CloseReencodes(Command, frozen=True, kw_only=True):
    """Give these tasks up. What a worker still writes for them will never be named. Answers
    Done. Unknown ones are skipped. Refused CommandTooLarge."""

    tasks: tuple[int, ...]


class Reencode(Command, frozen=True, kw_only=True):
    """A task's stripe was encoded anew: these shards are stored. Answers Reencoded.

    The stripe's row takes the draft's id, profile, coding and slots; its former shards go to
    trash after their readers' time, and its open tasks end. If that must not be, because a
    shard is missing, the task was closed, the stripe died, or it would survive less than before,
    the task ends and the new shards go to trash instead. Refused, with no change:
    InvalidArgument, Conflict (named before), StaleStripe.
    """

    task: int
    draft: StripeDraft


class Reencoded(Result, frozen=True, kw_only=True):
    """`done` False: the new shards are of no use; `why` says why not, for people."""

    done: bool
    why: str = ""


class ReadReencodes(Query, frozen=True, kw_only=True):
    """What the daemon of a disk has to encode anew, oldest first. Answers ReencodesRead."""

    worker: int
    limit: int = 32


class OpenReencode(msgspec.Struct, frozen=True, array_like=True):
    """A task and its stripe as it is now. `domain`, `digest`: of its dedup key."""

    task: int
    profile: Profile
    domain: bytes
    digest: bytes
    stripe: Stripe


class ReencodesRead(Answer, frozen=True, kw_only=True):
    """The tasks, oldest first."""

    tasks: tuple[OpenReencode, ...]


class ListReencodes(Query, frozen=True, kw_only=True):
    """All jobs, by their bucket's name, and all open tasks. Answers ReencodesListed."""


class ReencodeJob(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket's last job. `stripes` of `size_bytes` plain bytes are done; `kept_stripes` stay as
    they are for the sake of other buckets, as of its end. `ended_at_ms` 0: it runs."""

    job: int
    bucket: str
    profile: Profile
    state: str
    begun_at_ms: int
    ended_at_ms: int = 0
    stripes: int = 0
    size_bytes: int = 0
    kept_stripes: int = 0


class ReencodeTask(msgspec.Struct, frozen=True, array_like=True):
    """An open task. `size_bytes`: plain bytes of its stripe."""

    task: int
    row: int
    worker: int
    job: int
    opened_at_ms: int
    size_bytes: int


class ReencodesListed(Answer, frozen=True, kw_only=True):
    """`total_*`: done since the cluster was formed, for jobs and of replicas."""

    jobs: tuple[ReencodeJob, ...]
    tasks: tuple[ReencodeTask, ...]
    total_stripes: int = 0
    total_bytes: int = 0


class FindReencodable(Query, frozen=True, kw_only=True):
    """Living stripes that are to be encoded anew for a job, or as REPLICAS those written as
    replicas, by row behind `after_row`. Answers ReencodableFound; empty for a job that does
    not run. Bounded in what it looks at."""

    job: int
    after_row: int = 0
    limit: int = 500


class Reencodable(msgspec.Struct, frozen=True, array_like=True):
    """A stripe, by its row and plain bytes."""

    row: int
    size_bytes: int


class ReencodableFound(Answer, frozen=True, kw_only=True):
    """`kept_stripes`: seen on the way, that stay as they are because other buckets ask for more.
    `next_row` 0: that was all."""

    stripes: tuple[Reencodable, ...]
    kept_stripes: int = 0
    next_row: int = 0
