"""What a blob daemon says of itself on /metrics; read from its parts when asked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as MetricsCollector

from blobd.collect import Collector
from blobd.disks import Disks
from blobd.scrub import Scrubber
from osscore.errors import DiskFailing
from ossd.budget import ByteBudget


@dataclass(slots=True)
class Parts:
    """What the figures come from. The lists fill while the daemon starts."""

    node: str
    disks: Disks
    budget: ByteBudget
    collectors: list[Collector] = field(default_factory=list)
    scrubbers: list[Scrubber] = field(default_factory=list)


class DaemonMetrics(MetricsCollector):
    """Space, shards and background work."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        yield from self._space()
        yield from self._work()

    def _space(self) -> Iterator[Metric]:
        node = self._parts.node
        used = GaugeMetricFamily(
            "oss_node_used_bytes", "Bytes of volumes on this node.", labels=("node",)
        )
        free = _gauge("oss_disk_free_bytes", "Bytes that may still be written.")
        shards = _gauge("oss_shards", "Shards held.")
        volumes = _gauge("oss_volume_count", "Volume files.")
        writable = _gauge("oss_disk_writable", "1 while the disk takes writes.")
        used_bytes = 0
        for disk in self._parts.disks:
            labels = (node, disk.uuid.hex())
            writable.add_metric(labels, 1.0 if disk.writable else 0.0)
            try:
                stats = disk.store.stats()
            except (DiskFailing, OSError):
                continue  # shown by oss_disk_writable; there is nothing to measure
            used_bytes += stats.used_bytes
            free.add_metric(labels, stats.free_bytes)
            shards.add_metric(labels, stats.shards)
            volumes.add_metric(labels, stats.volumes)
        used.add_metric((node,), used_bytes)
        yield from (used, free, shards, volumes, writable)

    def _work(self) -> Iterator[Metric]:
        scrubbers, collectors = self._parts.scrubbers, self._parts.collectors
        yield GaugeMetricFamily(
            "oss_bodies_bytes", "Bodies held in memory.", value=self._parts.budget.used_bytes
        )
        yield _total("oss_compaction_bytes", "Moved.", [c.compacted_bytes for c in collectors])
        yield _total("oss_collected_shards", "Deleted.", [c.deleted_count for c in collectors])
        yield _total("oss_scrub_bytes", "Reread.", [s.scrubbed_bytes for s in scrubbers])
        yield _total("oss_scrub_bad_shards", "Found bad.", [s.bad_count for s in scrubbers])


def _gauge(name: str, about: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=("node", "disk"))


def _total(name: str, about: str, values: Sequence[int]) -> CounterMetricFamily:
    return CounterMetricFamily(name, about, value=float(sum(values)))
