"""The census over real processes: what a disk lacks is seen, told and mended, and seen again."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.local import LocalStore, wait_for

pytestmark = pytest.mark.cluster

KIB = 1024
NODE = "blob-4"


def health(store: LocalStore) -> dict[str, Any]:
    """What the API says of all censuses."""
    found: dict[str, Any] = store.request("GET", "/v1/maintenance/census").expect(200).json()
    return found


def differed(lines: list[str]) -> list[dict[str, Any]]:
    """What a daemon's censuses logged when shards were missing."""
    return [json.loads(line) for line in lines if '"census_differs"' in line]


def test_shards_gone_from_a_disk_are_counted_and_told_and_mended(store: LocalStore) -> None:
    bodies = {
        f"census/{n}": store.put_whole(f"census/{n}", 300 * KIB, seed=900 + n) for n in range(3)
    }
    store.ossctl("stop", NODE)
    wait_for(lambda: health(store)["disks"]["uncounted"] == 1, what="the stopped node to be named")
    said = " ".join(store.ossctl("census").stdout.decode().split())
    assert f"{NODE} disk" in said and "is not counted" in said
    volumes = Path(store.node(NODE)["data"]) / "volumes"
    volumes.rename(volumes.with_name("volumes-gone"))
    sizes = store.log_sizes()
    store.up()
    (first, *_) = wait_for(
        lambda: differed(store.logged_since(sizes)[NODE]), what="the census of an empty disk"
    )
    assert first["present"] == 0 and first["expected"] == first["missing"] >= len(bodies)
    assert any('"shard_bad"' in line for line in store.logged_since(sizes)[NODE])
    assert store.metrics(NODE)["oss_census_rechecked_shards_total"] >= first["missing"]

    # Only what was told is written anew; then both accounts agree that nothing is missing.
    def mended() -> dict[str, Any] | None:
        found = health(store)
        is_whole = not found["slots"]["missing"] and not found["stripes"]["by_missing"]
        return found if is_whole and found["disks"]["uncounted"] == 0 else None

    wait_for(mended, what="the missing shards to be written anew", deadline_s=60)
    (found,) = store.ossctl_json("census", "--now")
    assert (found["slots"]["missing"], found["errors"]) == (0, [])
    assert found["disks"] == {"counted": len(store.facts()["blobs"]), "uncounted": 0}
    assert f"{NODE}: disk" not in store.ossctl("cluster", "status").stdout.decode()
    for name, body in bodies.items():
        assert store.get(name) == body
        store.remove_for_good(name)
