"""Every slot of every stripe, fetched from its daemon and compared with the catalog's checksum."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from osscore.digests import crc32c
from osscore.errors import CorruptShard, NoSuchShard, StoreError
from osscore.model import ShardIdentity, Slot, SlotState, Stripe
from raftmeta.queries import ListStripes, StripesListed
from tests.heal.site import Site

AT_ONCE = 16
PAGE = 200
GOOD, MISSING, CORRUPT, UNREACHABLE = "good", "missing", "corrupt", "unreachable"


@dataclass(slots=True)
class Audit:
    """`found`: slots by what lies there; `believed`: by what the catalog says, where that is
    not good. `moved`: good slots that a task has written. `close`: stripes two of whose shards
    lie on one node."""

    stripes: int = 0
    found: Counter[str] = field(default_factory=Counter)
    believed: Counter[str] = field(default_factory=Counter)
    moved: int = 0
    close: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether every slot is good, by its bytes and by the catalog."""
        return set(self.found) <= {GOOD} and not self.believed


async def all_stripes(site: Site) -> list[Stripe]:
    """Every living stripe."""
    found: list[Stripe] = []
    after = 0
    while True:
        page = await site.meta.query(ListStripes(after_row=after, limit=PAGE), StripesListed)
        found += page.stripes
        after = page.next_row
        if not after:
            return found


async def audit(site: Site) -> Audit:
    """Look at every shard there is."""
    described = await site.described()
    places = {d.disk: (n.url, d.uuid) for n in described.nodes for d in n.disks}
    nodes = {d.disk: n.node for n in described.nodes for d in n.disks}
    result, turns = Audit(), asyncio.Semaphore(AT_ONCE)

    async def look(stripe: Stripe, slot: Slot) -> tuple[Stripe, Slot, str]:
        async with turns:
            return stripe, slot, await _look(site, places.get(slot.disk), stripe, slot)

    stripes = await all_stripes(site)
    seen = await asyncio.gather(
        *(look(stripe, slot) for stripe in stripes for slot in stripe.slots)
    )
    if any(found != GOOD for _, _, found in seen):
        # Moved meanwhile: as any reader of the stripe as it was, look once more (SAFETY rule 3).
        now = {
            (each.row, slot.index): (each, slot)
            for each in await all_stripes(site)
            for slot in each.slots
        }
        seen = [
            await look(*now[stripe.row, slot.index])
            if found != GOOD and now.get((stripe.row, slot.index), (stripe, slot))[1] != slot
            else (stripe, slot, found)
            for stripe, slot, found in seen
        ]
    for _, slot, found in seen:
        result.found[found] += 1
        result.moved += found == GOOD and slot.gen > 0
        if slot.state is not SlotState.GOOD:
            result.believed[slot.state.name.lower()] += 1
    result.stripes = len(stripes)
    result.close = sum(
        max(Counter(nodes.get(slot.disk) for slot in stripe.slots).values()) > 1
        for stripe in stripes
    )
    return result


async def _look(site: Site, place: tuple[str, bytes] | None, stripe: Stripe, slot: Slot) -> str:
    if place is None:
        return UNREACHABLE
    identity = ShardIdentity(stripe.stripe, slot.index, slot.gen)
    try:
        body = await site.blobs.get_shard(place[0], place[1], identity, deadline_s=30)
    except NoSuchShard:
        return MISSING
    except CorruptShard:
        return CORRUPT
    except StoreError:
        return UNREACHABLE
    return GOOD if crc32c(body) == stripe.shard_crcs[slot.index] else CORRUPT
