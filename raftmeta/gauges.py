"""The metanode's own metrics (docs/metrics.md)."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from raftmeta.archived import ArchiveState
from raftmeta.healing import HealingState, ReencodingState
from raftmeta.queries import CatalogCounted
from raftmeta.wire import Status

COMMIT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
TABLES = (
    "buckets",
    "versions",
    "markers",
    "stripes",
    "dead_stripes",
    "segments",
    "uploads",
    "trash",
    "graveyard",
    "sessions",
)


class RaftMetrics:
    """What is counted as it happens."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.commit_seconds = Histogram(
            "oss_raft_commit_seconds",
            "Time from a proposal's arrival at the leader until it was applied.",
            registry=registry,
            buckets=COMMIT_BUCKETS,
        )
        self.request_commands = Histogram(
            "oss_raft_request_commands",
            "Commands in one proposing request.",
            registry=registry,
            buckets=BATCH_BUCKETS,
        )


class MetanodeCollector(Collector):
    """What is looked up when somebody scrapes."""

    def __init__(
        self,
        *,
        status: Callable[[], Status],
        journal_bytes: Callable[[], int],
        count: Callable[[], CatalogCounted | None],
        healing: Callable[[], HealingState | None],
        archive: Callable[[], ArchiveState | None],
    ) -> None:
        self._status = status
        self._journal_bytes = journal_bytes
        self._count = count
        self._healing = healing
        self._archive = archive

    def describe(self) -> Iterable[Metric]:
        """None in advance: registering must not look anything up."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The registry's call."""
        status = self._status()
        for name, text, value in (
            ("oss_raft_is_leader", "1 on the leader.", status.state == "leader"),
            ("oss_raft_term", "Present Raft term.", status.term),
            ("oss_raft_applied_index", "Last log index applied.", status.applied_index),
            ("oss_raft_commit_index", "Last log index known committed.", status.commit_index),
            ("oss_raft_journal_bytes", "Bytes of the Raft log on disk.", self._journal_bytes()),
            ("oss_metadata_free_bytes", "Room beside the catalog.", status.free_bytes),
        ):
            yield GaugeMetricFamily(name, text, value=float(value))
        counted = self._count()
        if counted is not None:
            yield from _catalog_metrics(counted)
        healing = self._healing()
        if healing is not None:
            yield from _healing_metrics(healing)
        archive = self._archive()
        if archive is not None:
            yield from _archive_metrics(archive)


def _archive_metrics(archive: ArchiveState) -> Iterable[Metric]:
    """What would be left if every metanode were lost now; only the leader knows."""
    for name, text, value in (
        ("index", "Log index up to which enough blob daemons keep the catalog.",
         archive.archived_index),
        ("lag_seconds", "For how long the first entry behind that has been applied, at most.",
         archive.lag_ms / 1000),
        ("copies", "Whole archives up to that index.", archive.copies),
        ("copies_wanted", "Whole archives that are kept where there are nodes for them.",
         archive.copies_wanted),
        ("snapshot_bytes", "Of the newest snapshot in the archive.", archive.snapshot_bytes),
        ("log_bytes", "Of log behind that snapshot.", archive.log_bytes),
    ):  # fmt: skip
        yield GaugeMetricFamily(f"oss_archive_{name}", text, value=float(value))


def _healing_metrics(healing: HealingState) -> Iterable[Metric]:
    """What only the leader knows."""
    alarm = "1 while so many nodes are silent that no disk is judged lost."
    yield GaugeMetricFamily("oss_repair_alarm", alarm, float(bool(healing.alarm)))
    damaged = GaugeMetricFamily(
        "oss_repair_stripes",
        "Stripes by how many of their shards are missing, bad or on lost disks.",
        labels=["missing"],
    )
    for count, stripes in healing.missing.items():
        damaged.add_metric([str(count)], stripes)
    yield damaged
    objects = GaugeMetricFamily(
        "oss_objects_by_missing_shards",
        "Versions of objects by the most shards that one of their stripes misses.",
        labels=["missing"],
    )
    for count, versions in healing.objects.items():
        objects.add_metric([str(count)], versions)
    yield objects
    yield GaugeMetricFamily(
        "oss_repair_unreadable_stripes",
        "Stripes with fewer shards left than they need.",
        healing.unreadable,
    )
    yield GaugeMetricFamily(
        "oss_repair_left_bytes", "Bytes of shards to be repaired.", healing.repair_bytes
    )
    rebalance_bytes = healing.drain_bytes + healing.rebalance_bytes
    yield GaugeMetricFamily(
        "oss_rebalance_left_bytes", "Bytes of shards to be moved elsewhere.", rebalance_bytes
    )
    yield GaugeMetricFamily(
        "oss_moves_bytes_per_second",
        "Bytes of shards written by tasks, on average of the last minute.",
        healing.bytes_per_s,
    )
    for work, left_bytes in (("repair", healing.repair_bytes), ("rebalance", rebalance_bytes)):
        yield _eta(f"oss_{work}_eta_seconds", left_bytes, healing.bytes_per_s)
    tasks = GaugeMetricFamily("oss_tasks_open", "Shards being written anew.", labels=["reason"])
    for reason, open_count in healing.tasks.items():
        tasks.add_metric([reason], open_count)
    yield tasks
    yield from _reencoding_metrics(healing.reencoding)


def _reencoding_metrics(state: ReencodingState) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "oss_reencode_tasks_open", "Stripes being encoded anew.", float(state.tasks)
    )
    left = sum(each.left_stripes for each in state.progress)
    left_bytes = sum(each.left_bytes for each in state.progress)
    yield GaugeMetricFamily("oss_reencode_left_stripes", "Stripes to be encoded anew.", left)
    yield GaugeMetricFamily("oss_reencode_left_bytes", "Plain bytes of these.", left_bytes)


def _eta(name: str, left_bytes: int, bytes_per_s: float) -> Metric:
    """Without a sample while there is nothing to wait for, or no end in sight."""
    eta = GaugeMetricFamily(name, "Seconds to the end at that rate; nothing where there is none.")
    if left_bytes and bytes_per_s > 0:
        eta.add_metric([], left_bytes / bytes_per_s)
    return eta


def _catalog_metrics(counted: CatalogCounted) -> Iterable[Metric]:
    rows = GaugeMetricFamily("oss_catalog_rows", "Rows of the catalog.", labels=["table"])
    for table in TABLES:
        rows.add_metric([table], getattr(counted, table))
    yield rows
    missing = GaugeMetricFamily(
        "oss_stripes_by_missing_shards",
        "Stripes by how many of their shards are missing or bad.",
        labels=["missing"],
    )
    for count, stripes in sorted(counted.missing.items()):
        missing.add_metric([str(count)], stripes)
    yield missing
    yield CounterMetricFamily(
        "oss_moved_shards_total", "Shards written anew by tasks.", counted.moved_shards
    )
    yield CounterMetricFamily(
        "oss_moved_bytes_total", "Bytes of shards written anew by tasks.", counted.moved_bytes
    )
    gone = CounterMetricFamily(
        "oss_lifecycle_expired_total",
        "Objects that expired, and versions and markers removed, for what buckets ask by time.",
        labels=["kind"],
    )
    for kind in ("objects", "versions", "markers"):
        gone.add_metric([kind], getattr(counted.expired, kind))
    yield gone
    yield CounterMetricFamily(
        "oss_lifecycle_expired_bytes_total",
        "Bytes of the versions removed so, as users see them.",
        counted.expired.size_bytes,
    )
    yield CounterMetricFamily(
        "oss_reencoded_stripes_total", "Stripes encoded anew.", counted.reencoded_stripes
    )
    yield CounterMetricFamily(
        "oss_reencoded_bytes_total", "Plain bytes of these.", counted.reencoded_bytes
    )
    yield GaugeMetricFamily(
        "oss_logical_bytes", "Bytes of all versions as users see them.", counted.logical_bytes
    )
    yield GaugeMetricFamily(
        "oss_stored_bytes", "Bytes of all stripes before coding.", counted.stored_bytes
    )
