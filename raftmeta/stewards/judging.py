"""The leader's judgement on disks: lost after a long silence, back when heard again (SAFETY 23).

A disk is silent when its node is, or when its node beats without it. Where so many nodes are
silent at once that a broken network is likelier than as many broken machines, nothing is
judged lost: rebuilding it all would take the rest of the cluster down, and for nothing.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from osscore.errors import StoreError
from osscore.placement import default_profile
from ossd.clock import Clock
from raftmeta.commands import Done
from raftmeta.healing import JudgeDisk
from raftmeta.nodes import DiskKey, Silence
from raftmeta.queries import DiskInfo, NodeInfo

PAUSE_S = 1.0
SILENT_PERCENT_MAX = 25
ZONES_SILENT_MAX = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds of silence: more than a late beat, a node that is down, a disk that is lost."""

    suspect_s: float
    down_s: float
    lost_s: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """Disks to be judged lost, or back, by number. `alarm`: why none is judged lost now, for
    people; empty unless too many nodes are silent and one of them for long."""

    lost: tuple[int, ...] = ()
    back: tuple[int, ...] = ()
    alarm: str = ""


def judge(
    nodes: Sequence[NodeInfo],
    silences: Mapping[DiskKey, Silence],
    *,
    limits: Limits,
    repaired: Collection[int] = (),
) -> Judgement:
    """What follows from the silence of disks.

    `repaired`: lost disks that hold no living stripe's slot any more; their silence is history.
    A disk that `silences` does not know was registered just now.
    """
    present = {node.node: [d for d in node.disks if d.state != "removed"] for node in nodes}
    counted = [node for node in nodes if any(d.disk not in repaired for d in present[node.node])]
    silent_s = {
        disk.disk: silence.silence_s
        for node, disks in present.items()
        for disk in disks
        if (silence := silences.get((node, disk.uuid))) is not None
        and silence.silence_s >= limits.suspect_s
    }
    silent = {
        node.node: node.zone
        for node in counted
        if any(d.disk in silent_s and d.disk not in repaired for d in present[node.node])
    }
    due = [
        disk.disk
        for disks in present.values()
        for disk in disks
        if disk.state in ("in", "draining") and silent_s.get(disk.disk, 0) >= limits.lost_s
    ]
    reason = _too_many(counted, silent)
    is_long = max(silent_s.values(), default=0) >= limits.down_s
    return Judgement(
        lost=() if reason else tuple(due),
        back=tuple(
            disk.disk
            for node, disks in present.items()
            for disk in disks
            if disk.state == "lost" and _is_back(disk, silences.get((node, disk.uuid)), limits)
        ),
        alarm=reason if is_long else "",
    )


def _is_back(disk: DiskInfo, silence: Silence | None, limits: Limits) -> bool:
    """A disk that its daemon complains of has been replaced and stays so."""
    heard = silence is not None and silence.is_heard and silence.silence_s < limits.suspect_s
    return heard and not disk.problem


def _too_many(nodes: Sequence[NodeInfo], silent: Mapping[str, str]) -> str:
    """Why the silence of these nodes (with their zones) is likelier the network's; or empty."""
    parity_count = default_profile(len(nodes)).parity_count
    tail = "nothing is judged lost until they are back or 'ossctl repair force' says so"
    if len(silent) > max(parity_count, len(nodes) * SILENT_PERCENT_MAX / 100):
        names = ", ".join(sorted(silent))
        return f"{len(silent)} of {len(nodes)} nodes are silent at once ({names}): {tail}."
    alive = {node.zone for node in nodes if node.node not in silent}
    zones = {zone for zone in silent.values() if zone} - alive
    if len(zones) > ZONES_SILENT_MAX:
        return f"Zones {', '.join(sorted(zones))} are silent at once: {tail}."
    return ""


class Judging:
    """One steward. `nodes` and `silences` are what this leader knows now; `is_repaired` says of a
    disk whether no living stripe has a slot there; `propose` replicates."""

    def __init__(
        self,
        *,
        nodes: Callable[[], Sequence[NodeInfo]],
        silences: Callable[[], Mapping[DiskKey, Silence]],
        is_repaired: Callable[[int], Awaitable[bool]],
        propose: Callable[[JudgeDisk], Awaitable[Done]],
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._nodes = nodes
        self._silences = silences
        self._is_repaired = is_repaired
        self._propose = propose
        self._clock = clock
        self._limits = limits
        self.alarm = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.step()
            except StoreError as error:
                log.info("judging_waits", extra={"reason": error.message})
            await self._clock.sleep(PAUSE_S)

    async def step(self) -> None:
        """Judge once. Raises StoreError."""
        nodes = self._nodes()
        lost = [disk.disk for node in nodes for disk in node.disks if disk.state == "lost"]
        repaired = {disk for disk in lost if await self._is_repaired(disk)}
        # Heard of again while we asked counts: only now the silence is looked at.
        judgement = judge(nodes, self._silences(), limits=self._limits, repaired=repaired)
        self._note_alarm(judgement.alarm)
        for disk in judgement.back:
            await self._propose(JudgeDisk(disk=disk, is_lost=False))
            log.info("disk_back", extra={"disk": disk})
        for disk in judgement.lost:
            await self._propose(JudgeDisk(disk=disk, is_lost=True))
            log.warning("disk_lost", extra={"disk": disk})

    def _note_alarm(self, alarm: str) -> None:
        if alarm and not self.alarm:
            log.error("too_many_silent", extra={"reason": alarm})
        elif self.alarm and not alarm:
            log.info("silence_is_over")
        self.alarm = alarm
