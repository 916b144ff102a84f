"""What tests of the daemon's parts stand on: real disks in a folder, the real catalog."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from blobd.disks import DataDisk, Disks
from blobd.membership import Membership, NodeAddress
from blobd.shardstore import ShardStore, StoreSettings
from blobd.upkeep import Upkeep
from osscore.digests import crc32c
from osscore.model import Profile, ShardIdentity, reed_solomon
from osscore.names import stripe_id
from ossd.clock import RandomBytes, system_random
from ossd.disk import Disk, SystemDisk
from raftmeta.client import MetaClient
from tests.fakes.clock import ManualClock
from tests.fakes.meta import URLS, CatalogRpc

CODING = reed_solomon(Profile(2, 1))
ADDRESS = NodeAddress(node="blob-1", url="http://blob-1:9201", zone="z1")
MIB = 1024 * 1024


def counting_random() -> RandomBytes:
    """Bytes that differ from call to call and are the same in every run."""
    counter = itertools.count(1)
    return lambda size: next(counter).to_bytes(size, "big")


def identity(number: int, *, birth_ms: int = 1000, gen: int = 0) -> ShardIdentity:
    """A shard of a stripe of its own."""
    return ShardIdentity(
        stripe=stripe_id(birth_ms, number.to_bytes(10, "big")), index=number % 3, gen=gen
    )


async def put(disk: DataDisk, shard: ShardIdentity, body: bytes = b"body") -> None:
    """Store a shard, past the question whether the disk is registered."""
    await disk.store.put(shard, CODING, crc32c(body), body)


@dataclass
class Node:
    """A daemon's disks, registered or not, with a catalog of its own."""

    clock: ManualClock
    rpc: CatalogRpc
    meta: MetaClient
    disks: Disks
    membership: Membership
    upkeep: Upkeep
    files: Disk = field(default_factory=SystemDisk)

    @property
    def first(self) -> DataDisk:
        """The first disk."""
        return next(iter(self.disks))


@asynccontextmanager
async def node(
    folder: Path,
    *names: str,
    rpc: CatalogRpc | None = None,
    clock: ManualClock | None = None,
    address: NodeAddress = ADDRESS,
    registered: bool = True,
    volume_bytes: int = MIB,
) -> AsyncIterator[Node]:
    """Open data folders `names` below `folder`; `rpc` keeps a catalog over restarts."""
    clock = clock or ManualClock()
    rpc = rpc or CatalogRpc(folder, clock)
    files = SystemDisk()
    settings = StoreSettings(volume_bytes=volume_bytes)
    disks = Disks(
        [folder / name for name in names or ("disk-1",)],
        disk=files,
        open_store=partial(ShardStore.open, disk=files, clock=clock, settings=settings),
        random=system_random,
    )
    meta = MetaClient(rpc, URLS, clock=clock, random=counting_random())
    upkeep = Upkeep(disks)
    membership = Membership(
        address=address,
        disks=disks,
        disk=files,
        meta=meta,
        clock=clock,
        heartbeat_s=1.0,
        upkeep=upkeep,
    )
    await asyncio.to_thread(disks.open_all)
    try:
        if registered:
            await membership.register()
        yield Node(clock, rpc, meta, disks, membership, upkeep, files)
    finally:
        await meta.close()
        await disks.close()


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine with a deadline."""

    async def bounded() -> None:
        await asyncio.wait_for(story(), timeout=30)

    asyncio.run(bounded())


async def until(condition: Callable[[], bool], *, clock: ManualClock | None = None) -> None:
    """Wait for a condition, turning the clock if there is one."""
    async with asyncio.timeout(20):
        while not condition():
            if clock is not None:
                clock.advance(0.5)
            await asyncio.sleep(0.005)
