"""A shard that a read found missing or corrupt is put back to its own slot's disk.

Only while the stripe still has exactly that slot, good or not (SAFETY rule 11); the disk
itself refuses an identity that was deleted, and another one than it holds (rule 2). The
owner is told in any case: it rereads, and calls the slot good or bad. It is a favour: nobody
waits for it. What became of each shard is noted (`damage`), whatever ends the attempt.
"""

import asyncio
from collections.abc import Iterable, Sequence

from frontend.cluster import DiskPlace
from frontend.flows.damage import BUSY, NO_DISK, NOT_GATHERED, NOT_WANTED, WRITTEN, WRONG_BYTES
from frontend.flows.store import Store, stripe_cost_bytes
from osscore.digests import crc32c
from osscore.errors import NotFound, StoreError
from osscore.model import ShardIdentity, Slot, Stripe
from raftmeta.queries import ReadSegments, SegmentsRead


async def stripe_at(store: Store, manifest: int, position: int) -> Stripe | None:
    """The stripe that holds byte `position` as the catalog has it now; None: gone."""
    try:
        return await _stripe_at(store, manifest, position)
    except StoreError:
        return None


def write_back(
    store: Store,
    *,
    manifest: int,
    position: int,
    stripe: Stripe,
    shards: dict[int, bytes],
    damaged: Sequence[Slot],
) -> None:
    """In the background: rebuild the damaged slots' shards from k good ones and put them
    where they belong. `shards`: whole verified ones; with fewer than k nothing is done."""
    if len(shards) < stripe.coding.data_count:
        _note_all(store, stripe, damaged, NOT_GATHERED)
    elif not store.in_background(_restore(store, manifest, position, stripe, shards, damaged)):
        _note_all(store, stripe, damaged, BUSY)


async def put_back(store: Store, stripe: Stripe, slot: Slot, shard: bytes) -> str:
    """Send a rebuilt shard to its own slot's disk; answers what became of it.

    `stripe` is as a linearizable read just told, and `slot` one of its slots: the identity it
    has there is the only one this disk ever gets these bytes under.
    """
    place = store.cluster.place(slot.disk)
    if place is None:
        return NO_DISK
    if crc32c(shard) != stripe.shard_crcs[slot.index]:
        return WRONG_BYTES
    try:
        await store.blobs.put_shard(
            place.url,
            place.uuid,
            ShardIdentity(stripe.stripe, slot.index, slot.gen),
            stripe.coding,
            shard,
            stripe.shard_crcs[slot.index],
            deadline_s=store.settings.shard_deadline_s,
        )
    except StoreError as error:
        return error.code
    return WRITTEN


async def hint(store: Store, row: int, slots: Iterable[Slot]) -> dict[ShardIdentity, str]:
    """Have the owners of these slots reread them; answers what each found, as far as they did."""
    places = {place for slot in slots if (place := store.cluster.place(slot.disk)) is not None}
    answers = await asyncio.gather(*(_hint_one(store, row, place) for place in places))
    return {identity: found for answer in answers for identity, found in answer.items()}


def same_place(slots: Iterable[Slot], wanted: Slot) -> bool:
    """Whether these still have that shard on that disk, in whatever state."""
    exact = (wanted.index, wanted.gen, wanted.disk)
    return any((slot.index, slot.gen, slot.disk) == exact for slot in slots)


async def _restore(
    store: Store,
    manifest: int,
    position: int,
    stripe: Stripe,
    shards: dict[int, bytes],
    damaged: Sequence[Slot],
) -> None:
    cost_bytes = stripe_cost_bytes(stripe.shard_bytes)
    if not store.budget.try_take(cost_bytes):
        _note_all(store, stripe, damaged, BUSY)
        return
    wanted = list(damaged)
    try:
        now = await _stripe_at(store, manifest, position)
        slots = now.slots if now is not None and now.stripe == stripe.stripe else ()
        wanted = [slot for slot in damaged if same_place(slots, slot)]
        gone = [slot for slot in damaged if not same_place(slots, slot)]
        _note_all(store, stripe, gone, NOT_WANTED)
        indexes = [slot.index for slot in wanted]
        rebuilt = await store.off_loop(
            stripe.stored_bytes, store.codec.rebuild, stripe.coding, shards, indexes
        )
        for slot in wanted:
            outcome = await put_back(store, stripe, slot, rebuilt[slot.index])
            store.damage.note(stripe, slot, outcome)
        await hint(store, stripe.row, wanted)
    except StoreError as error:
        _note_all(store, stripe, wanted, error.code)
    finally:
        store.budget.give(cost_bytes)


async def _hint_one(store: Store, row: int, place: DiskPlace) -> dict[ShardIdentity, str]:
    try:
        answer = await store.blobs.recheck(
            place.url, place.uuid, [row], deadline_s=store.settings.shard_deadline_s
        )
    except StoreError:
        return {}  # a later read, its scrub or a scan will tell it
    return {shard.identity: shard.found for shard in answer.shards}


async def _stripe_at(store: Store, manifest: int, position: int) -> Stripe | None:
    try:
        read = await store.meta.query(
            ReadSegments(manifest=manifest, first=position, last=position, segments_max=1),
            SegmentsRead,
        )
    except NotFound:
        return None
    return read.segments[0].stripe if read.segments else None


def _note_all(store: Store, stripe: Stripe, slots: Sequence[Slot], outcome: str) -> None:
    for slot in slots:
        store.damage.note(stripe, slot, outcome)
