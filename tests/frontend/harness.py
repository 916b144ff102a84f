"""A frontend's flows in one process: the real catalog, blob daemons in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from frontend.cluster import ClusterView
from frontend.flows.batches import ShardBatches
from frontend.flows.get import read_object
from frontend.flows.objects import ObjectRef, find_object
from frontend.flows.pace import ReadPace
from frontend.flows.put import PutRequest, StoredObject, put_object
from frontend.flows.store import FlowSettings, Store
from osscore.erasure import best_codec
from osscore.model import Profile
from ossd.budget import ByteBudget
from ossd.clock import SystemClock, system_random
from ossd.lending import Lending
from ossd.signing import ClusterSecrets, seal
from raftmeta.catalog.catalog import Catalog
from raftmeta.client import MetaClient, wrap_catalog_key
from raftmeta.commands import (
    CreateBucket,
    DiskReport,
    Done,
    FormCluster,
    NodeRegistered,
    RegisterNode,
)
from raftmeta.entries import Batch, Entry
from tests.fakes.blobs import FakeBlobs
from tests.fakes.meta import CLUSTER_ID, URLS, CatalogRpc

BUCKET = "bucket"
CODEC = best_codec()


class World:
    """One frontend, its catalog and `nodes` blob daemons, each with one disk."""

    def __init__(self, folder: Path, *, nodes: int = 6, settings: FlowSettings | None = None):
        self.clock = SystemClock()
        form(folder)
        self.meta_rpc = CatalogRpc(folder, self.clock)
        self.catalog = self.meta_rpc.catalog
        self.blobs = FakeBlobs()
        self.nodes = [f"blob-{number + 1}" for number in range(nodes)]
        self.meta = MetaClient(self.meta_rpc, URLS, clock=self.clock, random=system_random)
        self.blobs.meta = self.meta
        blobs: Any = self.blobs
        self.store = Store(
            meta=self.meta,
            blobs=blobs,
            cluster=ClusterView(self.meta, clock=self.clock),
            codec=CODEC,
            budget=ByteBudget(128 << 20, wait_s=5),
            loans=Lending(128 << 20, wait_s=5),
            batches=ShardBatches(blobs, deadline_s=2),
            pace=ReadPace(self.clock),
            clock=self.clock,
            random=system_random,
            threads=ThreadPoolExecutor(2),
            settings=settings or FAST,
        )

    async def begin(self) -> None:
        """Register the daemons and make the bucket."""
        for node in self.nodes:
            await self.register(node)
        await self.meta.propose(CreateBucket(bucket=BUCKET), Done)

    async def register(self, node: str) -> None:
        """A daemon with one disk appears."""
        disk = DiskReport(uuid=uuid(node), epoch=0, capacity_bytes=1 << 40)
        command = RegisterNode(
            node=node, url=url(node), zone="", cluster_id=CLUSTER_ID, disks=(disk,)
        )
        await self.meta.propose(command, NodeRegistered)

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        size_bytes: int | None = -1,
        profile: Profile | None = None,
        piece_bytes: int = 1 << 20,
        **more: Any,
    ) -> StoredObject:
        """Store `body`; `size_bytes` -1: declared rightly, None: not declared."""
        request = PutRequest(
            bucket=BUCKET,
            key=key,
            size_bytes=len(body) if size_bytes == -1 else size_bytes,
            profile=profile,
            **more,
        )
        return await put_object(self.store, request, pieces(body, piece_bytes))

    async def get(self, key: str, first: int = 0, last: int | None = None) -> bytes:
        """Read [first, last] of the current version."""
        ref = ObjectRef(bucket=BUCKET, key=key)
        found = await find_object(self.store, ref, first=first)
        size_bytes = found.version.attributes.size_bytes
        last = size_bytes - 1 if last is None else last
        if not size_bytes:
            return b""
        return b"".join([bytes(p) async for p in read_object(self.store, found, first, last)])

    async def close(self) -> None:
        """Stop everything and check that nothing is held."""
        await self.store.close()
        await self.meta.close()
        assert (self.store.budget.used_bytes, self.store.loans.used_bytes) == (0, 0)


SECRETS = ClusterSecrets(current="a cluster secret for tests")
CATALOG_KEY = bytes(range(32))
ROOT = ("root", "root-secret")


def form(folder: Path) -> None:
    """Make the cluster, with a root key that can be opened."""
    command = FormCluster(
        cluster_id=CLUSTER_ID,
        catalog_key_wrapped=wrap_catalog_key(SECRETS, CATALOG_KEY, system_random),
        root_access_key=ROOT[0],
        root_secret_sealed=seal(CATALOG_KEY, ROOT[1].encode(), system_random),
        system_token_digest=bytes(32),
    )
    entry = Entry(session=0, seq=0, command=command)
    catalog = Catalog(folder / "catalog.sqlite")
    batch = Batch(time_ms=SystemClock().now_ms(), entries=(entry,))
    catalog.apply(1, msgspec.msgpack.encode(batch))
    catalog.close()


FAST = FlowSettings(all_shards_s=0.3, quorum_s=1.0, shard_deadline_s=2.0, shard_patience_s=0.1)


def url(node: str) -> str:
    """Where a daemon is reached."""
    return f"http://{node}:9201"


def uuid(node: str) -> bytes:
    """The uuid of its disk."""
    return node.encode().ljust(16, b"-")


async def pieces(body: bytes, piece_bytes: int = 1 << 20) -> AsyncIterator[bytes]:
    """A body as a client sends it."""
    for at in range(0, len(body), piece_bytes):
        yield body[at : at + piece_bytes]


def run(
    folder: Path,
    story: Callable[[World], Awaitable[None]],
    *,
    nodes: int = 6,
    settings: FlowSettings | None = None,
) -> None:
    """Let `story` happen in a fresh world."""

    async def main() -> None:
        world = World(folder, nodes=nodes, settings=settings)
        try:
            await world.begin()
            await story(world)
        finally:
            await world.close()
            world.catalog.close()

    asyncio.run(main(), debug=False)


def random_bytes(size_bytes: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same at each run."""
    import random

    return random.Random(seed).randbytes(size_bytes)
