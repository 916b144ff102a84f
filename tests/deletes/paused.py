"""A frontend stands still (SIGSTOP) in the midst of PUTs, for longer than uploads and the grace
last, and goes on; slow clients take as long through another one.

Of each PUT: it is refused, or every byte of it is there. What the paused frontend had found to
be stored already is deleted by others meanwhile. Slow clients lose nothing.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp

from tests.cluster.local import noise
from tests.deletes.client import Client
from tests.deletes.footprint import is_collected
from tests.heal.objects import KIB, MIB
from tests.heal.site import Site, eventually

LONG_BYTES = 28 * MIB
"""Three stripes and a half: an upload row, and more to come when the pause ends."""
HALTED_AT_BYTES = 26 * MIB
STAGED = 3
"""Stripes of such a body that are named by then."""
SLOW_BYTES = 28 * MIB
SHORT_BYTES = 300 * KIB
RACING = 12
"""PUTs whose whole body is sent just before the frontend stops."""
PIECES = 100
COLLECTED_S_MAX = 90.0
ANSWER_S = 120.0


@dataclass(frozen=True, slots=True)
class Paused:
    """`outcomes`: PUTs through the paused frontend by their answer ("refused" has none of its
    bytes left). `paused_s`: how long it stood still."""

    outcomes: Counter[str]
    paused_s: float
    names: int
    wrong: list[str]


async def pause(site: Site, *, rng: random.Random, slow_s: float) -> Paused:
    """The whole story; slow clients take `slow_s`."""
    story = _Pause(site, rng, slow_s)
    paused_s = await story.tell()
    return Paused(story.outcomes, round(paused_s, 1), story.names, story.wrong)


@dataclass(slots=True)
class _Pause:
    site: Site
    rng: random.Random
    slow_s: float
    release: asyncio.Event = field(default_factory=asyncio.Event)
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    names: int = 0

    async def tell(self) -> float:
        others = Client(self.site, [self.site.local.frontends[0]["api"]])
        victim = Client(self.site, [self.site.local.frontends[-1]["api"]])
        twins = {"twin-long": self.noise(LONG_BYTES), "twin-short": self.noise(SHORT_BYTES)}
        doomed = {**twins, "read-slowly": self.noise(SLOW_BYTES)}
        for name, body in doomed.items():
            await others.put(f"paused/{name}", body)
        segments = (await self.site.counted()).segments
        halted = {
            "halted-long": self.noise(LONG_BYTES),
            "halted-long-twin": twins["twin-long"],
            "halted-short": self.noise(SHORT_BYTES),
            "halted-short-twin": twins["twin-short"],
        }
        racing = {f"racing-{n}": self.noise(SHORT_BYTES) for n in range(RACING)}
        racing["racing-twin"] = twins["twin-short"]
        slow = {"slow-long": self.noise(SLOW_BYTES), "slow-short": self.noise(SHORT_BYTES)}
        puts = {
            name: asyncio.create_task(victim.put_once(f"paused/{name}", self.halted(body)))
            for name, body in halted.items()
        }
        await self.wait_staged(uploads=2, segments=segments + 2 * STAGED)
        reading = asyncio.create_task(self.read_slowly(others, "read-slowly"))
        slow_puts = [
            asyncio.create_task(others.put_once(f"paused/{name}", self.slowly(body)))
            for name, body in slow.items()
        ]
        await self.wait_staged(uploads=3, segments=0)
        for name, body in racing.items():
            puts[name] = asyncio.create_task(victim.put_once(f"paused/{name}", body))
        await asyncio.sleep(self.rng.uniform(0.0, 0.08))
        paused_s = await self.stand_still(others, doomed, slow_puts)
        self.release.set()
        for name, body in (halted | racing).items():
            await self.judge(others, name, body, await puts[name])
        self.judge_slow([await each for each in slow_puts], await reading == doomed["read-slowly"])
        for name, body in slow.items():
            await self.judge(others, name, body, 200)
        self.names = len(doomed) + len(halted) + len(racing) + len(slow)
        for name in (*halted, *racing, *slow):
            await others.forget(f"paused/{name}")
        return paused_s

    async def stand_still(
        self, others: Client, doomed: dict[str, bytes], slow_puts: list[asyncio.Task[int]]
    ) -> float:
        """Stop the frontend until everything that its PUTs had begun is collected; seconds."""
        pid = self.site.local.frontends[-1]["pid"]
        os.kill(pid, signal.SIGSTOP)
        began_s = time.monotonic()
        try:
            for name in doomed:
                await others.forget(f"paused/{name}")
            await asyncio.wait(slow_puts)
            await eventually(
                lambda: is_collected(self.site),
                what="what a paused frontend had begun is collected",
                seconds_max=COLLECTED_S_MAX,
            )
        finally:
            os.kill(pid, signal.SIGCONT)
        return time.monotonic() - began_s

    async def wait_staged(self, *, uploads: int, segments: int) -> None:
        """Until so many uploads and holds are open, and stripes are named."""

        async def are_staged() -> bool:
            counted = await self.site.counted()
            return counted.uploads >= uploads and counted.segments >= segments

        what = f"{uploads} uploads and holds to be under way"
        await eventually(are_staged, what=what, seconds_max=60)

    async def judge(self, others: Client, name: str, body: bytes, status: int) -> None:
        """Acknowledged: every byte is there. Refused: nothing is. No answer: one of both."""
        found, got = await others.get(f"paused/{name}")
        is_there = found == 200 and got == body
        self.outcomes["acknowledged" if status == 200 else "refused"] += 1
        allowed = {200: is_there, 0: is_there or found == 404}.get(status, found == 404)
        if not allowed:
            self.wrong.append(f"{name}: PUT {status}, then GET {found} of {len(got)} bytes")

    def judge_slow(self, statuses: list[int], is_read: bool) -> None:
        """Slowness is no reason to fail."""
        if set(statuses) != {200}:
            self.wrong.append(f"slow uploads: {statuses}")
        if not is_read:
            self.wrong.append("a slow reader lost the object that was deleted meanwhile")

    # --- bodies -------------------------------------------------------------------------------

    def noise(self, size_bytes: int) -> bytes:
        return noise(size_bytes, self.rng.randrange(1 << 40))

    async def halted(self, body: bytes) -> AsyncIterator[bytes]:
        """Most of a body, and its rest once the pause is over."""
        halt = min(HALTED_AT_BYTES, len(body) - KIB)
        yield body[:halt]
        await self.release.wait()
        yield body[halt:]

    async def slowly(self, body: bytes) -> AsyncIterator[bytes]:
        piece = -(-len(body) // PIECES)
        for at in range(0, len(body), piece):
            yield body[at : at + piece]
            await asyncio.sleep(self.slow_s / PIECES)

    async def read_slowly(self, others: Client, name: str) -> bytes:
        url = f"{others.endpoint()}/objects/paused/{name}"
        timeout, got = aiohttp.ClientTimeout(total=ANSWER_S + self.slow_s), b""
        async with self.site.session.get(url, timeout=timeout, read_bufsize=64 * KIB) as answer:
            while piece := await answer.content.read(SLOW_BYTES // PIECES):
                got += piece
                await asyncio.sleep(self.slow_s * len(piece) / SLOW_BYTES)
        return got
