"""Shards that nobody can name any more, looked for now instead of in the daemon's own time."""

from dataclasses import dataclass

from blobd.wire import SweepPage
from frontend.flows.store import Store
from osscore.errors import NoSuchNode

SWEEP_DEADLINE_S = 60.0
"""One page is 1,000 shards: a question to the catalog and at most one synced write."""


@dataclass(frozen=True, slots=True)
class Swept:
    """One page of a disk. `node`: whose disk it is."""

    node: str
    page: SweepPage


async def sweep_page(store: Store, disk: int, after: str, *, is_dry_run: bool) -> Swept:
    """Have the owner of a disk look through its next page; it alone decides and deletes
    (SAFETY rule 1). Repeating it is harmless.

    Raises NoSuchNode, InvalidArgument (`after`), what the owner raises and what the way does.
    """
    state = await store.cluster.refresh()
    place = state.disks.get(disk)
    if place is None:
        raise NoSuchNode(f"There is no disk {disk}.")
    page = await store.blobs.sweep(
        place.url, place.uuid, after, is_dry_run=is_dry_run, deadline_s=SWEEP_DEADLINE_S
    )
    return Swept(place.node, page)
