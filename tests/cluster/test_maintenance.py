"""Maintenance of a running store by `ossctl` alone."""

import asyncio
import json
import signal
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from blobd.client import BlobClient
from osscore.digests import crc32c
from osscore.model import Profile, ShardIdentity, reed_solomon
from osscore.names import stripe_id
from ossd.clock import SystemClock, system_random
from ossd.rpc import AioRpc
from ossd.signing import ClusterSecrets, Signer
from tests.cluster.local import (
    SHORT_TIMES,
    LocalStore,
    default_ports_taken,
    noise,
    wait_for,
)
from tests.cluster.test_store_bitrot import data_needles, flip, holders

pytestmark = pytest.mark.cluster

KIB = 1024
MIB = 1024 * KIB
FAILURE, USAGE, NOT_FOUND = 1, 2, 3


def test_the_newest_versions_stay_and_the_rest_makes_room(unharmed: LocalStore) -> None:
    store = unharmed
    store.ossctl("bucket", "create", "history")
    for number in range(7):
        store.ossctl("put", "-", "oss://history/big", stdin=noise(300 * KIB, seed=500 + number))
        store.ossctl("put", "-", "oss://history/small", stdin=b"%d" % number)
    store.ossctl("rm", "oss://history/small")

    (said,) = store.ossctl_json("prune", "oss://history")
    assert (said["dry_run"], said["versions"], said["bytes"]) == (True, 4, 2 * 300 * KIB + 2)
    assert len(store.ossctl_json("versions", "oss://history/big")) == 7
    shown = store.ossctl("prune", "-b", "history", "--yes").stdout.decode()
    assert "removed 4 versions" in shown and "600.0 KiB" in shown
    left = [v["version"] for v in store.ossctl_json("versions", "oss://history/big")]
    assert left == [7, 6, 5, 4, 3]
    store.ossctl("prune", "oss://history/small", "--keep", "1", "--yes")
    history = store.ossctl_json("versions", "oss://history/small")
    assert [(v["version"], v["is_marker"]) for v in history] == [(8, True), (7, False)]
    store.ossctl("undelete", "oss://history/small")
    assert store.ossctl("cat", "oss://history/small").stdout == b"6"
    assert "nothing is older" in store.ossctl("prune", "-b", "history").stdout.decode()
    store.ossctl("prune", "oss://history/none", code=NOT_FOUND)
    store.ossctl("prune", "oss://history", "--keep", "0", code=USAGE)
    store.wait_collected()


def test_a_bucket_that_asks_for_it_is_pruned_in_the_background(unharmed: LocalStore) -> None:
    store = unharmed
    store.ossctl("bucket", "create", "tidy")
    store.ossctl("bucket", "set", "tidy", "--keep-versions", "2")
    pruned = store.census()["pruned_versions"]
    for number in range(5):
        store.ossctl("put", "-", "oss://tidy/x", stdin=b"%d" % number)

    def numbers() -> list[int]:
        return [v["version"] for v in store.ossctl_json("versions", "oss://tidy/x")]

    wait_for(lambda: numbers() == [5, 4], what="the leader to prune", deadline_s=60)
    assert store.census()["pruned_versions"] == pruned + 3
    progress = store.cluster()["pruning"]
    assert progress["buckets"] == progress["buckets_done"] == 1
    said = store.ossctl("bucket", "set", "tidy", "--keep-versions", "2").stdout.decode()
    assert "newest 2" in said
    store.ossctl("bucket", "set", "tidy", "--keep-versions", "0")
    store.ossctl("bucket", "set", "tidy", code=USAGE)


def test_what_goes_by_time_goes_for_good_and_uploads_are_given_up(unharmed: LocalStore) -> None:
    store = unharmed
    store.ossctl("bucket", "create", "fleeting")
    times = ("--expire-after", "1s", "--expire-noncurrent-after", "1s")
    said = store.ossctl("bucket", "set", "fleeting", *times, "--abort-uploads-after", "1s")
    assert b"objects 1s, old versions 1s, uploads 1s" in said.stdout
    expired = store.census()["expired"]
    store.request("PUT", "/buckets/fleeting/objects/x", body=noise(300 * KIB, seed=510)).expect(200)
    declared = {"Digest": f"SHA-256={b64encode(bytes(32)).decode()}", "Size": "100000"}
    store.request("POST", "/buckets/fleeting/objects/y", headers=declared).expect(201)
    # Until nothing keeps the bucket any more: neither versions, nor a marker, nor an upload.
    removal = ("DELETE", "/buckets/fleeting")
    wait_for(lambda: store.request(*removal).status == 204, what="the bucket to be empty")
    now = store.census()["expired"]
    assert now["objects"] > expired["objects"] and now["versions"] > expired["versions"]
    assert store.cluster()["lifecycle"]["last_round_s_ago"] >= 0
    urls = {each["id"]: each["url"] for each in store.cluster()["metanodes"]}
    leader = urls[store.leader()].removeprefix("http://")
    metrics = store.request("GET", "/metrics", address=leader, anonymous=True).expect(200).body
    assert b'oss_lifecycle_expired_total{kind="objects"}' in metrics


# --- scan ---------------------------------------------------------------------------------


def scanned(store: LocalStore, *words: str, code: int = 0) -> Any:
    """What `ossctl scan WORDS` tells."""
    return json.loads(store.ossctl("scan", *words, "--json", code=code).stdout)


def all_reached(store: LocalStore) -> None:
    """Start what does not run, and wait until the frontend asks every daemon again: it avoids
    one for some seconds after it did not answer."""
    store.up()
    request = "/v1/maintenance/scan"

    def reached() -> bool:
        return store.request("POST", request).expect(200).json()["shards"]["unreachable"] == 0

    wait_for(reached, what="every daemon to be asked again")


@pytest.mark.long
def test_flipped_bits_are_found_and_repaired_in_their_place(unrepaired: LocalStore) -> None:
    store = unrepaired
    store.ossctl("bucket", "create", "scanned")
    body = noise(8 * MIB, seed=601)  # one stripe
    store.ossctl("put", "-", "oss://scanned/k", stdin=body)
    needles = data_needles(body, range(2))
    nodes = [next(iter(holders(store, needle))) for needle in needles]
    store.ossctl("put", "-", "oss://scanned/twin", stdin=body)  # the same stripe again
    scanned(store, "--repair")  # what earlier tests have left out or broken
    store.kill(*nodes)
    for node, needle in zip(nodes, needles, strict=True):
        flip(holders(store, needle)[node], needle)  # where a compaction may have put it

    away = scanned(store, "scanned", "--repair", code=FAILURE)
    assert (away["stripes"], away["shards"]["unreachable"], away["left"]) == (1, 2, 2)
    assert away["unreadable"] == []
    all_reached(store)
    found = scanned(store, "scanned", code=FAILURE)
    assert (found["stripes"], found["shards"]["corrupt"], found["shards"]["good"]) == (1, 2, 4)
    assert {shard["node"] for shard in found["damaged"]} == set(nodes)
    mended = scanned(store, "scanned", "--prefix", "k", "--repair")
    assert (mended["shards"]["repaired"], mended["left"]) == (2, 0)
    assert store.census()["missing"] == {}

    store.kill(*nodes)
    all_reached(store)
    clean = scanned(store, "scanned")
    assert (clean["shards"]["good"], clean["damaged"]) == (6, [])
    said = store.ossctl("scan", "scanned").stdout.decode()
    assert "1 stripes and 6 shards checked" in said and "every shard is there" in said
    assert store.ossctl("cat", "oss://scanned/k").stdout == body


def test_what_a_write_left_out_is_made_good(store: LocalStore) -> None:
    paused = store.facts()["blobs"][2]["id"]
    store.send(signal.SIGSTOP, paused)
    try:
        for number in range(3):
            store.put(f"left-out/{number}", noise(200 * KIB, seed=610 + number))
    finally:
        store.send(signal.SIGCONT, paused)
    wait_for(store.all_up, what="the daemon to be back")
    total = scanned(store, "--repair")
    assert total["left"] == 0
    assert store.census()["missing"] == {}
    store.remove_for_good("left-out/0")


@pytest.mark.long
def test_more_damage_than_parity_is_told_with_the_names_of_objects(store: LocalStore) -> None:
    body = noise(8 * MIB, seed=620)
    store.ossctl("bucket", "create", "doomed")
    store.ossctl("put", "-", "oss://doomed/file", stdin=body)
    needles = data_needles(body, range(3))
    places = [next(iter(holders(store, needle).items())) for needle in needles]
    store.kill(*(node for node, _ in places))
    for (_, path), needle in zip(places, needles, strict=True):
        flip(path, needle)
    all_reached(store)
    lost = scanned(store, "doomed", "--repair", code=FAILURE)
    (unreadable,) = lost["unreadable"]
    assert unreadable["objects"] == [{"bucket": "doomed", "key": "file", "version": 1}]
    assert (unreadable["good"], unreadable["needed"]) == (3, 4)
    assert lost["shards"]["repaired"] == 0
    said = store.ossctl("scan", "doomed", code=FAILURE).stdout.decode()
    assert "needed by oss://doomed/file version 1" in said
    store.ossctl("rm", "oss://doomed/file", "--version", "1")
    store.wait_collected()


# --- orphans --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """A small cluster whose daemons sweep so rarely that only the command does."""
    folder = tmp_path_factory.mktemp("slow") / "data"
    found = LocalStore(folder, times={**SHORT_TIMES, "OSS_GC_GRACE_S": "600"})
    try:
        with default_ports_taken():
            found.up("--metanodes", "1", "--blobs", "3")
        yield found
    finally:
        found.end()


def leave_shard(store: LocalStore, node: str, *, birth_ms: int, body: bytes) -> None:
    """Put a shard that no object names on a daemon's disk, as a dead frontend would."""

    async def put() -> None:
        clock = SystemClock()
        secrets = ClusterSecrets(current=(store.folder / "secret").read_text())
        rpc = AioRpc(signer=Signer(secrets, clock, system_random))
        blob = next(blob for blob in store.cluster()["blobs"] if blob["id"] == node)
        try:
            await BlobClient(rpc).put_shard(
                blob["url"],
                bytes.fromhex(blob["disks"][0]["uuid"]),
                ShardIdentity(stripe_id(birth_ms, system_random(10)), 0, 0),
                reed_solomon(Profile(2, 1)),
                body,
                crc32c(body),
                deadline_s=10,
            )
        finally:
            await rpc.close()

    asyncio.run(put())


def orphans(store: LocalStore, *words: str) -> dict[str, Any]:
    """Disk by node, as `ossctl repair orphans` tells it."""
    (told,) = store.ossctl_json("repair", "orphans", *words)
    return {disk["node"]: disk for disk in told["disks"]}


def test_orphans_go_and_shared_and_young_shards_stay(slow_store: LocalStore) -> None:
    store = slow_store
    body = noise(300 * KIB, seed=630)
    store.put("first", body)
    store.put("second", body)  # the same stripe, which both need
    now_ms = SystemClock().now_ms()
    leave_shard(store, "blob-1", birth_ms=now_ms - 86_400_000, body=b"x" * 5000)
    leave_shard(store, "blob-1", birth_ms=now_ms, body=b"y" * 70)

    # The second body came as a stripe of its own, whose shards are on their way out.
    def examined() -> dict[str, int]:
        return {n: d["examined"]["shards"] for n, d in orphans(store, "--dry-run").items()}

    one_each = {"blob-1": 1 + 2, "blob-2": 1, "blob-3": 1}
    wait_for(lambda: examined() == one_each, what="those of the twin to be deleted")
    dry = orphans(store, "--dry-run")
    assert dry["blob-1"]["removed"] == {"shards": 1, "bytes": 5000}
    assert {name: disk["removed"]["shards"] for name, disk in dry.items() if name != "blob-1"} == {
        "blob-2": 0,
        "blob-3": 0,
    }
    assert orphans(store) == dry
    after = orphans(store)
    assert after["blob-1"]["removed"]["shards"] == 0
    # The object's shards are as young as the object: whoever may still be named stays.
    assert after["blob-1"]["young"]["shards"] >= 2
    said = store.ossctl("repair", "orphans").stdout.decode()
    assert "blob-3" in said and "OF THESE SHARED" in said


def test_shards_that_two_objects_share_stay_when_one_goes(store: LocalStore) -> None:
    body = noise(300 * KIB, seed=640)
    store.put("shared/first", body)
    store.put("shared/second", body)

    def shared_count() -> int:
        store.put("shared/tick", b"")  # catalog time moves with changes
        return sum(disk["shared"]["shards"] for disk in orphans(store).values())

    # Past the grace they are judged, and kept.
    wait_for(lambda: shared_count() >= 6, what="the shared shards to be judged")
    store.remove_for_good("shared/first")
    store.wait_collected()
    total = scanned(store, "objects", "--prefix", "shared/")
    assert (total["stripes"], total["shards"]["good"]) == (1, 6)
    assert store.get("shared/second") == body
