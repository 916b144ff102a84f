"""What daemons do for their disks by themselves, shown and asked for: `/v1/maintenance/census`
and `/v1/maintenance/scrub`."""

from collections.abc import Sequence

import msgspec

from frontend.flows.health import Health, ask_censuses, read_health
from frontend.flows.scrubs import DiskScrubbed, order_scrubs, parse_action, read_scrubs
from frontend.rest.handler import NativeHandler
from frontend.serving import query
from raftmeta.access import INFO
from raftmeta.upkeep import DiskScrub


class CensusHandler(NativeHandler):
    """`/v1/maintenance/census`: the cluster's health by the censuses of its disks."""

    async def get(self) -> None:
        """Sums, and every disk that they do not cover."""
        await self.allow(INFO)
        self.reply_json(_shown(await read_health(self.store)))

    async def post(self) -> None:
        """`?node=blob-1`, or all: compare at once. Answers before it is done."""
        node = query.text(self.arguments, "node")
        await self.note(await self.administer("census", node))
        asked = await ask_censuses(self.store, node)
        self.reply_json({"disks": [msgspec.to_builtins(each) for each in asked]})


class ScrubHandler(NativeHandler):
    """`/v1/maintenance/scrub`: the rereading of all disks."""

    async def get(self) -> None:
        """Where it stands, disk by disk and together."""
        await self.allow(INFO)
        disks = await read_scrubs(self.store)
        self.reply_json(
            {"totals": _totals(disks), "disks": [msgspec.to_builtins(each) for each in disks]}
        )

    async def post(self) -> None:
        """`?action=now`, `pause` or `resume`; `node=blob-1`, or all."""
        action = parse_action(query.text(self.arguments, "action"))
        node = query.text(self.arguments, "node")
        await self.note(await self.administer("scrub", node, action))
        told = await order_scrubs(self.store, action, node)
        self.reply_json({"disks": [msgspec.to_builtins(each) for each in told]})


def _totals(disks: Sequence[DiskScrubbed]) -> dict[str, object]:
    told = [each.scrub for each in disks if each.scrub is not None]
    ages_ms = [scrub.oldest_verified_ms_ago for scrub in told]
    is_known = len(told) == len(disks) and all(ms >= 0 for ms in ages_ms)
    return {
        "told": len(told),
        "paused": sum(scrub.is_paused for scrub in told),
        "done_bytes": sum(scrub.done_bytes for scrub in told),
        "left_bytes": sum(scrub.left_bytes for scrub in told),
        "bytes_per_s": sum(scrub.bytes_per_s for scrub in told),
        "eta_s": _eta_s(told),
        "bad": sum(scrub.bad if scrub.began_at_ms else scrub.last_bad for scrub in told),
        "unreported": sum(scrub.unreported for scrub in told),
        "unverified_volumes": sum(scrub.unverified_volumes for scrub in told),
        "oldest_verified_ms_ago": max(ages_ms, default=None) if is_known else None,
    }


def _eta_s(told: Sequence[DiskScrub]) -> float | None:
    """Until the slowest pass ends; None: none is under way, or one does not move."""
    under_way = [scrub for scrub in told if scrub.began_at_ms]
    if not under_way or any(scrub.left_bytes and not scrub.bytes_per_s for scrub in under_way):
        return None
    return max(scrub.left_bytes / max(1, scrub.bytes_per_s) for scrub in under_way)


def _shown(health: Health) -> dict[str, object]:
    return {
        "generation": health.generation,
        "disks": {"counted": health.counted, "uncounted": len(health.uncounted)},
        "slots": {
            "expected": health.expected,
            "present": health.present,
            "missing": health.missing,
            "surplus": health.surplus,
            "young": health.young,
        },
        "oldest_ms_ago": health.oldest_ms_ago,
        "uncounted": [
            {
                "node": each.node,
                "disk": each.disk,
                "state": each.state,
                "why": each.why,
                "stripes": each.stripes if each.stripes >= 0 else None,
                "more": each.is_more,
            }
            for each in health.uncounted
        ],
        "stripes": {
            "total": health.stripes,
            "by_missing": {str(n): count for n, count in health.stripes_missing.items()},
        },
    }
