"""What repair and rebalancing have still to do, and how fast they get on."""

from collections.abc import Mapping
from dataclasses import dataclass

from frontend.flows.nodes import Place, places_of
from frontend.flows.store import Store
from osscore.errors import NotReady
from raftmeta.commands import Done
from raftmeta.credentials import AuditNote
from raftmeta.healing import REBALANCING, REPAIRS, HealingState, PauseWork
from raftmeta.moving import REPAIR, CountUnderSpread, UnderSpreadCounted
from raftmeta.queries import CatalogCounted, ClusterDescribed, CountCatalog

COUNT_DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Progress:
    """`left_bytes` to be written, at `bytes_per_s`. `tasks`: open ones by reason. `moved_*`:
    written by tasks of any kind since the cluster was formed."""

    is_paused: bool
    tasks: Mapping[str, int]
    left_bytes: int
    bytes_per_s: float
    moved_shards: int
    moved_bytes: int

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at that rate; None: there is none, or no end in sight."""
        if not self.left_bytes or self.is_paused or self.bytes_per_s <= 0:
            return None
        return self.left_bytes / self.bytes_per_s


@dataclass(frozen=True, slots=True)
class RepairProgress:
    """See HealingState."""

    progress: Progress
    healing: HealingState
    lost: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class RebalanceProgress:
    """`disks`: all that count, for their bytes."""

    progress: Progress
    under_spread: UnderSpreadCounted
    disks: tuple[Place, ...]


async def repair_progress(store: Store) -> RepairProgress:
    """Raises NotReady while the leader has not looked yet, Unavailable."""
    described, healing, counted = await _known(store)
    return RepairProgress(
        progress=_progress(described, healing, counted, REPAIRS, healing.repair_bytes),
        healing=healing,
        lost=tuple(place for place in places_of(described) if place.disk.state == "lost"),
    )


async def rebalance_progress(store: Store) -> RebalanceProgress:
    """Raises NotReady while the leader has not looked yet, Unavailable."""
    described, healing, counted = await _known(store)
    places = tuple(place for place in places_of(described) if place.is_usable)
    drain_bytes = sum(p.disk.slot_bytes for p in places if p.disk.state == "draining")
    return RebalanceProgress(
        progress=_progress(
            described, healing, counted, REBALANCING, drain_bytes + healing.rebalance_bytes
        ),
        under_spread=await store.meta.query(
            CountUnderSpread(), UnderSpreadCounted, deadline_s=COUNT_DEADLINE_S
        ),
        disks=places,
    )


async def pause(store: Store, work: str, *, paused: bool, audit: AuditNote) -> None:
    """Stop a kind of work, or go on with it."""
    await store.meta.propose(PauseWork(work=work, paused=paused), Done, audit=audit)


async def _known(store: Store) -> tuple[ClusterDescribed, HealingState, CatalogCounted]:
    described = (await store.cluster.refresh()).described
    if described.healing is None:
        raise NotReady("The metadata leader has only just begun to look; ask again.")
    counted = await store.meta.query(CountCatalog(), CatalogCounted, deadline_s=COUNT_DEADLINE_S)
    return described, described.healing, counted


def _progress(
    described: ClusterDescribed,
    healing: HealingState,
    counted: CatalogCounted,
    work: str,
    left_bytes: int,
) -> Progress:
    return Progress(
        is_paused=work in described.paused,
        tasks={
            reason: count
            for reason, count in healing.tasks.items()
            if (reason == REPAIR) == (work == REPAIRS)
        },
        left_bytes=left_bytes,
        bytes_per_s=healing.bytes_per_s,
        moved_shards=counted.moved_shards,
        moved_bytes=counted.moved_bytes,
    )
