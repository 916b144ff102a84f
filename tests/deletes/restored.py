"""An older backup takes the place of the catalog: what it knows stays, what it does not know
goes only once a person has said so (ADR 16)."""

import asyncio
import json
import os
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli import local_cluster
from cli.local_cluster import LocalCluster
from tests.cluster.local import OSSCTL, noise
from tests.deletes.client import Client
from tests.deletes.footprint import is_collected
from tests.heal.audit import audit
from tests.heal.leftovers import held, wanted
from tests.heal.objects import KIB, Object, check_all
from tests.heal.site import HealFailed, Site, eventually, site

LATER = 12
COUNTED_S_MAX = 120.0
GONE_S_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Restored:
    """`unknown`: shards of objects that the backup does not know."""

    unknown: int
    names: int
    wrong: list[str]


async def restore_older(
    folder: Path, kept: list[Object], *, rng: random.Random, grace_s: float
) -> Restored:
    """Back up, write on, lose every metanode, restore, let the grace pass, adopt."""
    local = local_cluster.load_required(folder)
    file = folder.parent / "catalog.backup"
    later = {f"later/{n}": noise(40 * KIB, rng.randrange(1 << 40)) for n in range(LATER)}
    async with site(local) as before:
        await ossctl(folder, "meta", "backup", str(file))
        for name, body in later.items():
            await Client(before).put(name, body)
        shards = set(await held(before))
        await asyncio.to_thread(_lose_metanodes, before, local)
    await ossctl(folder, "meta", "restore", str(file), "--yes")
    async with site(local_cluster.load_required(folder)) as after:
        wrong = await _stays(after, kept, shards, grace_s)
        for name in later:
            status, _ = await Client(after).get(name)
            if status != 404:
                wrong.append(f"{name}: {status}, which the backup does not know")
        unknown = len(shards - await wanted(after))
        await ossctl(folder, "meta", "adopt")
        await eventually(
            lambda: is_collected(after),
            what="what the backup does not know to be deleted",
            seconds_max=GONE_S_MAX,
        )
        wrong += [f"adopted: {each}" for each in await check_all(after, kept)]
    return Restored(unknown, len(later), wrong)


async def _stays(after: Site, kept: list[Object], shards: set[Any], grace_s: float) -> list[str]:
    """Through the grace and every census nothing goes; what differs, and objects that do."""

    async def is_counted() -> bool:
        deletion = (await after.cluster.describe()).get("deletion", {})
        return bool(deletion) and deletion["disks_confirmed"] == len(after.local.blobs)

    await eventually(is_counted, what="a census of every disk", seconds_max=COUNTED_S_MAX)
    await asyncio.sleep(3 * grace_s)
    wrong = [f"restored: {each}" for each in await check_all(after, kept)]
    seen = await audit(after)
    if not seen.is_whole:
        wrong.append(f"restored: {dict(seen.found)}, believed {dict(seen.believed)}")
    if lost := shards - set(await held(after)):
        wrong.append(f"{len(lost)} shards went before the catalog was adopted")
    return wrong


def _lose_metanodes(before: Site, local: LocalCluster) -> None:
    before.cluster.kill(*local.metanodes)
    for node in local.metanodes:
        shutil.rmtree(node["data"])


async def ossctl(folder: Path, *words: str) -> Any:
    """Run `ossctl WORDS` on the cluster of that folder. Raises HealFailed."""
    done = await asyncio.to_thread(
        subprocess.run,
        [OSSCTL, *words, "--json"],
        env={**os.environ, "OSS_DIR": str(folder)},
        capture_output=True,
        timeout=120,
    )
    if done.returncode:
        raise HealFailed(f"ossctl {' '.join(words)}: {done.stderr.decode()[-500:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]
