"""Belonging to the cluster: register the disks, then be heard every second.

Registering comes before the first write (SAFETY rule 15). Each disk's epoch grows on both
sides, in three durable steps so that a crash between them never makes an honest disk look
rolled back: the disk writes its epoch + 1, the catalog compares that and adds one, the
disk writes the catalog's. Whatever was cut off, the disk's next report is again at least
what the catalog holds, while a disk rolled back behind a later registration stays below:
a first step that was refused, or surely not followed by the second, is taken back.

A catalog that was restored is another generation (SAFETY rule 16): it may not know the disks,
or by other numbers. So whoever sees a new generation registers again, and a disk that has
registered with a newer one is not given to an older.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from blobd.disks import DataDisk, Disks
from blobd.labels import LABEL_NAME
from blobd.upkeep import Upkeep
from osscore.errors import DiskFailing, NoLeader, RequestError, StoreError
from ossd.beat import beat_for_ever
from ossd.clock import Clock
from ossd.disk import Disk
from raftmeta.client import MetaClient
from raftmeta.commands import DiskReport, NodeRegistered, RegisterNode
from raftmeta.queries import ClusterDescribed, GetCluster
from raftmeta.wire import DiskHeartbeat, Heartbeat

RETRY_S = 1.0
REGISTER_DEADLINE_S = 20.0
CONFIRM_S = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """How this daemon is called and reached. `url`: its HTTP base, as others see it."""

    node: str
    url: str
    zone: str


class Membership:
    """Keeps this daemon registered and heard. `run` never ends; cancel it."""

    def __init__(
        self,
        *,
        address: NodeAddress,
        disks: Disks,
        disk: Disk,
        meta: MetaClient,
        clock: Clock,
        heartbeat_s: float,
        upkeep: Upkeep | None = None,
    ) -> None:
        self._address = address
        self._disks = disks
        self._disk = disk
        self._meta = meta
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._upkeep = upkeep or Upkeep(disks)
        self._is_registered = False
        self._generation = 0
        self._obstacle = ""

    @property
    def is_registered(self) -> bool:
        """Whether the catalog knows this daemon and has judged its disks."""
        return self._is_registered

    @property
    def obstacle(self) -> str:
        """Why it is not registered yet, for people."""
        return self._obstacle

    async def run(self) -> None:
        """Register, trying again for as long as it takes, then heartbeat for ever."""
        while not self._is_registered:
            try:
                await self.register()
            except StoreError as error:
                self._note_obstacle(f"{error.code}: {error.message}")
                await self._clock.sleep(RETRY_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(
                beat_for_ever(self.heartbeat, clock=self._clock, every_s=self._heartbeat_s)
            )
            group.create_task(self._confirm_for_ever())

    async def register(self) -> None:
        """Register once. Raises StoreError; repeating it is harmless."""
        described = await self._meta.query(GetCluster(), ClusterDescribed)
        await asyncio.to_thread(self._disks.format_new, described.cluster_id)
        before = {found.uuid: found.label.epoch for found in self._disks if found.label}
        reports = [
            report
            for found in self._disks
            if (report := await self._report(found, described.generation))
        ]
        command = RegisterNode(
            node=self._address.node,
            url=self._address.url,
            zone=self._address.zone,
            cluster_id=described.cluster_id,
            disks=tuple(reports),
        )
        try:
            registered = await self._meta.propose(
                command, NodeRegistered, deadline_s=REGISTER_DEADLINE_S
            )
        except (NoLeader, RequestError):
            await self._step_back(before, [report.uuid for report in reports])
            raise
        # A restore in between only makes this an earlier generation: it registers once more.
        await self._obey(registered, described.generation)
        await self._step_back(before, [bytes.fromhex(uuid) for uuid in registered.refused])
        self._is_registered = True
        self._generation = described.generation
        self._obstacle = ""
        log.info("node_registered", extra={"node": self._address.node, "disks": len(reports)})

    async def heartbeat(self) -> None:
        """Tell every metanode once how the disks are."""
        disks = await asyncio.to_thread(self._disk_heartbeats)
        await self._meta.heartbeat(
            Heartbeat(
                node=self._address.node,
                url=self._address.url,
                zone=self._address.zone,
                disks=disks,
            )
        )

    async def confirm_ownership(self) -> None:
        """Give up disks that another daemon has registered since: one of both is a copy.
        Register again where the catalog is another generation.

        Raises StoreError while the metadata cannot be asked.
        """
        granted = [found for found in self._disks if found.number]
        described = await self._meta.query(GetCluster(), ClusterDescribed)
        is_new = described.generation != self._generation
        if is_new:
            log.info("generation_changed", extra={"generation": described.generation})
            await self.register()
        self._upkeep.heed(described)
        if is_new:
            return
        owners = {disk.uuid: node for node in described.nodes for disk in node.disks}
        for found in granted:  # since: the owner may have been another when we asked
            owner = owners.get(found.uuid)
            if not found.number or owner is None:
                continue
            if (owner.node, owner.url) != (self._address.node, self._address.url):
                found.refuse(f"{owner.node} at {owner.url} registered the same disk later")

    async def _confirm_for_ever(self) -> None:
        while True:
            await self._rest()
            try:
                await self.confirm_ownership()
            except StoreError as error:
                log.info("ownership_unconfirmed", extra={"reason": error.message})

    async def _rest(self) -> None:
        """Until the next look is due, or an answer came from another generation."""
        due_s = self._clock.monotonic_s() + CONFIRM_S
        while self._clock.monotonic_s() < due_s:
            await self._clock.sleep(min(self._heartbeat_s, CONFIRM_S))
            if self._meta.generation not in (0, self._generation):
                return

    async def _report(self, found: DataDisk, generation: int) -> DiskReport | None:
        """What to register of a disk, its own epoch raised first; None if it is unusable."""
        if not found.is_eligible or found.label is None:
            return None
        if found.label.order[0] > generation:
            found.refuse(
                f"the disk obeys generation {found.label.order[0]} of the catalog, and this one"
                f" is generation {generation}: it was restored since, elsewhere"
            )
            return None
        try:
            await found.keep_epoch(found.label.epoch + 1)
            space = await asyncio.to_thread(self._disk.space, found.folder)
        except OSError as error:
            found.refuse(f"the disk's label cannot be written: {error}")
            return None
        return DiskReport(
            uuid=found.uuid, epoch=found.label.epoch, capacity_bytes=space.total_bytes
        )

    async def _obey(self, registered: NodeRegistered, generation: int) -> None:
        """Write granted epochs and the generation before any write is served; refused disks
        stay read-only."""
        grants = {grant.uuid: grant for grant in registered.granted}
        for found in self._disks:
            grant = grants.get(found.uuid)
            if found.uuid.hex() in registered.refused:
                found.refuse(registered.refused[found.uuid.hex()], is_set_back=True)
            elif grant is not None and found.is_eligible:
                try:
                    await found.keep_epoch(grant.epoch)
                    await found.obey(generation)
                except OSError as error:
                    found.refuse(f"the disk's label cannot be written: {error}")
                else:
                    found.number = grant.disk

    async def _step_back(self, before: Mapping[bytes, int], uuids: Collection[bytes]) -> None:
        """Give disks the epoch they had: the catalog has surely not raised theirs.

        Without this a disk that was rolled back would climb by one with each start, until
        the catalog took it for the newest.
        """
        for found in self._disks:
            if found.uuid in uuids and found.uuid in before:
                try:
                    await found.keep_epoch(before[found.uuid])
                except OSError as error:
                    found.refuse(f"the disk's label cannot be written: {error}")

    def _disk_heartbeats(self) -> tuple[DiskHeartbeat, ...]:
        return tuple(self._disk_heartbeat(found) for found in self._disks if found.uuid)

    def _disk_heartbeat(self, found: DataDisk) -> DiskHeartbeat:
        problem, writable, readable = found.problem, found.writable, True
        free_bytes = capacity_bytes = 0
        try:
            capacity_bytes = self._disk.space(found.folder).total_bytes
            free_bytes = found.store.stats().free_bytes
            if not self._disk.exists(found.folder / LABEL_NAME):
                raise DiskFailing("The disk's label is gone: the folder was emptied or unmounted.")
        except (OSError, StoreError) as error:
            problem, writable, readable = problem or str(error), False, False
        return DiskHeartbeat(
            uuid=found.uuid,
            capacity_bytes=capacity_bytes,
            free_bytes=free_bytes,
            writable=writable,
            problem=problem,
            census=self._upkeep.census_of(found),
            readable=readable,
            scrub=self._upkeep.scrub_of(found),
        )

    def _note_obstacle(self, obstacle: str) -> None:
        """Log a change of what hinders, not every attempt."""
        if obstacle != self._obstacle:
            log.warning("register_failed", extra={"reason": obstacle})
        self._obstacle = obstacle
