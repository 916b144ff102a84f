"""Three metanodes grow to five and shrink to three others, while writers write and leaders die.

What is acknowledged must be there afterwards, and nothing may be applied twice: a bucket made
a second time would be refused. A blob daemon and a frontend, told of the first three only,
must be at work when none of those is left.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from osscore.errors import Conflict, StoreError, Unavailable
from ossd.clock import SystemClock, system_random
from ossd.rpc import AioRpc
from raftmeta.client import MetaClient, read_status
from raftmeta.commands import CreateBucket, Done
from raftmeta.member_client import MemberClient
from raftmeta.queries import BucketsListed, ClusterDescribed, GetCluster, ListBuckets
from raftmeta.wire import FrontendHeartbeat
from tests.cluster.harness import Cluster, Metanode

WRITERS = 4
BEAT_S = 0.3
SETTLED_S = 30.0


@dataclass
class Writers:
    """Clients that make buckets, each name once."""

    client: MetaClient
    acknowledged: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    longest_s: float = 0.0
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def write_for_ever(self) -> None:
        """Until cancelled. Raises BucketAlreadyExists if a command was applied twice."""
        while True:
            name = f"bucket-{next(self._numbers)}"
            began_s = time.monotonic()
            self.unknown.add(name)
            with contextlib.suppress(Unavailable):
                await self.client.propose(CreateBucket(bucket=name), Done)
                self.unknown.remove(name)
                self.acknowledged.add(name)
                self.longest_s = max(self.longest_s, time.monotonic() - began_s)
            await asyncio.sleep(0.005)

    async def beat_for_ever(self) -> None:
        """As every frontend does: the answers tell who the metanodes are."""
        beat = FrontendHeartbeat(frontend="the test", url="http://127.0.0.1:1")
        while True:
            await self.client.heartbeat(beat)
            await asyncio.sleep(BEAT_S)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Writing for the time of the block; what a writer raised is raised at its end."""
        jobs = [self.write_for_ever() for _ in range(WRITERS)] + [self.beat_for_ever()]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            await self.client.close()
        failures = [each for each in ended if not isinstance(each, asyncio.CancelledError)]
        assert not failures, failures

    async def check(self, client: MetaClient) -> None:
        """Every acknowledged bucket is there, and nothing that nobody made."""
        listed = await client.query(ListBuckets(), BucketsListed)
        there = {bucket.name for bucket in listed.buckets}
        lost = self.acknowledged - there
        assert not lost, f"lost {len(lost)} of {len(self.acknowledged)}: {sorted(lost)[:5]}"
        assert there <= self.acknowledged | self.unknown


@dataclass(frozen=True)
class Told:
    """What became of it. `described`: the cluster as the last leader has it."""

    acknowledged: int
    leader_kills: int
    longest_write_s: float
    described: ClusterDescribed


class Story:
    """One cluster and what is done to its metanodes."""

    def __init__(self, cluster: Cluster, rpc: AioRpc, *, seed: int) -> None:
        self.cluster = cluster
        self.rpc = rpc
        self.rng = random.Random(seed)
        self.numbers = itertools.count(len(cluster.metanodes) + 1)
        first = [each.url for each in cluster.metanodes]
        self.client = MetaClient(rpc, first, clock=SystemClock(), random=system_random)
        self.writers = Writers(self.client)
        self.members = MemberClient(
            rpc, lambda: self.client.urls, clock=SystemClock(), random=system_random
        )
        self.kills = 0

    async def counted(self) -> set[str]:
        """Ids of the metanodes that count."""
        return {each.member.id for each in (await self.members.show()).followers if each.counts}

    def node(self, name: str) -> Metanode:
        """The process of that id."""
        return next(each for each in self.cluster.metanodes if each.name == name)

    async def newcomer(self, *, besides: str = "") -> Metanode:
        """Start an empty metanode that knows one address of a living member, and not `besides`:
        with no other address it could not come in once that one is dead."""
        known = self.node(self.rng.choice(sorted(set(await self.counted()) - {besides})))
        number = next(self.numbers)
        return await asyncio.to_thread(self.cluster.add_newcomer, number, peer=known)

    async def add(self, name: str) -> None:
        """As an operator: again until it counts."""
        await self._until(lambda: self.members.add(name), name, counts=True)

    async def remove(self, name: str) -> None:
        """As an operator: again until it does not count."""
        await self._until(lambda: self.members.remove(name), name, counts=False)

    async def _until(self, change, name: str, *, counts: bool) -> None:  # type: ignore[no-untyped-def]
        last_s = time.monotonic() + SETTLED_S
        while True:
            try:
                await change()
            except StoreError as error:
                with contextlib.suppress(StoreError):
                    if (name in await self.counted()) == counts:
                        return
                assert time.monotonic() < last_s, f"{name}: {error!r}"
                await asyncio.sleep(0.2)
            else:
                return

    async def kill_leader(self) -> Metanode:
        """kill -9 of whoever leads; it is started again at once."""
        leader = self.node((await self.members.show()).leader)
        await asyncio.to_thread(leader.kill)
        await asyncio.to_thread(leader.start)
        self.kills += 1
        return leader

    async def kill_leader_during(self, change) -> None:  # type: ignore[no-untyped-def]
        """A change and a dying leader at the same time."""
        killing = asyncio.ensure_future(self.kill_leader())
        await asyncio.sleep(self.rng.uniform(0, 0.3))
        await change
        await killing

    async def round(self) -> None:
        """Grow by two, shrink by the two oldest, replace the third: leaders die in between."""
        oldest = sorted(await self.counted(), key=lambda name: int(name.split("-")[1]))
        for _ in range(2):
            newcomer = await self.newcomer()
            await self.kill_leader_during(self.add(newcomer.name))
        assert len(await self.counted()) == 5
        for name in oldest[:2]:
            await self.kill_leader_during(self.remove(name))
        await self.replace_wiped(oldest[2])
        for name in oldest:
            await self.wait_state(name, "removed")
            await asyncio.to_thread(self.node(name).kill)

    async def replace_wiped(self, name: str) -> None:
        """A metanode loses its disk; an empty one of another id takes its place."""
        old = self.node(name)
        newcomer = await self.newcomer(besides=name)
        await asyncio.to_thread(old.kill)
        last_s = time.monotonic() + SETTLED_S
        while True:
            try:
                await self.members.replace(name, newcomer.name)
                break
            except Conflict:
                raise
            except StoreError as error:
                assert time.monotonic() < last_s, error
        assert name not in await self.counted()
        await asyncio.to_thread(old.start)  # it comes back, and finds out

    async def end(self) -> Told:
        """Judge what the writers did, as the metanodes that are left have it."""
        urls = list(self.client.urls)
        fresh = MetaClient(self.rpc, urls, clock=SystemClock(), random=system_random)
        try:
            await self.writers.check(fresh)
            described = await fresh.query(GetCluster(), ClusterDescribed)
        finally:
            await fresh.close()
        return Told(
            acknowledged=len(self.writers.acknowledged),
            leader_kills=self.kills,
            longest_write_s=round(self.writers.longest_s, 2),
            described=described,
        )

    async def wait_state(self, name: str, state: str) -> None:
        """Until that metanode says so of itself."""
        last_s = time.monotonic() + SETTLED_S
        while (await read_status(self.rpc, self.node(name).url)).state != state:
            assert time.monotonic() < last_s, f"{name} does not become {state}"
            await asyncio.sleep(0.1)


async def grow_and_shrink(cluster: Cluster, rpc: AioRpc, *, rounds: int, seed: int) -> Told:
    """The whole story over a formed cluster of three; figures of it. Raises AssertionError."""
    story = Story(cluster, rpc, seed=seed)
    async with story.writers.at_work():
        for _ in range(rounds):
            await story.round()
    return await story.end()


async def exchange_one(cluster: Cluster, rpc: AioRpc) -> Told:
    """The short form: one comes while the leader dies; who leads then goes; the new one leads."""
    story = Story(cluster, rpc, seed=1)
    async with story.writers.at_work():
        newcomer = await story.newcomer()
        await story.kill_leader_during(story.add(newcomer.name))
        leader = (await story.members.show()).leader
        await story.remove(leader)
        await story.wait_state(leader, "removed")
        if (await story.members.show()).leader != newcomer.name:
            assert await story.members.give_away(newcomer.name) == newcomer.name
        assert await story.counted() == {each.name for each in cluster.metanodes} - {leader}
    return await story.end()
