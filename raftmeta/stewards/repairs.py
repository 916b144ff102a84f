"""Which shards of a stripe are to be written anew, and where: decisions without any waiting."""

from collections.abc import Mapping
from dataclasses import dataclass

from osscore.model import Slot, Stripe
from osscore.placement import Target, replacement
from osscore.quorum import node_share_max
from raftmeta.moving import REPAIR, PlannedStripe, TaskDraft
from raftmeta.stewards.fleet import Budget, Fleet

Underway = Mapping[tuple[int, int], int]
"""Targets of open tasks, by stripe row and shard index."""


@dataclass(frozen=True, slots=True)
class Repairs:
    """`drafts` to be opened. `waits`: more could be, but its targets have enough to do."""

    drafts: tuple[TaskDraft, ...] = ()
    waits: bool = False


def urgency(stripe: Stripe, fleet: Fleet) -> tuple[int, int]:
    """Smaller is more urgent: how many more shards it can lose, then how many are left.

    The first is what matters: 4+2 with four shards left is in greater danger than three
    replicas with two. Negative: it cannot be rebuilt from what is believed to be there.
    """
    left = fleet.shards_left(stripe)
    return left - stripe.coding.data_count, left


def damaged_slots(stripe: Stripe, fleet: Fleet) -> list[Slot]:
    """Missing, bad, or on a disk that does not count."""
    return [slot for slot in stripe.slots if not fleet.is_good(slot)]


def plan_repairs(
    planned: PlannedStripe, fleet: Fleet, budget: Budget, underway: Underway
) -> Repairs:
    """Tasks for the damaged slots of a stripe that have none. Takes from the budget.

    A shard on a living disk that takes shards is written there again, every other one where
    placement says.
    """
    stripe = planned.stripe
    todo = [slot for slot in damaged_slots(stripe, fleet) if slot.index not in planned.tasks]
    if not todo:
        return Repairs()
    if fleet.shards_in_reach(stripe) < stripe.coding.data_count:
        return Repairs()
    places = places_of(stripe, fleet, underway)
    drafts = []
    waits = False
    for slot in todo:
        others = [place for index, place in places.items() if index != slot.index]
        target = _in_place(stripe, slot, others, fleet) or replacement(
            stripe.stripe, slot.index, stripe.coding, others, fleet.targets
        )
        if target is None:
            continue
        if not budget.admits(target.disk):
            waits = True
            continue
        budget.take(target.disk, stripe.shard_bytes)
        places[slot.index] = target
        drafts.append(TaskDraft(stripe.row, slot.index, slot.gen, slot.disk, target.disk, REPAIR))
    return Repairs(drafts=tuple(drafts), waits=waits)


def places_of(stripe: Stripe, fleet: Fleet, underway: Underway) -> dict[int, Target]:
    """Where its shards are, or will be, by index. A lost one still counts for its node, as it
    does when a task is opened: its disk may come back."""
    places = {}
    for slot in stripe.slots:
        place = fleet.target_of(underway.get((stripe.row, slot.index), slot.disk))
        if place is not None:
            places[slot.index] = place
    return places


def _in_place(stripe: Stripe, slot: Slot, others: list[Target], fleet: Fleet) -> Target | None:
    own = fleet.disks.get(slot.disk)
    if own is None or not own.takes_shards:
        return None
    on_node = sum(place.node == own.node for place in others)
    return own.target if on_node < node_share_max(stripe.coding) else None
