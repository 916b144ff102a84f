"""A local cluster and the ways past its front door: its catalog and its daemons."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from blobd.client import BlobClient
from cli.api import authorization
from cli.connection import local_connection
from cli.local_cluster import LocalCluster
from osscore.model import ShardIdentity
from osscore.names import StripeId
from ossd.clock import SystemClock, system_random
from ossd.rpc import AioRpc
from ossd.signing import ClusterSecrets, Signer
from raftmeta.client import MetaClient
from raftmeta.moving import ListTasks, TasksListed
from raftmeta.queries import CatalogCounted, ClusterDescribed, CountCatalog, GetCluster
from tests.torture.faults import Cluster

LOOK_S = 0.2


class HealFailed(Exception):
    """A promise was broken; the message says which."""


@dataclass(frozen=True, slots=True)
class Site:
    """What the stories work with. `session` carries the root key."""

    cluster: Cluster
    session: aiohttp.ClientSession
    meta: MetaClient
    blobs: BlobClient

    @property
    def local(self) -> LocalCluster:
        """Its folder and processes."""
        return self.cluster.local

    @property
    def api(self) -> str:
        """Base URL of a frontend."""
        return self.cluster.endpoints()[0]

    async def described(self) -> ClusterDescribed:
        """Nodes and disks as the leader knows them."""
        return await self.meta.query(GetCluster(), ClusterDescribed)

    async def counted(self) -> CatalogCounted:
        """The catalog's totals."""
        return await self.meta.query(CountCatalog(), CatalogCounted)

    async def open_tasks(self) -> int:
        """How many shards are still to be written."""
        return len((await self.meta.query(ListTasks(), TasksListed)).tasks)

    async def disk_states(self) -> dict[bytes, str]:
        """State of each disk by uuid."""
        return {d.uuid: d.state for node in (await self.described()).nodes for d in node.disks}


@asynccontextmanager
async def site(local: LocalCluster) -> AsyncIterator[Site]:
    """The ways into a cluster that runs."""
    secret = local.environ(os.environ)["OSS_CLUSTER_SECRET"]
    clock = SystemClock()
    rpc = AioRpc(signer=Signer(ClusterSecrets(current=secret), clock, system_random))
    urls = [node["http"] for node in local.metanodes]
    meta = MetaClient(rpc, urls, clock=clock, random=system_random)
    headers = authorization(local_connection(local.folder / "cluster.json"))
    async with aiohttp.ClientSession(
        headers={**headers, "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=120),
    ) as session:
        try:
            yield Site(Cluster(local, session), session, meta, BlobClient(rpc))
        finally:
            await meta.close()
            await rpc.close()


async def eventually(
    condition: Callable[[], "asyncio.Future[bool] | object"], *, what: str, seconds_max: float
) -> float:
    """Wait until an async condition holds; answers the seconds. Raises HealFailed."""
    began_s = time.monotonic()
    while not await condition():  # type: ignore[misc]
        if time.monotonic() - began_s > seconds_max:
            raise HealFailed(f"after {seconds_max:g} s still not: {what}")
        await asyncio.sleep(LOOK_S)
    return time.monotonic() - began_s


def reported_bad(site: Site) -> set[ShardIdentity]:
    """Every shard that some daemon's log calls bad: only the scrub says so of what nobody read."""
    found = set()
    for path in (site.local.folder / "logs").glob("blob-*.log"):
        for line in path.read_text(errors="replace").splitlines():
            if '"shard_bad"' in line:
                said = json.loads(line)
                stripe = StripeId(bytes.fromhex(said["stripe"]))
                found.add(ShardIdentity(stripe, said["index"], said["gen"]))
    return found
