"""How long the disks take, as a metric."""

from prometheus_client import CollectorRegistry, Histogram

from ossd.clock import Clock

SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class ShardTimes:
    """`oss_shard_op_seconds{op}`: how long the disks take, without the network."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._histogram = Histogram(
            "oss_shard_op_seconds",
            "Time one shard operation spends in the store of its disk.",
            ("op",),
            registry=registry,
            buckets=SECONDS_BUCKETS,
        )
        self._children = {op: self._histogram.labels(op) for op in ("put", "put_batch", "get")}

    def start_s(self) -> float:
        """A moment to give to `observe`."""
        return self._clock.monotonic_s()

    def observe(self, op: str, since_s: float) -> None:
        """Count one operation of that kind, begun at `since_s`."""
        self._children[op].observe(self._clock.monotonic_s() - since_s)
