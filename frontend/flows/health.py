"""The cluster's health by its censuses: which slots disks hold, and which disks nobody vouches for.

Two accounts that differ on purpose. What the catalog records as missing or bad
(`CatalogCounted.missing`) was found by somebody and waits for repair. What a census counts is
what a disk held when it walked. A disk that is lost, out of reach, or not yet compared under
this generation adds to neither: its stripes are counted apart, and never taken for healthy.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from frontend.flows.store import Store
from osscore.errors import NoSuchNode, StoreError
from raftmeta.queries import (
    CatalogCounted,
    ClusterDescribed,
    CountCatalog,
    CountDisk,
    DiskCounted,
    DiskInfo,
    NodeInfo,
)
from raftmeta.upkeep import DiskCensus

ASK_DEADLINE_S = 10.0
COUNT_DEADLINE_S = 10.0
UNCOUNTED_ASKED_MAX = 100
"""Disks of which the stripes are counted, of those without a census that counts."""


@dataclass(frozen=True, slots=True)
class Uncounted:
    """A disk whose census does not count, and why. `stripes` that have a shard there by the
    catalog, -1: not asked; `is_more`: at least so many."""

    node: str
    disk: int
    state: str
    why: str
    stripes: int
    is_more: bool


@dataclass(frozen=True, slots=True)
class Health:
    """Sums over the disks in `counted`. `oldest_ms_ago` is the oldest of their censuses' age,
    None without any; `missing[n]`: stripes recorded with n shards missing or bad."""

    generation: int
    counted: int
    expected: int
    present: int
    missing: int
    surplus: int
    young: int
    oldest_ms_ago: int | None
    uncounted: tuple[Uncounted, ...]
    stripes: int
    stripes_missing: dict[int, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """A disk that was asked for a census. The first with `begun_at_ms` of this or later is the
    one. `error`: why it could not be asked, or empty."""

    node: str
    disk: int
    asked_at_ms: int
    error: str


async def read_health(store: Store) -> Health:
    """All disks but removed ones. Raises Unavailable."""
    described = (await store.cluster.refresh()).described
    catalog = await store.meta.query(CountCatalog(), CatalogCounted, deadline_s=COUNT_DEADLINE_S)
    counted: list[DiskCensus] = []
    doubtful: list[tuple[NodeInfo, DiskInfo, str]] = []
    for node, disk in disks_of(described):
        why = why_uncounted(node, disk, described.generation)
        if disk.census is not None and not why:
            counted.append(disk.census)
        else:
            doubtful.append((node, disk, why))
    return Health(
        generation=described.generation,
        counted=len(counted),
        expected=sum(census.expected for census in counted),
        present=sum(census.present for census in counted),
        missing=sum(census.missing for census in counted),
        surplus=sum(census.surplus for census in counted),
        young=sum(census.young for census in counted),
        oldest_ms_ago=max((census.finished_ms_ago for census in counted), default=None),
        uncounted=await _count_stripes(store, doubtful),
        stripes=catalog.stripes,
        stripes_missing=dict(catalog.missing),
    )


def why_uncounted(node: NodeInfo, disk: DiskInfo, generation: int) -> str:
    """Why a disk's census says nothing of its health now, for people; empty: it does."""
    if disk.state == "lost":
        return "the disk is lost"
    if node.health != "up":
        return f"{node.node} is {node.health}"
    if disk.is_silent:
        return "nothing is heard of the disk, though its node is up"
    if disk.census is None:
        return f"no census yet{': ' + disk.problem if disk.problem else ''}"
    if disk.census.generation != generation:
        return f"its census is of generation {disk.census.generation}, not {generation}"
    return ""


async def ask_censuses(store: Store, node: str = "") -> list[Asked]:
    """Have the disks of `node`, empty: of every node, compared at once. Repeating it is harmless.

    A disk that cannot be asked is named with the reason. Raises NoSuchNode, Unavailable.
    """
    described = (await store.cluster.refresh()).described
    return list(await asyncio.gather(*(_ask(store, *each) for each in chosen(described, node))))


def disks_of(described: ClusterDescribed) -> Iterable[tuple[NodeInfo, DiskInfo]]:
    """Every disk that is not removed, with its node."""
    return (
        (node, disk) for node in described.nodes for disk in node.disks if disk.state != "removed"
    )


def chosen(described: ClusterDescribed, node: str) -> list[tuple[NodeInfo, DiskInfo]]:
    """The disks of `node`; empty: all. Raises NoSuchNode."""
    if node and node not in {each.node for each in described.nodes}:
        raise NoSuchNode(f"There is no blob daemon {node!r}.")
    return [each for each in disks_of(described) if node in ("", each[0].node)]


async def _ask(store: Store, node: NodeInfo, disk: DiskInfo) -> Asked:
    try:
        asked = await store.blobs.ask_census(node.url, disk.uuid, deadline_s=ASK_DEADLINE_S)
    except StoreError as error:
        return Asked(node.node, disk.disk, 0, error.message)
    return Asked(node.node, disk.disk, asked.asked_at_ms, "")


async def _count_stripes(
    store: Store, doubtful: Sequence[tuple[NodeInfo, DiskInfo, str]]
) -> tuple[Uncounted, ...]:
    asked = doubtful[:UNCOUNTED_ASKED_MAX]
    answers = await asyncio.gather(
        *(
            store.meta.query(CountDisk(disk=disk.disk), DiskCounted, deadline_s=COUNT_DEADLINE_S)
            for _, disk, _ in asked
        )
    )
    told = [(answer.stripes, answer.is_more) for answer in answers]
    told += [(-1, False)] * (len(doubtful) - len(asked))
    return tuple(
        Uncounted(node.node, disk.disk, disk.state, why, stripes, is_more)
        for (node, disk, why), (stripes, is_more) in zip(doubtful, told, strict=True)
    )
