"""What is kept of one object, where, and what its bytes would survive now."""

from collections.abc import Sequence
from dataclasses import dataclass

from frontend.cluster import ClusterState, DiskPlace
from frontend.flows.locate import segments_of
from frontend.flows.objects import ObjectRef, find_object
from frontend.flows.store import Store
from frontend.flows.verified import VerifiedAt, place_of, read_verified
from osscore.model import Profile, Segment, Slot, SlotState, Stripe, VersionInfo
from osscore.quorum import losses_survived
from raftmeta.queries import CountReferences, ListVersions, ReferencesCounted, VersionsListed

VERSIONS_MAX = 1000
_ROWS_PER_QUESTION = 1000
_MAY_LIVE = ("up", "unknown")
GOOD, MISSING, BAD, LOST, SILENT = "good", "missing", "bad", "lost", "silent"


@dataclass(frozen=True, slots=True)
class ShardExplained:
    """One shard. `state`: good; missing or bad as its owner said; lost with its disk; silent
    while its node does not answer. `verified_at_ms`: when its owner last reread it and it was
    good, None: not since it was written, or nobody tells."""

    index: int
    gen: int
    disk: str
    node: str
    zone: str
    state: str
    verified_at_ms: int | None


@dataclass(frozen=True, slots=True)
class StripeExplained:
    """Bytes [start, start + length). `references`: segments of all objects that share them.
    `survives_nodes`: any so many of the nodes may be lost now; -1: unreadable.
    `survives_zones`: None unless each good shard lies in one."""

    stripe: Stripe
    start: int
    length: int
    references: int
    shards: tuple[ShardExplained, ...]
    survives_nodes: int
    survives_disks: int
    survives_zones: int | None


@dataclass(frozen=True, slots=True)
class Explained:
    """A version, the chain it belongs to, and its stripes; none: its bytes lie inline."""

    version: VersionInfo
    versions: tuple[VersionInfo, ...]
    stripes: tuple[StripeExplained, ...]

    @property
    def stored_bytes(self) -> int:
        """What its stripes occupy on all disks, shared ones too, each once."""
        once = {each.stripe.row: each.stripe for each in self.stripes}
        return sum(s.shard_bytes * s.coding.shard_count for s in once.values())

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """Those its stripes ask for."""
        return tuple(dict.fromkeys(each.stripe.profile for each in self.stripes))


async def explain_object(store: Store, ref: ObjectRef) -> Explained:
    """Raises NoSuchBucket, NoSuchKey, NoSuchVersion."""
    found = await find_object(store, ref)
    chain = await store.meta.query(
        ListVersions(bucket=ref.bucket, prefix=ref.key, key=ref.key, limit=VERSIONS_MAX),
        VersionsListed,
    )
    segments = await segments_of(store, found, all_stripes=True)
    references = await _references(store, segments)
    state = await store.cluster.refresh()
    verified = await read_verified(store, state, [segment.stripe for segment in segments])
    stripes = tuple(
        _explained(state, segment, references[segment.stripe.row], verified) for segment in segments
    )
    return Explained(version=found.version, versions=tuple(chain.versions), stripes=stripes)


async def _references(store: Store, segments: Sequence[Segment]) -> dict[int, int]:
    rows = list(dict.fromkeys(segment.stripe.row for segment in segments))
    found: dict[int, int] = {}
    for first in range(0, len(rows), _ROWS_PER_QUESTION):
        page = tuple(rows[first : first + _ROWS_PER_QUESTION])
        counted = await store.meta.query(CountReferences(rows=page), ReferencesCounted)
        found |= dict(zip(page, counted.counts, strict=True))
    return found


def _explained(
    state: ClusterState, segment: Segment, references: int, verified: VerifiedAt
) -> StripeExplained:
    stripe = segment.stripe
    shards = tuple(
        _shard(state, slot, verified.get(place_of(stripe, slot))) for slot in stripe.slots
    )
    good = [shard for shard in shards if shard.state == GOOD]
    return StripeExplained(
        stripe=stripe,
        start=segment.start,
        length=segment.length,
        references=references,
        shards=shards,
        survives_nodes=losses_survived(stripe.coding, [(s.index, s.node) for s in good]),
        survives_disks=losses_survived(stripe.coding, [(s.index, s.disk) for s in good]),
        survives_zones=losses_survived(stripe.coding, [(s.index, s.zone) for s in good])
        if good and all(s.zone for s in good)
        else None,
    )


def _shard(state: ClusterState, slot: Slot, verified_at_ms: int | None) -> ShardExplained:
    place = state.disks.get(slot.disk)
    return ShardExplained(
        index=slot.index,
        gen=slot.gen,
        disk=place.uuid.hex() if place else "",
        node=place.node if place else "",
        zone=place.zone if place else "",
        state=_state(state, slot, place),
        verified_at_ms=verified_at_ms,
    )


def _state(state: ClusterState, slot: Slot, place: DiskPlace | None) -> str:
    if slot.state is not SlotState.GOOD:
        return MISSING if slot.state is SlotState.MISSING else BAD
    if place is None or place.state in ("lost", "removed"):
        return LOST
    return GOOD if state.health.get(place.node, "down") in _MAY_LIVE else SILENT
