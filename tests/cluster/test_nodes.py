"""Disks that drain, go, are lost and come back, over real processes."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.local import LocalStore, noise, wait_for

pytestmark = pytest.mark.cluster

KIB = 1024
FAILURE = 1
FAST = {"OSS_HEARTBEAT_S": "0.2", "OSS_REPAIR_DELAY_S": "1", "OSS_GC_GRACE_S": "60"}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """One metanode, four blob daemons, 2+1; a disk is lost after three seconds."""
    store = LocalStore(tmp_path_factory.mktemp("small") / "store", times=FAST)
    try:
        store.create("--metanodes", "1", "--blobs", "4", "--frontends", "1")
        yield store
    finally:
        store.end()


def node(store: LocalStore, name: str) -> dict[str, Any]:
    """As `/v1/cluster` tells it."""
    found: list[dict[str, Any]] = store.cluster()["blobs"]
    return next(each for each in found if each["id"] == name)


def shards(store: LocalStore, name: str) -> int:
    return sum(disk["shards"] for disk in node(store, name)["disks"])


def repair(store: LocalStore) -> dict[str, Any]:
    """How repair gets on."""
    found: dict[str, Any] = store.request("GET", "/v1/maintenance/repair").expect(200).json()
    return found


def is_whole(store: LocalStore) -> bool:
    """Whether repair has looked at everything and found nothing to do."""
    status = repair(store)
    return bool(status["stripes"] == {"surveyed": True, "by_missing": {}, "unreadable": 0})


def test_a_node_drains_goes_and_another_is_lost_and_back(small: LocalStore) -> None:
    bodies = {f"k{number}": noise(100 * KIB + number, seed=number) for number in range(12)}
    for name, body in bodies.items():
        small.put(name, body)
    said = small.ossctl("node", "remove", "blob-4", "--yes", code=FAILURE).stderr
    assert b"still" in said

    # Lost, rebuilt on the others, and back.
    before = shards(small, "blob-1")
    assert before > 0
    small.kill("blob-1")
    small.ossctl("repair", "pause")
    wait_for(lambda: node(small, "blob-1")["disks"][0]["state"] == "lost", what="it is lost")
    missing = wait_for(lambda: repair(small)["objects"]["by_missing"], what="objects are counted")
    assert missing == {"1": before}
    figures = small.metrics("meta-1")
    assert figures['oss_objects_by_missing_shards{missing="1"}'] == before
    assert figures["oss_repair_left_bytes"] > 0 and "oss_repair_eta_seconds" not in figures
    small.ossctl("repair", "resume")
    wait_for(lambda: not shards(small, "blob-1") and is_whole(small), what="rebuilt elsewhere")
    assert sum(shards(small, f"blob-{n}") for n in (2, 3, 4)) == 3 * len(bodies)
    later = small.metrics("meta-1")
    assert later["oss_moved_shards_total"] == figures["oss_moved_shards_total"] + before
    assert later["oss_moved_bytes_total"] > figures["oss_moved_bytes_total"]
    assert later["oss_moves_bytes_per_second"] > 0 and later["oss_repair_left_bytes"] == 0
    wait_for(lambda: not repair(small)["objects"]["by_missing"], what="objects are whole")
    small.up()
    wait_for(lambda: node(small, "blob-1")["disks"][0]["state"] == "in", what="it is back")

    # Drained, cancelled, drained to the end.
    small.ossctl("rebalance", "pause")
    small.ossctl("node", "drain", "blob-4")
    told = small.ossctl_json("rebalance", "status")[0]
    assert told["paused"] and told["left_bytes"] > 0
    wait_for(lambda: small.metrics("meta-1")["oss_rebalance_left_bytes"], what="it is told")
    refused = small.ossctl("node", "drain", "blob-3", code=FAILURE).stderr
    assert b"want 3 nodes, and 2" in refused
    small.ossctl("node", "drain", "blob-4", "--cancel")
    small.ossctl("node", "drain", "blob-4")
    small.ossctl("rebalance", "resume")
    said = small.ossctl("node", "drain", "blob-4", "--wait").stdout
    assert b"is empty" in said and not shards(small, "blob-4")
    assert b"takes it out" in small.ossctl("rebalance", "status").stdout
    small.ossctl("node", "remove", "blob-4")
    assert node(small, "blob-4")["disks"][0]["state"] == "draining"  # that was a dry run
    small.ossctl("node", "remove", "blob-4", "--yes")
    names = {each["id"] for each in small.ossctl_json("node", "ls")[0]["nodes"]}
    assert names == {"blob-1", "blob-2", "blob-3"}
    for name, body in bodies.items():
        assert small.get(name) == body
    wait_for(lambda: is_whole(small), what="nothing to do")
    assert "no stripe misses a shard" in small.ossctl("repair", "status").stdout.decode()
    assert small.ossctl("repair", "force").stdout.decode().strip() == "no disk is silent"
