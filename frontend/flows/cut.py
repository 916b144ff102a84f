"""A body as it streams in, cut into stripes."""

from collections.abc import AsyncIterator

from osscore.errors import EntityTooLarge
from ossd.disk import Bytes


class Cutter:
    """Gives a body stripe by stripe. At most one stripe and one piece are held here."""

    def __init__(
        self, body: AsyncIterator[Bytes], *, stripe_bytes: int, object_bytes_max: int
    ) -> None:
        self._body = body.__aiter__()
        self._stripe_bytes = stripe_bytes
        self._object_bytes_max = object_bytes_max
        self._rest: Bytes = b""
        self.size_bytes = 0
        """Bytes received so far; the body's size once `next` has given b''."""

    async def next(self) -> Bytes:
        """The next stripe: full ones, then the shorter last one, then b'' for ever.

        Raises EntityTooLarge, and whatever the body raises.
        """
        pieces: list[Bytes] = []
        missing = self._stripe_bytes
        while missing:
            piece = self._rest if len(self._rest) else await self._receive()
            if not len(piece):
                break
            pieces.append(piece if len(piece) <= missing else memoryview(piece)[:missing])
            self._rest = memoryview(piece)[missing:] if len(piece) > missing else b""
            missing -= len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def more(self) -> bool:
        """Whether another stripe follows; reads one piece to know."""
        if not len(self._rest):
            self._rest = await self._receive()
        return bool(len(self._rest))

    async def _receive(self) -> Bytes:
        async for piece in self._body:
            if piece:
                self.size_bytes += len(piece)
                if self.size_bytes > self._object_bytes_max:
                    raise EntityTooLarge(f"An object has at most {self._object_bytes_max} bytes.")
                return piece
        return b""
