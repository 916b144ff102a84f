"""The bytes of a shard that is to be written anew: copied from where it lies, or rebuilt.

Whatever way they came, they have the CRC32C that the catalog knows of that shard (SAFETY
rule 6). Shards that turn out damaged on the way are told to their owners, who reread and say
so themselves (rule 11).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from blobd.client import BlobClient
from blobd.repair.pace import Pace
from blobd.repair.peers import Peers
from osscore.digests import crc32c
from osscore.erasure import Codec
from osscore.errors import (
    CorruptShard,
    InvalidRange,
    NoSuchNode,
    NoSuchShard,
    StoreError,
    StripeUnreadable,
)
from osscore.model import ShardIdentity, Slot, SlotState, Stripe
from raftmeta.moving import REPAIR, OpenTask

SHARD_DEADLINE_S = 20.0
HINT_DEADLINE_S = 20.0
PIECE_BYTES = 512 * 1024
"""A shard is copied in pieces as the pace lets them pass: all of it in a row keeps two daemons busy
for some milliseconds a megabyte, and whoever asks them meanwhile waits."""
MOVE_BYTES_MIN = 256 * 1024
"""A move of a good shard passes the pace as so many bytes at least: small ones cost requests and
commands, not bytes, and none is urgent."""
_NONE = -1


@dataclass(slots=True)
class Pulled:
    """A shard's verified bytes. `read_bytes`: what was fetched for them. `is_copy`: from its
    old slot, not rebuilt."""

    body: bytes
    read_bytes: int
    is_copy: bool


@dataclass(slots=True)
class _Sources:
    """The other shards of one stripe. `damaged`: slots whose shard is gone or wrong."""

    peers: Peers
    stripe: Stripe
    damaged: list[Slot] = field(default_factory=list)
    read_bytes: int = 0
    reasons: set[str] = field(default_factory=set)


class Puller:
    """Fetches from other daemons, and from this one, by their addresses alike.

    `piece_bytes`: of what is copied, at a time; a multiple of 64 KiB.
    """

    def __init__(
        self, blobs: BlobClient, codec: Callable[[], Codec], *, piece_bytes: int = PIECE_BYTES
    ) -> None:
        self._blobs = blobs
        self._piece_bytes = piece_bytes
        self._codec = codec

    async def pull(self, task: OpenTask, peers: Peers, pace: Pace) -> Pulled:
        """The shard of a task, whose bytes have passed `pace`. Raises StripeUnreadable if too few
        shards can be had."""
        sources = _Sources(peers, task.stripe)
        if task.reason != REPAIR:
            await pace.pass_bytes(max(0, MOVE_BYTES_MIN - task.stripe.shard_bytes))
        try:
            copied = await self._copy(task, sources, pace)
            if copied is not None:
                return Pulled(copied, sources.read_bytes, is_copy=True)
            await pace.pass_bytes(task.stripe.shard_bytes)
            rebuilt = await self._rebuild(task, sources)
            return Pulled(rebuilt, sources.read_bytes, is_copy=False)
        finally:
            if sources.damaged:
                await self._hint(sources)

    async def shards(self, stripe: Stripe, peers: Peers) -> dict[int, bytes]:
        """k verified shards of a stripe, from the most promising slots. Raises
        StripeUnreadable."""
        sources = _Sources(peers, stripe)
        try:
            return await self._gather(_NONE, sources)
        finally:
            if sources.damaged:
                await self._hint(sources)

    async def _copy(self, task: OpenTask, sources: _Sources, pace: Pace) -> bytes | None:
        """As it lies in its slot, where that is good: a quarter of the reading, or less."""
        slot = task.stripe.slots[task.index]
        peer = sources.peers.of(slot)
        may_be_copied = slot.state is SlotState.GOOD and peer is not None and peer.is_living
        if task.reason == REPAIR or not may_be_copied:
            return None
        try:
            return await self._noting(slot, sources, self._fetch_in_pieces(slot, sources, pace))
        except StoreError:
            return None  # noted; there is another way

    async def _rebuild(self, task: OpenTask, sources: _Sources) -> bytes:
        stripe = task.stripe
        good = await self._gather(task.index, sources)
        rebuilt = await asyncio.to_thread(self._rebuilt, stripe, good, task.index)
        if rebuilt is None:
            raise StripeUnreadable(
                f"Shard {task.index} of stripe {stripe.stripe.hex()} came out wrong.",
                stripe_id=stripe.stripe.hex(),
            )
        return rebuilt

    def _rebuilt(self, stripe: Stripe, good: dict[int, bytes], index: int) -> bytes | None:
        body = self._codec().rebuild(stripe.coding, good, [index])[index]
        return body if crc32c(body) == stripe.shard_crcs[index] else None

    async def _gather(self, index: int, sources: _Sources) -> dict[int, bytes]:
        """k verified shards besides `index`, if that is one, from the most promising slots."""
        stripe = sources.stripe
        needed = stripe.coding.data_count
        others = tuple(slot for slot in stripe.slots if slot.index != index)
        queue = sources.peers.by_promise(others)
        good: dict[int, bytes] = {}
        running: dict[asyncio.Task[bytes], Slot] = {}
        try:
            while len(good) < needed:
                while queue and len(good) + len(running) < needed:
                    slot = queue.pop(0)
                    running[asyncio.create_task(self._fetch(slot, sources))] = slot
                if not running:
                    raise _unreadable(sources, len(good))
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    slot = running.pop(each)
                    if each.exception() is None:
                        good[slot.index] = each.result()
                    elif not isinstance(each.exception(), StoreError):
                        each.result()  # a bug: let it be seen
        finally:
            await _end_all(running)
        return good

    async def _fetch(self, slot: Slot, sources: _Sources) -> bytes:
        return await self._noting(slot, sources, self._fetch_whole(slot, sources))

    async def _noting(self, slot: Slot, sources: _Sources, fetch: Awaitable[bytes]) -> bytes:
        """What `fetch` gives; what it raises is remembered."""
        try:
            body = await fetch
        except StoreError as error:
            sources.reasons.add(error.message)
            is_damaged = isinstance(error, NoSuchShard | CorruptShard)
            if is_damaged and slot.state is SlotState.GOOD:
                sources.damaged.append(slot)
            raise
        sources.read_bytes += len(body)
        return body

    async def _fetch_whole(self, slot: Slot, sources: _Sources) -> bytes:
        body = await self._get(slot, sources, 0, None)
        return _checked(body, slot, sources.stripe)

    async def _fetch_in_pieces(self, slot: Slot, sources: _Sources, pace: Pace) -> bytes:
        pieces, size_bytes = [], sources.stripe.shard_bytes
        for first in range(0, size_bytes, self._piece_bytes):
            length = min(self._piece_bytes, size_bytes - first)
            await pace.pass_bytes(length)
            pieces.append(await self._get(slot, sources, first, length))
        return await asyncio.to_thread(_joined, pieces, slot, sources.stripe)

    async def _get(self, slot: Slot, sources: _Sources, first: int, length: int | None) -> bytes:
        peer = sources.peers.of(slot)
        if peer is None:
            raise NoSuchNode(f"Disk {slot.disk} is not known.")
        identity = ShardIdentity(sources.stripe.stripe, slot.index, slot.gen)
        try:
            return await self._blobs.get_shard(
                peer.url,
                peer.uuid,
                identity,
                first=first,
                length=length,
                deadline_s=SHARD_DEADLINE_S,
            )
        except InvalidRange as error:
            raise CorruptShard("A shard is shorter than the catalog knows.") from error

    async def _hint(self, sources: _Sources) -> None:
        """Have the owners look. It is a favour: what fails is found by their scrub."""
        places = {sources.peers.of(slot) for slot in sources.damaged}
        await asyncio.gather(
            *(
                self._blobs.recheck(
                    peer.url, peer.uuid, [sources.stripe.row], deadline_s=HINT_DEADLINE_S
                )
                for peer in places
                if peer is not None
            ),
            return_exceptions=True,
        )


def _joined(pieces: Sequence[bytes], slot: Slot, stripe: Stripe) -> bytes:
    return _checked(b"".join(pieces), slot, stripe)


def _checked(body: bytes, slot: Slot, stripe: Stripe) -> bytes:
    if crc32c(body) != stripe.shard_crcs[slot.index]:
        raise CorruptShard("A shard is not the one the catalog knows.")
    return body


def _unreadable(sources: _Sources, have_count: int) -> StripeUnreadable:
    stripe = sources.stripe
    reasons = "; ".join(sorted(sources.reasons))
    return StripeUnreadable(
        f"Stripe {stripe.stripe.hex()} cannot be rebuilt now: {have_count} of the "
        f"{stripe.coding.data_count} shards it needs could be fetched. {reasons}",
        stripe_id=stripe.stripe.hex(),
    )


async def _end_all(tasks: Iterable[asyncio.Task[bytes]]) -> None:
    running = list(tasks)
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
