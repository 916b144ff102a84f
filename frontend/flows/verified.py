"""When shards were last reread, as the daemons that hold them tell."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

from blobd.wire import VERIFIED_ASKED_MAX
from frontend.cluster import ClusterState
from frontend.flows.store import Store
from osscore.errors import StoreError
from osscore.model import ShardIdentity, Slot, SlotState, Stripe

ASK_DEADLINE_S = 5.0
_MAY_LIVE = ("up", "unknown")

Place = tuple[int, ShardIdentity]
"""A disk by its number in the catalog, and a shard there."""
VerifiedAt = Mapping[Place, int]
"""Unix ms by this process's clock; those not reread since they were written are left out."""


def place_of(stripe: Stripe, slot: Slot) -> Place:
    """Where the catalog says that the shard lies."""
    return slot.disk, ShardIdentity(stripe=stripe.stripe, index=slot.index, gen=slot.gen)


async def read_verified(
    store: Store, state: ClusterState, stripes: Sequence[Stripe]
) -> dict[Place, int]:
    """Ask every disk that should hold good shards of these stripes. One that does not answer
    tells nothing: what is known of the object without it is worth more than an error."""
    asked: dict[int, dict[ShardIdentity, None]] = defaultdict(dict)
    for stripe in stripes:
        for slot in stripe.slots:
            if slot.state is SlotState.GOOD and _is_reached(state, slot.disk):
                disk, identity = place_of(stripe, slot)
                asked[disk][identity] = None
    answers = await asyncio.gather(
        *(_of_disk(store, state, disk, list(shards)) for disk, shards in asked.items())
    )
    return {place: at_ms for answer in answers for place, at_ms in answer.items()}


def _is_reached(state: ClusterState, disk: int) -> bool:
    place = state.disks.get(disk)
    if place is None or place.state in ("lost", "removed"):
        return False
    return state.health.get(place.node, "down") in _MAY_LIVE


async def _of_disk(
    store: Store, state: ClusterState, disk: int, shards: Sequence[ShardIdentity]
) -> dict[Place, int]:
    place = state.disks[disk]
    found: dict[Place, int] = {}
    for first in range(0, len(shards), VERIFIED_ASKED_MAX):
        page = shards[first : first + VERIFIED_ASKED_MAX]
        try:
            ms_ago = await store.blobs.last_verified(
                place.url, place.uuid, page, deadline_s=ASK_DEADLINE_S
            )
        except StoreError:
            break
        now_ms = store.clock.now_ms()
        found |= {
            (disk, each): now_ms - ago for each, ago in zip(page, ms_ago, strict=True) if ago >= 0
        }
    return found
