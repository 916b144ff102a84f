"""What a metanode knows of blob daemons and frontends by their heartbeats: soft, never in the log.

Every metanode listens; only the leader judges (SAFETY rule 23). Silence is counted in
ticks in which the leader's quorum was confirmed, so a leader that was paused, cut off or
starved blames nobody for beats it could not have heard.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

import msgspec

from raftmeta.catalog.soft import DiskSoft, NodeSoft, SoftState
from raftmeta.queries import FrontendInfo
from raftmeta.upkeep import DiskCensus
from raftmeta.wire import FrontendHeartbeat, Heartbeat

UP = "up"
SUSPECT = "suspect"
DOWN = "down"
UNKNOWN = "unknown"

SUSPECT_BEATS = 5
DOWN_BEATS = 15
FORGET_BEATS = 600
"""A frontend silent for so long is no longer named: it is nowhere registered that it was."""

B = TypeVar("B", Heartbeat, FrontendHeartbeat)


@dataclass(slots=True)
class _Heard(Generic[B]):
    """One process's last heartbeat. `silence_s` is what was counted since."""

    heartbeat: B
    at_s: float
    silence_s: float = 0.0
    is_fresh: bool = True


@dataclass(frozen=True, slots=True)
class Silence:
    """How long a disk has not been heard of, as counted under this leadership.

    `is_heard`: its node reported it readable since this leadership began, and before the
    silence that is counted now.
    """

    silence_s: float
    is_heard: bool


@dataclass(slots=True)
class _Disk:
    """A registered disk. `at_s`: when its node last reported it readable, None: not yet under
    this leadership."""

    at_s: float | None = None
    silence_s: float = 0.0


DiskKey = tuple[str, bytes]
"""A node and the uuid of a disk registered there."""


class NodeWatch:
    """Listens and judges. All times are the passed monotonic clock's, in seconds."""

    def __init__(self, *, heartbeat_s: float, tick_s: float) -> None:
        self._suspect_s = SUSPECT_BEATS * heartbeat_s
        self._down_s = DOWN_BEATS * heartbeat_s
        self._forget_s = FORGET_BEATS * heartbeat_s
        self._tick_s = tick_s
        self._heard: dict[str, _Heard[Heartbeat]] = {}
        self._frontends: dict[str, _Heard[FrontendHeartbeat]] = {}
        self._expected: frozenset[str] = frozenset()
        self._disks: dict[DiskKey, _Disk] = {}
        self._unheard_silence_s = 0.0
        self._term: int | None = None
        self._last_tick_s: float | None = None

    def hear(self, heartbeat: Heartbeat | FrontendHeartbeat, *, now_s: float) -> None:
        """Take note of a heartbeat."""
        if isinstance(heartbeat, Heartbeat):
            self._heard[heartbeat.node] = _Heard(heartbeat, now_s)
            for disk in heartbeat.disks:
                known = self._disks.get((heartbeat.node, disk.uuid))
                if known is not None and disk.readable:
                    known.at_s, known.silence_s = now_s, 0.0
            return
        for url, heard in list(self._frontends.items()):
            if now_s - heard.at_s > self._forget_s:
                del self._frontends[url]
        # By its address: names of frontends need not differ.
        self._frontends[heartbeat.url] = _Heard(heartbeat, now_s)

    def expect(self, nodes: Iterable[str], disks: Iterable[DiskKey] = ()) -> None:
        """These are registered. A node never heard of is unknown, and down after its time."""
        self._expected = frozenset(nodes)
        self._disks = {key: self._disks.get(key) or _Disk() for key in disks}

    def tick(self, *, now_s: float, term: int | None) -> None:
        """Count silence up to `now_s`. Call every `tick_s`.

        `term` is the term this metanode leads, and of which a majority has just confirmed
        that it does; None when it does not lead or nobody confirmed.
        """
        passed_s = 0.0 if self._last_tick_s is None else now_s - self._last_tick_s
        self._last_tick_s = now_s
        if term is None:
            return
        if term != self._term:
            self._begin(term, now_s=now_s)
            return
        # A tick that took longer was one in which this process did not run: what it did
        # not hear meanwhile is its own fault.
        counted_s = min(max(passed_s, 0.0), 2 * self._tick_s)
        self._unheard_silence_s += counted_s
        for heard in self._everybody():
            if heard.at_s < now_s - counted_s:
                heard.silence_s += counted_s
        for disk in self._disks.values():
            if disk.at_s is None or disk.at_s < now_s - counted_s:
                disk.silence_s += counted_s

    @property
    def suspect_s(self) -> float:
        """Seconds after which silence is more than a late beat."""
        return self._suspect_s

    @property
    def down_s(self) -> float:
        """Seconds of silence after which a node is down."""
        return self._down_s

    def silences(self) -> Mapping[DiskKey, Silence]:
        """All registered disks (SAFETY rule 23)."""
        return {
            key: Silence(disk.silence_s, is_heard=disk.at_s is not None)
            for key, disk in self._disks.items()
        }

    def soft_state(self, *, now_s: float, admits_writes: bool = True) -> SoftState:
        """A snapshot for answering questions."""
        health = DOWN if self._unheard_silence_s >= self._down_s else UNKNOWN
        silent = self._silent_disks()
        nodes = {
            node: NodeSoft(
                url="",
                health=health,
                last_heartbeat_ms_ago=-1,
                silent_disks=silent.get(node, frozenset()),
            )
            for node in self._expected
        }
        nodes |= {
            node: self._soft(heard, silent.get(node, frozenset()), now_s)
            for node, heard in self._heard.items()
        }
        frontends = tuple(
            self._frontend(self._frontends[url], now_s) for url in sorted(self._frontends)
        )
        return SoftState(nodes=nodes, admits_writes=admits_writes, frontends=frontends)

    def _silent_disks(self) -> dict[str, frozenset[bytes]]:
        """By node, uuids of the disks not heard of now."""
        silent: dict[str, frozenset[bytes]] = {}
        for (node, uuid), disk in self._disks.items():
            if disk.silence_s >= self._suspect_s:
                silent[node] = silent.get(node, frozenset()) | {uuid}
        return silent

    def _everybody(self) -> Iterable[_Heard[Heartbeat] | _Heard[FrontendHeartbeat]]:
        return chain(self._heard.values(), self._frontends.values())

    def _begin(self, term: int, *, now_s: float) -> None:
        """A new leadership: what its predecessor counted does not count."""
        self._term = term
        self._unheard_silence_s = 0.0
        for heard in self._everybody():
            heard.silence_s = 0.0
            heard.is_fresh = now_s - heard.at_s < self._suspect_s
        self._disks = {key: _Disk() for key in self._disks}

    def _health(self, heard: _Heard[Heartbeat] | _Heard[FrontendHeartbeat]) -> str:
        if heard.silence_s >= self._down_s:
            return DOWN
        if heard.silence_s >= self._suspect_s:
            return SUSPECT
        return UP if heard.is_fresh else UNKNOWN

    def _frontend(self, heard: _Heard[FrontendHeartbeat], now_s: float) -> FrontendInfo:
        return FrontendInfo(
            frontend=heard.heartbeat.frontend,
            url=heard.heartbeat.url,
            health=self._health(heard),
            last_heartbeat_ms_ago=max(0, int((now_s - heard.at_s) * 1000)),
        )

    def _soft(self, heard: _Heard[Heartbeat], silent: frozenset[bytes], now_s: float) -> NodeSoft:
        ms_ago = max(0, int((now_s - heard.at_s) * 1000))
        return NodeSoft(
            url=heard.heartbeat.url,
            health=self._health(heard),
            last_heartbeat_ms_ago=ms_ago,
            silent_disks=silent,
            disks={
                disk.uuid: DiskSoft(
                    capacity_bytes=disk.capacity_bytes,
                    free_bytes=disk.free_bytes,
                    writable=disk.writable,
                    problem=disk.problem,
                    census=_aged(disk.census, ms_ago),
                    scrub=disk.scrub,
                )
                for disk in heard.heartbeat.disks
            },
        )


def _aged(census: DiskCensus | None, ms: int) -> DiskCensus | None:
    """The same, `ms` after it was told."""
    if census is None:
        return None
    return msgspec.structs.replace(census, finished_ms_ago=census.finished_ms_ago + ms)
