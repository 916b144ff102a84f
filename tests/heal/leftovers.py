"""What disks hold beside what the catalog names: what leaks, and what is lost."""

from osscore.model import ShardIdentity, SlotState
from tests.heal.audit import all_stripes
from tests.heal.site import Site

PAGE_S = 30.0
Place = tuple[int, ShardIdentity]
"""A shard on a disk, by the catalog's number."""


async def wanted(site: Site) -> set[Place]:
    """The good slots of living stripes."""
    return {
        (slot.disk, ShardIdentity(stripe.stripe, slot.index, slot.gen))
        for stripe in await all_stripes(site)
        for slot in stripe.slots
        if slot.state is SlotState.GOOD
    }


async def held(site: Site) -> dict[Place, int]:
    """Bytes of every shard on every disk that counts, as the daemons list them."""
    found: dict[Place, int] = {}
    for node in (await site.described()).nodes:
        for disk in node.disks:
            if disk.state == "in":
                sizes = await inventory(site, node.url, disk.uuid)
                found |= {(disk.disk, identity): size for identity, size in sizes.items()}
    return found


async def inventory(site: Site, url: str, uuid: bytes) -> dict[ShardIdentity, int]:
    """Bytes of every shard of one disk."""
    found: dict[ShardIdentity, int] = {}
    after = ""
    while True:
        page = await site.blobs.inventory(url, uuid, after, deadline_s=PAGE_S)
        found |= {row.identity: row.size_bytes for row in page.rows}
        after = page.next
        if not after:
            return found


async def nothing_left(site: Site) -> bool:
    """Whether every disk that counts holds the slots of living stripes and nothing else."""
    counts = {
        disk.disk
        for node in (await site.described()).nodes
        for disk in node.disks
        if disk.state == "in"
    }
    return set(await held(site)) == {place for place in await wanted(site) if place[0] in counts}
