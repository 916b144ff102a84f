"""The cluster's members, its keys and its totals."""

import msgspec

from osscore.errors import NoSuchAccessKey
from osscore.model import INLINE_BYTES_MAX, INLINE_BYTES_MAX_WHEN_LARGE
from raftmeta.catalog.reading import Reading
from raftmeta.catalog.soft import DiskSoft, NodeSoft
from raftmeta.queries import (
    AccessKeyFound,
    CatalogCounted,
    ClusterDescribed,
    CountCatalog,
    DiskInfo,
    FindAccessKey,
    GetCluster,
    NodeInfo,
)

INLINE_TOTAL_LARGE_BYTES = 4 << 30
"""Inline bodies beyond this make the inline limit fall (SAFETY rule 24)."""


def get_cluster(reading: Reading, _: GetCluster) -> ClusterDescribed:
    """Nodes and disks as registered, merged with what heartbeats say."""
    disks = _disks_by_node(reading)
    nodes = tuple(
        _describe(node, url, zone, reading.soft.nodes.get(node), disks.get(node, []))
        for node, url, zone in reading.db.execute("SELECT node, url, zone FROM nodes ORDER BY node")
    )
    large = reading.number("total_inline_bytes") > INLINE_TOTAL_LARGE_BYTES
    return ClusterDescribed(
        cluster_id=reading.blob("cluster_id"),
        catalog_key_wrapped=reading.blob("catalog_key_wrapped"),
        system_token_digest=reading.blob("system_token_digest"),
        keys_epoch=reading.number("keys_epoch"),
        nodes=nodes,
        admits_writes=reading.soft.admits_writes,
        inline_bytes_max=INLINE_BYTES_MAX_WHEN_LARGE if large else INLINE_BYTES_MAX,
        generation=reading.number("generation"),
    )


def find_access_key(reading: Reading, query: FindAccessKey) -> AccessKeyFound:
    """A key as stored. Refuses NoSuchAccessKey when unknown or expired by catalog time."""
    found = reading.db.execute(
        "SELECT secret_sealed, scopes, buckets, expires_at_ms FROM access_keys"
        " WHERE access_key = ?",
        (query.access_key,),
    ).fetchone()
    if found is None or 0 < found[3] <= reading.number("catalog_time_ms"):
        raise NoSuchAccessKey()
    secret_sealed, scopes, buckets, expires_at_ms = found
    return AccessKeyFound(
        access_key=query.access_key,
        secret_sealed=secret_sealed,
        scopes=msgspec.json.decode(scopes, type=tuple[str, ...]),
        buckets=msgspec.json.decode(buckets, type=tuple[str, ...]),
        expires_at_ms=expires_at_ms,
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
    )


def _disks_by_node(reading: Reading) -> dict[str, list[tuple[int, bytes, str, int]]]:
    disks: dict[str, list[tuple[int, bytes, str, int]]] = {}
    rows = reading.db.execute(
        "SELECT node, disk, uuid, state, capacity_bytes FROM disks ORDER BY disk"
    )
    for node, *disk in rows:
        disks.setdefault(node, []).append(tuple(disk))
    return disks


def _describe(
    node: str,
    url: str,
    zone: str,
    soft: NodeSoft | None,
    disks: list[tuple[int, bytes, str, int]],
) -> NodeInfo:
    heard = soft or NodeSoft(url=url, health="unknown", last_heartbeat_ms_ago=0)
    return NodeInfo(
        node=node,
        url=heard.url,
        zone=zone,
        health=heard.health,
        last_heartbeat_ms_ago=heard.last_heartbeat_ms_ago,
        disks=tuple(_describe_disk(row, heard.disks.get(row[1])) for row in disks),
    )


def _describe_disk(row: tuple[int, bytes, str, int], soft: DiskSoft | None) -> DiskInfo:
    """A disk nobody has reported yet takes no writes."""
    disk, uuid, state, capacity_bytes = row
    return DiskInfo(
        disk=disk,
        uuid=uuid,
        state=state,
        capacity_bytes=soft.capacity_bytes if soft else capacity_bytes,
        free_bytes=soft.free_bytes if soft else 0,
        writable=soft.writable if soft else False,
        problem=soft.problem if soft else "not reported yet",
    )
