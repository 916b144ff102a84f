"""Writers and readers that work through the faults and keep the ledger."""

import asyncio
import hashlib
import random
from urllib.parse import quote

import aiohttp

from tests.torture.ledger import KeyLedger, Ledger

SIZES = (0, 1, 100, 3000, 4096, 4097, 20_000, 70_000, 300_000, 1_500_000, 5_000_000, 9_000_000)
WEIGHTS = (3, 3, 20, 20, 10, 10, 10, 8, 5, 3, 1, 1)
REQUEST_S = 60.0


def make_body(size_bytes: int, rng: random.Random) -> bytes:
    """A body of that size: noise, or 16 random bytes over and over, which compress.

    From 16 bytes on every content is unique; its rest shares stripes now and then.
    """
    if rng.random() < 0.7:
        return rng.randbytes(size_bytes)
    return (rng.randbytes(16) * (size_bytes // 16 + 1))[:size_bytes]


class Workload:
    """Concurrent writers, each with keys of its own, and readers of everybody's keys."""

    def __init__(self, ledger: Ledger, endpoints: list[str], headers: dict[str, str]) -> None:
        self._ledger = ledger
        self._endpoints = endpoints
        self._headers = headers
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None

    async def start(self, *, writers: int, readers: int, seed: int) -> None:
        """Begin; runs until `stop`."""
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(total=REQUEST_S)
        )
        for number in range(writers):
            rng = random.Random(f"{seed}-writer-{number}")
            self._tasks.append(asyncio.create_task(self._write_for_ever(number, rng)))
        for number in range(readers):
            rng = random.Random(f"{seed}-reader-{number}")
            self._tasks.append(asyncio.create_task(self._read_for_ever(rng)))

    async def stop(self) -> None:
        """Let every request under way end, then stop. Raises what a task raised."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)
        assert self._session is not None
        await self._session.close()

    async def _write_for_ever(self, number: int, rng: random.Random) -> None:
        made = 0
        while not self._stopping.is_set():
            # New keys now and then, so that both creation and overwriting are tortured.
            name = f"w{number}/k{rng.randrange(1 + made // 4)}"
            made += 1
            entry = self._ledger.key(name)
            entry.changing = True
            try:
                await self._change(name, entry, rng)
            finally:
                entry.changing = False

    async def _change(self, name: str, entry: KeyLedger, rng: random.Random) -> None:
        roll = rng.random()
        if entry.acknowledged and roll < 0.08:
            await self._mark(name, entry)
        elif len(entry.acknowledged) > 1 and roll < 0.16:
            await self._remove(name, entry, rng)
        else:
            await self._put(name, entry, rng)

    async def _put(self, name: str, entry: KeyLedger, rng: random.Random) -> None:
        body = make_body(rng.choices(SIZES, WEIGHTS)[0], rng)
        digest = hashlib.sha256(body).hexdigest()
        entry.begin_put(digest)
        status, answer = await self._request("PUT", name, rng, body=body)
        if status == 200:
            if answer["sha256"] != digest:
                self._ledger.violation(f"{name}: PUT of {digest} answered {answer['sha256']}")
            self._complain(name, entry.end_put(digest, answer["version"]))
            self._ledger.count("put" if len(body) > 1 else f"put_{len(body)}_bytes")
        elif status and status < 500:
            self._ledger.violation(f"{name}: PUT refused with {status} {answer}")
        else:
            self._ledger.count("put_unknown")

    async def _mark(self, name: str, entry: KeyLedger) -> None:
        entry.maybe_markers += 1
        status, answer = await self._request("DELETE", name, random)
        if status == 204:
            entry.maybe_markers -= 1
            entry.markers += 1
            entry.newest, entry.newest_is_marker = int(answer["X-Version"]), True
            self._ledger.count("delete")
        elif status and status < 500:
            self._ledger.violation(f"{name}: DELETE refused with {status} {answer}")

    async def _remove(self, name: str, entry: KeyLedger, rng: random.Random) -> None:
        number = rng.choice(sorted(set(entry.acknowledged) - entry.removed) or [entry.newest])
        if number == entry.newest:
            return
        status, _ = await self._request("DELETE", f"{name}?version={number}", rng)
        self._complain(name, entry.end_removal(number, status))
        if number in entry.removed:
            self._ledger.count("remove")

    def _complain(self, name: str, problem: str | None) -> None:
        if problem is not None:
            self._ledger.violation(f"{name}: {problem}")

    async def _read_for_ever(self, rng: random.Random) -> None:
        while not self._stopping.is_set():
            names = list(self._ledger.keys)
            if not names:
                await asyncio.sleep(0.01)
                continue
            name = rng.choice(names)
            await self._read(name, self._ledger.key(name), rng)

    async def _read(self, name: str, entry: KeyLedger, rng: random.Random) -> None:
        before, was_marker = entry.newest, entry.newest_is_marker
        was_changing = entry.changing or bool(entry.maybe_markers)
        assert self._session is not None
        try:
            url = f"{rng.choice(self._endpoints)}/buckets/torture/objects/{quote(name)}"
            async with self._session.get(url) as answer:
                status, body = answer.status, await answer.read()
                version = int(answer.headers.get("X-Version", "0"))
        except (aiohttp.ClientError, TimeoutError):
            self._ledger.count("read_unknown")
            return
        if status == 200:
            self._ledger.count("read")
            digest = hashlib.sha256(body).hexdigest()
            if digest not in entry.contents():
                self._ledger.violation(f"{name}: read bytes that nobody ever wrote")
            elif entry.acknowledged.get(version, digest) != digest:
                self._ledger.violation(f"{name}: read wrong bytes of version {version}")
            if version < before:
                self._ledger.violation(f"{name}: read version {version} after {before}")
        elif status == 404:
            if before and not was_marker and not was_changing and not entry.changing:
                same = entry.newest == before
                if same:
                    self._ledger.violation(f"{name}: 404 although version {before} is there")
        elif status < 500:
            self._ledger.violation(f"{name}: GET refused with {status}")

    async def _request(
        self, method: str, path: str, rng: object, *, body: bytes | None = None
    ) -> tuple[int, dict]:
        """Status and JSON answer (headers for an empty one); status 0: no answer."""
        assert self._session is not None
        name, _, query = path.partition("?")
        url = f"{random.choice(self._endpoints)}/buckets/torture/objects/{quote(name)}"
        if query:
            url += f"?{query}"
        try:
            async with self._session.request(method, url, data=body) as answer:
                if answer.status == 204:
                    return 204, dict(answer.headers)
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0, {}
