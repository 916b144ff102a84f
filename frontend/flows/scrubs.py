"""Rereading of all disks: where it stands, and orders to the daemons that do it."""

import asyncio
from dataclasses import dataclass

from blobd.wire import SCRUB_ACTIONS
from frontend.flows.health import ASK_DEADLINE_S, chosen, disks_of
from frontend.flows.store import Store
from osscore.errors import InvalidArgument, StoreError
from raftmeta.queries import DiskInfo, NodeInfo
from raftmeta.upkeep import DiskScrub


@dataclass(frozen=True, slots=True)
class DiskScrubbed:
    """A disk's scrub; None and `why` where nobody tells it now."""

    node: str
    disk: int
    scrub: DiskScrub | None
    why: str


@dataclass(frozen=True, slots=True)
class Ordered:
    """A disk that was given an order. `began_at_ms`: of `now`, when the pass began, by the
    daemon's clock. `error`: why it could not be given, or empty."""

    node: str
    disk: int
    began_at_ms: int
    error: str


def parse_action(text: str) -> str:
    """One of SCRUB_ACTIONS. Raises InvalidArgument."""
    if text not in SCRUB_ACTIONS:
        raise InvalidArgument(f"A scrub is told {', '.join(SCRUB_ACTIONS)}: ?action=now.")
    return text


async def read_scrubs(store: Store) -> list[DiskScrubbed]:
    """Of every disk that is not removed. Raises Unavailable."""
    described = (await store.cluster.refresh()).described
    return [_scrubbed(node, disk) for node, disk in disks_of(described)]


async def order_scrubs(store: Store, action: str, node: str = "") -> list[Ordered]:
    """Have the disks of `node`, empty: of every node, do one of SCRUB_ACTIONS. Repeating it is
    harmless.

    A disk that cannot be told is named with the reason. Raises NoSuchNode, Unavailable.
    """
    described = (await store.cluster.refresh()).described
    return list(
        await asyncio.gather(*(_order(store, action, *each) for each in chosen(described, node)))
    )


def _scrubbed(node: NodeInfo, disk: DiskInfo) -> DiskScrubbed:
    if node.health != "up":
        return DiskScrubbed(node.node, disk.disk, None, f"{node.node} is {node.health}")
    if disk.is_silent:
        return DiskScrubbed(node.node, disk.disk, None, "nothing is heard of the disk")
    why = "" if disk.scrub is not None else disk.problem or "nothing told yet"
    return DiskScrubbed(node.node, disk.disk, disk.scrub, why)


async def _order(store: Store, action: str, node: NodeInfo, disk: DiskInfo) -> Ordered:
    try:
        obeyed = await store.blobs.order_scrub(
            node.url, disk.uuid, action, deadline_s=ASK_DEADLINE_S
        )
    except StoreError as error:
        return Ordered(node.node, disk.disk, 0, error.message)
    return Ordered(node.node, disk.disk, obeyed.began_at_ms, "")
