"""A body as it streams in, cut into stripes, no more of it in memory than was lent."""

import asyncio
from collections.abc import AsyncIterator

from osscore.errors import EntityTooLarge
from ossd.body_stream import SMALL_PIECE_BYTES, BodyStream
from ossd.disk import Bytes
from ossd.lending import Loan, endless_loan

_LONG_BYTES = 1024 * 1024
"""A body of unknown length that has brought as much is believed to bring whole stripes."""


class Cutter:
    """Gives a body stripe by stripe.

    The bytes of the stripe that fills are open in `loan`; from `next` on they are its
    caller's to close or give. While a client is quick, room for the rest of the stripe is
    taken before it is read, in one large piece. When the loan is recalled, what has come is
    given as a short stripe. Beside the loan one piece may be held that has no room yet. A client
    that has paused is lent as much again as it has brought since, and so, step by step, all.
    The stripe after that ends where the whole one would have, so that the rest is cut as ever.

    `first_bytes`: size of the first stripe, where the body continues an object in the middle
    of one; 0: as the others.
    `stream`: where the body comes from, if it is not that itself but passes its pieces on.
    `declared_bytes`: what the body is said to have; without it no large pieces are asked for.
    """

    def __init__(
        self,
        body: AsyncIterator[Bytes],
        *,
        stripe_bytes: int,
        object_bytes_max: int,
        first_bytes: int = 0,
        stream: BodyStream | None = None,
        loan: Loan | None = None,
        declared_bytes: int | None = None,
    ) -> None:
        self._body = body.__aiter__()
        self._stream = body if isinstance(body, BodyStream) else stream
        self._stripe_bytes = stripe_bytes
        self._next_bytes = first_bytes or stripe_bytes
        self._object_bytes_max = object_bytes_max
        self._declared_bytes = declared_bytes
        self._loan = loan or endless_loan()
        self._loan.on_recall = self._on_recall
        self._rest: Bytes = b""
        self._is_quick = False
        self._paused_at_bytes: int | None = None
        self._reserved_bytes = 0
        self._coming: asyncio.Task[Bytes] | None = None
        self._woken: asyncio.Future[None] | None = None
        self.size_bytes = 0
        """Bytes received so far; the body's size once `next` has given b''."""
        if self._stream is not None:
            self._stream.on_pause = self._on_pause
            self._set_reserve(0)

    async def next(self) -> Bytes:
        """The next stripe: full ones, then the shorter last one, then b'' for ever.

        Shorter too if the loan is recalled; b'' then only while the caller holds something
        open. Raises EntityTooLarge, Overloaded, and whatever the body raises.
        """
        pieces: list[Bytes] = []
        missing = self._next_bytes
        while missing:
            piece = await self._take(missing)
            if not len(piece):
                break
            pieces.append(piece)
            missing -= len(piece)
        self._next_bytes = missing or self._stripe_bytes
        self._drop_reserve()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def more(self) -> bool:
        """Whether another stripe follows; reads one piece to know. True if that cannot be
        waited for, because the loan is recalled."""
        if not len(self._rest):
            self._rest = await self._arrival()
        return bool(len(self._rest)) or self._loan.is_recalled

    async def close(self) -> None:
        """Nothing more is asked for, and nothing is read: whoever made the body may close it.

        Before the loan ends: room that no piece has come for is given back.
        """
        self._loan.on_recall = _nothing
        self._drop_reserve()
        if self._stream is not None:
            # The server may read what is left of a body that was refused.
            self._stream.on_pause = _nothing
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.wait({self._coming})
            if not self._coming.cancelled():
                self._coming.exception()  # seen: nobody wants that piece any more

    async def _take(self, missing: int) -> Bytes:
        """The next bytes, in the loan; b'': the end, or they must not be waited for."""
        if not len(self._rest):
            if not await self._reserve(missing):
                return b""
            self._rest = await self._arrival()
        piece = self._rest[:missing] if len(self._rest) > missing else self._rest
        if not await self._account(len(piece)):
            return b""
        self._rest = memoryview(self._rest)[missing:] if len(self._rest) > missing else b""
        return piece

    async def _reserve(self, missing: int) -> bool:
        """Room for much at once, if the client is quick; False if the loan is recalled.

        Else many quick bodies would hold parts of stripes, and each would wait for the others.
        """
        if self._loan.is_recalled:
            return False
        wanted = self._wanted(missing)
        if self._stream is None or self._reserved_bytes or wanted <= SMALL_PIECE_BYTES:
            return True
        if not await self._loan.grow(wanted):
            return False
        self._set_reserve(wanted)
        return True

    def _wanted(self, missing: int) -> int:
        if not self._is_quick:
            return 0
        if self._paused_at_bytes is not None:
            # It may pause again: as much as came since, and no whole stripe after one burst.
            missing = min(missing, self.size_bytes - self._paused_at_bytes)
        if self._declared_bytes is not None:
            return min(missing, self._declared_bytes - self.size_bytes)
        return missing if self.size_bytes >= _LONG_BYTES else min(missing, _LONG_BYTES)

    async def _account(self, size_bytes: int) -> bool:
        """Have that many bytes in the loan; False if it is recalled first."""
        if self._reserved_bytes < size_bytes:
            self._drop_reserve()
            return await self._loan.grow(size_bytes)
        self._set_reserve(self._reserved_bytes - size_bytes)
        if not self._is_quick:
            self._drop_reserve()
        return True

    def _set_reserve(self, size_bytes: int) -> None:
        self._reserved_bytes = size_bytes
        if self._stream is not None and self._declared_bytes is not None:
            self._stream.piece_bytes_max = max(size_bytes, SMALL_PIECE_BYTES)

    def _drop_reserve(self) -> None:
        reserved_bytes = self._reserved_bytes
        self._set_reserve(0)
        self._loan.give(reserved_bytes)

    def _on_pause(self) -> None:
        """The server holds no large piece now and will begin none."""
        self._is_quick = False
        self._paused_at_bytes = self.size_bytes
        self._drop_reserve()
        self._on_recall()

    def _on_recall(self) -> None:
        if self._declared_bytes is None:
            self._drop_reserve()  # no piece is as large as that
        # Else a large piece that is on its way is there in a moment.
        is_due = self._loan.is_recalled and not self._reserved_bytes
        if is_due and self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _arrival(self) -> Bytes:
        """The next piece, or b'' at the end and, without losing any, when recalled."""
        if self._loan.is_recalled and not self._reserved_bytes:
            return b""
        if self._coming is None and not self._loan.is_recallable:
            return await self._receive()  # nothing to be recalled
        if self._coming is None:
            self._coming = asyncio.create_task(self._receive())
        if not self._coming.done():
            self._woken = asyncio.get_running_loop().create_future()
            self._coming.add_done_callback(self._wake)
            await self._woken
        if not self._coming.done():
            return b""
        coming, self._coming = self._coming, None
        return coming.result()

    def _wake(self, _: object) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _receive(self) -> Bytes:
        async for piece in self._body:
            if piece:
                self.size_bytes += len(piece)
                if self.size_bytes > self._object_bytes_max:
                    raise EntityTooLarge(f"An object has at most {self._object_bytes_max} bytes.")
                self._is_quick = len(piece) >= SMALL_PIECE_BYTES
                return piece
        return b""


def _nothing() -> None:
    """Nobody waits any more."""
