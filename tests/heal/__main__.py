"""`python -m tests.heal`: wipe disks and flip bytes, and see everything come back.

Six blob daemons at 4+2. One daemon's disk is wiped, then those of two at once, then one byte
is flipped in each of m shards of many objects, which nobody reads until the scrub has found
them all. Prints one JSON report; exits 1 when anything promised did not hold.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.cluster import bring_up
from cli.output import UsageError
from osscore.errors import StoreError
from tests.heal import damage
from tests.heal.audit import Audit, all_stripes, audit
from tests.heal.objects import Object, check_all, mixed, store_all
from tests.heal.site import HealFailed, Site, eventually, reported_bad, site
from tests.interruption import Interrupted, interruptible
from tests.slow.__main__ import clear

HEALED_S_MAX = 60.0
"""From the moment the disk is judged lost to the last shard written anew."""
ENVIRONMENT = {
    "OSS_REPAIR_DELAY_S": "3",
    "OSS_HEARTBEAT_S": "0.2",
    "OSS_GC_GRACE_S": "60",
    "OSS_VOLUME_BYTES": str(64 << 20),
    "OSS_REPAIR_BYTES_PER_S": "1000000000",
    "OSS_SCRUB_BYTES_PER_S": "200000000",
    "OSS_SCRUB_REST_S": "1",
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.heal", description=__doc__)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--flipped", type=int, default=200, help="objects with flipped bytes")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--minutes-max", type=int, default=20)
    return parser.parse_args()


@dataclass(slots=True)
class Story:
    """What is done, what was seen, and what should not have been."""

    site: Site
    options: argparse.Namespace
    rng: random.Random
    objects: list[Object]
    figures: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    async def tell(self) -> None:
        """All of it."""
        _say(f"storing {len(self.objects)} objects")
        await store_all(self.site, self.objects)
        whole = await audit(self.site)
        self.figures["stripes"] = whole.stripes
        self.judge("after storing", whole)
        for count in (1, 2):
            await self._wiped(count)
        await self._flipped()

    async def _wiped(self, count: int) -> None:
        nodes = self.rng.sample(self.site.local.blobs, count)
        label = f"wiped_{count}"
        _say(f"wiping {', '.join(node['id'] for node in nodes)}")
        before = await self.site.disk_states()
        lost = {
            disk.uuid
            for node in (await self.site.described()).nodes
            if node.node in {each["id"] for each in nodes}
            for disk in node.disks
            if disk.state == "in"
        }
        assert lost <= before.keys()
        moved_before = (await audit(self.site)).moved
        await asyncio.to_thread(damage.wipe, self.site, *nodes)

        async def judged() -> bool:
            states = await self.site.disk_states()
            return all(states[uuid] == "lost" for uuid in lost)

        detected_s = await eventually(judged, what="the disks are judged lost", seconds_max=60)
        healed_s = await eventually(self._is_healed, what="healed", seconds_max=10 * HEALED_S_MAX)
        seen = await audit(self.site)
        self.figures[label] = {
            "detected_s": round(detected_s, 1),
            "healed_s": round(healed_s, 1),
            "shards_written": seen.moved - moved_before,
            **figures_of(seen),
        }
        self.judge(label, seen)
        if healed_s > HEALED_S_MAX:
            self.violations.append(f"{label}: healed {healed_s:.0f} s after detection")
        self.violations += [f"{label}: {each}" for each in await self._read_all()]

    async def _flipped(self) -> None:
        large = [each for each in self.objects if each.size_bytes > 6000]
        chosen = self.rng.sample(large, min(self.options.flipped, len(large)))
        untouched = [each for each in self.objects if each not in chosen]
        _say(f"flipping bytes in {len(chosen)} objects")
        stripes = await all_stripes(self.site)
        flipped = await damage.flip_in(self.site, chosen, stripes, self.rng)
        reading = asyncio.create_task(self._read_until_cancelled(untouched))

        async def all_found() -> bool:
            return flipped <= await asyncio.to_thread(reported_bad, self.site)

        found_s = await eventually(all_found, what="all flips found", seconds_max=300)
        reading.cancel()
        wrong = await check_all(self.site, chosen)  # repair may not be done yet
        healed_s = await eventually(self._is_healed, what="healed", seconds_max=300)
        seen = await audit(self.site)
        self.figures["flipped"] = {
            "shards": len(flipped),
            "found": len(flipped & reported_bad(self.site)),
            "found_s": round(found_s, 1),
            "healed_s": round(healed_s, 1),
            **figures_of(seen),
        }
        self.judge("flipped", seen)
        self.violations += [f"flipped: {each}" for each in [*wrong, *await self._read_all()]]

    async def _is_healed(self) -> bool:
        """As the catalog has it: no slot missing, none on a lost disk, nothing to write."""
        if (await self.site.counted()).missing or await self.site.open_tasks():
            return False
        described = await self.site.described()
        lost = {d.disk for n in described.nodes for d in n.disks if d.state == "lost"}
        stripes = await all_stripes(self.site)
        return not any(slot.disk in lost for stripe in stripes for slot in stripe.slots)

    async def _read_until_cancelled(self, objects: list[Object]) -> None:
        while True:
            wrong = await check_all(self.site, self.rng.sample(objects, min(20, len(objects))))
            self.violations += [f"meanwhile: {each}" for each in wrong]

    async def _read_all(self) -> list[str]:
        return await check_all(self.site, self.objects)

    def judge(self, label: str, seen: Audit) -> None:
        """Note what is not as it should be."""
        if not seen.is_whole:
            self.violations.append(f"{label}: {dict(seen.found)}, believed {dict(seen.believed)}")


def figures_of(seen: Audit) -> dict[str, Any]:
    """What an audit found."""
    return {
        "slots": dict(seen.found),
        "not_good_in_catalog": dict(seen.believed),
        "stripes_too_close": seen.close,
    }


async def tell(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Start a cluster, run the story, and report."""
    local, _ = await asyncio.to_thread(bring_up, folder / "cluster")
    async with site(local) as found:
        story = Story(
            found, options, random.Random(options.seed), mixed(options.objects, options.seed)
        )
        await story.tell()
    return {"seed": options.seed, **story.figures, "violations": story.violations}


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> int:
    """Run, judge, print, clean up; the exit status."""
    options = arguments()
    os.environ.update(ENVIRONMENT)
    with interruptible(seconds_max=60 * options.minutes_max):
        folder = Path(tempfile.mkdtemp(prefix="raftoss-heal-"))
        try:
            report = asyncio.run(tell(folder, options))
        except (HealFailed, StoreError, UsageError, OSError, Interrupted) as error:
            _say(f"heal: {error}")
            return 1
        finally:
            clear(folder)
    print(json.dumps(report, indent=1))
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
