"""A leader that archives, the log it does it of, and blob daemons."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from blake3 import blake3

from osscore.errors import Overloaded
from osscore.model import Profile
from ossd.disk import SystemDisk
from raftmeta.archive.gathering import Gathering, best_whole, find
from raftmeta.archive.pieces import ArchivedEntry
from raftmeta.backup.container import Manifest
from raftmeta.generations import DeletionState
from raftmeta.queries import ClusterDescribed, DiskInfo, NodeInfo
from raftmeta.snapshots import PackedBackup
from raftmeta.stewards.archiveseams import ArchivingSeams
from raftmeta.stewards.archiving import SURVEY_S, Archiving
from tests.fakes.clock import ManualClock
from tests.fakes.disk import SimulatedDisk
from tests.raftmeta.archive.daemons import Daemons, uuid_of

WORK = SystemDisk()
URLS = [f"blob-{n}" for n in range(1, 7)]


class World:
    """A cluster whose log the test writes, six blob daemons, and one leader at a time."""

    def __init__(self, urls: Sequence[str] = URLS) -> None:
        self.clock = ManualClock()
        self.daemons = Daemons(urls)
        self.nodes = {url: node(url) for url in urls}
        self.generation, self.frozen = 1, False
        self.log = [b"\x01begin"]
        self.first = 1
        self.snapshots = 0
        self.snapshot_bytes = 1000
        self.busy = False
        self.room = True
        self.leader = self.new_leader()

    def new_leader(self) -> Archiving:
        async def profiles() -> Sequence[Profile | None]:
            return [None]

        seams = ArchivingSeams(
            described=self.described,
            profiles=profiles,
            applied_index=lambda: self.applied_index,
            read_log=self.read_log,
            packed=self.packed,
            may_copy=lambda: self.room,
            client=self.daemons,
        )
        return Archiving(seams, self.clock)

    @property
    def applied_index(self) -> int:
        return self.first + len(self.log) - 1

    def apply(self, count: int = 1, *, size_bytes: int = 20) -> None:
        for _ in range(count):
            body = blake3(str(self.applied_index).encode()).digest(length=size_bytes)
            self.log.append(b"\x00" + body)

    def cut(self, first: int) -> None:
        """This leader's log begins there."""
        self.log, self.first = self.log[first - self.first :], first

    def described(self) -> ClusterDescribed:
        return ClusterDescribed(
            cluster_id=b"c" * 16,
            catalog_key_wrapped=b"",
            system_token_digest=b"",
            keys_epoch=0,
            nodes=tuple(self.nodes.values()),
            admits_writes=True,
            inline_bytes_max=4096,
            generation=self.generation,
            deletion=DeletionState(frozen=self.frozen),
        )

    async def read_log(self, first: int, bytes_max: int) -> Sequence[ArchivedEntry] | None:
        if first < self.first:
            return None
        found: list[ArchivedEntry] = []
        for index in range(first, self.applied_index + 1):
            found.append(ArchivedEntry(index, 1, self.log[index - self.first]))
            if sum(len(each.body) for each in found) > bytes_max:
                return found[:-1] or found
        return found

    @asynccontextmanager
    async def packed(self) -> AsyncIterator[PackedBackup]:
        if self.busy:
            raise Overloaded()
        self.snapshots += 1
        data = b"catalog %d" % self.applied_index
        data += blake3(data).digest(length=self.snapshot_bytes)
        file = SimulatedDisk().open(Path("/data/packed"), create=True)
        file.pwrite([data], 0)
        manifest = Manifest(
            cluster_id="63" * 16,
            generation=self.generation,
            applied_index=self.applied_index,
            catalog_time_ms=0,
            made_at_ms=0,
            schema=1,
            size_bytes=1,
            blake3="",
            program="",
            counts={},
        )
        yield PackedBackup(manifest, file, len(data), blake3(data).hexdigest())

    async def steps(self, count: int = 1, *, seconds: float = 1.0) -> None:
        """Steps of the leader; a snapshot that one begins is complete before the next."""
        for _ in range(count):
            await self.leader.step()
            if self.leader._snapshot is not None:
                await asyncio.wait({self.leader._snapshot})
            self.clock.advance(seconds)

    async def settle(self) -> None:
        """Time enough to notice anything and to make up for it."""
        await self.steps(10, seconds=SURVEY_S / 5)
        await self.leader.step()

    async def reach(self, tmp_path: Path) -> int:
        """Up to where whoever lost all metanodes now could rebuild the catalog."""
        work = tmp_path / str(len(self.daemons.calls))
        work.mkdir()
        found = await find(self.daemons, list(self.daemons.disks), None)
        gathering = Gathering(self.daemons, found, work=work, disk=WORK)
        await gathering.fetch_logs()
        chain, _ = await best_whole(gathering, found)
        return chain.end

    def snapshot_names(self, url: str) -> list[str]:
        return [name for name in self.daemons.names(url) if name.startswith("snapshot")]


def node(url: str, *, zone: str = "", health: str = "up") -> NodeInfo:
    disk = DiskInfo(
        disk=int(url.rpartition("-")[2]),
        uuid=uuid_of(url),
        state="in",
        capacity_bytes=100,
        free_bytes=50,
        writable=True,
    )
    return NodeInfo(
        node=url, url=url, zone=zone, health=health, last_heartbeat_ms_ago=1, disks=(disk,)
    )
