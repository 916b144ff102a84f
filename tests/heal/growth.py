"""`python -m tests.heal.growth`: a store of three nodes grows to seven, and one is drained.

Filled at 2+1 on three blob daemons, then three more start. Shards move until all disks are
equally full, while a normal client measures in pairs of windows, with the moving paused and not,
and while leaders, sources and targets are killed. At the end a seventh starts and one of the seven
is drained while others read and write, which is cancelled once, and removed. Prints one JSON
report; exits 1 when anything promised did not hold.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.cluster import bring_up
from cli.local_cluster import LocalCluster
from cli.output import UsageError
from osscore.errors import StoreError
from tests.heal.audit import all_stripes, audit
from tests.heal.leftovers import nothing_left
from tests.heal.objects import MIB, Object, check_all, mixed, store_all
from tests.heal.site import HealFailed, Site, eventually, site
from tests.interruption import Interrupted, interruptible
from tests.slow.__main__ import clear

UNEVEN_MAX = 0.05
SLOWER_MAX = 2.0
SLACK_MS = 5.0
"""On two shared cores a single p99 of a few milliseconds is noise."""
LOAD_BYTES = 40_000
BALANCED_S_MAX = 600.0
LEFT_BEHIND_S_MAX = 180.0
ENVIRONMENT = {
    "OSS_REPAIR_DELAY_S": "60",
    "OSS_HEARTBEAT_S": "0.2",
    "OSS_GC_GRACE_S": "20",
    "OSS_VOLUME_BYTES": str(64 << 20),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.heal.growth", description=__doc__)
    parser.add_argument("--objects", type=int, default=400)
    parser.add_argument("--large", type=int, default=16, help="objects of 64 MiB besides")
    parser.add_argument("--pairs", type=int, default=5, help="of windows")
    parser.add_argument("--window", type=float, default=3.0, help="seconds")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--bytes-per-s", type=int, default=8_000_000, help="throttle a disk")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--minutes-max", type=int, default=25)
    return parser.parse_args()


@dataclass(slots=True)
class Growth:
    """What is done, what was seen, and what should not have been."""

    site: Site
    options: argparse.Namespace
    rng: random.Random
    objects: list[Object]
    figures: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    async def tell(self) -> None:
        """From the moment the new daemons run."""
        began_s = time.monotonic()
        self.figures["fill_before"] = await self.fill()
        await self._pairs()
        await self._killed()
        await eventually(self._is_even, what="equal fill", seconds_max=BALANCED_S_MAX)
        self.figures["even_s"] = round(time.monotonic() - began_s, 1)
        self.figures["fill_after"] = await self.fill()
        await self._check("grown")
        await self._drained()
        await self._check("drained")
        await eventually(
            self._nothing_left, what="nothing left behind", seconds_max=LEFT_BEHIND_S_MAX
        )

    # --- what others notice ---------------------------------------------------------------------

    async def _pairs(self) -> None:
        """p99 of small requests, moving paused and not, by turns."""
        ratios: dict[str, list[float]] = {"put": [], "get": []}
        seen: dict[str, list[float]] = {}
        for _ in range(self.options.pairs):
            await self._post("rebalance/pause")
            await asyncio.sleep(1)
            quiet = await self._window()
            await self._post("rebalance/resume")
            await asyncio.sleep(1)
            busy = await self._window()
            for kind, found in ratios.items():
                found.append(busy[kind] / quiet[kind])
                seen.setdefault(f"{kind}_paused_ms", []).append(round(quiet[kind], 1))
                seen.setdefault(f"{kind}_moving_ms", []).append(round(busy[kind], 1))
                if not await self.site.open_tasks():
                    self.violations.append("nothing moved while it was measured")
        self.figures["p99"] = seen
        for kind in ratios:
            paused = statistics.median(seen[f"{kind}_paused_ms"])
            moving = statistics.median(seen[f"{kind}_moving_ms"])
            if moving > SLOWER_MAX * paused + SLACK_MS:
                self.violations.append(f"p99 of {kind}: {paused} ms paused, {moving} ms moving")

    async def _window(self) -> dict[str, float]:
        """p99 in ms of PUT and GET of 64 KiB by one client."""
        spent: dict[str, list[float]] = {"put": [], "get": []}
        ends_s = time.monotonic() + self.options.window
        # As on three nodes: what asks for six could not do without the one that is drained.
        url = f"{self.site.api}/objects/window?profile=2%2B1"
        while time.monotonic() < ends_s:
            body = os.urandom(65_536)
            for kind in spent:
                began_s = time.perf_counter()
                if kind == "put":
                    async with self.site.session.put(url, data=body) as answer:
                        await answer.read()
                else:
                    async with self.site.session.get(url) as answer:
                        if await answer.read() != body:
                            self.violations.append("a window read other bytes")
                spent[kind].append((time.perf_counter() - began_s) * 1e3)
        return {kind: _p99(found) for kind, found in spent.items()}

    # --- deaths ---------------------------------------------------------------------------------

    async def _killed(self) -> None:
        """kill -9 of the leader, a source or a target, each at a random moment."""
        counts: Counter[str] = Counter()
        for _ in range(self.options.kills):
            kind = self.rng.choice(("leader", "source", "target"))
            node = await self._victim(kind)
            await asyncio.sleep(self.rng.uniform(0, 0.7))
            await asyncio.to_thread(self.site.cluster.kill, node)
            await asyncio.sleep(self.rng.uniform(0, 0.7))
            await asyncio.to_thread(self.site.cluster.start, node)
            counts[kind] += 1
        self.figures["kills"] = dict(counts)
        await self.site.cluster.settle()

    async def _victim(self, kind: str) -> dict[str, Any]:
        blobs = self.site.local.blobs
        if kind == "leader":
            return await self.site.cluster.leader()
        return self.rng.choice(blobs[:3] if kind == "source" else blobs[3:])

    # --- one node goes --------------------------------------------------------------------------

    async def _drained(self) -> None:
        await _up(self.site.local.folder.parent, 7)
        node = self.site.local.blobs[0]["id"]
        if await self._status("remove", node=node) != 409:
            self.violations.append("a node that holds shards could be removed")
        await self._post("drain", node=node)
        await asyncio.sleep(1)
        await self._post("drain", node=node, cancel="1")
        await self._post("drain", node=node)
        began_s = time.monotonic()
        load = [asyncio.create_task(each) for each in (self._read_on(), self._write_on())]

        async def is_empty() -> bool:
            return not (await self.fill()).get(node, 0)

        await eventually(is_empty, what=f"{node} is drained", seconds_max=BALANCED_S_MAX)
        self.figures["drained_s"] = round(time.monotonic() - began_s, 1)
        self.violations += await _end_of(load)
        await eventually(
            lambda: self._is_removed(node), what=f"{node} can be removed", seconds_max=60
        )

    async def _is_removed(self, node: str) -> bool:
        return await self._status("remove", node=node) == 200

    async def _read_on(self) -> None:
        while True:
            self.violations += await check_all(self.site, self.rng.sample(self.objects, 20))

    async def _write_on(self) -> None:
        """What was acknowledged is compared at the end with all the rest."""
        for number in itertools.count():
            seed = self.options.seed + 1000 * (number + 1)
            fresh = [Object(f"load/{number}-{n}", LOAD_BYTES, seed + n) for n in range(8)]
            await store_all(self.site, fresh)
            self.objects += fresh
            self.figures["written_while_drained"] = 8 * (number + 1)
            await asyncio.sleep(0.25)

    # --- what must hold ---------------------------------------------------------------------------

    async def fill(self) -> dict[str, int]:
        """Bytes of shards by node, as the catalog has them."""
        described = await self.site.described()
        nodes = {disk.disk: node.node for node in described.nodes for disk in node.disks}
        held: Counter[str] = Counter({node.node: 0 for node in described.nodes})
        for stripe in await all_stripes(self.site):
            for slot in stripe.slots:
                held[nodes[slot.disk]] += stripe.shard_bytes
        return dict(sorted(held.items()))

    async def _is_even(self) -> bool:
        held = (await self.fill()).values()
        mean = statistics.mean(held)
        is_even = max(abs(each - mean) for each in held) <= UNEVEN_MAX * mean
        return is_even and not await self.site.open_tasks()

    async def _check(self, label: str) -> None:
        seen = await audit(self.site)
        if not seen.is_whole or seen.close:
            self.violations.append(
                f"{label}: {dict(seen.found)}, believed {dict(seen.believed)}, {seen.close} close"
            )
        self.violations += [f"{label}: {each}" for each in await check_all(self.site, self.objects)]

    async def _nothing_left(self) -> bool:
        return await nothing_left(self.site)

    async def _post(self, work: str, **query: str) -> None:
        url = f"{self.site.api}/v1/maintenance/{work}"
        async with self.site.session.post(url, params=query) as answer:
            if answer.status != 200:
                raise HealFailed(f"{work} {query}: {answer.status} {await answer.text()}")

    async def _status(self, work: str, **query: str) -> int:
        url = f"{self.site.api}/v1/maintenance/{work}"
        async with self.site.session.post(url, params=query) as answer:
            return answer.status


async def _end_of(load: list[asyncio.Task[None]]) -> list[str]:
    """Stop what goes on for ever; complaints about what had ended by itself."""
    for task in load:
        task.cancel()
    outcomes = await asyncio.gather(*load, return_exceptions=True)
    return [repr(each) for each in outcomes if not isinstance(each, asyncio.CancelledError)]


def _p99(found: list[float]) -> float:
    ordered = sorted(found)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


async def tell(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Fill three nodes, start three more, and tell the rest."""
    rng = random.Random(options.seed)
    objects = mixed(options.objects, options.seed)
    objects += [Object(f"large/{n}", 64 * MIB, options.seed + n) for n in range(options.large)]
    local = await _up(folder, 3)
    _say("filling three nodes")
    async with site(local) as small:
        await store_all(small, objects)
    _say("three more")
    async with site(await _up(folder, 6)) as grown:
        growth = Growth(grown, options, rng, objects)
        await growth.tell()
    return {"seed": options.seed, **growth.figures, "violations": growth.violations}


async def _up(folder: Path, blobs: int) -> LocalCluster:
    local, _ = await asyncio.to_thread(bring_up, folder / "cluster", blobs=blobs)
    return local


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> int:
    """Run, judge, print, clean up; the exit status."""
    options = arguments()
    os.environ.update({**ENVIRONMENT, "OSS_REPAIR_BYTES_PER_S": str(options.bytes_per_s)})
    with interruptible(seconds_max=60 * options.minutes_max):
        folder = Path(tempfile.mkdtemp(prefix="raftoss-growth-"))
        try:
            report = asyncio.run(tell(folder, options))
        except (HealFailed, StoreError, UsageError, OSError, Interrupted) as error:
            _say(f"growth: {error}")
            return 1
        finally:
            clear(folder)
    print(json.dumps(report, indent=1))
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
