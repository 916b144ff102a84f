"""Wiped disks and flipped bytes."""

import asyncio
import mmap
import random
import shutil
from pathlib import Path
from typing import Any

from osscore.model import ShardIdentity, Stripe
from tests.heal.objects import Object
from tests.heal.site import HealFailed, Site

NEEDLE_BYTES = 64


def wipe(site: Site, *nodes: dict[str, Any]) -> None:
    """kill -9 these daemons, empty their folders, and start them as new ones."""
    site.cluster.kill(*nodes)
    for node in nodes:
        for folder in folders(node):
            shutil.rmtree(folder)
            folder.mkdir()
    site.cluster.start(*nodes)


def folders(node: dict[str, Any]) -> list[Path]:
    """The data folders of a daemon."""
    data = node["data"]
    return [Path(each) for each in ([data] if isinstance(data, str) else data)]


async def flip_in(
    site: Site, chosen: list[Object], stripes: list[Stripe], rng: random.Random
) -> set[ShardIdentity]:
    """One byte in each of m shards of one stripe of each object; answers which shards."""
    described = await site.described()
    places = {d.disk: (n.node, n.url, d.uuid) for n in described.nodes for d in n.disks}
    by_id = {stripe.stripe.hex(): stripe for stripe in stripes}
    flipped: set[ShardIdentity] = set()
    for each in chosen:
        stripe = by_id[rng.choice(await _stripes_of(site, each))]
        for slot in rng.sample(stripe.slots, stripe.coding.parity_count):
            node, url, uuid = places[slot.disk]
            identity = ShardIdentity(stripe.stripe, slot.index, slot.gen)
            body = await site.blobs.get_shard(url, uuid, identity, deadline_s=30)
            await asyncio.to_thread(_flip, site.local.node(node), body, rng)
            flipped.add(identity)
    return flipped


async def _stripes_of(site: Site, each: Object) -> list[str]:
    url = f"{site.api}/locate/{each.name}?all=1"
    async with site.session.get(url) as answer:
        if answer.status != 200:
            raise HealFailed(f"locate {each.name}: {answer.status}")
        return [stripe["stripe"] for stripe in (await answer.json())["stripes"]]


def _flip(node: dict[str, Any], body: bytes, rng: random.Random) -> None:
    """Find the shard in the daemon's volumes and change one of its bytes."""
    needle = body[:NEEDLE_BYTES]
    for folder in folders(node):
        for path in sorted(folder.rglob("*.volume")):
            with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
                at = view.find(needle)
                if at >= 0:
                    at += rng.randrange(len(body))
                    view[at] ^= 1 << rng.randrange(8)
                    view.flush()
                    return
    raise HealFailed(f"{node['id']} holds a shard that is in none of its volumes")
