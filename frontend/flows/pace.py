"""When to stop waiting for a shard and read around it (SAFETY rule 26).

A hedge costs the cluster a second read just when it is slow, so hedges are few: at most one
in twenty reads, and none to a node that has a queue of ours already.
"""

from collections import Counter, deque
from collections.abc import Iterator, Set
from contextlib import contextmanager

from ossd.clock import Clock

_SAMPLES = 512
_RECOMPUTE_EVERY = 32
_DELAY_S_MIN = 0.02
_DELAY_S_MAX = 1.0
_DELAY_S_FIRST = 0.25
_HEDGES_PER_READ = 0.05
_HEDGES_SAVED_MAX = 10.0
_QUEUE_COUNT = 8


class ReadPace:
    """How long shard reads take lately, how many hedges are left, who is busy."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds: deque[float] = deque(maxlen=_SAMPLES)
        self._since_computed = 0
        self._p95_s: float | None = None
        self._hedges_left = _HEDGES_SAVED_MAX / 2
        self._under_way: Counter[str] = Counter()
        self.hedge_count = 0

    @property
    def hedge_delay_s(self) -> float:
        """Wait this long for a shard before reading around it."""
        if self._p95_s is None:
            return _DELAY_S_FIRST
        return min(max(2 * self._p95_s, _DELAY_S_MIN), _DELAY_S_MAX)

    @contextmanager
    def reading(self, node: str) -> Iterator[None]:
        """Count one shard read from `node`; its time is a sample if it succeeds."""
        self._under_way[node] += 1
        began_s = self._clock.monotonic_s()
        try:
            yield
            self._note(self._clock.monotonic_s() - began_s)
        finally:
            self._under_way[node] -= 1

    def has_queue(self, node: str) -> bool:
        """Whether `node` has so many of our reads to answer that one more would only wait."""
        return self._under_way[node] >= _QUEUE_COUNT

    def take_hedge(self, nodes: Set[str]) -> bool:
        """Whether a hedge may be sent to these nodes now; it then counts as sent."""
        if self._hedges_left < 1 or any(self.has_queue(node) for node in nodes):
            return False
        self._hedges_left -= 1
        self.hedge_count += 1
        return True

    def _note(self, seconds: float) -> None:
        self._hedges_left = min(self._hedges_left + _HEDGES_PER_READ, _HEDGES_SAVED_MAX)
        self._seconds.append(seconds)
        self._since_computed += 1
        if self._since_computed >= _RECOMPUTE_EVERY:
            self._since_computed = 0
            ordered = sorted(self._seconds)
            self._p95_s = ordered[len(ordered) * 95 // 100]
