"""What a frontend says of its flows on /metrics; read from the store when asked."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from frontend.flows.store import Store


class FlowMetrics(Collector):
    """Memory, hedges, and what became of damaged shards."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        yield GaugeMetricFamily(
            "oss_bodies_bytes",
            "Bodies held in memory.",
            value=self._store.budget.used_bytes + self._store.loans.used_bytes,
        )
        yield CounterMetricFamily(
            "oss_hedged_reads", "Hedged reads since start.", value=self._store.pace.hedge_count
        )
        yield CounterMetricFamily(
            "oss_recalled_loans",
            "Times that a slow client's bytes were called back, since start.",
            value=self._store.loans.recalled_count,
        )
        damaged = CounterMetricFamily(
            "oss_damaged_shards",
            "Shards that reads found missing or corrupt, by what became of their write-back.",
            labels=("outcome",),
        )
        for outcome, count in sorted(self._store.damage.counts.items()):
            damaged.add_metric((outcome,), count)
        yield damaged
