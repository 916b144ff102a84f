"""`python -m bench.repair`: how fast the shards of a lost disk are written anew, as JSON.

Six blob daemons at 4+2 are filled, one is killed for good (or, with `--replaced`, comes back
with an empty disk), and the bytes that the others write are counted from the first to the last
one: MB/s of rebuilt shards, what was read for them, and CPU seconds of all daemons per GB.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from bench.blobd import process_cpu_s
from cli import local_cluster, local_process
from cli.api import authorization
from cli.cluster import bring_up, stop_all
from cli.connection import local_connection
from cli.local_cluster import LocalCluster

MIB = 1 << 20
ENVIRONMENT = {
    "OSS_REPAIR_DELAY_S": "2",
    "OSS_HEARTBEAT_S": "0.2",
    "OSS_REPAIR_BYTES_PER_S": "10000000000",
    "OSS_SCRUB_BYTES_PER_S": "1",
}
LOOK_S = 0.05
SETTLED_S = 5.0
"""So long without another byte: all is written."""
_MOVED = re.compile(r'^oss_moved_bytes_total\{how="(\w+)"\} (\S+)$', re.MULTILINE)
_READ = re.compile(r"^oss_moves_read_bytes_total (\S+)$", re.MULTILINE)


async def measure(cluster: LocalCluster, options: argparse.Namespace) -> dict[str, Any]:
    """Fill, lose a disk, and watch."""
    headers = authorization(local_connection(cluster.folder / "cluster.json"))
    async with aiohttp.ClientSession(headers=headers) as session:
        await _fill(session, cluster, options.fill_mib)
        victim, others = cluster.blobs[0], cluster.blobs[1:]
        os.kill(victim["pid"], signal.SIGKILL)
        local_process.wait_gone(victim["pid"], victim["id"])
        if options.replaced:
            shutil.rmtree(victim["data"])
            victim["pid"] = local_process.start(cluster.daemon(victim), cluster.environ(os.environ))
            others = cluster.blobs
        return await _watch(session, cluster, others)


async def _fill(session: aiohttp.ClientSession, cluster: LocalCluster, fill_mib: int) -> None:
    for number in range(fill_mib // 64):
        url = f"{cluster.frontends[0]['api']}/objects/bench/{number}?profile=4%2B2"
        async with session.put(url, data=os.urandom(64 * MIB)) as answer:
            answer.raise_for_status()


async def _watch(
    session: aiohttp.ClientSession, cluster: LocalCluster, writers: list[dict[str, Any]]
) -> dict[str, Any]:
    daemons = [*writers, *cluster.metanodes]
    cpu_s, moved, read = _cpu_s(daemons), 0.0, 0.0
    began_s = ended_s = 0.0
    while not began_s or time.monotonic() - ended_s < SETTLED_S:
        now, read_now = await _moved(session, writers)
        if now > moved:
            began_s = began_s or time.monotonic()
            ended_s, moved, read = time.monotonic(), now, read_now
        await asyncio.sleep(LOOK_S)
    seconds = ended_s - began_s
    return {
        "rebuilt_mb": round(moved / 1e6, 1),
        "seconds": round(seconds, 2),
        "mb_per_s": round(moved / 1e6 / seconds, 1),
        "read_per_byte": round(read / moved, 2),
        "cpu_s_per_gb": round((_cpu_s(daemons) - cpu_s) / (moved / 1e9), 2),
    }


async def _moved(
    session: aiohttp.ClientSession, writers: list[dict[str, Any]]
) -> tuple[float, float]:
    moved = read = 0.0
    for node in writers:
        try:
            async with session.get(f"{node['http']}/metrics") as answer:
                text = await answer.text()
        except aiohttp.ClientError:
            continue  # a replaced one is still starting
        moved += sum(float(value) for _, value in _MOVED.findall(text))
        read += sum(float(value) for value in _READ.findall(text))
    return moved, read


def _cpu_s(nodes: list[dict[str, Any]]) -> float:
    return sum(process_cpu_s(node["pid"]) for node in nodes)


def main() -> int:
    """Run once and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.repair", description=__doc__)
    parser.add_argument("--fill-mib", type=int, default=2048)
    parser.add_argument("--replaced", action="store_true", help="onto one new disk, not all others")
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    folder = Path(tempfile.mkdtemp(prefix="raftoss-repair-"))
    try:
        cluster, _ = bring_up(folder / "cluster")
        print(json.dumps(asyncio.run(measure(cluster, options)), indent=1))
    finally:
        found = local_cluster.load(folder / "cluster")
        if found is not None:
            stop_all(found)
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
