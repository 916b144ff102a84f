"""What a metanode knows of the blob daemons by their heartbeats: soft, never in the log.

Every metanode listens; only the leader judges (SAFETY rule 23). Silence is counted in
ticks in which the leader's quorum was confirmed, so a leader that was paused, cut off or
starved blames nobody for beats it could not have heard.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from raftmeta.catalog.soft import DiskSoft, NodeSoft, SoftState
from raftmeta.wire import Heartbeat

UP = "up"
SUSPECT = "suspect"
DOWN = "down"
UNKNOWN = "unknown"

SUSPECT_BEATS = 5
DOWN_BEATS = 15


@dataclass(slots=True)
class _Heard:
    """One daemon's last heartbeat. `silence_s` is what was counted since."""

    heartbeat: Heartbeat
    at_s: float
    silence_s: float = 0.0
    is_fresh: bool = True


class NodeWatch:
    """Listens and judges. All times are the passed monotonic clock's, in seconds."""

    def __init__(self, *, heartbeat_s: float, tick_s: float) -> None:
        self._suspect_s = SUSPECT_BEATS * heartbeat_s
        self._down_s = DOWN_BEATS * heartbeat_s
        self._tick_s = tick_s
        self._heard: dict[str, _Heard] = {}
        self._expected: frozenset[str] = frozenset()
        self._unheard_silence_s = 0.0
        self._term: int | None = None
        self._last_tick_s: float | None = None

    def hear(self, heartbeat: Heartbeat, *, now_s: float) -> None:
        """Take note of a heartbeat."""
        self._heard[heartbeat.node] = _Heard(heartbeat, now_s)

    def expect(self, nodes: Iterable[str]) -> None:
        """These are registered. One never heard of is unknown, and down after its time."""
        self._expected = frozenset(nodes)

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
        for heard in self._heard.values():
            if heard.at_s < now_s - counted_s:
                heard.silence_s += counted_s

    def soft_state(self, *, now_s: float, admits_writes: bool = True) -> SoftState:
        """A snapshot for answering questions."""
        health = DOWN if self._unheard_silence_s >= self._down_s else UNKNOWN
        unheard = NodeSoft(url="", health=health, last_heartbeat_ms_ago=-1)
        nodes = dict.fromkeys(self._expected, unheard)
        nodes |= {node: self._soft(heard, now_s) for node, heard in self._heard.items()}
        return SoftState(nodes=nodes, admits_writes=admits_writes)

    def _begin(self, term: int, *, now_s: float) -> None:
        """A new leadership: what its predecessor counted does not count."""
        self._term = term
        self._unheard_silence_s = 0.0
        for heard in self._heard.values():
            heard.silence_s = 0.0
            heard.is_fresh = now_s - heard.at_s < self._suspect_s

    def _health(self, heard: _Heard) -> str:
        if heard.silence_s >= self._down_s:
            return DOWN
        if heard.silence_s >= self._suspect_s:
            return SUSPECT
        return UP if heard.is_fresh else UNKNOWN

    def _soft(self, heard: _Heard, now_s: float) -> NodeSoft:
        return NodeSoft(
            url=heard.heartbeat.url,
            health=self._health(heard),
            last_heartbeat_ms_ago=max(0, int((now_s - heard.at_s) * 1000)),
            disks={
                disk.uuid: DiskSoft(
                    capacity_bytes=disk.capacity_bytes,
                    free_bytes=disk.free_bytes,
                    writable=disk.writable,
                    problem=disk.problem,
                )
                for disk in heard.heartbeat.disks
            },
        )
