"""Whether all metanodes ended with the same catalog."""

from pathlib import Path

from cli.local_cluster import LocalCluster
from raftmeta.catalog.catalog import Catalog
from raftmeta.identity import CATALOG_NAME, CURRENT_NAME


def catalog_fingerprints(cluster: LocalCluster) -> dict[str, str]:
    """By metanode id: applied index and digest of the whole catalog. All must be stopped."""
    found = {}
    for node in cluster.metanodes:
        folder = Path(node["data"])
        current = (folder / CURRENT_NAME).read_text().strip()
        catalog = Catalog(folder / current / CATALOG_NAME)
        found[node["id"]] = f"{catalog.applied_index}:{catalog.fingerprint().hex()}"
        catalog.close()
    return found
