"""The story of a GET's bytes: segments page by page, one stripe ahead of the client."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from frontend.flows.hold import ManifestHold
from frontend.flows.store import Store, stripe_work_bytes
from frontend.flows.stripe_read import StripeRead
from frontend.flows.write_back import stripe_at, write_back
from osscore.errors import StripeUnreadable
from osscore.model import STRIPE_BYTES_MAX, Segment, Stripe
from ossd.disk import Bytes
from ossd.lending import Loan
from raftmeta.queries import Found, ReadSegments, SegmentsRead

PIECE_BYTES = 512 * 1024
"""Most bytes handed on at once: what a slow client must take within the stall time."""
WINDOW_BYTES_MIN = PIECE_BYTES
AHEAD_SHARE_MAX = 0.5
"""Stripes are read ahead from the first half of the memory only."""
WHOLE_SHARE_MAX = 0.75
"""With no more of the memory lent, downloads begin with whole stripes, and their windows grow."""
_PAGE_SEGMENTS = 256


@dataclass(frozen=True, slots=True)
class _Slice:
    """Plain bytes [first, last] of one segment's stripe; `position` in the object."""

    position: int
    stripe: Stripe
    first: int
    last: int

    @property
    def size_bytes(self) -> int:
        """How many bytes it is."""
        return self.last - self.first + 1

    @property
    def end(self) -> int:
        """Position of what comes behind it."""
        return self.position + self.size_bytes

    def part(self, position: int, size_bytes: int) -> "_Slice":
        """From `position`, which lies in it, that many bytes or to its end."""
        first = self.first + position - self.position
        return _Slice(position, self.stripe, first, min(self.last, first + size_bytes - 1))


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
    with store.loans.lend() as loan:
        download = _Download(store, found, first, last, loan)
        try:
            while download.position <= last:
                piece = await download.next()
                yield piece
                del piece
        finally:
            await download.close()


class _Download:
    """One GET under way: what was read and not yet handed on, and what is read ahead.

    What lies here waits for the client, so it is lent. When that is recalled it is dropped,
    and read again in small windows. These grow while there is room and the client takes them in
    time; a download that begins when memory is short begins with small ones: else each client
    that takes nothing would have a whole stripe, and those after it wait for the recall.
    """

    def __init__(self, store: Store, found: Found, first: int, last: int, loan: Loan) -> None:
        self.position = first
        """Of the next byte to hand on."""
        self._store = store
        self._manifest = found.version.manifest
        self._hold = ManifestHold(store, self._manifest)
        self._slices = _slices(store, found, first, last, self._hold)
        self._begun: deque[_Slice] = deque()  # not yet handed on whole
        self._last = last
        self._loan = loan
        self._loan.on_recall = self._drop
        self._window_bytes = STRIPE_BYTES_MAX if self._has_room() else WINDOW_BYTES_MIN
        self._ready: deque[Bytes] = deque()
        self._ahead: _Reading | None = None
        self._tasks: set[asyncio.Task[list[Bytes]]] = set()

    async def next(self) -> Bytes:
        """The next piece, of at least one byte. Call it only while some is left."""
        if not self._ready:
            await self._load()
        await self._hold.keep()
        if not self._ready:
            await self._load()  # dropped in that very moment
        piece = self._ready.popleft()
        self.position += len(piece)
        self._loan.give(len(piece))
        self._loan.refresh()
        return piece

    async def close(self) -> None:
        """End what is still read, and give the stripes back."""
        self._drop_ahead()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._loan.on_recall = lambda: None
        self._hold.release()

    async def _load(self) -> None:
        """Read the next window, or wait for it; with surplus also begin the one after."""
        reading, self._ahead = self._ahead, None
        if reading is None:
            window = await self._window(self.position)
            await self._loan.grow(window.size_bytes)
            reading = self._begin(window)
        await self._begin_ahead(reading.window)
        pieces = _split(await reading.task)
        if self._loan.is_recalled:
            # Something must be handed on all the same, or nothing ever would.
            self._loan.give(sum(map(len, pieces[1:])))
            del pieces[1:]
        elif self._has_room():
            self._window_bytes = min(2 * self._window_bytes, STRIPE_BYTES_MAX)
        self._ready.extend(pieces)

    def _has_room(self) -> bool:
        return self._store.loans.has_surplus(WHOLE_SHARE_MAX)

    async def _window(self, position: int) -> _Slice:
        """What to read from `position` on."""
        while self._begun and self._begun[0].end <= self.position:
            self._begun.popleft()
        while not self._begun or self._begun[-1].end <= position:
            self._begun.append(await anext(self._slices))
        return next(s for s in self._begun if position < s.end).part(position, self._window_bytes)

    async def _begin_ahead(self, current: _Slice) -> None:
        if current.end > self._last:
            return
        window = await self._window(current.end)
        if self._loan.try_grow(window.size_bytes, share_max=AHEAD_SHARE_MAX):
            self._ahead = self._begin(window)

    def _begin(self, window: _Slice) -> "_Reading":
        task = asyncio.create_task(_read_slice(self._store, self._manifest, window))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return _Reading(window, task)

    def _ended(self, task: asyncio.Task[list[Bytes]]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: what matters of it is raised where it is awaited

    def _drop(self) -> None:
        """Others need the memory: what can be read again goes."""
        self._window_bytes = WINDOW_BYTES_MIN
        self._drop_ahead()
        size_bytes = sum(map(len, self._ready))
        self._ready.clear()
        self._loan.give(size_bytes)

    def _drop_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.task.cancel()
            size_bytes = self._ahead.window.size_bytes
            self._ahead = None
            self._loan.give(size_bytes)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A window that is read, or was read and is not handed on yet."""

    window: _Slice
    task: asyncio.Task[list[Bytes]]


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
    async with store.budget.hold(stripe_work_bytes(piece.size_bytes)):
        return await _read_repeating(store, manifest, piece)


async def _read_repeating(store: Store, manifest: int, piece: _Slice) -> list[Bytes]:
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
            damaged=read.damaged,
        )
    return pieces


def _split(pieces: list[Bytes]) -> list[Bytes]:
    found: list[Bytes] = []
    for piece in pieces:
        view = memoryview(piece)
        found.extend(view[at : at + PIECE_BYTES] for at in range(0, len(view), PIECE_BYTES))
    return found
