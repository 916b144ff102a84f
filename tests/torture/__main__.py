"""`python -m tests.torture`: kill loops under load; exits 1 when any promise is broken.

Prints one JSON report: what was done, what was promised, how long the first write took
after each kill of the leader, and every violation.
"""

import argparse
import asyncio
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from cli import local_cluster
from cli.api import authorization
from cli.cluster import bring_up, stop_all
from cli.connection import local_connection
from tests.torture import faults
from tests.torture.fingerprints import catalog_fingerprints
from tests.torture.ledger import Ledger
from tests.torture.verify import verify
from tests.torture.workload import Workload

FIRST_WRITE_MEDIAN_S = 1.0
FIRST_WRITE_P99_S = 3.0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--leader-kills", type=int, default=100)
    parser.add_argument("--kill-all", type=int, default=50)
    parser.add_argument("--rolling", type=int, default=50)
    parser.add_argument("--wipes", type=int, default=6)
    parser.add_argument("--blob-kills", type=int, default=30)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument(
        "--judge-from", type=int, default=20, help="fewer leader kills say nothing of latency"
    )
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument(
        "--keep-going", action="store_true", help="do not stop at the first broken promise"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder for a look")
    return parser.parse_args()


async def torture(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run everything against the cluster of `folder`; answers the report."""
    rng = random.Random(options.seed)
    headers = authorization(local_connection(folder / "cluster.json"))
    ledger, first_writes = Ledger(), []
    began = time.monotonic()
    async with aiohttp.ClientSession(headers=headers) as session:
        cluster = faults.open_cluster(folder, session)
        for bucket in ("torture", "torture-probe"):
            async with session.put(f"{cluster.endpoints()[0]}/buckets/{bucket}") as answer:
                assert answer.status in (200, 201, 204), await answer.text()
        workload = Workload(ledger, cluster.endpoints(), headers)
        await workload.start(writers=options.writers, readers=options.readers, seed=options.seed)
        plan = (
            ["leader"] * options.leader_kills
            + ["all"] * options.kill_all
            + ["rolling"] * options.rolling
            + ["wipe"] * options.wipes
            + ["blobs"] * options.blob_kills
        )
        rng.shuffle(plan)
        for number, fault in enumerate(plan):
            await asyncio.sleep(rng.uniform(0.0, 0.5))
            with _as_violation(ledger, after=fault):
                await _inflict(fault, cluster, rng, first_writes)
            _say(f"{number + 1}/{len(plan)} {fault}: {ledger.counts}")
            if ledger.violations and not options.keep_going:
                break
        await workload.stop()
        # Whatever was seen so far: what was promised is counted all the same.
        for step in (
            cluster.settle(),
            verify(ledger, cluster.endpoints()[0], session),
            cluster.settle(),
        ):
            with _as_violation(ledger, after="the faults"):
                await step
    return {
        "seed": options.seed,
        "faults": {kind: plan.count(kind) for kind in sorted(set(plan))},
        "seconds": round(time.monotonic() - began, 1),
        "keys": len(ledger.keys),
        "counts": ledger.counts,
        "first_write_s": _latencies(first_writes, ledger, options.judge_from),
        "violations": ledger.violations,
    }


@contextmanager
def _as_violation(ledger: Ledger, *, after: str) -> Iterator[None]:
    """A cluster that does not come back has broken its promise, too."""
    try:
        yield
    except (TimeoutError, aiohttp.ClientError) as error:
        ledger.violation(f"after {after}: {error!r}")


async def _inflict(
    fault: str, cluster: faults.Cluster, rng: random.Random, first_writes: list[float]
) -> None:
    if fault == "leader":
        first_writes.append(await faults.kill_leader(cluster))
    elif fault == "all":
        await faults.kill_all_metanodes(cluster)
    elif fault == "rolling":
        await faults.rolling_restart(cluster)
    elif fault == "wipe":
        await faults.wipe_metanode(cluster, rng)
    else:
        await faults.kill_blobs(cluster, rng, count=rng.choice((1, 2)))


def _latencies(seconds: list[float], ledger: Ledger, judge_from: int) -> dict[str, float]:
    if not seconds:
        return {}
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    found = {
        "count": len(ordered),
        "median": round(statistics.median(ordered), 3),
        "p99": round(p99, 3),
        "max": round(ordered[-1], 3),
    }
    if len(ordered) >= judge_from:
        if found["median"] > FIRST_WRITE_MEDIAN_S:
            ledger.violation(f"first write after a leader kill: median {found['median']} s")
        if p99 > FIRST_WRITE_P99_S:
            ledger.violation(f"first write after a leader kill: p99 {p99:.2f} s")
    return found


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> int:
    """Make a cluster, torture it, compare the catalogs, clean up."""
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="raftoss-torture-"))
    data = folder / "cluster"
    bring_up(data)
    failed = True
    try:
        report = asyncio.run(torture(options, data))
        cluster = local_cluster.load_required(data)
        stop_all(cluster)
        report["fingerprints"] = catalog_fingerprints(cluster)
        if len(set(report["fingerprints"].values())) != 1:
            report["violations"].append("the catalogs of the metanodes differ")
        print(json.dumps(report, indent=2))
        failed = bool(report["violations"])
    finally:
        stop_all(local_cluster.load_required(data))
        if options.keep or failed:
            _say(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
