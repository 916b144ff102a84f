"""Nodes that drain and go, repair and rebalancing: below `/v1/maintenance`."""

from collections.abc import Awaitable

import msgspec

from frontend.flows import nodes, progress
from frontend.flows.nodes import Place
from frontend.flows.progress import Progress
from frontend.rest.handler import NativeHandler
from frontend.serving import query
from osscore.errors import InvalidArgument, RequestError
from raftmeta.access import INFO
from raftmeta.credentials import AuditNote


class NodesHandler(NativeHandler):
    """What both ways of taking disks away share."""

    def asked(self) -> tuple[str, int | None, str]:
        """The node, one of its disks or None for all, and both in words. Raises
        InvalidArgument."""
        node, disk = query.text(self.arguments, "node"), query.number(self.arguments, "disk")
        if not node:
            raise InvalidArgument("Name a node: ?node=blob-1.")
        return node, disk, node if disk is None else f"{node}/{disk}"

    async def noted(self, places: Awaitable[list[Place]], note: AuditNote) -> list[Place]:
        """What `places` finds; its refusal is recorded. Raises it."""
        try:
            return await places
        except RequestError as error:
            await self.note(msgspec.structs.replace(note, detail=f"refused: {error.code}"))
            raise


class DrainHandler(NodesHandler):
    """`/v1/maintenance/drain`: have the shards of disks moved elsewhere."""

    async def post(self) -> None:
        """`?node=&disk=`; `cancel=1`: no longer. 412 says why it would cost safety."""
        node, disk, target = self.asked()
        drains = not query.flag(self.arguments, "cancel")
        note = await self.administer("node.drain" if drains else "node.undrain", target)
        places = await self.noted(nodes.to_drain(self.store, node, disk, drains=drains), note)
        await nodes.drain(self.store, places, drains=drains, audit=note)
        self.reply_json({"node": node, "draining": drains, "disks": _shown(places)})


class RemoveHandler(NodesHandler):
    """`/v1/maintenance/remove`: take empty disks out of the cluster for good."""

    async def post(self) -> None:
        """`?node=&disk=`; `dry_run=1` only says whether it could be. 409 while shards are there."""
        node, disk, target = self.asked()
        is_dry_run = query.flag(self.arguments, "dry_run")
        note = await self.administer("node.remove", target, "dry run" if is_dry_run else "")
        places = await self.noted(nodes.to_remove(self.store, node, disk), note)
        await nodes.remove(self.store, [] if is_dry_run else places, audit=note)
        self.reply_json({"node": node, "dry_run": is_dry_run, "disks": _shown(places)})


class RepairHandler(NativeHandler):
    """`/v1/maintenance/repair`: what is damaged and how its repair gets on."""

    async def get(self) -> None:
        """Counts, rate, and how long it may take."""
        await self.allow(INFO)
        found = await progress.repair_progress(self.store)
        healing = found.healing
        self.reply_json(
            {
                **_progress(found.progress),
                "alarm": healing.alarm or None,
                "lost": _shown(found.lost),
                "stripes": {
                    "surveyed": healing.is_surveyed,
                    "by_missing": {str(n): count for n, count in healing.missing.items()},
                    "unreadable": healing.unreadable,
                },
                "objects": {
                    "by_missing": {str(n): count for n, count in healing.objects.items()},
                    "partial": healing.objects_partial,
                },
            }
        )


class RebalanceHandler(NativeHandler):
    """`/v1/maintenance/rebalance`: what is moved to drain disks, spread stripes and even out."""

    async def get(self) -> None:
        """Counts, rate, and how long it may take."""
        await self.allow(INFO)
        found = await progress.rebalance_progress(self.store)
        self.reply_json(
            {
                **_progress(found.progress),
                "stripes": {
                    "crowded": found.under_spread.crowded,
                    "replicas": found.under_spread.replicas,
                },
                "disks": _shown(found.disks),
            }
        )


class PauseHandler(NativeHandler):
    """`/v1/maintenance/{repair,rebalance,reencode}/{pause,resume}`."""

    async def post(self, work: str, verb: str) -> None:
        """Until told otherwise, whoever leads."""
        pauses = verb == "pause"
        if work == "repair":
            note = await self.administer("repair.pause" if pauses else "repair.resume")
        elif work == "rebalance":
            note = await self.administer("rebalance.pause" if pauses else "rebalance.resume")
        else:
            note = await self.administer("reencode.pause" if pauses else "reencode.resume")
        await progress.pause(self.store, work, paused=pauses, audit=note)
        self.reply_json({"work": work, "paused": pauses})


class ForceHandler(NativeHandler):
    """`/v1/maintenance/repair/force`: give up all disks that are silent now."""

    async def post(self) -> None:
        """They count again once they are heard of again."""
        note = await self.administer("repair.force")
        places = await nodes.silent(self.store)
        await nodes.give_up(self.store, places, audit=note)
        self.reply_json({"lost": _shown(places)})


def _progress(found: Progress) -> dict[str, object]:
    return {
        "paused": found.is_paused,
        "tasks": dict(found.tasks),
        "left_bytes": found.left_bytes,
        "bytes_per_s": found.bytes_per_s,
        "eta_s": found.eta_s,
        "moved": {"shards": found.moved_shards, "bytes": found.moved_bytes},
    }


def _shown(places: list[Place] | tuple[Place, ...]) -> list[dict[str, object]]:
    return [
        {
            "node": place.node.node,
            "disk": place.disk.disk,
            "state": place.disk.state,
            "capacity_bytes": place.disk.capacity_bytes,
            "shards": place.disk.slot_count,
            "bytes": place.disk.slot_bytes,
        }
        for place in places
    ]
