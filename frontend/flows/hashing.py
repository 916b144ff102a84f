"""SHA-256 of a body that arrives stripe by stripe, computed off the loop, in order."""

import asyncio
import hashlib
from collections import deque

from frontend.flows.store import Store
from ossd.disk import Bytes

BEHIND_MAX = 1
"""Stripes that may be on their way through the hash while the next one is asked for: they
are held until they are hashed, whatever else has become of them."""


class BodyHash:
    """The digest of a whole body. `add` may be called again before the last one ended."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sha256 = hashlib.sha256()
        self._behind: deque[asyncio.Task[None]] = deque()

    def add(self, plain: Bytes) -> asyncio.Task[None]:
        """Queue the next bytes; they are kept until what is answered is done."""
        before = self._behind[-1] if self._behind else None
        task = asyncio.get_running_loop().create_task(self._hash(plain, before))
        self._behind.append(task)
        return task

    async def keep_up(self) -> None:
        """Return once few enough stripes wait: the rest of a body may be faster than this."""
        while len(self._behind) > BEHIND_MAX:
            await self._behind[0]
            self._behind.popleft()

    async def digest(self) -> bytes:
        """32 bytes over everything added."""
        while self._behind:
            await self._behind[0]
            self._behind.popleft()
        return self._sha256.digest()

    async def _hash(self, plain: Bytes, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        await self._store.off_loop(len(plain), self._sha256.update, plain)
