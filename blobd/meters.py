"""What a blob daemon says of itself on /metrics; read from its parts when asked."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as MetricsCollector

from blobd.collect import Collector
from blobd.disks import DataDisk, Disks
from blobd.rejoin import Rejoin
from blobd.repair.mover import Mover
from blobd.repair.reencoder import Reencoder
from blobd.upkeep import Upkeep
from osscore.errors import DiskFailing
from ossd.budget import ByteBudget


@dataclass(slots=True)
class Parts:
    """What the figures come from. The lists fill while the daemon starts."""

    node: str
    disks: Disks
    budget: ByteBudget
    upkeep: Upkeep
    archive_bytes: Callable[[DataDisk], int] = lambda _: 0
    """Of a disk, what it keeps of the catalog."""
    collectors: list[Collector] = field(default_factory=list)
    movers: list[Mover] = field(default_factory=list)
    reencoders: list[Reencoder] = field(default_factory=list)
    rejoins: dict[DataDisk, Rejoin] = field(default_factory=dict)


class DaemonMetrics(MetricsCollector):
    """Space, shards and background work."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        yield from self._space()
        yield from self._work()
        yield from self._moves()
        yield from self._reencodings()
        yield from self._censuses()
        yield from self._rejoins()
        yield from self._scrubs()

    def _space(self) -> Iterator[Metric]:
        node = self._parts.node
        used = GaugeMetricFamily(
            "oss_node_used_bytes", "Bytes of volumes on this node.", labels=("node",)
        )
        free = _gauge("oss_disk_free_bytes", "Bytes that may still be written.")
        shards = _gauge("oss_shards", "Shards held.")
        temps = _gauge("oss_temp_bytes", "Uploads of users that wait to be confirmed.")
        volumes = _gauge("oss_volume_count", "Volume files.")
        archive = _gauge("oss_archive_bytes", "Snapshots and log of the catalog kept there.")
        writable = _gauge("oss_disk_writable", "1 while the disk takes writes.")
        used_bytes = 0
        for disk in self._parts.disks:
            labels = (node, disk.uuid.hex())
            writable.add_metric(labels, 1.0 if disk.writable else 0.0)
            try:
                stats = disk.store.stats()
                archive.add_metric(labels, self._parts.archive_bytes(disk))
            except (DiskFailing, OSError):
                continue  # shown by oss_disk_writable; there is nothing to measure
            used_bytes += stats.used_bytes
            free.add_metric(labels, stats.free_bytes)
            shards.add_metric(labels, stats.shards)
            temps.add_metric(labels, stats.temp_bytes)
            volumes.add_metric(labels, stats.volumes)
        used.add_metric((node,), used_bytes)
        yield from (used, free, shards, temps, volumes, archive, writable)

    def _work(self) -> Iterator[Metric]:
        collectors = self._parts.collectors
        scrubbers = [scrubber for _, scrubber in self._parts.upkeep.scrubbers]
        yield GaugeMetricFamily(
            "oss_bodies_bytes", "Bodies held in memory.", value=self._parts.budget.used_bytes
        )
        yield _total("oss_compaction_bytes", "Moved.", [c.compacted_bytes for c in collectors])
        yield _total("oss_collected_shards", "Deleted.", [c.deleted_count for c in collectors])
        yield _total("oss_scrub_bytes", "Reread.", [s.scrubbed_bytes for s in scrubbers])
        yield _total("oss_scrub_bad_shards", "Found bad.", [s.bad_count for s in scrubbers])
        bad_temps = [scrubber.bad_temp_count for scrubber in scrubbers]
        yield _total("oss_scrub_bad_temp_records", "Of temps, found bad.", bad_temps)

    def _moves(self) -> Iterator[Metric]:
        moved = [mover.moved for mover in self._parts.movers]
        shards = CounterMetricFamily(
            "oss_moved_shards", "Shards written by tasks.", labels=("how",)
        )
        size = CounterMetricFamily("oss_moved_bytes", "Bytes of these.", labels=("how",))
        for how in ("rebuilt", "copied"):
            shards.add_metric((how,), sum(getattr(each, f"{how}_shards") for each in moved))
            size.add_metric((how,), sum(getattr(each, f"{how}_bytes") for each in moved))
        yield from (shards, size)
        yield _total("oss_moves_read_bytes", "Fetched for them.", [m.read_bytes for m in moved])
        yield _total("oss_moves_failed", "Attempts that failed.", [m.failed_count for m in moved])
        yield _total("oss_moves_useless", "Written in vain.", [m.useless_shards for m in moved])

    def _reencodings(self) -> Iterator[Metric]:
        done = [reencoder.done for reencoder in self._parts.reencoders]
        yield _total("oss_recoded_stripes", "Encoded anew here.", [d.stripes for d in done])
        yield _total("oss_recoded_bytes", "Plain bytes of these.", [d.plain_bytes for d in done])
        yield _total(
            "oss_recoding_written_bytes", "Shards sent for it.", [d.written_bytes for d in done]
        )
        yield _total("oss_recodings_useless", "Encoded in vain.", [d.useless_stripes for d in done])
        yield _total("oss_recodings_failed", "Attempts failed.", [d.failed_count for d in done])

    def _censuses(self) -> Iterator[Metric]:
        slots = GaugeMetricFamily(
            "oss_census_shards",
            "Shards by the last whole census of the disk; nothing before the first.",
            labels=("node", "disk", "found"),
        )
        age = _gauge("oss_census_age_seconds", "Seconds since that census was finished.")
        for disk, census in self._parts.upkeep.censuses:
            if (last := census.last) is None:
                continue
            uuid = disk.uuid.hex()
            for found in ("expected", "present", "missing", "surplus", "young"):
                slots.add_metric((self._parts.node, uuid, found), getattr(last, found))
            age.add_metric((self._parts.node, uuid), last.finished_ms_ago / 1000)
        rechecked = sum(census.rechecked_count for _, census in self._parts.upkeep.censuses)
        yield from (slots, age)
        yield _total("oss_census_rechecked_shards", "Reread, since they differed.", [rechecked])

    def _rejoins(self) -> Iterator[Metric]:
        slots = GaugeMetricFamily(
            "oss_rejoin_slots",
            "Of a disk that is an older state of itself, while it is compared with the catalog.",
            labels=("node", "disk", "which"),
        )
        for disk, rejoin in self._parts.rejoins.items():
            if (progress := rejoin.progress) is not None:
                for which, count in zip(("compared", "all"), progress, strict=True):
                    slots.add_metric((self._parts.node, disk.uuid.hex(), which), count)
        yield slots

    def _scrubs(self) -> Iterator[Metric]:
        left = _gauge("oss_scrub_left_bytes", "Left to reread in this pass; 0 at rest.")
        paused = _gauge("oss_scrub_paused", "1 while the scrub is paused.")
        never = _gauge("oss_scrub_unverified_volumes", "Volumes never reread to their end.")
        oldest = _gauge(
            "oss_scrub_oldest_verified_seconds", "Since the longest ago reread volume was begun."
        )
        rate = _gauge("oss_scrub_bytes_per_second", "Reread in this pass, on average.")
        eta = _gauge("oss_scrub_eta_seconds", "To the end of this pass at that rate.")
        for disk, _ in self._parts.upkeep.scrubbers:
            if (told := self._parts.upkeep.scrub_of(disk)) is None:
                continue
            labels = (self._parts.node, disk.uuid.hex())
            left.add_metric(labels, told.left_bytes)
            paused.add_metric(labels, float(told.is_paused))
            never.add_metric(labels, told.unverified_volumes)
            rate.add_metric(labels, told.bytes_per_s)
            if told.left_bytes and told.bytes_per_s:
                eta.add_metric(labels, told.left_bytes / told.bytes_per_s)
            if told.oldest_verified_ms_ago >= 0:
                oldest.add_metric(labels, told.oldest_verified_ms_ago / 1000)
        yield from (left, rate, eta, paused, never, oldest)


def _gauge(name: str, about: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=("node", "disk"))


def _total(name: str, about: str, values: Sequence[int]) -> CounterMetricFamily:
    return CounterMetricFamily(name, about, value=float(sum(values)))
