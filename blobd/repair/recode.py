"""A stripe's bytes as the shards of another coding: pure computing, run off the loop.

What is stored for good and what goes is decided by this, so nothing here is taken on trust: the
bytes are those the stripe's digest names, and the new shards give them back (SAFETY rule 6).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from osscore.compression import decompress
from osscore.digests import blake3_256, crc32c
from osscore.erasure import Codec, shard_bytes
from osscore.errors import CorruptStripe
from osscore.model import Slot, StripeDraft, reed_solomon
from osscore.names import StripeId
from ossd.disk import Bytes
from raftmeta.reencoding import OpenReencode


@dataclass(frozen=True, slots=True)
class Recoded:
    """The shards in index order; some are views of the stored bytes."""

    shards: list[Bytes]
    shard_crcs: tuple[int, ...]


def recode(codec: Codec, task: OpenReencode, good: Mapping[int, bytes]) -> Recoded:
    """Decode k verified shards, verify the whole, encode it for the task's profile.

    Raises CorruptStripe if the bytes are not those the catalog names, or do not come back.
    """
    stripe = task.stripe
    stored = codec.decode(stripe.coding, good, stripe.stored_bytes)
    if crc32c(stored) != stripe.stored_crc:
        raise CorruptStripe(f"Stripe {stripe.stripe.hex()} does not decode to its bytes.")
    _verify_plain(task, stored)
    coding = reed_solomon(task.profile)
    shards = codec.encode(coding, stored)
    # The shards that come last need the most arithmetic to be read back.
    last = {index: shards[index] for index in range(coding.parity_count, coding.shard_count)}
    if crc32c(codec.decode(coding, last, len(stored))) != stripe.stored_crc:
        raise CorruptStripe(f"Stripe {stripe.stripe.hex()} came out wrong as {task.profile}.")
    return Recoded(shards, tuple(crc32c(shard) for shard in shards))


def memory_bytes(task: OpenReencode) -> int:
    """What one recoding holds at its peak: the old shards, the stored and plain bytes, the new."""
    stripe, coding = task.stripe, reed_solomon(task.profile)
    new_bytes = coding.shard_count * shard_bytes(stripe.stored_bytes, coding)
    old_bytes = stripe.coding.data_count * stripe.shard_bytes
    return old_bytes + 2 * stripe.stored_bytes + stripe.plain_bytes + new_bytes


def draft_of(
    task: OpenReencode, stripe: StripeId, recoded: Recoded, slots: tuple[Slot, ...]
) -> StripeDraft:
    """What the catalog is to know of the stripe from now on."""
    old, coding = task.stripe, reed_solomon(task.profile)
    return StripeDraft(
        stripe=stripe,
        profile=task.profile,
        domain=task.domain,
        digest=task.digest,
        plain_bytes=old.plain_bytes,
        stored_bytes=old.stored_bytes,
        stored_crc=old.stored_crc,
        frames=old.frames,
        coding=coding,
        shard_bytes=shard_bytes(old.stored_bytes, coding),
        shard_crcs=recoded.shard_crcs,
        slots=slots,
    )


def write_bytes(task: OpenReencode) -> int:
    """How many bytes of shards it will write."""
    coding = reed_solomon(task.profile)
    return coding.shard_count * shard_bytes(task.stripe.stored_bytes, coding)


def _verify_plain(task: OpenReencode, stored: bytes) -> None:
    stripe = task.stripe
    plain = decompress(stored, stripe.frames, stripe.plain_bytes)
    if blake3_256(plain) != task.digest:
        raise CorruptStripe(f"Stripe {stripe.stripe.hex()} is not the bytes of its digest.")
