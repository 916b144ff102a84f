"""Planning moves of good shards: drain first, then spread, then even out. Repair has taken what it
needs."""

from collections.abc import Callable, Sequence
from functools import partial

from ossd.clock import Clock
from raftmeta.moving import DamagedStripes, PlannedStripe, StripesOfDisk, TaskDraft, TaskInfo
from raftmeta.stewards.balance import Balance
from raftmeta.stewards.fleet import Budget, Fleet
from raftmeta.stewards.moves import (
    Moves,
    plan_drain,
    plan_rebalance,
    plan_spread,
    rebalance_targets,
)
from raftmeta.stewards.repairs import Underway
from raftmeta.stewards.survey import PAGE_STRIPES, ReadPage
from raftmeta.stewards.sweep import Sweep
from raftmeta.stewards.turns import in_turns

PAGES_PER_SWEEP = 4
FUTILE_REST_S = 300.0
"""Until a disk is gone over again of which nothing could be moved, though it is too full."""
Plan = Callable[[PlannedStripe, Fleet, Budget, Underway], Moves]


class Relocating:
    """Where the passes over the stripes to be moved are."""

    def __init__(self, read: ReadPage, clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._drains: dict[int, Sweep] = {}
        self._spread = Sweep(DamagedStripes(under_spread=True, limit=PAGE_STRIPES), clock)
        self._spread_over: frozenset[str] = frozenset()
        self._sources: dict[int, Sweep] = {}
        self._balanced: frozenset[int] = frozenset()
        self._is_active = False

    async def plan(self, fleet: Fleet, budget: Budget, underway: Underway) -> list[TaskDraft]:
        """What should be opened now. Raises StoreError."""
        drafts: list[TaskDraft] = []
        for sweep in self._draining(fleet):
            drafts += await self._go(sweep, plan_drain, fleet, budget, underway)
        drafts += await self._go(self._spreading(fleet), plan_spread, fleet, budget, underway)
        return drafts

    async def rebalance(
        self, fleet: Fleet, budget: Budget, underway: Underway, tasks: Sequence[TaskInfo]
    ) -> list[TaskDraft]:
        """What should be opened now to even out how full disks are. Raises StoreError."""
        balance = Balance(fleet, tasks)
        was_active, self._is_active = self._is_active, balance.is_off(is_active=self._is_active)
        if not self._is_active:
            return []
        if balance.disks != self._balanced or not was_active:
            self._balanced, self._sources = balance.disks, {}
        drafts: list[TaskDraft] = []
        for source in balance.sources():
            if not rebalance_targets(fleet, budget, balance):
                break
            sweep = self._sources.setdefault(source, self._source(source))
            plan = partial(plan_rebalance, balance=balance, source=source)
            drafts += await self._go(sweep, plan, fleet, budget, underway)
        if drafts:
            # What one move leaves behind may be what another waited for.
            for sweep in self._sources.values():
                sweep.wake()
        return drafts

    def left_bytes(self, fleet: Fleet) -> int:
        """To be moved until every disk is as full as the others; 0 while it is near enough."""
        balance = Balance(fleet, ())
        return balance.left_bytes if balance.is_off(is_active=self._is_active) else 0

    def _source(self, disk: int) -> Sweep:
        query = StripesOfDisk(disk=disk, limit=PAGE_STRIPES)
        return Sweep(query, self._clock, rest_s=FUTILE_REST_S)

    def _draining(self, fleet: Fleet) -> list[Sweep]:
        self._drains = {
            disk: self._drains.get(disk)
            or Sweep(StripesOfDisk(disk=disk, limit=PAGE_STRIPES), self._clock)
            for disk in fleet.numbers("draining")
        }
        return list(self._drains.values())

    def _spreading(self, fleet: Fleet) -> Sweep:
        """A pass that found nothing is of no use before there are other nodes."""
        nodes = frozenset(target.node for target in fleet.targets)
        if nodes != self._spread_over:
            self._spread_over = nodes
            self._spread = Sweep(DamagedStripes(under_spread=True, limit=PAGE_STRIPES), self._clock)
        return self._spread

    async def _go(
        self, sweep: Sweep, plan: Plan, fleet: Fleet, budget: Budget, underway: Underway
    ) -> list[TaskDraft]:
        drafts: list[TaskDraft] = []
        for _ in range(PAGES_PER_SWEEP):
            if sweep.is_resting or budget.is_spent:
                break
            found, waits = 0, False
            async for planned in in_turns(await sweep.page(self._read)):
                moves = plan(planned, fleet, budget, underway)
                drafts += moves.drafts
                # What is under way is no reason to rest: it may not come to pass.
                found += len(moves.drafts) + len(planned.tasks)
                waits = waits or moves.waits
            sweep.went(found=found, waits=waits)
            if waits or sweep.is_at_start:
                break  # behind the last page come stripes that have a draft by now
        return drafts
