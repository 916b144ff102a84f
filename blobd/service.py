"""The daemon as a whole: what starts, in which order, and how it all ends.

Order of starting: listen (so `/livez` answers), open the disks, serve reads, register,
serve writes; then heartbeats, collection and scrub for as long as it lives.
"""

import asyncio
import importlib.metadata
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from blobd.archive.handlers import archive_routes
from blobd.archive.rereading import Rereading
from blobd.archive.shelves import Shelves
from blobd.census import Census, CensusSettings
from blobd.client import BlobClient
from blobd.collect import Collector, CollectSettings
from blobd.config import BlobConfig
from blobd.described import Described
from blobd.disks import DataDisk, Disks
from blobd.handlers import Shared, routes
from blobd.membership import Membership, NodeAddress
from blobd.meters import DaemonMetrics, Parts
from blobd.recheck import Rechecker
from blobd.rejoin import Rejoin
from blobd.repair.mover import Mover
from blobd.repair.pace import Pace
from blobd.repair.pull import Puller
from blobd.repair.reencoder import Reencoder
from blobd.scrub import Scrubber, ScrubSettings
from blobd.shardstore import ShardStore, StoreSettings
from blobd.temp.adoption import Adoptions
from blobd.temp.frontends import Frontends
from blobd.temp.handlers import Door, temp_routes
from blobd.temp.temps import Temps, time_near
from blobd.times import ShardTimes
from blobd.upkeep import Upkeep
from blobd.wire import SHARD_BYTES_MAX, DiskStatus, Rechecked, Status, SweepPage
from osscore.erasure import Codec
from osscore.errors import NotReady, StoreError
from ossd.budget import ByteBudget
from ossd.clock import Clock, RandomBytes
from ossd.config import HostPort, advertised_url
from ossd.disk import Disk
from ossd.health import health_routes
from ossd.http import serve
from ossd.memory import libc_trim, trim_when_idle
from ossd.metrics import Metrics
from ossd.rpc import Rpc
from ossd.run import Stopper
from ossd.server import Server, ServerSettings
from ossd.signing import ClusterSecrets, Verifier
from raftmeta.access import Access
from raftmeta.client import MetaClient
from raftmeta.commands import Done
from raftmeta.generations import ConfirmCensus
from raftmeta.queries import ClusterDescribed, GetCluster

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class World:
    """What the daemon needs of its machine, chosen in `__main__`. `host`: its name; `codec`: made
    when a shard is first rebuilt."""

    clock: Clock
    random: RandomBytes
    disk: Disk
    rpc: Rpc
    secrets: ClusterSecrets
    verifier: Verifier
    pid: int
    codec: Callable[[], Codec]
    host: str


class BlobDaemon:
    """One blob daemon. `run` is its life; `port` is the real one while it listens."""

    def __init__(self, config: BlobConfig, world: World) -> None:
        self._config = config
        self._world = world
        self._metrics = Metrics()
        self._server: Server | None = None
        self._membership: Membership | None = None
        self._rechecker: Rechecker | None = None
        self._disks = Disks(
            [Path(folder) for folder in config.data],
            disk=world.disk,
            open_store=partial(
                ShardStore.open,
                disk=world.disk,
                clock=world.clock,
                settings=StoreSettings(volume_bytes=config.volume_bytes),
            ),
            random=world.random,
        )
        self._upkeep = Upkeep(self._disks)
        self._shelves = Shelves(self._disks, world.disk)
        self._parts = Parts(
            node=config.id,
            disks=self._disks,
            budget=ByteBudget(config.bodies_bytes, wait_s=config.bodies_wait_s),
            upkeep=self._upkeep,
            archive_bytes=self._shelves.size_bytes,
        )
        self._meta = MetaClient(world.rpc, config.metanodes, clock=world.clock, random=world.random)
        self._temps = Temps(
            self._disks,
            clock=world.clock,
            now_ms=time_near(lambda: self._meta.catalog_time_ms, world.clock),
            random=world.random,
            expiry_s=config.temp_expiry_s,
        )
        self._described = Described(self._meta, clock=world.clock)
        frontends = Frontends(self._described, random=world.random)
        self._adoptions = Adoptions(
            self._temps,
            frontends,
            self._meta,
            BlobClient(world.rpc),
            own_url=self._url,
            clock=world.clock,
        )
        self._access = Access(self._meta, self._described.latest, world.secrets, clock=world.clock)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None, "it listens once run has begun"
        return self._server.port

    async def run(self, stopper: Stopper) -> None:
        """Start, serve until the stopper says so, drain, and let everything go."""
        self._listen()
        await asyncio.to_thread(self._disks.open_all)
        self._start_work(self._meta, stopper)
        try:
            await stopper.wait()
        finally:
            await self._stop(stopper)

    def status(self) -> Status:
        """What `GET /v1/status` says; blocks for a moment on each disk."""
        return Status(
            id=self._config.id,
            role="blobd",
            version=importlib.metadata.version("raftoss"),
            pid=self._world.pid,
            state=self._state(),
            disks=tuple(self._disk_status(disk) for disk in self._disks),
        )

    def _listen(self) -> None:
        where = HostPort.parse(self._config.http)
        shared = Shared(
            disks=self._disks,
            budget=self._parts.budget,
            times=ShardTimes(self._metrics.registry, self._world.clock),
            status=self.status,
            recheck=self._recheck,
            sweep=self._sweep,
            ask_census=self._upkeep.ask_census,
            order_scrub=self._upkeep.order_scrub,
            last_verified=self._upkeep.last_verified,
        )
        door = Door(
            temps=self._temps,
            adoptions=self._adoptions,
            access=self._access,
            budget=self._parts.budget,
        )
        checks = {"disks": self._check_disks, "registered": self._check_registered}
        self._server = serve(
            [
                *health_routes(checks),
                *routes(shared),
                *archive_routes(self._shelves, shared),
                *temp_routes(door, shared),
            ],
            settings=ServerSettings(
                role="blobd",
                clock=self._world.clock,
                metrics=self._metrics,
                verifier=self._world.verifier,
                random=self._world.random,
                piece_bytes=SHARD_BYTES_MAX,
                whole_pieces=True,
            ),
            address=where.host,
            port=where.port,
        )
        self._metrics.registry.register(DaemonMetrics(self._parts))
        log.info("listening", extra={"address": where.host, "port": self.port})

    def _start_work(self, meta: MetaClient, stopper: Stopper) -> None:
        config, clock = self._config, self._world.clock
        self._membership = Membership(
            address=NodeAddress(node=config.id, url=self._url(), zone=config.zone),
            disks=self._disks,
            disk=self._world.disk,
            meta=meta,
            clock=clock,
            heartbeat_s=config.heartbeat_s,
            upkeep=self._upkeep,
        )
        self._rechecker = Rechecker(self._disks, meta=meta, budget=self._parts.budget)
        for disk in self._disks:
            self._upkeep.add_census(disk, self._new_census(disk, self._rechecker))
        self._parts.rejoins.update({disk: self._new_rejoin(disk, meta) for disk in self._disks})
        collecting = CollectSettings(config.gc_grace_s, config.compact_bytes_per_s)
        scrubbing = ScrubSettings(config.scrub_bytes_per_s, config.scrub_rest_s)
        self._parts.collectors += [
            Collector(disk, meta=meta, clock=clock, settings=collecting) for disk in self._disks
        ]
        for disk in self._disks:
            scrubber = Scrubber(
                disk, disk=self._world.disk, meta=meta, clock=clock, settings=scrubbing
            )
            self._upkeep.add_scrubber(disk, scrubber)
        for disk in self._disks:
            self._add_movers(disk, meta)
        stopper.tasks.spawn(self._membership.run(), name="membership")
        trimming = trim_when_idle(self._parts.budget, clock=clock, trim=libc_trim())
        stopper.tasks.spawn(trimming, name="trim")
        stopper.tasks.spawn(self._temps.run(), name="temps")
        rereading = Rereading(
            self._disks,
            self._shelves,
            clock=clock,
            bytes_per_s=config.scrub_bytes_per_s,
            rest_s=config.scrub_rest_s,
        )
        stopper.tasks.spawn(rereading.run(), name="archive-rereading")
        for collector in self._parts.collectors:
            stopper.tasks.spawn(collector.run(), name="collect")
        for mover in self._parts.movers:
            stopper.tasks.spawn(mover.run(), name="moves")
        for reencoder in self._parts.reencoders:
            stopper.tasks.spawn(reencoder.run(), name="reencoding")
        for _, scrubber in self._upkeep.scrubbers:
            stopper.tasks.spawn(scrubber.run(), name="scrub")
        for _, census in self._upkeep.censuses:
            stopper.tasks.spawn(census.run(), name="census")
        for rejoin in self._parts.rejoins.values():
            stopper.tasks.spawn(rejoin.run(), name="rejoin")

    def _add_movers(self, disk: DataDisk, meta: MetaClient) -> None:
        """Those that write to other disks in the background, at one pace together."""
        clock, budget = self._world.clock, self._parts.budget
        blobs = BlobClient(self._world.rpc)
        puller = Puller(blobs, self._world.codec)
        pace = Pace(self._config.repair_bytes_per_s, clock=clock)
        self._parts.movers.append(
            Mover(
                disk,
                puller,
                described=self._described,
                meta=meta,
                budget=budget,
                clock=clock,
                pace=pace,
            )
        )
        self._parts.reencoders.append(
            Reencoder(
                disk,
                puller,
                blobs,
                self._world.codec,
                described=self._described,
                meta=meta,
                budget=budget,
                clock=clock,
                random=self._world.random,
                pace=pace,
            )
        )

    def _new_rejoin(self, disk: DataDisk, meta: MetaClient) -> Rejoin:
        return Rejoin(
            disk,
            disks=self._disks,
            address=NodeAddress(self._config.id, self._url(), self._config.zone),
            meta=meta,
            clock=self._world.clock,
            random=self._world.random,
            heartbeat_s=self._config.heartbeat_s,
        )

    def _new_census(self, disk: DataDisk, rechecker: Rechecker) -> Census:
        config = self._config
        return Census(
            disk,
            rechecker=rechecker,
            meta=self._meta,
            clock=self._world.clock,
            settings=CensusSettings(
                interval_s=config.census_interval_s,
                grace_s=config.gc_grace_s,
                reread_bytes_per_s=config.scrub_bytes_per_s,
            ),
            confirm=self._confirm_census,
        )

    async def _confirm_census(self, disk: int, generation: int) -> None:
        """Tell a restored catalog, which waits for it, that this disk was compared with it."""
        described = await self._meta.query(GetCluster(), ClusterDescribed)
        if described.deletion.frozen:
            await self._meta.propose(ConfirmCensus(disk=disk, generation=generation), Done)

    async def _stop(self, stopper: Stopper) -> None:
        """Requests first, then our own work, then the disks they all stand on."""
        assert self._server is not None
        await self._server.stop(self._config.drain_s)
        await self._adoptions.close()
        await stopper.tasks.close()
        await self._temps.close()
        await self._meta.close()
        await self._disks.close()

    def _url(self) -> str:
        """How others reach this daemon."""
        config = self._config
        return advertised_url(config.url, config.http, port=self.port, machine=self._world.host)

    def _state(self) -> str:
        ready = self._check_disks() is None and self._check_registered() is None
        return "ready" if ready else "starting"

    async def _recheck(self, disk_uuid: bytes, rows: Sequence[int]) -> Rechecked:
        if self._rechecker is None:
            raise NotReady("The daemon is starting.")
        return await self._rechecker.recheck(disk_uuid, rows)

    async def _sweep(self, disk_uuid: bytes, after: bytes, is_dry_run: bool) -> SweepPage:
        disk = self._disks.by_uuid(disk_uuid)
        _ = disk.writable_store  # raises where nothing may be deleted
        collector = next((each for each in self._parts.collectors if each.disk is disk), None)
        if collector is None:
            raise NotReady("The daemon is starting.")
        return await collector.sweep_page(after, is_dry_run=is_dry_run, tells_shared=True)

    def _check_disks(self) -> str | None:
        if not self._disks.is_open:
            return "the disks are being opened"
        usable = [disk for disk in self._disks if disk.is_eligible or disk.is_unformatted]
        return None if usable else "no disk is usable: " + _problems(list(self._disks))

    def _check_registered(self) -> str | None:
        if self._membership is None:
            return "starting"
        return (
            None
            if self._membership.is_registered
            else (self._membership.obstacle or "the metanodes have not answered yet")
        )

    def _disk_status(self, disk: DataDisk) -> DiskStatus:
        capacity_bytes = free_bytes = used_bytes = live_bytes = temp_bytes = shards = volumes = 0
        problem = disk.problem
        try:
            capacity_bytes = self._world.disk.space(disk.folder).total_bytes
            stats = disk.store.stats()
            free_bytes, used_bytes = stats.free_bytes, stats.used_bytes
            temp_bytes = stats.temp_bytes
            live_bytes, shards, volumes = stats.live_bytes, stats.shards, stats.volumes
        except (OSError, StoreError) as error:
            problem = problem or str(error)
        return DiskStatus(
            uuid=disk.uuid.hex(),
            path=str(disk.folder),
            disk=disk.number,
            capacity_bytes=capacity_bytes,
            free_bytes=free_bytes,
            used_bytes=used_bytes,
            live_bytes=live_bytes,
            shards=shards,
            volumes=volumes,
            writable=disk.writable,
            problem=problem,
            temp_bytes=temp_bytes,
            census=self._upkeep.census_of(disk),
            is_counting=self._upkeep.is_counting(disk),
            scrub=self._upkeep.scrub_of(disk),
            verified=self._upkeep.verified_of(disk),
        )


def _problems(disks: Sequence[DataDisk]) -> str:
    return "; ".join(f"{disk.folder}: {disk.problem}" for disk in disks)
