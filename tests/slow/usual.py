"""What a client that is not slow sees: speeds and latencies of some rounds."""

import os
import statistics
import time
from dataclasses import dataclass, field

import aiohttp

LARGE_BYTES = 64 << 20
SMALL_BYTES = 4096
SMALL_PER_ROUND = 20
SMALL_PUT, SMALL_GET = "put_small", "get_small"


class UsualFailed(Exception):
    """A normal request failed."""


@dataclass(slots=True)
class Usual:
    """Seconds of each kind of request, over all rounds so far."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def medians_ms(self) -> dict[str, float]:
        """Median of each kind."""
        return {kind: round(statistics.median(s) * 1e3, 1) for kind, s in self.seconds.items()}

    def worst_ms(self) -> dict[str, float]:
        """The slowest of each kind."""
        return {kind: round(max(s) * 1e3, 1) for kind, s in self.seconds.items()}

    def note(self, kind: str, began_s: float) -> None:
        """One more of a kind has ended."""
        self.seconds.setdefault(kind, []).append(time.perf_counter() - began_s)


async def one_round(usual: Usual, session: aiohttp.ClientSession, api: str, *, large: int) -> None:
    """A large and some small objects in and out. Raises UsualFailed."""
    await _large(usual, session, f"{api}/objects/usual/large", large)
    for number in range(SMALL_PER_ROUND):
        url = f"{api}/objects/usual/small-{number}"
        body = os.urandom(SMALL_BYTES)
        began_s = time.perf_counter()
        await _put(session, url, body)
        usual.note(SMALL_PUT, began_s)
        began_s = time.perf_counter()
        async with session.get(url) as answer:
            if await answer.read() != body:
                raise UsualFailed(f"{url} gave other bytes")
        usual.note(SMALL_GET, began_s)


async def _large(usual: Usual, session: aiohttp.ClientSession, url: str, size_bytes: int) -> None:
    body = os.urandom(size_bytes)
    began_s = time.perf_counter()
    await _put(session, url, body)
    usual.note("put_large", began_s)
    began_s = time.perf_counter()
    got = 0
    async with session.get(url) as answer:
        async for piece in answer.content.iter_any():
            if not got:
                usual.note("first_byte", began_s)
            if piece != body[got : got + len(piece)]:
                raise UsualFailed(f"{url} gave other bytes")
            got += len(piece)
    if got != size_bytes:
        raise UsualFailed(f"{url} gave {got} of {size_bytes} bytes")
    usual.note("get_large", began_s)


async def _put(session: aiohttp.ClientSession, url: str, body: bytes) -> None:
    async with session.put(url, data=body) as answer:
        if answer.status != 200:
            raise UsualFailed(f"PUT {url}: {answer.status} {(await answer.text())[:300]}")
