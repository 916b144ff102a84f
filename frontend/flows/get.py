"""The story of a GET's bytes: segments page by page, one stripe ahead of the client."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from frontend.flows.hold import ManifestHold
from frontend.flows.store import Store, stripe_cost_bytes
from frontend.flows.stripe_read import StripeRead
from frontend.flows.write_back import stripe_at, write_back
from osscore.errors import StripeUnreadable
from osscore.model import STRIPE_BYTES_MAX, Segment, Stripe
from ossd.disk import Bytes
from raftmeta.queries import Found, ReadSegments, SegmentsRead

PIECE_BYTES = 512 * 1024
"""Most bytes handed on at once: what a slow client must take within the stall time."""
AHEAD_SHARE_MAX = 0.5
"""Stripes are read ahead from the first half of the budget only."""
_PAGE_SEGMENTS = 256


@dataclass(frozen=True, slots=True)
class _Slice:
    """Plain bytes [first, last] of one segment's stripe; `position` in the object."""

    position: int
    stripe: Stripe
    first: int
    last: int


async def read_object(
    store: Store, found: Found, first: int, last: int
) -> AsyncGenerator[Bytes, None]:
    """Bytes [first, last] of a version in pieces, all verified.

    `found` covers `first`; 0 <= first <= last < its size. Raises StripeUnreadable,
    CorruptStripe, NoSuchVersion (deleted meanwhile) at any piece. Close it when done early.
    """
    if found.inline is not None:
        yield found.inline[first : last + 1]
        return
    cost_bytes = stripe_cost_bytes(min(last - first + 1, STRIPE_BYTES_MAX))
    hold = ManifestHold(store, found.version.manifest)
    async with store.budget.hold(cost_bytes):
        has_surplus = last - first + 1 > STRIPE_BYTES_MAX and store.budget.try_take(
            cost_bytes, share_max=AHEAD_SHARE_MAX
        )
        try:
            slices = _slices(store, found, first, last, hold)
            reads = _reads(store, found.version.manifest, slices, ahead=has_surplus)
            async with aclosing(reads):
                async for pieces in reads:
                    while pieces:
                        yield pieces.pop(0)
        finally:
            hold.release()
            if has_surplus:
                store.budget.give(cost_bytes)


async def _reads(
    store: Store, manifest: int, slices: AsyncIterator[_Slice], *, ahead: bool
) -> AsyncGenerator[list[Bytes], None]:
    """The pieces of each slice; with `ahead` the next is read while one is consumed."""
    current = following = await _begin(store, manifest, slices)
    try:
        while current is not None:
            following = await _begin(store, manifest, slices) if ahead else None
            yield _split(await current)
            current = following if ahead else await _begin(store, manifest, slices)
    finally:
        for task in (current, following):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
                if not task.cancelled():
                    task.exception()  # seen: what matters of it was raised already


async def _begin(
    store: Store, manifest: int, slices: AsyncIterator[_Slice]
) -> asyncio.Task[list[Bytes]] | None:
    async for each in slices:
        return asyncio.create_task(_read_slice(store, manifest, each))
    return None


async def _slices(
    store: Store, found: Found, first: int, last: int, hold: ManifestHold
) -> AsyncIterator[_Slice]:
    """What to read of which stripe, in object order."""
    position, segments = first, found.segments
    while True:
        for segment in segments:
            piece = _slice(segment, position, last)
            if piece is None:
                continue
            if piece.position != position:
                break  # these segments begin further on: ask for those from here
            await hold.keep()
            yield piece
            position = segment.start + segment.length
            if position > last:
                return
        # A second page must find the manifest even if the version is deleted now.
        await hold.keep(now=True)
        segments = await _page(store, found.version.manifest, position, last)


def _slice(segment: Segment, position: int, last: int) -> _Slice | None:
    begin = max(position, segment.start)
    end = min(last, segment.start + segment.length - 1)
    if begin > end:
        return None
    shift = segment.offset - segment.start
    return _Slice(begin, segment.stripe, begin + shift, end + shift)


async def _page(store: Store, manifest: int, first: int, last: int) -> tuple[Segment, ...]:
    command = ReadSegments(manifest=manifest, first=first, last=last, segments_max=_PAGE_SEGMENTS)
    segments = (await store.meta.query(command, SegmentsRead)).segments
    if not segments:
        raise StripeUnreadable(f"The catalog has no segment at byte {first}.")
    return segments


async def _read_slice(store: Store, manifest: int, piece: _Slice) -> list[Bytes]:
    try:
        return await _read_once(store, manifest, piece, piece.stripe)
    except StripeUnreadable:
        # The stripe may have moved or been encoded anew since its segment was read
        # (SAFETY rule 3), and a daemon may be back at another address: look once more.
        stripe = await stripe_at(store, manifest, piece.position)
        if stripe is None:
            raise
        await store.cluster.refresh()
    return await _read_once(store, manifest, piece, stripe)


async def _read_once(store: Store, manifest: int, piece: _Slice, stripe: Stripe) -> list[Bytes]:
    read = StripeRead(store, stripe)
    pieces = await read.plain(piece.first, piece.last)
    if read.damaged:
        write_back(
            store,
            manifest=manifest,
            position=piece.position,
            stripe=stripe,
            shards=read.shards,
            damaged=list(read.damaged.values()),
        )
    return pieces


def _split(pieces: list[Bytes]) -> list[Bytes]:
    found: list[Bytes] = []
    for piece in pieces:
        view = memoryview(piece)
        found.extend(view[at : at + PIECE_BYTES] for at in range(0, len(view), PIECE_BYTES))
    return found
