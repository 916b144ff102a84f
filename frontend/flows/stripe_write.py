"""One stripe's bytes become shards on disks and a draft the catalog can name."""

import msgspec

from frontend.flows.encode import encode_stripe, unplaced_draft
from frontend.flows.shard_fan import ShardFan
from frontend.flows.store import Store, stripe_work_bytes
from osscore.errors import QuorumLost
from osscore.model import Profile, StripeDraft
from osscore.placement import place
from ossd.disk import Bytes

WRITES_MAX = 3
DOMAIN = b""
"""Key domain of the dedup key: all buckets share one until objects are encrypted."""


async def write_stripe(
    store: Store, plain: Bytes, profile: Profile, digest: bytes | None = None
) -> StripeDraft:
    """Store the shards of `plain`; answers a draft that meets the acknowledgement rule.

    The memory it needs beside `plain` is taken from the budget first: hold none of it then.
    A stripe whose quorum fails is placed anew under a fresh id, around what has just failed.
    `digest`: BLAKE3-256 of `plain` where it is known. Raises QuorumLost, DiskFull, DiskFailing,
    TooFewNodes, Overloaded.
    """
    async with store.budget.hold(stripe_work_bytes(len(plain))):
        for attempt in range(1, WRITES_MAX + 1):
            try:
                return await _write_once(store, plain, profile, digest)
            except QuorumLost:
                if attempt == WRITES_MAX:
                    raise
    raise AssertionError("unreachable")


async def _write_once(
    store: Store, plain: Bytes, profile: Profile, digest: bytes | None
) -> StripeDraft:
    targets = store.cluster.targets(await store.cluster.current())
    # Its birth is taken before the first shard leaves (SAFETY rule 1).
    stripe = store.fresh_stripe_id()
    placement = place(stripe, profile, targets)
    encoded = await store.off_loop(
        len(plain), encode_stripe, store.codec, plain, digest, placement.coding
    )
    slots = await ShardFan(store, stripe, encoded, placement, targets).send()
    draft = unplaced_draft(stripe, encoded, profile=profile, domain=DOMAIN)
    return msgspec.structs.replace(draft, slots=slots)
