"""What is done to the cluster: processes killed, restarted, folders wiped."""

import asyncio
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp

from cli import local_cluster, local_process
from cli.local_cluster import LocalCluster

DEADLINE_S = 60.0


class Cluster:
    """A local cluster under torture; nodes are found by id, signals go to their pids."""

    def __init__(self, cluster: LocalCluster, session: aiohttp.ClientSession) -> None:
        self.local = cluster
        self._session = session

    def endpoints(self) -> list[str]:
        """Base URLs of all frontends."""
        return [frontend["api"] for frontend in self.local.frontends]

    def kill(self, *nodes: dict[str, Any]) -> None:
        """SIGKILL all of them at once and wait until they are gone."""
        for node in nodes:
            os.kill(node["pid"], signal.SIGKILL)
        for node in nodes:
            local_process.wait_gone(node["pid"], node["id"])

    def stop(self, node: dict[str, Any]) -> None:
        """SIGTERM and wait."""
        local_process.stop(node["pid"], node["id"])

    def start(self, *nodes: dict[str, Any]) -> None:
        """Start them again."""
        for node in nodes:
            daemon = self.local.daemon(node)
            node["pid"] = local_process.start(daemon, self.local.environ(os.environ))
        self.local.save()

    async def describe(self) -> dict[str, Any]:
        """GET /v1/cluster; {} while no frontend can tell."""
        try:
            timeout = aiohttp.ClientTimeout(total=5)
            url = f"{self.endpoints()[0]}/v1/cluster"
            async with self._session.get(url, timeout=timeout) as answer:
                return await answer.json() if answer.status == 200 else {}
        except (aiohttp.ClientError, TimeoutError):
            return {}

    async def leader(self) -> dict[str, Any]:
        """The present leader's entry. Raises TimeoutError when none is found."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            for node in (await self.describe()).get("metanodes", []):
                if node["state"] == "leader":
                    return self.local.node(node["id"])
            await asyncio.sleep(0.02)
        raise TimeoutError("no leader")

    async def settle(self) -> None:
        """Until every node is up and all metanodes have applied the same."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            found = await self.describe()
            meta, blobs = found.get("metanodes", []), found.get("blobs", [])
            states = sorted(node["state"] for node in meta)
            if (
                states == ["follower"] * (len(self.local.metanodes) - 1) + ["leader"]
                and len({node["applied_index"] for node in meta}) == 1
                and sum(node["state"] == "up" for node in blobs) == len(self.local.blobs)
            ):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the cluster does not settle: {found}")
            await asyncio.sleep(0.05)

    async def wait_members(self) -> None:
        """Until all metanodes are leader or follower and near each other."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            meta = (await self.describe()).get("metanodes", [])
            states = sorted(node["state"] for node in meta)
            if states == ["follower"] * (len(self.local.metanodes) - 1) + ["leader"]:
                indexes = [node["applied_index"] for node in meta]
                if max(indexes) - min(indexes) < 1000:
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"metanodes do not come back: {meta}")
            await asyncio.sleep(0.05)


async def kill_leader(cluster: Cluster) -> float:
    """Kill -9 the leader; answers the seconds until the next write is acknowledged."""
    leader = await cluster.leader()
    cluster.kill(leader)
    began = time.monotonic()
    await _first_write(cluster)
    took_s = time.monotonic() - began
    cluster.start(leader)
    await cluster.wait_members()
    return took_s


async def _first_write(cluster: Cluster) -> None:
    url = f"{cluster.endpoints()[0]}/buckets/torture-probe/objects/probe"
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            async with cluster._session.put(url, data=os.urandom(100)) as answer:
                if answer.status == 200:
                    return
        except (aiohttp.ClientError, TimeoutError):
            pass  # the next try tells
    raise TimeoutError("no write succeeds after the leader was killed")


async def kill_all_metanodes(cluster: Cluster) -> None:
    """Kill -9 every metanode at the same moment, then start all."""
    cluster.kill(*cluster.local.metanodes)
    cluster.start(*cluster.local.metanodes)
    await cluster.wait_members()


async def rolling_restart(cluster: Cluster) -> None:
    """SIGTERM and start each metanode in turn."""
    for node in cluster.local.metanodes:
        cluster.stop(node)
        cluster.start(node)
        await cluster.wait_members()


async def wipe_metanode(cluster: Cluster, rng: random.Random) -> None:
    """Kill one metanode, delete its folder, start it empty, wait until it is a member."""
    node = rng.choice(cluster.local.metanodes)
    cluster.kill(node)
    shutil.rmtree(Path(node["data"]))
    cluster.start(node)
    await cluster.wait_members()


async def kill_blobs(cluster: Cluster, rng: random.Random, *, count: int) -> None:
    """Kill -9 that many blob daemons for a moment, then start them."""
    nodes = rng.sample(cluster.local.blobs, count)
    cluster.kill(*nodes)
    await asyncio.sleep(rng.uniform(0.2, 2.0))
    cluster.start(*nodes)
    await _wait_blobs(cluster)


async def _wait_blobs(cluster: Cluster) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        blobs = (await cluster.describe()).get("blobs", [])
        if sum(node["state"] == "up" for node in blobs) == len(cluster.local.blobs):
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("blob daemons do not come back")


def open_cluster(folder: Path, session: aiohttp.ClientSession) -> Cluster:
    """The cluster that `ossctl up` made in `folder`."""
    return Cluster(local_cluster.load_required(folder), session)
