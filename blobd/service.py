"""The daemon as a whole: what starts, in which order, and how it all ends.

Order of starting: listen (so `/livez` answers), open the disks, serve reads, register,
serve writes; then heartbeats, collection and scrub for as long as it lives.
"""

import asyncio
import importlib.metadata
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from blobd.collect import Collector, CollectSettings
from blobd.config import BlobConfig
from blobd.disks import DataDisk, Disks
from blobd.handlers import Shared, routes
from blobd.membership import Membership, NodeAddress
from blobd.meters import DaemonMetrics, Parts
from blobd.scrub import Scrubber, ScrubSettings
from blobd.shardstore import ShardStore, StoreSettings
from blobd.times import ShardTimes
from blobd.wire import SHARD_BYTES_MAX, DiskStatus, Status
from osscore.errors import StoreError
from ossd.budget import ByteBudget
from ossd.clock import Clock, RandomBytes
from ossd.config import HostPort
from ossd.disk import Disk
from ossd.health import health_routes
from ossd.http import serve
from ossd.memory import libc_trim, trim_when_idle
from ossd.metrics import Metrics
from ossd.rpc import Rpc
from ossd.run import Stopper
from ossd.server import Server, ServerSettings
from ossd.signing import Verifier
from raftmeta.client import MetaClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class World:
    """What the daemon needs of its machine, chosen in `__main__`. `host`: its name."""

    clock: Clock
    random: RandomBytes
    disk: Disk
    rpc: Rpc
    verifier: Verifier
    pid: int
    host: str


class BlobDaemon:
    """One blob daemon. `run` is its life; `port` is the real one while it listens."""

    def __init__(self, config: BlobConfig, world: World) -> None:
        self._config = config
        self._world = world
        self._metrics = Metrics()
        self._server: Server | None = None
        self._membership: Membership | None = None
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
        self._parts = Parts(
            node=config.id,
            disks=self._disks,
            budget=ByteBudget(config.bodies_bytes, wait_s=config.bodies_wait_s),
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None, "it listens once run has begun"
        return self._server.port

    async def run(self, stopper: Stopper) -> None:
        """Start, serve until the stopper says so, drain, and let everything go."""
        self._listen()
        await asyncio.to_thread(self._disks.open_all)
        meta = MetaClient(
            self._world.rpc,
            self._config.metanodes,
            clock=self._world.clock,
            random=self._world.random,
        )
        self._start_work(meta, stopper)
        try:
            await stopper.wait()
        finally:
            await self._stop(meta, stopper)

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
        )
        checks = {"disks": self._check_disks, "registered": self._check_registered}
        self._server = serve(
            [*health_routes(checks), *routes(shared)],
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
        )
        collecting = CollectSettings(config.gc_grace_s, config.compact_bytes_per_s)
        scrubbing = ScrubSettings(config.scrub_bytes_per_s, config.scrub_rest_s)
        self._parts.collectors += [
            Collector(disk, meta=meta, clock=clock, settings=collecting) for disk in self._disks
        ]
        self._parts.scrubbers += [
            Scrubber(disk, disk=self._world.disk, meta=meta, clock=clock, settings=scrubbing)
            for disk in self._disks
        ]
        stopper.tasks.spawn(self._membership.run(), name="membership")
        trimming = trim_when_idle(self._parts.budget, clock=clock, trim=libc_trim())
        stopper.tasks.spawn(trimming, name="trim")
        for collector in self._parts.collectors:
            stopper.tasks.spawn(collector.run(), name="collect")
        for scrubber in self._parts.scrubbers:
            stopper.tasks.spawn(scrubber.run(), name="scrub")

    async def _stop(self, meta: MetaClient, stopper: Stopper) -> None:
        """Requests first, then our own work, then the disks they all stand on."""
        assert self._server is not None
        await self._server.stop(self._config.drain_s)
        await stopper.tasks.close()
        await meta.close()
        await self._disks.close()

    def _url(self) -> str:
        """How others reach this daemon."""
        if self._config.url:
            return self._config.url.rstrip("/")
        host = HostPort.parse(self._config.http).host
        if host in ("", "0.0.0.0", "::"):
            host = self._world.host
        return f"http://{HostPort(host, self.port)}"

    def _state(self) -> str:
        ready = self._check_disks() is None and self._check_registered() is None
        return "ready" if ready else "starting"

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
        capacity_bytes = free_bytes = used_bytes = live_bytes = shards = volumes = 0
        problem = disk.problem
        try:
            capacity_bytes = self._world.disk.space(disk.folder).total_bytes
            stats = disk.store.stats()
            free_bytes, used_bytes = stats.free_bytes, stats.used_bytes
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
        )


def _problems(disks: Sequence[DataDisk]) -> str:
    return "; ".join(f"{disk.folder}: {disk.problem}" for disk in disks)
