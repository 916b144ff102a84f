"""A stripe's stored bytes from any k of its shards, when the direct way fails."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence, Set

from frontend.flows.shard_read import ShardReader
from osscore.digests import crc32c
from osscore.errors import CorruptStripe, StoreError, StripeUnreadable
from osscore.model import Slot, SlotState, Stripe


async def gather_shards(
    reader: ShardReader, have: Mapping[int, bytes], *, slots: Sequence[Slot] | None = None
) -> dict[int, bytes]:
    """k whole shards, each with its CRC right; `have` are some already here.

    `slots`: whom to ask, in this order; None: all, most promising first. A silent node is
    not waited for longer than a moment while another shard can be tried.
    Raises StripeUnreadable naming the stripe.
    """
    good = dict(have)
    needed = reader.stripe.coding.data_count
    queue = deque(_by_promise(reader, good) if slots is None else slots)
    running: dict[asyncio.Task[bytes], Slot] = {}
    too_slow = 0
    try:
        while len(good) < needed:
            while queue and len(good) + len(running) - too_slow < needed:
                slot = queue.popleft()
                running[asyncio.create_task(reader.whole(slot))] = slot
            if not running:
                raise _unreadable(reader, len(good))
            too_slow += not await _next_answers(reader, running, good)
            too_slow = min(too_slow, len(running))
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
    return good


def hedge_slots(reader: ShardReader, have: Mapping[int, bytes], slow: Set[int]) -> list[Slot]:
    """Whom a hedge may ask, best first: enough to make up k, or empty if there are too few.

    Nobody who is waited for already (`slow` are their indexes), seems dead, or has a queue
    (SAFETY rule 26): there a hedge would come late and delay others.
    """
    pace = reader.store.pace
    slots = [
        slot
        for slot in _by_promise(reader, have)
        if slot.index not in slow
        and slot.state is SlotState.GOOD
        and reader.is_living(slot)
        and not pace.has_queue(reader.node(slot))
    ]
    return slots if len(have) + len(slots) >= reader.stripe.coding.data_count else []


async def _next_answers(
    reader: ShardReader, running: dict[asyncio.Task[bytes], Slot], good: dict[int, bytes]
) -> bool:
    """Wait for the next answers and sort them in; False if none came in time."""
    done, _ = await asyncio.wait(
        running,
        timeout=reader.store.settings.shard_patience_s,
        return_when=asyncio.FIRST_COMPLETED,
    )
    for task in done:
        slot = running.pop(task)
        try:
            good[slot.index] = task.result()
        except StoreError:
            pass  # noted by the reader; another shard is tried
    if not done:
        for slot in running.values():
            reader.store.cluster.note_failure(reader.node(slot))
    return bool(done)


def decode_verified(reader: ShardReader, shards: Mapping[int, bytes]) -> bytes:
    """The stored bytes, with the CRC the catalog knows. Raises CorruptStripe."""
    stripe = reader.stripe
    stored = reader.store.codec.decode(stripe.coding, shards, stripe.stored_bytes)
    if crc32c(stored) != stripe.stored_crc:
        raise CorruptStripe(f"Stripe {stripe.stripe.hex()} does not have its checksum.")
    return stored


def _by_promise(reader: ShardReader, have: Mapping[int, bytes]) -> list[Slot]:
    """Slots to try, most promising first.

    Those the catalog does not call good come last: a shard that landed after its write was
    acknowledged, or was repaired a moment ago, is as good as any if its CRC is right.
    """
    tried = {slot.index for slot in reader.damaged.values()}
    slots = [s for s in reader.stripe.slots if s.index not in have and s.index not in tried]
    return sorted(
        slots,
        key=lambda s: (s.state is not SlotState.GOOD, not reader.is_living(s), s.index),
    )


def _unreadable(reader: ShardReader, have_count: int) -> StripeUnreadable:
    stripe: Stripe = reader.stripe
    reasons = "; ".join(sorted({error.message for error in reader.errors}))
    return StripeUnreadable(
        f"Stripe {stripe.stripe.hex()} cannot be read now: {have_count} of the "
        f"{stripe.coding.data_count} shards it needs could be fetched. {reasons}",
        stripe_id=stripe.stripe.hex(),
    )
