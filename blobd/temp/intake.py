"""A body on its way from a user into the volumes of one disk: flat memory, data before name.

Bytes count against the daemon's budget while they are held. All uploads together hold at most
half of it while they wait for their clients, however slow these are; what comes beyond is
written out at once, in smaller pieces, so nobody waits while holding.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from blobd.temp.records import PIECE_BYTES_MAX, TempId
from blobd.temp.shelf import Shelf
from osscore.digests import crc32c
from ossd.budget import ByteBudget
from ossd.disk import Bytes

SHARE_MAX = 0.5
_COPIES = 2
"""A piece is held as it came and joined."""
_OFF_LOOP_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """What came, durable in pieces."""

    size_bytes: int
    sha256: bytes
    piece_count: int


class Intake:
    """One body under way. `receive` it once."""

    def __init__(self, shelf: Shelf, temp: TempId, budget: ByteBudget) -> None:
        self._shelf = shelf
        self._temp = temp
        self._budget = budget
        self._hash = hashlib.sha256()
        self._held: list[Bytes] = []
        self._held_bytes = 0
        self._taken_bytes = 0
        self._size_bytes = 0
        self._piece_count = 0

    async def receive(self, body: AsyncIterator[Bytes]) -> Received:
        """Store all of `body`; each piece is durable when the next is begun, all on return.

        Raises DiskFull, DiskFailing, DiskRefused, NotReady, Overloaded, and what the body
        raises. What was stored until then stays: remove it.
        """
        try:
            async for piece in body:
                await self._hold(piece)
                del piece
            await self._write_out()
        finally:
            self._give_back()
        return Received(self._size_bytes, self._hash.digest(), self._piece_count)

    async def _hold(self, piece: Bytes) -> None:
        if self._held_bytes + len(piece) > PIECE_BYTES_MAX:
            await self._write_out()
        cost_bytes = _COPIES * len(piece)
        may_be_kept = self._budget.try_take(cost_bytes, share_max=SHARE_MAX)
        if not may_be_kept:
            await self._write_out()
            await self._budget.take(cost_bytes)
        self._taken_bytes += cost_bytes
        self._held.append(piece)
        self._held_bytes += len(piece)
        if not may_be_kept:
            await self._write_out()

    async def _write_out(self) -> None:
        if not self._held:
            return
        if self._held_bytes > _OFF_LOOP_BYTES:
            body, crc = await asyncio.to_thread(self._digest)
        else:
            body, crc = self._digest()
        await self._shelf.put_piece(self._temp, self._piece_count, body, crc)
        self._piece_count += 1
        self._size_bytes += self._held_bytes
        self._give_back()

    def _digest(self) -> tuple[Bytes, int]:
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._hash.update(body)
        return body, crc32c(body)

    def _give_back(self) -> None:
        self._held.clear()
        self._held_bytes = 0
        self._budget.give(self._taken_bytes)
        self._taken_bytes = 0
