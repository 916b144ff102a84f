"""A node is away while objects of it are deleted and others written anew elsewhere."""

import asyncio
import os
import random
import signal
from dataclasses import dataclass
from typing import Any

from tests.cluster.local import noise
from tests.deletes.client import Client
from tests.deletes.footprint import is_collected
from tests.heal.audit import all_stripes
from tests.heal.leftovers import inventory
from tests.heal.objects import KIB, Object, check_all
from tests.heal.site import HealFailed, Site, eventually

DELETED = 12
LOST_S_MAX = 60.0
HEALED_S_MAX = 120.0
GONE_S_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Absent:
    """`surplus`: shards that the node held when it came back and nothing names any more."""

    surplus: int
    names: int
    wrong: list[str]


async def absence(
    site: Site, kept: list[Object], *, rng: random.Random, grace_s: float, is_stopped: bool
) -> Absent:
    """A node is paused (`is_stopped`) or killed, judged lost, and comes back after the grace."""
    client = Client(site)
    doomed = [f"absent/{'paused' if is_stopped else 'killed'}-{n}" for n in range(DELETED)]
    for name in doomed:
        await client.put(name, noise(40 * KIB, rng.randrange(1 << 40)))
    node = rng.choice(site.local.blobs)
    (url, uuid) = await _disk_of(site, node)
    before = set(await inventory(site, url, uuid))
    await asyncio.to_thread(_leave, site, node, is_stopped=is_stopped)

    async def is_lost() -> bool:
        return (await site.disk_states())[uuid] == "lost"

    await eventually(is_lost, what=f"{node['id']} is judged lost", seconds_max=LOST_S_MAX)
    for name in doomed:
        await client.forget(name)
    await eventually(lambda: _is_healed(site, uuid), what="healed", seconds_max=HEALED_S_MAX)
    await asyncio.sleep(2 * grace_s)
    wrong = [f"while {node['id']} is away: {each}" for each in await check_all(site, kept)]
    await asyncio.to_thread(_return, site, node, is_stopped=is_stopped)
    surplus = before - set(await _named_on(site, uuid))
    await eventually(
        lambda: _is_back_and_clean(site, uuid),
        what=f"{node['id']} holds what is named and nothing else",
        seconds_max=GONE_S_MAX,
    )
    if len(surplus) < DELETED // 2:
        wrong.append(f"{node['id']} came back with {len(surplus)} surplus shards: nothing shown")
    return Absent(len(surplus), len(doomed), wrong)


async def _disk_of(site: Site, node: dict[str, Any]) -> tuple[str, bytes]:
    described = await site.described()
    found = next(each for each in described.nodes if each.node == node["id"])
    return found.url, next(disk.uuid for disk in found.disks if disk.state == "in")


def _leave(site: Site, node: dict[str, Any], *, is_stopped: bool) -> None:
    if is_stopped:
        os.kill(node["pid"], signal.SIGSTOP)
    else:
        site.cluster.kill(node)


def _return(site: Site, node: dict[str, Any], *, is_stopped: bool) -> None:
    if is_stopped:
        os.kill(node["pid"], signal.SIGCONT)
    else:
        site.cluster.start(node)


async def _is_healed(site: Site, uuid: bytes) -> bool:
    """Whether no living stripe has a slot on that disk, or one that misses its shard."""
    if (await site.counted()).missing or await site.open_tasks():
        return False
    return not await _named_on(site, uuid)


async def _named_on(site: Site, uuid: bytes) -> list[object]:
    disks = {d.uuid: d.disk for n in (await site.described()).nodes for d in n.disks}
    if uuid not in disks:
        raise HealFailed("a disk is not known any more")
    stripes = await all_stripes(site)
    return [slot for each in stripes for slot in each.slots if slot.disk == disks[uuid]]


async def _is_back_and_clean(site: Site, uuid: bytes) -> bool:
    """Whether it counts again, shards lie apart again, and nothing is left of all the moves."""
    if (await site.disk_states())[uuid] != "in" or not await is_collected(site):
        return False
    stripes = await all_stripes(site)
    return all(len({slot.disk for slot in each.slots}) == len(each.slots) for each in stripes)
