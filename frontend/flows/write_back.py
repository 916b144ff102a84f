"""A shard that a read found missing or corrupt is put back to its own slot's disk.

Only while the catalog still calls exactly that slot good (SAFETY rule 11); the disk itself
refuses an identity that was deleted (rule 2). It is a favour: nobody waits, errors end it.
"""

from frontend.flows.store import Store, stripe_cost_bytes
from osscore.digests import crc32c
from osscore.errors import StoreError
from osscore.model import ShardIdentity, Slot, Stripe
from raftmeta.queries import ReadSegments, SegmentsRead


async def stripe_at(store: Store, manifest: int, position: int) -> Stripe | None:
    """The stripe that holds byte `position` as the catalog has it now; None: gone."""
    try:
        read = await store.meta.query(
            ReadSegments(manifest=manifest, first=position, last=position, segments_max=1),
            SegmentsRead,
        )
    except StoreError:
        return None
    return read.segments[0].stripe if read.segments else None


async def write_back(
    store: Store,
    *,
    manifest: int,
    position: int,
    stripe: Stripe,
    shards: dict[int, bytes],
    damaged: dict[int, Slot],
) -> None:
    """Rebuild the damaged slots' shards from k good ones and put them where they belong."""
    cost_bytes = stripe_cost_bytes(stripe.shard_bytes)
    if not store.budget.try_take(cost_bytes):
        return
    try:
        now = await stripe_at(store, manifest, position)
        if now is None or now.stripe != stripe.stripe:
            return
        wanted = [slot for slot in damaged.values() if slot in now.slots]
        rebuilt = await store.off_loop(
            stripe.stored_bytes,
            store.codec.rebuild,
            stripe.coding,
            shards,
            [slot.index for slot in wanted],
        )
        for slot in wanted:
            await _put(store, stripe, slot, rebuilt[slot.index])
    except StoreError:
        pass  # scrub and repair find the same damage by themselves
    finally:
        store.budget.give(cost_bytes)


async def _put(store: Store, stripe: Stripe, slot: Slot, shard: bytes) -> None:
    place = store.cluster.place(slot.disk)
    if place is None or crc32c(shard) != stripe.shard_crcs[slot.index]:
        return
    await store.blobs.put_shard(
        place.url,
        place.uuid,
        ShardIdentity(stripe.stripe, slot.index, slot.gen),
        stripe.coding,
        shard,
        stripe.shard_crcs[slot.index],
        deadline_s=store.settings.shard_deadline_s,
    )
