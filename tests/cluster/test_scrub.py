"""The scrub over real processes: damage that nobody reads is found, told, and not served."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.cluster.local import LocalStore, wait_for
from tests.cluster.test_store_bitrot import NEEDLE_BYTES, PARITY, flip

pytestmark = pytest.mark.cluster

KIB = 1024
OBJECTS = 5
SHARD_BYTES = 300 * KIB // 4


def shards_of(store: LocalStore, name: str) -> list[dict[str, Any]]:
    """The shards of an object of one stripe, by index."""
    told = store.request("GET", f"/explain/{quote(name)}").expect(200).json()
    (stripe,) = told["stripes"]
    found: list[dict[str, Any]] = stripe["shards"]
    return sorted(found, key=lambda shard: shard["index"])


def scrub_metrics(store: LocalStore) -> tuple[float, float]:
    """Bytes reread and shards found bad, of all daemons since they run."""
    told = [store.metrics(node["id"]) for node in store.facts()["blobs"]]
    names = ("oss_scrub_bytes_total", "oss_scrub_bad_shards_total")
    return tuple(sum(each[name] for each in told) for name in names)  # type: ignore[return-value]


def found_bad(store: LocalStore, sizes: dict[Path, int]) -> set[tuple[str, int]]:
    """Stripe and index of each shard that a daemon has called bad since."""
    told = (
        json.loads(line)
        for lines in store.logged_since(sizes).values()
        for line in lines
        if '"shard_bad"' in line
    )
    return {(each["stripe"], each["index"]) for each in told}


def test_a_bit_flipped_in_m_shards_of_each_object_is_found_without_any_read(
    store: LocalStore,
) -> None:
    names = [f"scrub/{number}" for number in range(OBJECTS)]
    bodies = {
        name: store.put_whole(name, 300 * KIB, seed=950 + number)
        for number, name in enumerate(names)
    }
    flipped = []
    sizes = store.log_sizes()
    for name, body in bodies.items():
        for shard in shards_of(store, name)[:PARITY]:
            needle = body[shard["index"] * SHARD_BYTES + 1000 :][:NEEDLE_BYTES]
            paths = [p for p in store.volumes(shard["node"]) if needle in p.read_bytes()]
            flip(paths[-1], needle)
            flipped.append((name, shard["index"]))
    assert len(flipped) == PARITY * OBJECTS

    before = scrub_metrics(store)
    told = store.ossctl_json("scrub", "now", "--wait")[0]["disks"]
    assert [each["error"] for each in told] == [""] * len(store.facts()["blobs"])
    scrubs = store.ossctl_json("scrub", "status")[0]
    assert scrubs["totals"]["unreported"] == 0
    reread, bad = scrub_metrics(store)
    assert reread > before[0] and bad > 0
    # By this pass or, if it came just in time, by the one before it.
    assert len(found_bad(store, sizes)) == len(flipped)
    for name, index in flipped:
        shard = shards_of(store, name)[index]
        # Bad, or written anew elsewhere by whoever repairs.
        assert shard["state"] == "bad" or shard["generation"] > 0, (name, shard)
    shown = store.ossctl("object", "explain", names[0]).stdout.decode()
    assert "VERIFIED" in shown and " ago" in shown
    for name in names:
        sound = [shard for shard in shards_of(store, name) if (name, shard["index"]) not in flipped]
        assert {shard["state"] for shard in sound} == {"good"}
        assert all(shard["verified"] for shard in sound if shard["generation"] == 0)
        assert not any(s["verified"] for s in shards_of(store, name) if s["state"] == "bad")
        assert store.get(name) == bodies[name]
        store.remove_for_good(name)


def test_a_paused_scrub_rests_over_a_restart_and_tells_so(store: LocalStore) -> None:
    store.ossctl("scrub", "pause", "blob-2")
    store.ossctl("stop", "blob-2")
    store.up()

    def told() -> dict[str, Any] | None:
        disks = store.ossctl_json("scrub", "status")[0]["disks"]
        (disk,) = [disk for disk in disks if disk["node"] == "blob-2"]
        return disk["scrub"] or None

    assert wait_for(told, what="the node to tell")["is_paused"]
    said = store.ossctl("scrub", "status").stdout.decode()
    assert "paused" in said and "OLDEST" in said
    store.ossctl("scrub", "resume", "blob-2")
    wait_for(lambda: (found := told()) and not found["is_paused"], what="it to go on")
    store.ossctl("scrub", "now", "nobody", code=3)
