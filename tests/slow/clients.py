"""One slow client: an upload at a fixed rate, or a download that pauses. Bytes are compared."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.slow.ways import NATIVE, Sending, Server, Way, WayFailed

Progress = Callable[[str], None]
TICK_S = 0.5


class SlowFailed(Exception):
    """A slow client was cut off, refused, or given other bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How slow."""

    bytes_per_s: int
    upload_s: float
    pause_s: float


def content(size_bytes: int, seed: int) -> bytes:
    """Bytes that do not compress; the same for the same seed."""
    return random.Random(seed).randbytes(size_bytes)


class Client:
    """Requests to one frontend, or to one blob daemon where the way leads there."""

    def __init__(self, server: Server, way: Way = NATIVE) -> None:
        self._server = server
        self._way = way

    async def upload_slowly(
        self,
        name: str,
        body: bytes,
        pace: Pace,
        *,
        declared: bool,
        pause_at: int | None = None,
    ) -> None:
        """Send `body` at that rate; with `pause_at` at full speed but for one pause there.

        Raises SlowFailed unless it becomes an object.
        """
        what = f"upload of {name}, {self._way.name}"
        try:
            sending = await self._way.send(self._server, name, body)
            found = await self._send(sending, body, pace, declared=declared, pause_at=pause_at)
            if sending.finish is not None:
                found = await sending.finish(found)
        except (aiohttp.ClientError, WayFailed) as error:
            raise SlowFailed(f"{what}: {error!r}") from error
        sha256 = found.get("sha256", hashlib.sha256(body).hexdigest())
        if sha256 != hashlib.sha256(body).hexdigest():
            raise SlowFailed(f"{what}: stored as {found}")

    async def _send(
        self, sending: Sending, body: bytes, pace: Pace, *, declared: bool, pause_at: int | None
    ) -> Any:
        whole = sending.before + body + sending.after
        headers = dict(sending.headers)
        if declared:
            headers["Content-Length"] = str(len(whole))
        if pause_at is not None:
            sent = _paused(whole, len(sending.before) + pause_at, pace)
        else:
            sent = _paced(whole, pace)
        return await self._server.ask(
            sending.method, sending.url, data=sent, headers=headers, expected=(sending.answers,)
        )

    async def download_with_pause(self, name: str, body: bytes, pace: Pace) -> None:
        """Take a little, nothing for `pause_s`, then the rest. Raises SlowFailed."""
        what = f"download of {name}, {self._way.name}"
        digest, got = hashlib.sha256(), 0
        try:
            url, headers = await self._way.take(self._server, name, body)
            async with self._server.session.get(url, headers=headers) as answer:
                if answer.status != 200:
                    raise SlowFailed(f"{what}: {answer.status}")
                first = await answer.content.read(1000)
                await asyncio.sleep(pace.pause_s)
                digest.update(first)
                got = len(first)
                async for piece in answer.content.iter_any():
                    digest.update(piece)
                    got += len(piece)
        except (aiohttp.ClientError, ConnectionError, WayFailed) as error:
            raise SlowFailed(f"{what} cut after {got} bytes: {error!r}") from error
        if digest.digest() != hashlib.sha256(body).digest():
            raise SlowFailed(f"{what}: {got} bytes, and not those that were stored")


async def _paced(body: bytes, pace: Pace) -> AsyncIterator[bytes]:
    step = max(1, int(pace.bytes_per_s * TICK_S))
    began_s = asyncio.get_running_loop().time()
    for number, at in enumerate(range(0, len(body), step)):
        due_s = began_s + number * TICK_S
        await asyncio.sleep(max(0.0, due_s - asyncio.get_running_loop().time()))
        yield body[at : at + step]


async def _paused(body: bytes, pause_at: int, pace: Pace) -> AsyncIterator[bytes]:
    yield body[:pause_at]
    await asyncio.sleep(pace.pause_s)
    for at in range(pause_at, len(body), 1 << 20):
        yield body[at : at + (1 << 20)]
