"""Blob daemons and their disks, told to drain, to go, to be given up: what may be, or why not."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from frontend.flows.store import Store
from osscore.errors import Conflict, NoSuchNode, PreconditionFailed
from raftmeta.commands import Done, SetDiskState
from raftmeta.credentials import AuditNote, NoteAudit
from raftmeta.healing import DrainDisk, JudgeDisk
from raftmeta.moving import CodingFound, CodingsFound, CodingsOn
from raftmeta.queries import CatalogCounted, ClusterDescribed, CountCatalog, DiskInfo, NodeInfo
from raftmeta.targets import ROOM_BYTES_MIN

SCAN_DEADLINE_S = 60.0
READY_DEADLINE_S = 2.0
_NODES_MIN = 2


@dataclass(frozen=True, slots=True)
class Place:
    """One disk and its node."""

    node: NodeInfo
    disk: DiskInfo

    @property
    def is_usable(self) -> bool:
        """Whether the shards there count."""
        return self.disk.state in ("in", "draining")

    @property
    def takes_shards(self) -> bool:
        """Whether shards can be moved there now."""
        return (
            self.disk.state == "in"
            and self.node.health == "up"
            and not self.disk.is_silent
            and self.disk.writable
            and not self.disk.problem
            and self.disk.free_bytes >= ROOM_BYTES_MIN
        )

    @property
    def is_down(self) -> bool:
        """Whether it has been silent for longer than a restart takes."""
        return self.disk.is_silent and self.node.health != "suspect"


def places_of(described: ClusterDescribed) -> list[Place]:
    """Every disk but removed ones."""
    return [
        Place(node, disk)
        for node in described.nodes
        for disk in node.disks
        if disk.state != "removed"
    ]


def chosen(described: ClusterDescribed, node: str, disk: int | None) -> list[Place]:
    """All disks of a node, or that one. Raises NoSuchNode."""
    found = [place for place in places_of(described) if place.node.node == node]
    if disk is not None:
        found = [place for place in found if place.disk.disk == disk]
    if not found:
        what = f"disk {disk} of node {node!r}" if disk is not None else f"node {node!r} with disks"
        raise NoSuchNode(f"There is no {what}.")
    return found


async def to_drain(store: Store, node: str, disk: int | None, *, drains: bool) -> list[Place]:
    """The disks to be emptied, or no longer. Changes nothing.

    Raises NoSuchNode, and PreconditionFailed with the reason where the others could not hold
    every stripe as safely, or have no room.
    """
    described = (await store.cluster.refresh()).described
    places = chosen(described, node, disk)
    if drains:
        disks = tuple(place.disk.disk for place in places)
        found = await store.meta.query(
            CodingsOn(disks=disks), CodingsFound, deadline_s=SCAN_DEADLINE_S
        )
        obstacle = why_not_drain(described, places, found.codings)
        if obstacle:
            raise PreconditionFailed(obstacle)
    return places


def why_not_drain(
    described: ClusterDescribed, places: Iterable[Place], codings: Iterable[CodingFound]
) -> str:
    """What would be lost by emptying these disks, for people; empty: nothing.

    A stripe wants a node for each of its shards. Where there are fewer anyway, there must not be
    fewer still.
    """
    leaving = {place.disk.disk for place in places}
    everybody = places_of(described)
    before = {each.node.node for each in everybody if each.takes_shards}
    targets = [each for each in everybody if each.takes_shards and each.disk.disk not in leaving]
    after = {each.node.node for each in targets}
    for found in codings:
        needed = found.coding.shard_count
        if len(after) < needed and len(after) < len(before):
            return (
                f"{found.stripes} stripes of profile {found.profile} want {needed} nodes, and"
                f" {len(after)} that take shards would remain."
            )
    leaves = [each for each in everybody if each.disk.disk in leaving or _is_draining(each)]
    size_bytes = sum(each.disk.slot_bytes for each in leaves)
    room_bytes = sum(each.disk.free_bytes - ROOM_BYTES_MIN for each in targets)
    if size_bytes > room_bytes:
        return f"{size_bytes} bytes have to be moved, and the other disks have {room_bytes} free."
    return ""


async def to_remove(store: Store, node: str, disk: int | None) -> list[Place]:
    """Empty disks to be taken out of the cluster. Changes nothing.

    Raises NoSuchNode, Conflict that says how many shards are there still.
    """
    places = chosen((await store.cluster.refresh()).described, node, disk)
    count = sum(place.disk.slot_count for place in places)
    if count:
        size_bytes = sum(place.disk.slot_bytes for place in places)
        raise Conflict(
            f"{count} shards of {size_bytes} bytes are on {_names(places)} still: drain first."
            " Those of deleted objects go after the collection grace."
        )
    return places


async def silent(store: Store) -> list[Place]:
    """Disks whose shards count though nobody has heard of them for a while."""
    described = (await store.cluster.refresh()).described
    return [each for each in places_of(described) if each.is_usable and each.is_down]


async def drain(store: Store, places: Iterable[Place], *, drains: bool, audit: AuditNote) -> None:
    """Have them emptied, or no longer. Raises as the commands are refused."""
    await _each(store, [DrainDisk(disk=place.disk.disk, drains=drains) for place in places], audit)


async def remove(store: Store, places: Iterable[Place], *, audit: AuditNote) -> None:
    """Take them out for good. Raises Conflict where something was written there meanwhile."""
    await _each(
        store, [SetDiskState(disk=place.disk.disk, state="removed") for place in places], audit
    )


async def give_up(store: Store, places: Iterable[Place], *, audit: AuditNote) -> None:
    """Judge them lost, however many there are."""
    await _each(store, [JudgeDisk(disk=place.disk.disk, is_lost=True) for place in places], audit)


async def _each(
    store: Store, commands: Sequence[DrainDisk | SetDiskState | JudgeDisk], audit: AuditNote
) -> None:
    """One row of the audit stands for all, also for none."""
    if not commands:
        await store.meta.propose(NoteAudit(), Done, audit=audit)
    for number, command in enumerate(commands):
        await store.meta.propose(command, Done, audit=None if number else audit)


async def may_not_stop(store: Store, node: str) -> str:
    """Why a blob daemon must not be stopped now, for people; empty: it may.

    Heartbeats tell late who is gone: whoever stops one node after the other would be told that
    the next may go, too. So the others are asked themselves. Raises NoSuchNode, Unavailable.
    """
    described = (await store.cluster.refresh()).described
    counted = await store.meta.query(CountCatalog(), CatalogCounted)
    obstacle = why_not_stop(described, counted, node)
    if obstacle:
        return obstacle
    urls = {
        place.node.node: place.node.url
        for place in places_of(described)
        if place.node.node != node and place.is_usable
    }
    answers = await asyncio.gather(
        *(store.blobs.is_ready(url, deadline_s=READY_DEADLINE_S) for url in urls.values())
    )
    silent = [name for name, is_ready in zip(urls, answers, strict=True) if not is_ready]
    return f"Other nodes do not serve now: {', '.join(silent)}." if silent else ""


def why_not_stop(described: ClusterDescribed, counted: CatalogCounted, node: str) -> str:
    """Why a blob daemon must not be stopped now, for people; empty: it may. Raises NoSuchNode.

    As long as every other disk is there and every stripe whole, the loss of any one node leaves
    each readable (SAFETY rule 7).
    """
    if node not in {each.node for each in described.nodes}:
        raise NoSuchNode(f"There is no node {node!r}.")
    others = [place for place in places_of(described) if place.node.node != node]
    unrepaired = [place for place in others if place.disk.state == "lost" and place.disk.slot_count]
    if unrepaired:
        return f"Lost disks are not rebuilt yet: {_names(unrepaired)}."
    away = [
        place
        for place in others
        if place.is_usable and (place.node.health != "up" or place.disk.is_silent)
    ]
    if away:
        return f"Other disks are not up: {_names(away)}."
    if counted.missing:
        return f"Stripes wait for repair: {sum(counted.missing.values())}."
    writable = {place.node.node for place in others if place.takes_shards}
    if len(writable) < _NODES_MIN:
        return "Fewer than two blob daemons that take writes would remain."
    return ""


def _is_draining(place: Place) -> bool:
    return place.disk.state == "draining"


def _names(places: Iterable[Place]) -> str:
    return ", ".join(f"{place.node.node}/{place.disk.disk}" for place in places)
