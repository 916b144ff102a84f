"""SHA-256 of a body that arrives stripe by stripe, computed off the loop, in order."""

import asyncio
import hashlib

from frontend.flows.store import Store
from ossd.disk import Bytes


class BodyHash:
    """The digest of a whole body. `add` may be called again before the last one ended."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sha256 = hashlib.sha256()
        self._last: asyncio.Task[None] | None = None

    def add(self, plain: Bytes) -> None:
        """Queue the next bytes; they are kept until they are hashed."""
        self._last = asyncio.get_running_loop().create_task(self._hash(plain, self._last))

    async def digest(self) -> bytes:
        """32 bytes over everything added."""
        if self._last is not None:
            await self._last
        return self._sha256.digest()

    async def hashed(self) -> None:
        """Return once everything added so far is hashed."""
        if self._last is not None:
            await self._last

    async def _hash(self, plain: Bytes, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        await self._store.off_loop(len(plain), self._sha256.update, plain)
