"""How fast one blob daemon takes and gives shards over HTTP, through BlobClient.

    python -m bench.blobd --url http://127.0.0.1:9201 [--seconds 5] [--clients 16] [--json]

Needs OSS_CLUSTER_SECRET and a daemon that is registered (its first writable disk is used).
"""

import argparse
import asyncio
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from blobd.client import BlobClient
from blobd.wire import STATUS, ShardPut, Status
from osscore.digests import crc32c
from osscore.model import Profile, ShardIdentity, reed_solomon
from osscore.names import stripe_id
from ossd.clock import SystemClock, system_random
from ossd.rpc import AioRpc, check
from ossd.signing import ClusterSecrets, Signer

CODING = reed_solomon(Profile(4, 2))
DEADLINE_S = 30.0


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured row. `cpu_s`: of this client alone; `server_cpu_s`: of the daemon."""

    name: str
    shard_bytes: int
    shards_per_s: float
    mb_per_s: float
    cpu_s: float
    server_cpu_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs."""

    client: BlobClient
    url: str
    disk: bytes
    pid: int
    seconds: float
    clients: int

    async def measure(
        self, name: str, size_bytes: int, step: Callable[[], Awaitable[int]]
    ) -> Figure:
        """Run `step` (which answers how many shards it moved) for the time given."""
        moved = 0
        end_s = time.monotonic() + self.seconds

        async def work() -> None:
            nonlocal moved
            while time.monotonic() < end_s:
                count = await step()  # `moved += await` would lose what others add meanwhile
                moved += count

        began_s, cpu_s, server_cpu_s = time.monotonic(), _own_cpu_s(), process_cpu_s(self.pid)
        await asyncio.gather(*(work() for _ in range(self.clients)))
        took_s = time.monotonic() - began_s
        return Figure(
            name=name,
            shard_bytes=size_bytes,
            shards_per_s=round(moved / took_s, 1),
            mb_per_s=round(moved * size_bytes / took_s / 1e6, 1),
            cpu_s=round(_own_cpu_s() - cpu_s, 2),
            server_cpu_s=round(process_cpu_s(self.pid) - server_cpu_s, 2),
            seconds=round(took_s, 2),
        )

    async def put(self, size_bytes: int, kept: list[ShardIdentity]) -> Figure:
        """Single PUTs of fresh shards, which are appended to `kept`."""
        body = system_random(size_bytes)
        crc = crc32c(body)

        async def step() -> int:
            identity = fresh_identity()
            await self.client.put_shard(
                self.url, self.disk, identity, CODING, body, crc, deadline_s=DEADLINE_S
            )
            kept.append(identity)
            return 1

        return await self.measure("put", size_bytes, step)

    async def put_batch(self, size_bytes: int, count: int) -> Figure:
        """Batches of `count` fresh shards."""
        body = system_random(size_bytes)
        crc = crc32c(body)

        async def step() -> int:
            puts = [(self._head(size_bytes, crc), body) for _ in range(count)]
            outcomes = await self.client.put_batch(self.url, puts, deadline_s=DEADLINE_S)
            return sum(not outcome.error for outcome in outcomes)

        return await self.measure(f"put_batch_{count}", size_bytes, step)

    async def get(self, size_bytes: int, kept: list[ShardIdentity]) -> Figure:
        """Whole shards, one after the other."""
        turn = 0

        async def step() -> int:
            nonlocal turn
            identity = kept[turn % len(kept)]
            turn += 1
            await self.client.get_shard(self.url, self.disk, identity, deadline_s=DEADLINE_S)
            return 1

        return await self.measure("get", size_bytes, step)

    def _head(self, size_bytes: int, crc: int) -> ShardPut:
        return ShardPut(
            disk=self.disk,
            identity=fresh_identity(),
            coding=CODING,
            crc=crc,
            size_bytes=size_bytes,
        )


def fresh_identity() -> ShardIdentity:
    """An identity nobody has used: born now, so the sweep leaves it alone for the grace."""
    return ShardIdentity(
        stripe=stripe_id(SystemClock().now_ms(), system_random(10)), index=0, gen=0
    )


def process_cpu_s(pid: int) -> float:
    """CPU seconds of a process on this machine, 0 where it cannot be seen."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def run(url: str, secret: str, seconds: float, clients: int) -> list[Figure]:
    """All measurements, in order."""
    signer = Signer(ClusterSecrets(current=secret), SystemClock(), system_random)
    rpc = AioRpc(signer=signer)
    try:
        reply = check(await rpc.call("GET", url + STATUS, deadline_s=DEADLINE_S))
        status = msgspec.json.decode(reply.body, type=Status)
        disk = next(disk for disk in status.disks if disk.writable)
        bench = Bench(BlobClient(rpc), url, bytes.fromhex(disk.uuid), status.pid, seconds, clients)
        large: list[ShardIdentity] = []
        small: list[ShardIdentity] = []
        return [
            await bench.put(1 << 20, large),
            await bench.get(1 << 20, large),
            await bench.put(4096, small),
            await bench.get(4096, small),
            await bench.put_batch(4096, 32),
        ]
    finally:
        await rpc.close()


def main() -> None:
    """Parse the flags, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    secret = os.environ.get("OSS_CLUSTER_SECRET", "")
    if not secret:
        sys.exit("OSS_CLUSTER_SECRET is not set.")
    figures = asyncio.run(run(flags.url, secret, flags.seconds, flags.clients))
    if flags.json:
        print(msgspec.json.encode(figures).decode())
        return
    for figure in figures:
        print(
            f"{figure.name:14} {figure.shard_bytes:>8} B  {figure.shards_per_s:>9} shards/s"
            f"  {figure.mb_per_s:>7} MB/s  cpu {figure.cpu_s} s client,"
            f" {figure.server_cpu_s} s daemon, in {figure.seconds} s"
        )


if __name__ == "__main__":
    main()
