"""A range of one stripe's plain bytes: only the shards it needs, around whatever fails.

The direct way fetches just the windows of data shards that hold the range. When one is
missing, corrupt, or too slow (SAFETY rule 26), k whole shards are gathered and decoded.
"""

import asyncio
from collections.abc import Sequence, Set

from frontend.flows.gather import decode_verified, gather_shards, hedge_slots
from frontend.flows.shard_read import ShardReader
from frontend.flows.store import Store
from osscore.compression import decompress
from osscore.digests import crc32c
from osscore.errors import CorruptStripe, StoreError
from osscore.geometry import FrameSpan, ShardWindow, frame_span, shard_windows
from osscore.model import CodingKind, Slot, SlotState, Stripe
from ossd.disk import Bytes


class StripeRead:
    """One read of one stripe. `shards` are whole verified ones, once it had to gather."""

    def __init__(self, store: Store, stripe: Stripe) -> None:
        self._store = store
        self._stripe = stripe
        self._reader = ShardReader(store, stripe)
        self.shards: dict[int, bytes] = {}

    @property
    def damaged(self) -> list[Slot]:
        """Good slots whose shard was found missing or corrupt; and, once it had to gather, those
        that their owner has called bad, unless putting them back has failed before."""
        found = self._reader.damaged
        bad = [
            slot
            for slot in self._stripe.slots
            if slot.state is SlotState.BAD
            and self.shards
            and self._reader.is_living(slot)
            and not self._store.damage.is_hopeless(self._stripe, slot)
        ]
        return [*found.values(), *bad]

    async def plain(self, first: int, last: int) -> list[Bytes]:
        """Plain bytes [first, last] in pieces, verified. Raises StripeUnreadable, CorruptStripe."""
        stripe = self._stripe
        if not stripe.frames:
            return await self._stored(first, last)
        span = frame_span(stripe.frames, plain_bytes=stripe.plain_bytes, first=first, last=last)
        pieces = await self._stored(span.stored_first, span.stored_last)
        try:
            return [await self._store.off_loop(span.plain_bytes, _decompressed, pieces, span)]
        except CorruptStripe:
            # A window passed its own CRCs and yet is wrong; whole shards are known better.
            pieces = await self._from_whole_shards(span.stored_first, span.stored_last)
        return [await self._store.off_loop(span.plain_bytes, _decompressed, pieces, span)]

    async def _stored(self, first: int, last: int) -> list[Bytes]:
        stripe = self._stripe
        windows = shard_windows(
            stripe.coding,
            shard_bytes=stripe.shard_bytes,
            stored_bytes=stripe.stored_bytes,
            first=first,
            last=last,
        )
        fetches = [(slot, w) for w in windows if (slot := self._slot_for(w)) is not None]
        if len(fetches) == len(windows):
            pieces = await self._direct(fetches)
            is_all = last - first + 1 == stripe.stored_bytes
            if pieces is not None and not (is_all and self._is_wrong(pieces)):
                return pieces
        return await self._from_whole_shards(first, last)

    async def _from_whole_shards(self, first: int, last: int) -> list[Bytes]:
        return [memoryview(await self._gathered())[first : last + 1]]

    def _slot_for(self, window: ShardWindow) -> Slot | None:
        """Whom to ask directly: the data shard, or any copy, if all seems well with it."""
        is_replica = self._stripe.coding.kind is CodingKind.REPLICA
        slots = self._stripe.slots
        for slot in slots if is_replica else slots[window.index : window.index + 1]:
            if slot.state is SlotState.GOOD and self._reader.is_living(slot):
                return slot
        return None

    def _is_wrong(self, pieces: list[Bytes]) -> bool:
        """Whether all stored bytes together miss the CRC the catalog knows."""
        crc = 0
        for piece in pieces:
            crc = crc32c(piece, crc)
        return crc != self._stripe.stored_crc

    async def _direct(self, fetches: list[tuple[Slot, ShardWindow]]) -> list[Bytes] | None:
        """The windows' bytes, or None if they must be gathered."""
        tasks = [asyncio.create_task(self._window(slot, window)) for slot, window in fetches]
        try:
            await asyncio.wait(
                tasks,
                timeout=self._store.pace.hedge_delay_s,
                return_when=asyncio.FIRST_EXCEPTION,
            )
            slow = [slot for (slot, _), task in zip(fetches, tasks, strict=True) if not task.done()]
            if slow and not _has_failed(tasks):
                self._keep_whole(fetches, tasks)
                hedged = await self._wait_for_slow(tasks, slow)
                if hedged is not None:
                    return self._cut(hedged, fetches)
            if all(task.done() for task in tasks) and not _has_failed(tasks):
                return [task.result() for task in tasks]
            self._keep_whole(fetches, tasks)
            return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.exception()  # seen: the reader has noted it

    async def _window(self, slot: Slot, window: ShardWindow) -> Bytes:
        body = await self._reader.window(slot, first=window.first, length=window.length)
        if window.skip == 0 and window.take == len(body):
            return body
        return memoryview(body)[window.skip : window.skip + window.take]

    async def _wait_for_slow(
        self, tasks: list[asyncio.Task[Bytes]], slow: list[Slot]
    ) -> bytes | None:
        """Hedge if one is left, else be patient. Answers the stored bytes if a hedge won."""
        nodes = {self._reader.node(slot) for slot in slow}
        slots = self._take_hedge({slot.index for slot in slow})
        stored = await self._hedged(tasks, slots) if slots else None
        if stored is not None:
            self._avoid(nodes)
            return stored
        _, late = await asyncio.wait(
            tasks,
            timeout=self._store.settings.shard_patience_s,
            return_when=asyncio.FIRST_EXCEPTION,
        )
        if late and not _has_failed(tasks):
            self._avoid(nodes)
        return None

    def _take_hedge(self, slow: Set[int]) -> list[Slot]:
        """Whom to send a hedge to, best first; empty: none may be sent."""
        slots = hedge_slots(self._reader, self.shards, slow)
        missing_count = self._stripe.coding.data_count - len(self.shards)
        asked_first = {self._reader.node(slot) for slot in slots[:missing_count]}
        return slots if slots and self._store.pace.take_hedge(asked_first) else []

    async def _hedged(self, tasks: list[asyncio.Task[Bytes]], slots: list[Slot]) -> bytes | None:
        """The stored bytes out of `slots`, or None if `tasks` were done first or it failed."""
        hedge = asyncio.create_task(self._gathered(slots))
        direct = asyncio.ensure_future(asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION))
        try:
            await asyncio.wait({hedge, direct}, return_when=asyncio.FIRST_COMPLETED)
            if direct.done() and not _has_failed(tasks):
                return None
            return await hedge
        except StoreError:
            return None  # nothing gained: whatever the direct way brings must do
        finally:
            hedge.cancel()
            direct.cancel()
            await asyncio.wait({hedge, direct})

    def _avoid(self, nodes: set[str]) -> None:
        for node in nodes:
            self._store.cluster.note_failure(node)

    def _cut(self, stored: bytes, fetches: list[tuple[Slot, ShardWindow]]) -> list[Bytes]:
        """The windows' bytes out of the whole stored ones."""
        view = memoryview(stored)
        found: list[Bytes] = []
        for _, window in fetches:
            start = window.index * self._stripe.shard_bytes + window.first + window.skip
            found.append(view[start : start + window.take])
        return found

    def _keep_whole(
        self, fetches: list[tuple[Slot, ShardWindow]], tasks: list[asyncio.Task[Bytes]]
    ) -> None:
        """What arrived whole need not be fetched again."""
        for (slot, window), task in zip(fetches, tasks, strict=True):
            arrived = task.done() and not task.cancelled() and task.exception() is None
            if arrived and window.take == self._stripe.shard_bytes:
                self.shards[slot.index] = bytes(task.result())

    async def _gathered(self, slots: Sequence[Slot] | None = None) -> bytes:
        """All stored bytes, decoded from k whole shards, of `slots` if given."""
        reader = self._reader
        shards = await gather_shards(reader, self.shards, slots=slots)
        stored = await self._store.off_loop(
            self._stripe.stored_bytes, decode_verified, reader, shards
        )
        self.shards = shards
        return stored


def _has_failed(tasks: list[asyncio.Task[Bytes]]) -> bool:
    """Whether any has; a failure that is a bug of ours is raised at once."""
    failures = [
        error
        for task in tasks
        if task.done() and not task.cancelled() and (error := task.exception()) is not None
    ]
    for error in failures:
        if not isinstance(error, StoreError):
            raise error
    return bool(failures)


def _decompressed(pieces: list[Bytes], span: FrameSpan) -> memoryview:
    stored = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    plain = decompress(stored, span.frames, span.plain_bytes)
    return memoryview(plain)[span.skip : span.skip + span.take]
