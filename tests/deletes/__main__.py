"""`python -m tests.deletes`: what is deleted goes, and nothing else ever does.

Six blob daemons at 4+2, two frontends, a grace of seconds. Objects are stored and deleted while
the leader, daemons and frontends are killed; a frontend stands still for longer than the grace;
a node is away while what it holds is deleted; the catalog is replaced by an older backup. After
each, disks and catalog take what they took before, and what stays is read back and looked at
shard by shard. Prints one JSON report; exits 1 when anything promised did not hold.
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

from cli import local_cluster
from cli.cluster import bring_up
from cli.output import UsageError
from osscore.errors import StoreError
from tests.deletes.absent import absence
from tests.deletes.churn import churn
from tests.deletes.footprint import Footprint, footprint, is_collected
from tests.deletes.paused import pause
from tests.deletes.restored import restore_older
from tests.heal.audit import audit
from tests.heal.objects import Object, check_all, mixed, store_all
from tests.heal.site import HealFailed, Site, eventually, site
from tests.interruption import Interrupted, interruptible
from tests.slow.__main__ import clear

STORIES = ("churn", "paused", "absent", "restored")
GRACE_S = 4.0
COLLECTED_S_MAX = 120.0
VOLUME_BYTES = 8 << 20
OPEN_VOLUMES = 2
"""Of each disk: the one that is written to, and one that compaction writes to."""
ENVIRONMENT = {
    "OSS_GC_GRACE_S": str(GRACE_S),
    "OSS_UPLOAD_EXPIRY_S": "4",
    "OSS_REPAIR_DELAY_S": "3",
    "OSS_HEARTBEAT_S": "0.2",
    "OSS_VOLUME_BYTES": str(VOLUME_BYTES),
    "OSS_REPAIR_BYTES_PER_S": "1000000000",
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.deletes", description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--kept", type=int, default=60, help="objects that stay")
    parser.add_argument("--kills", type=int, default=90)
    parser.add_argument("--pauses", type=int, default=3)
    parser.add_argument("--slow", type=float, default=20.0, help="seconds a slow client takes")
    parser.add_argument("--stories", default=",".join(STORIES), help="which, in their order")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--minutes-max", type=int, default=30)
    return parser.parse_args()


@dataclass(slots=True)
class Story:
    """What is done, what was seen, and what should not have been."""

    folder: Path
    options: argparse.Namespace
    rng: random.Random
    kept: list[Object]
    figures: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    async def tell(self) -> None:
        """All that was asked for."""
        chosen = self.options.stories.split(",")
        local, _ = await asyncio.to_thread(bring_up, self.folder, frontends=2)
        async with site(local) as found:
            await store_all(found, self.kept)
            before = await self._baseline(found, "kept")
            if "churn" in chosen:
                before = await self._churned(found, before)
            for number in range(self.options.pauses if "paused" in chosen else 0):
                before = await self._paused(found, before, number)
            for is_stopped in (True, False) if "absent" in chosen else ():
                before = await self._absent(found, before, is_stopped=is_stopped)
        if "restored" in chosen:
            await self._restored(before)

    async def _churned(self, found: Site, before: Footprint) -> Footprint:
        options = self.options
        _say(f"storing and deleting {options.objects} objects, {options.kills} kills")
        done = await churn(
            found, self.kept, count=options.objects, kills=options.kills, rng=self.rng
        )
        self.figures["kills"] = dict(done.kills)
        self.figures["unanswered"] = done.unanswered
        return await self._judge(found, "churn", before, names=done.names, wrong=done.wrong)

    async def _paused(self, found: Site, before: Footprint, number: int) -> Footprint:
        _say("a frontend stands still")
        done = await pause(found, rng=self.rng, slow_s=self.options.slow)
        self.figures[f"pause_{number}"] = {**done.outcomes, "paused_s": done.paused_s}
        return await self._judge(found, "paused", before, names=done.names, wrong=done.wrong)

    async def _absent(self, found: Site, before: Footprint, *, is_stopped: bool) -> Footprint:
        label = "paused_node" if is_stopped else "killed_node"
        _say(f"a node is away: {label}")
        done = await absence(found, self.kept, rng=self.rng, grace_s=GRACE_S, is_stopped=is_stopped)
        self.figures[f"{label}_surplus"] = done.surplus
        return await self._judge(found, label, before, names=done.names, wrong=done.wrong)

    async def _restored(self, before: Footprint) -> None:
        _say("an older backup takes the place of the catalog")
        done = await restore_older(self.folder, self.kept, rng=self.rng, grace_s=GRACE_S)
        self.figures["restored_unknown"] = done.unknown
        async with site(local_cluster.load_required(self.folder)) as found:
            await self._judge(found, "restored", before, names=done.names, wrong=done.wrong)

    async def _judge(
        self, found: Site, label: str, before: Footprint, *, names: int, wrong: list[str]
    ) -> Footprint:
        """Everything is as before; answers what it takes now."""
        after = await self._baseline(found, label)
        spare_bytes = OPEN_VOLUMES * VOLUME_BYTES * len(found.local.blobs)
        grown = after.grown_beyond(before, names=names, volumes_bytes=spare_bytes)
        seen = await audit(found)
        if not seen.is_whole:
            grown.append(f"{dict(seen.found)}, believed {dict(seen.believed)}")
        lost = await check_all(found, self.kept)
        self.wrong += [f"{label}: {each}" for each in (*wrong, *grown, *lost)]
        return after

    async def _baseline(self, found: Site, label: str) -> Footprint:
        await eventually(
            lambda: is_collected(found),
            what=f"after {label}: all collected",
            seconds_max=COLLECTED_S_MAX,
        )
        taken = await footprint(found)
        self.figures[f"takes_{label}"] = taken.shown()
        return taken


async def tell(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run the stories on a cluster of their own, and report."""
    kept = mixed(options.kept, options.seed)
    story = Story(folder / "cluster", options, random.Random(options.seed), kept)
    began_s = time.monotonic()
    await story.tell()
    seconds = round(time.monotonic() - began_s, 1)
    return {"seed": options.seed, "seconds": seconds, **story.figures, "violations": story.wrong}


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> int:
    """Run, judge, print, clean up; the exit status."""
    options = arguments()
    os.environ.update(ENVIRONMENT)
    with interruptible(seconds_max=60 * options.minutes_max):
        folder = Path(tempfile.mkdtemp(prefix="raftoss-deletes-"))
        try:
            report = asyncio.run(tell(folder, options))
        except (HealFailed, StoreError, UsageError, OSError, Interrupted) as error:
            _say(f"deletes: {error} (seed {options.seed})")
            return 1
        finally:
            clear(folder)
    print(json.dumps(report, indent=1))
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
