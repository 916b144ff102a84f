"""A node behind real HTTP, and what tests send to it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from blobd.archive.handlers import archive_routes
from blobd.archive.shelves import Shelves
from blobd.client import BlobClient
from blobd.collect import Collector, CollectSettings
from blobd.disks import DataDisk
from blobd.handlers import Shared, routes
from blobd.meters import DaemonMetrics, Parts
from blobd.recheck import Rechecker
from blobd.times import ShardTimes
from blobd.wire import (
    CODING_HEADER,
    CRC_HEADER,
    ShardPut,
    Status,
    SweepPage,
    shard_path,
)
from osscore.digests import crc32c
from osscore.errors import (
    StoreError,
)
from osscore.model import ShardIdentity
from ossd.budget import ByteBudget
from ossd.clock import SystemClock, system_random
from ossd.http import serve
from ossd.metrics import Metrics
from ossd.rpc import AioRpc, Reply
from ossd.server import ServerSettings
from ossd.signing import ClusterSecrets, Signer, Verifier
from tests.blobd.parts import CODING, MIB, Node, identity, node

SECRETS = ClusterSecrets(current="a secret of the cluster")
BODY = bytes(range(256)) * 600  # two whole blocks of 64 KiB and a short one


@dataclass
class Service:
    """A served node, and a client that may call it."""

    node: Node
    url: str
    port: int
    rpc: AioRpc
    client: BlobClient
    budget: ByteBudget
    metrics: Metrics
    shelves: Shelves

    @property
    def disk(self) -> DataDisk:
        return self.node.first

    async def put(self, shard: ShardIdentity, body: bytes, crc: int | None = None) -> None:
        crc = crc32c(body) if crc is None else crc
        await self.client.put_shard(
            self.url, self.disk.uuid, shard, CODING, body, crc, deadline_s=10
        )

    async def get(self, shard: ShardIdentity, **window: int) -> bytes:
        return await self.client.get_shard(self.url, self.disk.uuid, shard, deadline_s=10, **window)

    async def raw(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        return await self.rpc.call(
            method, self.url + path, body=body, headers=headers, deadline_s=10
        )


def put_head(size_bytes: int, body: bytes, disk: bytes, number: int, crc: int = -1) -> ShardPut:
    return ShardPut(
        disk=disk,
        identity=identity(number),
        coding=CODING,
        crc=crc32c(body) if crc < 0 else crc,
        size_bytes=size_bytes,
    )


@asynccontextmanager
async def service(
    folder: Path,
    *names: str,
    registered: bool = True,
    budget_bytes: int = 64 * MIB,
    wait_s: float = 0.2,
) -> AsyncIterator[Service]:
    clock, metrics = SystemClock(), Metrics()
    budget = ByteBudget(budget_bytes, wait_s=wait_s)
    async with node(folder, *names, registered=registered) as found:
        status = Status(id="b", role="blobd", version="0", pid=1, state="ready", disks=())
        collecting = CollectSettings(grace_s=3600.0, compact_bytes_per_s=10**9)

        async def sweep(_: bytes, after: bytes, is_dry_run: bool) -> SweepPage:
            worker = Collector(found.first, meta=found.meta, clock=clock, settings=collecting)
            return await worker.sweep_page(after, is_dry_run=is_dry_run)

        shared = Shared(
            disks=found.disks,
            budget=budget,
            times=ShardTimes(metrics.registry, clock),
            status=lambda: status,
            recheck=Rechecker(found.disks, meta=found.meta, budget=budget).recheck,
            sweep=sweep,
            ask_census=found.upkeep.ask_census,
            order_scrub=found.upkeep.order_scrub,
            last_verified=found.upkeep.last_verified,
        )
        parts = Parts(node="b", disks=found.disks, budget=budget, upkeep=found.upkeep)
        metrics.registry.register(DaemonMetrics(parts))
        settings = ServerSettings(
            role="blobd", clock=clock, metrics=metrics, verifier=Verifier(SECRETS, clock)
        )
        shelves = Shelves(found.disks, found.files)
        archive = archive_routes(shelves, shared)
        server = serve([*routes(shared), *archive], settings=settings, address="127.0.0.1", port=0)
        rpc = AioRpc(signer=Signer(SECRETS, clock, system_random))
        url = f"http://127.0.0.1:{server.port}"
        try:
            yield Service(found, url, server.port, rpc, BlobClient(rpc), budget, metrics, shelves)
        finally:
            await rpc.close()
            await server.stop(2)


async def refused(attempt: object, kind: type[StoreError]) -> None:
    with pytest.raises(kind):
        await attempt  # type: ignore[misc]


async def raw_request(it: Service, text: bytes, *, close: bool) -> bytes:
    """Send bytes as they are; answers whatever comes back until the end or a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
    writer.write(text)
    await writer.drain()
    if close:
        writer.close()
        await writer.wait_closed()
        return b""
    try:
        return await asyncio.wait_for(reader.read(65536), timeout=2)
    finally:
        writer.close()


def signed_put(it: Service, shard: ShardIdentity, body: bytes, framing: str) -> bytes:
    path = shard_path(it.disk.uuid, shard)
    signature = Signer(SECRETS, SystemClock(), system_random).headers("PUT", path, body)
    lines = [f"PUT {path} HTTP/1.1", "Host: b", framing, f"{CODING_HEADER}: rs-2-1"]
    lines += [f"{CRC_HEADER}: {crc32c(body):08x}"]
    lines += [f"{name}: {value}" for name, value in signature.items()]
    return "\r\n".join([*lines, "", ""]).encode()
