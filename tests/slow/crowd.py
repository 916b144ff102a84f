"""Many slow clients at once, of every kind, and what became of them."""

import asyncio
import zlib
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass

from tests.slow.clients import Client, Pace, SlowFailed, content
from tests.slow.ways import NATIVE, WAYS, Server, Way

MIB = 1 << 20
LONG_BYTES = 40 * MIB
"""More than sockets hold, so that a paused reader holds the sender up."""


FILES = WAYS[4]


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that paused readers take."""

    name: str
    body: bytes


async def store_for_readers(server: Server, *, sizes: tuple[int, ...]) -> list[Stored]:
    """Objects of those sizes, and files of the token API of the same bytes, at full speed."""
    found = []
    for seed, size_bytes in enumerate(sizes):
        each = Stored(f"read-{size_bytes}", content(size_bytes, 1000 + seed))
        quick = Pace(bytes_per_s=size_bytes, upload_s=0, pause_s=0)
        for way in (NATIVE, FILES):
            client = Client(server, way)
            await client.upload_slowly(each.name, each.body, quick, declared=True, pause_at=1)
        found.append(each)
    return found


def each_kind(server: Server, stored: list[Stored], pace: Pace) -> list[Awaitable[None]]:
    """Every way: small, medium and long bodies, with and without Content-Length, at a slow rate
    and with a pause; a paused reader of each object."""
    return [each for way in WAYS for each in _each_kind(Client(server, way), way, stored, pace)]


def _each_kind(
    client: Client, way: Way, stored: list[Stored], pace: Pace
) -> Iterator[Awaitable[None]]:
    slow_bytes = int(pace.bytes_per_s * pace.upload_s)
    for declared in (True, False):
        suffix = f"{'declared' if declared else 'chunked'} {way.name}"
        sizes = (("small", 3000), ("medium", MIB), ("long", LONG_BYTES if way is NATIVE else MIB))
        body = _content(slow_bytes, f"rate {suffix}")
        yield client.upload_slowly(f"rate-{suffix}", body, pace, declared=declared)
        for label, size in sizes:
            name = f"paused-{label}-{suffix}"
            body = _content(size, name)
            yield client.upload_slowly(name, body, pace, declared=declared, pause_at=size // 2)
    for each in stored:
        yield client.download_with_pause(each.name, each.body, pace)


def many(server: Server, stored: list[Stored], pace: Pace, count: int) -> list[Awaitable[None]]:
    """So many connections, spread over all ways: half slow uploads, half paused downloads."""
    slow_bytes = int(pace.bytes_per_s * pace.upload_s)
    clients = [Client(server, way) for way in WAYS]
    uploads = [
        clients[number % len(clients)].upload_slowly(
            f"crowd-{number}", content(slow_bytes, number), pace, declared=number % 4 < 2
        )
        for number in range(count // 2)
    ]
    long = [each for each in stored if len(each.body) >= LONG_BYTES]
    downloads = [
        clients[number % len(clients)].download_with_pause(
            long[number % len(long)].name, long[number % len(long)].body, pace
        )
        for number in range(count - count // 2)
    ]
    return [*uploads, *downloads]


def _content(size_bytes: int, label: str) -> bytes:
    """Bytes that nobody else sends: content that is known already would not be sent slowly."""
    return content(size_bytes, zlib.crc32(label.encode()))


def many_fast(server: Server, count: int, *, size_bytes: int) -> list[Awaitable[None]]:
    """So many uploads at full speed."""
    quick = Pace(bytes_per_s=size_bytes, upload_s=0, pause_s=0)
    body = content(size_bytes, 5)
    client = Client(server)
    return [_one_fast(client, f"fast-{number}", body, number, quick) for number in range(count)]


async def _one_fast(client: Client, name: str, body: bytes, number: int, quick: Pace) -> None:
    marked = number.to_bytes(8, "big") + body[8:]  # made when it is sent, and new
    declared = number % 2 == 0
    await client.upload_slowly(name, marked, quick, declared=declared, pause_at=0)


async def failures(under_way: list[Awaitable[None]]) -> list[str]:
    """Let all end; answers what went wrong."""
    outcomes = await asyncio.gather(*under_way, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, SlowFailed):
            raise outcome
    return [str(outcome) for outcome in outcomes if outcome is not None]
