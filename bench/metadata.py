"""`python -m bench.metadata`: commits and linearizable reads per second of three real metanodes.

Starts a cluster of its own with one blob daemon and no load but this: so many clients in one
process propose small inline PUTs through one MetaClient, as a busy frontend does.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.store import cpu_seconds
from cli.cluster import bring_up, stop_all
from cli.local_cluster import LocalCluster
from osscore.model import ObjectAttributes
from ossd.clock import SystemClock, system_random
from ossd.rpc import AioRpc
from ossd.signing import ClusterSecrets, Signer
from raftmeta.client import MetaClient
from raftmeta.commands import CreateBucket, Done, InlineBody, ObjectPut, PutObject
from raftmeta.queries import FindObject, Found


async def run(cluster: LocalCluster, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Commit and read figures for each number of clients."""
    clock = SystemClock()
    secret = (cluster.folder / "secret").read_text().strip()
    rpc = AioRpc(signer=Signer(ClusterSecrets(current=secret, previous=None), clock, system_random))
    urls = [node["http"] for node in cluster.metanodes]
    meta = MetaClient(rpc, urls, clock=clock, random=system_random)
    figures = []
    try:
        await meta.propose(CreateBucket(bucket="bench"), Done)
        body = InlineBody(data=b"x" * 100)

        async def put(number: int) -> None:
            attributes = ObjectAttributes(size_bytes=100)
            command = PutObject(bucket="bench", key=f"{number}", attributes=attributes, body=body)
            await meta.propose(command, ObjectPut)

        async def find(number: int) -> None:
            await meta.query(FindObject(bucket="bench", key=f"{number}"), Found)

        for clients in options.clients:
            for name, work in (("commits", put), ("reads", find)):
                figures.append(await _measure(cluster, name, work, clients, options.count))
    finally:
        await meta.close()
        await rpc.close()
    return figures


async def _measure(
    cluster: LocalCluster,
    name: str,
    work: Callable[[int], Awaitable[None]],
    clients: int,
    count: int,
) -> dict[str, Any]:
    count = count if clients > 1 else count // 20
    waiting, latencies = iter(range(count)), []
    servers = sum(cpu_seconds(node["pid"]) for node in cluster.metanodes)
    began = time.monotonic()

    async def worker() -> None:
        for number in waiting:
            started = time.perf_counter()
            await work(number)
            latencies.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(worker())
    seconds = time.monotonic() - began
    cpu = sum(cpu_seconds(node["pid"]) for node in cluster.metanodes) - servers
    ordered = sorted(latencies)
    return {
        "name": name,
        "clients": clients,
        "per_second": round(count / seconds),
        "p50_ms": round(statistics.median(ordered) * 1e3, 2),
        "p99_ms": round(ordered[int(count * 0.99)] * 1e3, 2),
        "metanode_cpu_ms_per_operation": round(cpu / count * 1e3, 3),
    }


def main() -> None:
    """Start a cluster, measure, print, clean up."""
    parser = argparse.ArgumentParser(prog="python -m bench.metadata", description=__doc__)
    parser.add_argument("--clients", nargs="*", type=int, default=[1, 8, 64, 256])
    parser.add_argument("--count", type=int, default=20_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="raftoss-bench-"))
    cluster, _ = bring_up(folder / "cluster", blobs=2)
    try:
        print(json.dumps(asyncio.run(run(cluster, options)), indent=1))
    finally:
        stop_all(cluster)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
