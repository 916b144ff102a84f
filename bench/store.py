"""`python -m bench.store`: the whole store over HTTP, as JSON.

Starts a local cluster of its own (or uses `--dir`), then measures PUT, GET, HEAD, LIST
and DELETE for several sizes and concurrencies: operations and MB per second, latency
percentiles, CPU seconds of all server processes and of this client. Every body read
up to 1 MiB is checked against its digest, longer ones by their size: hashing them would
cost the client more than moving them. Figures of one run are comparable with each other;
the machine may be shared, so repeat and take medians.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from cli import local_cluster
from cli.api import authorization
from cli.cluster import bring_up, stop_all
from cli.connection import local_connection
from cli.local_cluster import LocalCluster

MIB = 1 << 20
SIZES = {
    "4KiB": 4096,
    "64KiB": 65536,
    "1MiB": MIB,
    "16MiB": 16 * MIB,
    "64MiB": 64 * MIB,
    "256MiB": 256 * MIB,
}
Operation = Callable[[int], Awaitable[int]]


class Bench:
    """One cluster, one client session, and the figures so far."""

    def __init__(
        self, cluster: LocalCluster, session: aiohttp.ClientSession, *, seconds_max: float
    ) -> None:
        self._seconds_max = seconds_max
        self._cluster = cluster
        self._session = session
        self._base = cluster.frontends[0]["api"] + "/buckets/bench/objects/"
        self.figures: list[dict[str, Any]] = []

    async def measure(self, name: str, operation: Operation, *, count: int, clients: int) -> int:
        """Run `operation(0..count-1)` from so many clients; answers how many were done."""
        waiting, latencies, moved_bytes = iter(range(count)), [], 0
        servers, client, began = self._cpu_s(), time.process_time(), time.monotonic()

        async def worker() -> None:
            nonlocal moved_bytes
            for number in waiting:
                started = time.perf_counter()
                moved = await operation(number)
                moved_bytes += moved  # not `+= await`: that reads the sum before it waits
                latencies.append(time.perf_counter() - started)
                if time.monotonic() - began > self._seconds_max:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(worker())
        seconds = time.monotonic() - began
        ordered = sorted(latencies)
        server_cpu_s = self._cpu_s() - servers
        figure = {
            "name": name,
            "clients": clients,
            "operations": len(ordered),
            "per_second": round(len(ordered) / seconds, 1),
            "mb_per_second": round(moved_bytes / seconds / 1e6, 1),
            "p50_ms": round(statistics.median(ordered) * 1e3, 2),
            "p99_ms": round(ordered[int(len(ordered) * 0.99) - (len(ordered) < 100)] * 1e3, 2),
            "server_cpu_s": round(server_cpu_s, 2),
            "server_cpu_ms_per_operation": round(server_cpu_s / len(ordered) * 1e3, 3),
            "client_cpu_s": round(time.process_time() - client, 2),
        }
        self.figures.append(figure)
        sys.stderr.write(json.dumps(figure) + "\n")
        return len(ordered)

    async def size(self, label: str, clients: int) -> None:
        """PUT, HEAD, GET and DELETE objects of one size."""
        size_bytes = SIZES[label]
        count = max(clients, min(20_000, (2 << 30) // size_bytes))
        bodies = [os.urandom(size_bytes) for _ in range(2 if size_bytes > 16 * MIB else 8)]
        # A number in front makes each object's first stripe new, so dedup hides no work;
        # later stripes of large bodies must differ as well.
        names = f"{label}-c{clients}"

        def body(number: int) -> list[bytes]:
            return _unique(bodies[number % len(bodies)], number)

        async def put(number: int) -> int:
            async with self._session.put(
                f"{self._base}{names}/{number}",
                data=_chunks(body(number)) if size_bytes > MIB else b"".join(body(number)),
            ) as answer:
                if answer.status != 200:
                    raise RuntimeError(f"PUT answered {answer.status}: {await answer.text()}")
            return size_bytes

        async def get(number: int) -> int:
            seen = 0
            digest = hashlib.sha256() if size_bytes <= MIB else None
            async with self._session.get(f"{self._base}{names}/{number}") as answer:
                async for piece in answer.content.iter_any():
                    seen += len(piece)
                    if digest is not None:
                        digest.update(piece)
                etag = answer.headers["ETag"].strip('"')
            if seen != size_bytes or (digest and digest.hexdigest() != etag):
                raise RuntimeError(f"GET of {names}/{number} gave wrong bytes")
            return seen

        async def head(number: int) -> int:
            async with self._session.head(f"{self._base}{names}/{number}") as answer:
                answer.raise_for_status()
            return 0

        async def delete(number: int) -> int:
            async with self._session.delete(f"{self._base}{names}/{number}") as answer:
                answer.raise_for_status()
            return 0

        limit = {"clients": clients}
        done = await self.measure(f"put {label}", put, count=count, **limit)
        await self.measure(f"get {label}", get, count=done, **limit)
        await self.measure(f"head {label}", head, count=done, **limit)
        await self.measure(f"delete {label}", delete, count=done, **limit)

    async def listing(self, *, keys: int) -> None:
        """List that many keys in pages of 1,000."""
        url = self._base.removesuffix("/")

        async def put(number: int) -> int:
            async with self._session.put(f"{self._base}list/{number:08}", data=b"x") as answer:
                answer.raise_for_status()
            return 1

        await self.measure("put for list", put, count=keys, clients=32)
        seen = 0
        after: str | None = ""
        began, servers = time.monotonic(), self._cpu_s()
        while after is not None:
            params = {"prefix": "list/", "after": after, "limit": "1000"}
            async with self._session.get(url, params=params) as answer:
                page = await answer.json()
            seen += len(page["objects"])
            after = page["next"]
        seconds = time.monotonic() - began
        figure = {
            "name": "list",
            "keys": seen,
            "keys_per_second": round(seen / seconds),
            "server_cpu_s": round(self._cpu_s() - servers, 2),
        }
        self.figures.append(figure)
        sys.stderr.write(json.dumps(figure) + "\n")

    def _cpu_s(self) -> float:
        return sum(cpu_seconds(node["pid"]) for node in self._cluster.nodes())


def cpu_seconds(pid: int) -> float:
    """User and system seconds a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _unique(body: bytes, number: int) -> list[bytes]:
    """`body` with a mark each MiB, so that no stripe equals another object's."""
    mark = number.to_bytes(8, "big") + os.urandom(8)
    pieces = []
    for at in range(0, len(body), MIB):
        piece = body[at : at + MIB]
        pieces += [mark[: len(piece)], piece[16:]]
    return pieces


async def _chunks(pieces: list[bytes]) -> Any:
    for piece in pieces:
        yield piece


async def run(cluster: LocalCluster, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All figures of one cluster."""
    headers = authorization(local_connection(cluster.folder / "cluster.json"))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        headers={**headers, "Accept-Encoding": "identity"},
        connector=connector,
        auto_decompress=False,
        read_bufsize=MIB,
        timeout=aiohttp.ClientTimeout(total=300),
    ) as session:
        async with session.put(f"{cluster.frontends[0]['api']}/buckets/bench") as answer:
            if answer.status not in (200, 201, 204, 409):
                raise RuntimeError(await answer.text())
        bench = Bench(cluster, session, seconds_max=options.seconds)
        for label in options.sizes:
            for clients in options.clients:
                if SIZES[label] * clients > options.in_flight_bytes_max:
                    sys.stderr.write(f"{label} with {clients} clients: too much in flight\n")
                    continue
                await bench.size(label, clients)
        if options.list_keys:
            await bench.listing(keys=options.list_keys)
        return bench.figures


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.store", description=__doc__)
    parser.add_argument("--dir", type=Path, help="use the running cluster of this folder")
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--clients", nargs="*", type=int, default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10.0, help="most for one figure")
    parser.add_argument("--list-keys", type=int, default=20_000)
    most = "larger sums of bodies under way are left out, and said so"
    parser.add_argument("--in-flight-bytes-max", type=int, default=2 << 30, help=most)
    return parser.parse_args()


def main() -> None:
    """Start a cluster unless one is given, measure, print, clean up."""
    options = arguments()
    if options.dir:
        figures = asyncio.run(run(local_cluster.load_required(options.dir), options))
        print(json.dumps(figures, indent=1))
        return
    folder = Path(tempfile.mkdtemp(prefix="raftoss-bench-"))
    cluster, _ = bring_up(folder / "cluster")
    try:
        print(json.dumps(asyncio.run(run(cluster, options)), indent=1))
    finally:
        stop_all(cluster)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
