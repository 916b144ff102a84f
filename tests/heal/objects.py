"""What is stored: sizes of all kinds, every byte known from the seed."""

import asyncio
import random
from dataclasses import dataclass

from tests.cluster.local import noise
from tests.heal.site import HealFailed, Site

KIB, MIB = 1 << 10, 1 << 20
SIZES = (6 * KIB, 40 * KIB, 200 * KIB, 1 * MIB, 9 * MIB)
WEIGHTS = (30, 30, 25, 13, 2)
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Object:
    """Its body is `noise(size_bytes, seed)`."""

    name: str
    size_bytes: int
    seed: int

    @property
    def body(self) -> bytes:
        """Made anew each time: a thousand of them are not kept."""
        return noise(self.size_bytes, self.seed)


def mixed(count: int, seed: int) -> list[Object]:
    """So many objects, none of which shares content with another."""
    rng = random.Random(seed)
    sizes = rng.choices(SIZES, WEIGHTS, k=count)
    return [
        Object(f"heal/{n:05d}", size + rng.randrange(2000), seed * 1_000_003 + n)
        for n, size in enumerate(sizes)
    ]


async def store_all(site: Site, objects: list[Object]) -> None:
    """Put them. Raises HealFailed."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def put(each: Object) -> None:
        async with turns:
            url = f"{site.api}/objects/{each.name}"
            async with site.session.put(url, data=each.body) as answer:
                if answer.status != 200:
                    raise HealFailed(f"PUT {each.name}: {answer.status} {await answer.text()}")

    await asyncio.gather(*(put(each) for each in objects))


async def check_all(site: Site, objects: list[Object]) -> list[str]:
    """Get them; the names of those that came back otherwise, with how."""
    turns, wrong = asyncio.Semaphore(AT_ONCE), []

    async def get(each: Object) -> None:
        async with turns, site.session.get(f"{site.api}/objects/{each.name}") as answer:
            body = await answer.read()
        if answer.status != 200:
            wrong.append(f"{each.name}: {answer.status}")
        elif body != each.body:
            wrong.append(f"{each.name}: wrong bytes")

    await asyncio.gather(*(get(each) for each in objects))
    return wrong
