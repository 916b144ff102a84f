"""Which good shards are to lie elsewhere: off disks that drain or are too full, and apart.

A move never brings shards of a stripe closer together than they are (SAFETY rule 10).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from osscore.model import CodingKind, Slot, Stripe
from osscore.placement import Target, replacement
from raftmeta.moving import DRAIN, REBALANCE, SPREAD, PlannedStripe, TaskDraft
from raftmeta.stewards.balance import Balance
from raftmeta.stewards.fleet import Budget, Fleet, FleetDisk
from raftmeta.stewards.repairs import Underway, places_of

REBALANCE_SHARE = 0.25
SHARE = 0.5
"""Of each target's part that moves may fill: repair always finds room."""


@dataclass(frozen=True, slots=True)
class Moves:
    """`drafts` to be opened. `waits`: more could be, but its targets have enough to do."""

    drafts: tuple[TaskDraft, ...] = ()
    waits: bool = False


def plan_drain(planned: PlannedStripe, fleet: Fleet, budget: Budget, underway: Underway) -> Moves:
    """Tasks for the good slots of a stripe on draining disks. Takes from the budget."""
    slots = [
        slot
        for slot in planned.stripe.slots
        if fleet.is_good(slot) and fleet.disks[slot.disk].state == "draining"
    ]
    return _plan(planned, slots, DRAIN, fleet, budget, underway)


def plan_spread(planned: PlannedStripe, fleet: Fleet, budget: Budget, underway: Underway) -> Moves:
    """Tasks that put shards of one node on nodes without any, as far as there are such."""
    stripe = planned.stripe
    if stripe.coding.kind is CodingKind.REPLICA:
        return Moves()
    seen: set[str] = set()
    crowded = []
    for slot in stripe.slots:
        if not fleet.is_good(slot):
            continue
        node = fleet.disks[slot.disk].node
        if node in seen:
            crowded.append(slot)
        seen.add(node)
    return _plan(planned, crowded, SPREAD, fleet, budget, underway)


def plan_rebalance(
    planned: PlannedStripe,
    fleet: Fleet,
    budget: Budget,
    underway: Underway,
    balance: Balance,
    source: int,
) -> Moves:
    """A task that takes a whole stripe's shard off `source`, to a disk below its share. Takes from
    the budget and the balance."""
    stripe = planned.stripe
    slot = next((each for each in stripe.slots if each.disk == source), None)
    if slot is None or planned.tasks or stripe.row in balance.rows:
        return Moves()
    if fleet.shards_left(stripe) < stripe.coding.shard_count:
        return Moves()
    if not rebalance_targets(fleet, budget, balance):
        return Moves(waits=True)  # for all that is known: looked at again when one is free
    places = places_of(stripe, fleet, underway)
    others = [place for index, place in places.items() if index != slot.index]
    room = [
        replace(target, weight=balance.lack_bytes(target.disk))
        for target in fleet.targets
        if balance.lack_bytes(target.disk)
        and balance.admits(source, target.disk, stripe.shard_bytes)
    ]
    apart = _no_closer(room, fleet.disks[source], others)
    free = [target for target in apart if budget.admits(target.disk, share=REBALANCE_SHARE)]
    target = replacement(stripe.stripe, slot.index, stripe.coding, others, free)
    if target is None:
        return Moves(waits=bool(apart))
    budget.take(target.disk, stripe.shard_bytes)
    balance.move(stripe.row, source, target.disk, stripe.shard_bytes)
    draft = TaskDraft(stripe.row, slot.index, slot.gen, source, target.disk, REBALANCE)
    return Moves(drafts=(draft,))


def rebalance_targets(fleet: Fleet, budget: Budget, balance: Balance) -> list[Target]:
    """Disks below their share that may get one more shard now."""
    return [
        target
        for target in fleet.targets
        if balance.lack_bytes(target.disk) and budget.admits(target.disk, share=REBALANCE_SHARE)
    ]


def _no_closer(
    targets: Sequence[Target], source: FleetDisk, others: Sequence[Target]
) -> list[Target]:
    """Those where the stripe's other shards leave as much of it apart as at the source."""
    nodes = Counter(place.node for place in others)
    zones = Counter(place.zone for place in others)
    disks = Counter(place.disk for place in others)
    return [
        target
        for target in targets
        if nodes[target.node] <= nodes[source.node]
        and zones[target.zone] <= zones[source.zone]
        and disks[target.disk] <= disks[source.disk]
    ]


def _plan(
    planned: PlannedStripe,
    slots: Sequence[Slot],
    reason: str,
    fleet: Fleet,
    budget: Budget,
    underway: Underway,
) -> Moves:
    stripe = planned.stripe
    todo = [slot for slot in slots if slot.index not in planned.tasks]
    if not todo or fleet.shards_in_reach(stripe) < stripe.coding.data_count:
        return Moves()
    places = places_of(stripe, fleet, underway)
    drafts = []
    waits = False
    for slot in todo:
        others = [place for index, place in places.items() if index != slot.index]
        target = _target(stripe, slot, others, fleet, is_apart=reason == SPREAD)
        if target is None:
            continue
        if not budget.admits(target.disk, share=SHARE):
            waits = True
            continue
        budget.take(target.disk, stripe.shard_bytes)
        places[slot.index] = target
        drafts.append(TaskDraft(stripe.row, slot.index, slot.gen, slot.disk, target.disk, reason))
    return Moves(drafts=tuple(drafts), waits=waits)


def _target(
    stripe: Stripe, slot: Slot, others: Sequence[Target], fleet: Fleet, *, is_apart: bool
) -> Target | None:
    """Where it should go. `is_apart`: only to a node without any other of the stripe."""
    target = replacement(stripe.stripe, slot.index, stripe.coding, others, fleet.targets)
    if target is None:
        return None
    on_node = Counter(place.node for place in others)
    most = 0 if is_apart else on_node[fleet.disks[slot.disk].node]
    return target if on_node[target.node] <= most else None
