"""The cluster's members and its totals."""

from osscore.model import INLINE_BYTES_MAX, INLINE_BYTES_MAX_WHEN_LARGE
from raftmeta.catalog.generation import deletion_state
from raftmeta.catalog.meta import slots_on
from raftmeta.catalog.reading import Reading
from raftmeta.catalog.soft import NodeSoft
from raftmeta.healing import WORKS
from raftmeta.lifecycle import ExpiredTotals
from raftmeta.queries import (
    CatalogCounted,
    ClusterDescribed,
    CountCatalog,
    DiskInfo,
    GetCluster,
    NodeInfo,
)

INLINE_TOTAL_LARGE_BYTES = 4 << 30
"""Inline bodies beyond this make the inline limit fall (SAFETY rule 24)."""


def get_cluster(reading: Reading, _: GetCluster) -> ClusterDescribed:
    """Nodes and disks as registered, merged with what heartbeats say."""
    disks = _disks_by_node(reading)
    nodes = tuple(
        _describe(reading, (node, url, zone), disks.get(node, []))
        for node, url, zone in reading.db.execute("SELECT node, url, zone FROM nodes ORDER BY node")
    )
    large = reading.number("total_inline_bytes") > INLINE_TOTAL_LARGE_BYTES
    return ClusterDescribed(
        # A cluster that is still being restored tells no id: it is not formed yet.
        cluster_id=b"" if reading.number("restoring") else reading.blob("cluster_id"),
        catalog_key_wrapped=reading.blob("catalog_key_wrapped"),
        system_token_digest=reading.blob("system_token_digest"),
        keys_epoch=reading.number("keys_epoch"),
        nodes=tuple(node for node in nodes if _is_part(node)),
        admits_writes=reading.soft.admits_writes,
        inline_bytes_max=INLINE_BYTES_MAX_WHEN_LARGE if large else INLINE_BYTES_MAX,
        generation=reading.number("generation"),
        frontends=reading.soft.frontends,
        pruning=reading.soft.pruning,
        lifecycle=reading.soft.lifecycle,
        healing=reading.soft.healing,
        archive=reading.soft.archive,
        deletion=deletion_state(
            reading.db,
            generation=reading.number("generation"),
            frozen=reading.number("frozen") == 1,
            restored_at_ms=reading.number("restored_at_ms"),
        ),
        paused=tuple(work for work in WORKS if reading.number(f"{work}_paused")),
    )


def count_catalog(reading: Reading, _: CountCatalog) -> CatalogCounted:
    """Running totals; only the repair queue is counted row by row."""
    missing = dict(
        reading.db.execute(
            "SELECT missing_count, COUNT(*) FROM stripes"
            " WHERE missing_count > 0 AND dead_since_ms IS NULL"
            " GROUP BY missing_count ORDER BY missing_count"
        )
    )
    return CatalogCounted(
        buckets=reading.number("total_buckets"),
        versions=reading.number("total_versions"),
        markers=reading.number("total_markers"),
        stripes=reading.number("total_stripes"),
        dead_stripes=reading.number("total_dead_stripes"),
        segments=reading.number("total_segments"),
        uploads=reading.number("total_uploads"),
        trash=reading.number("total_trash"),
        graveyard=reading.number("total_graveyard"),
        sessions=reading.number("total_sessions"),
        logical_bytes=reading.number("total_logical_bytes"),
        stored_bytes=reading.number("total_stored_bytes"),
        missing=missing,
        time_jumped=reading.number("time_jumped") == 1,
        pruned_versions=reading.number("pruned_versions"),
        pruned_markers=reading.number("pruned_markers"),
        pruned_bytes=reading.number("pruned_bytes"),
        expired=ExpiredTotals(
            objects=reading.number("expired_objects"),
            versions=reading.number("expired_versions"),
            markers=reading.number("expired_markers"),
            size_bytes=reading.number("expired_bytes"),
        ),
        moved_shards=reading.number("moved_shards"),
        moved_bytes=reading.number("moved_bytes"),
        reencoded_stripes=reading.number("reencoded_stripes"),
        reencoded_bytes=reading.number("reencoded_bytes"),
    )


def _disks_by_node(reading: Reading) -> dict[str, list[tuple[int, bytes, str, int]]]:
    disks: dict[str, list[tuple[int, bytes, str, int]]] = {}
    rows = reading.db.execute(
        "SELECT node, disk, uuid, state, capacity_bytes FROM disks ORDER BY disk"
    )
    for node, *disk in rows:
        disks.setdefault(node, []).append(tuple(disk))
    return disks


def _is_part(node: NodeInfo) -> bool:
    """A node without disks is none, but for one that is heard of and may get some."""
    has_disks = any(disk.state != "removed" for disk in node.disks)
    return has_disks or node.health in ("up", "suspect")


def _describe(
    reading: Reading, registered: tuple[str, str, str], disks: list[tuple[int, bytes, str, int]]
) -> NodeInfo:
    node, url, zone = registered
    unheard = NodeSoft(url=url, health="unknown", last_heartbeat_ms_ago=0)
    heard = reading.soft.nodes.get(node) or unheard
    return NodeInfo(
        node=node,
        url=heard.url,
        zone=zone,
        health=heard.health,
        last_heartbeat_ms_ago=heard.last_heartbeat_ms_ago,
        disks=tuple(_describe_disk(reading, row, heard) for row in disks),
    )


def _describe_disk(reading: Reading, row: tuple[int, bytes, str, int], heard: NodeSoft) -> DiskInfo:
    """A disk nobody has reported yet takes no writes."""
    disk, uuid, state, capacity_bytes = row
    soft = heard.disks.get(uuid)
    slot_count, slot_bytes = slots_on(reading.meta, disk)
    return DiskInfo(
        disk=disk,
        uuid=uuid,
        state=state,
        capacity_bytes=soft.capacity_bytes if soft else capacity_bytes,
        free_bytes=soft.free_bytes if soft else 0,
        writable=soft.writable if soft else False,
        problem=soft.problem if soft else "not reported yet",
        census=soft.census if soft else None,
        scrub=soft.scrub if soft else None,
        is_silent=uuid in heard.silent_disks,
        slot_count=slot_count,
        slot_bytes=slot_bytes,
    )
