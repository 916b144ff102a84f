"""Objects stored and deleted while the leader, daemons and frontends are killed."""

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass

from tests.cluster.local import noise
from tests.deletes.client import Client
from tests.heal.objects import KIB, MIB, Object
from tests.heal.site import Site

AT_ONCE = 8
LIVES = 3
"""So many later objects are stored before one is deleted."""
SIZES = (1 * KIB, 6 * KIB, 40 * KIB, 200 * KIB, 1 * MIB, 20 * MIB)
WEIGHTS = (15, 35, 30, 15, 4, 1)
SHARED = 0.3
"""So many of them have the bytes of an object that stays."""
BETWEEN_KILLS_S = (0.3, 1.5)
DOWN_S = (0.1, 1.0)
KINDS = ("leader", "daemon", "frontend")


@dataclass(frozen=True, slots=True)
class Churned:
    """What was done. `unanswered`: requests whose outcome nobody told."""

    names: int
    kills: Counter[str]
    unanswered: int
    wrong: list[str]


async def churn(
    site: Site, kept: list[Object], *, count: int, kills: int, rng: random.Random
) -> Churned:
    """Store and delete `count` objects; those `kept` are read all the while."""
    client, killed, wrong = Client(site), Counter[str](), list[str]()
    work = asyncio.create_task(_store_and_delete(client, kept, count, rng))
    reading = asyncio.create_task(_read_for_ever(site, kept, wrong, rng))
    try:
        for number in range(kills):
            await asyncio.sleep(rng.uniform(*BETWEEN_KILLS_S))
            if work.done():
                break
            kind = KINDS[number % len(KINDS)]
            await _kill(site, kind, rng)
            killed[kind] += 1
        await work
    finally:
        work.cancel()
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
    await site.cluster.settle()
    return Churned(count, killed, client.unknown, wrong)


async def _store_and_delete(
    client: Client, kept: list[Object], count: int, rng: random.Random
) -> None:
    numbers = iter(range(count))
    seed = rng.randrange(1 << 40)

    async def work() -> None:
        living: list[str] = []
        for number in numbers:
            name = f"churn/{number:05d}"
            await client.put(name, _body(kept, random.Random(seed + number)))
            living.append(name)
            if len(living) > LIVES:
                await client.forget(living.pop(0))
        for name in living:
            await client.forget(name)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


def _body(kept: list[Object], rng: random.Random) -> bytes:
    if rng.random() < SHARED:
        return rng.choice(kept).body
    return noise(rng.choices(SIZES, WEIGHTS)[0] + rng.randrange(500), rng.randrange(1 << 40))


async def _kill(site: Site, kind: str, rng: random.Random) -> None:
    """kill -9 of one process, which is started again after a moment."""
    if kind == "leader":
        node = await site.cluster.leader()
    else:
        node = rng.choice(site.local.blobs if kind == "daemon" else site.local.frontends)
    await asyncio.to_thread(site.cluster.kill, node)
    await asyncio.sleep(rng.uniform(*DOWN_S))
    await asyncio.to_thread(site.cluster.start, node)


async def _read_for_ever(
    site: Site, kept: list[Object], wrong: list[str], rng: random.Random
) -> None:
    """What stays is never other bytes; that nobody answers, or not now, is no loss."""
    client = Client(site)
    while True:
        each = rng.choice(kept)
        status, body = await client.get(each.name)
        if status != 200 or body != each.body:
            wrong.append(f"meanwhile {each.name}: {status}, {len(body)} bytes")
        await asyncio.sleep(0.02)
