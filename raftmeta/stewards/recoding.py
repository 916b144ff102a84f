"""Whether a stripe can be encoded anew now, and by whom: decisions without any waiting."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from osscore.errors import Unavailable
from osscore.model import Profile, Stripe, reed_solomon
from osscore.placement import place
from osscore.quorum import losses_survived
from raftmeta.reencoding import ReencodeDraft, ReencodeTask
from raftmeta.stewards.fleet import Fleet

TASKS_PER_WORKER = 8
"""Enough that a daemon always has work, few enough that a dead one holds little up."""
TASKS_MAX = 256
"""In all."""


@dataclass(frozen=True, slots=True)
class Wish:
    """That a stripe be encoded for a profile, for a job or for REPLICAS."""

    stripe: Stripe
    profile: Profile
    job: int


class Workers:
    """Disks whose daemons may be given tasks, by how many they have."""

    def __init__(self, fleet: Fleet, tasks: Iterable[ReencodeTask]) -> None:
        self._counts = Counter({target.disk: 0 for target in fleet.targets})
        self._total = 0
        self.rows: set[int] = set()
        """Stripes that have a task."""
        for task in tasks:
            self._total += 1
            self.rows.add(task.row)
            if task.worker in self._counts:
                self._counts[task.worker] += 1

    @property
    def has_room(self) -> bool:
        """Whether anybody may get one more."""
        return self._total < TASKS_MAX and min(self._counts.values(), default=TASKS_PER_WORKER) < (
            TASKS_PER_WORKER
        )

    def take(self, stripe: Stripe) -> int:
        """The least busy, of those rather one that holds a shard, which it need not fetch."""
        near = {slot.disk for slot in stripe.slots}
        worker = min(self._counts, key=lambda disk: (self._counts[disk], disk not in near, disk))
        self._counts[worker] += 1
        self._total += 1
        self.rows.add(stripe.row)
        return worker


def plan_reencode(wish: Wish, fleet: Fleet, workers: Workers) -> ReencodeDraft | str | None:
    """A task; None if there is one, or nothing to do; or why it cannot be now, for people.

    Takes from `workers`, which must have room.
    """
    stripe, coding = wish.stripe, reed_solomon(wish.profile)
    if stripe.row in workers.rows or stripe.coding == coding:
        return None
    if fleet.shards_in_reach(stripe) < stripe.coding.data_count:
        return "Some stripes cannot be read now."
    try:
        placement = place(stripe.stripe, wish.profile, fleet.targets)
    except Unavailable as error:
        return error.message
    if placement.coding != coding:
        return f"Too few living nodes take shards for {wish.profile}."
    nodes = {target.disk: target.node for target in fleet.targets}
    after = [(index, nodes[disk]) for index, disk in enumerate(placement.disks)]
    before = [(s.index, fleet.disks[s.disk].node) for s in stripe.slots if fleet.is_good(s)]
    survives = losses_survived(stripe.coding, before)
    if losses_survived(coding, after) < min(survives, wish.profile.parity_count):
        return f"On so few living nodes {wish.profile} would survive less than what is there."
    return ReencodeDraft(stripe.row, stripe.stripe, wish.profile, workers.take(stripe), wish.job)
