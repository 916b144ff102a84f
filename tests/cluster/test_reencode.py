"""A bucket gets another profile while it is read, and everything that can die dies meanwhile."""

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest

from tests.cluster.local import LocalStore, noise, text, wait_for

pytestmark = pytest.mark.cluster

KIB, MIB = 1024, 1024 * 1024
FAILURE = 1
STATUS = "/v1/maintenance/reencode"
OF_OTHER = ("own", "shared")
TIMES = {
    "OSS_HEARTBEAT_S": "0.3",
    "OSS_GC_GRACE_S": "4",
    "OSS_REPAIR_DELAY_S": "60",
    "OSS_REPAIR_BYTES_PER_S": str(2 * MIB),
}
SLOW_DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """Three metanodes and six blob daemons, that encode slowly enough to be watched."""
    store = LocalStore(tmp_path_factory.mktemp("six") / "store", times=TIMES)
    try:
        store.create("--frontends", "1")
        yield store
    finally:
        store.end()


@dataclass
class Objects:
    """What was written: (bucket, key, version) -> bytes; read again and again by a thread."""

    store: LocalStore
    written: dict[tuple[str, str, int], bytes] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    read_count: int = 0

    def put(self, bucket: str, key: str, body: bytes) -> None:
        path = f"/buckets/{bucket}/objects/{key}"
        version = self.store.request("PUT", path, body=body).expect(200).json()["version"]
        self.written[bucket, key, version] = body

    def read(self, *, must_answer: bool) -> None:
        """Every version once."""
        for (bucket, key, version), body in list(self.written.items()):
            path = f"/buckets/{bucket}/objects/{key}?version={version}"
            try:
                answer = self.store.request("GET", path)
            except OSError:
                assert not must_answer
                continue
            if answer.status == 200 and answer.body != body:
                self.wrong.append(f"{bucket}/{key} {version}")
            if must_answer:
                answer.expect(200)
            self.read_count += answer.status == 200

    @contextmanager
    def read_on(self) -> Iterator[None]:
        """Go on reading all of it beside the block."""
        over = threading.Event()

        def read() -> None:
            while not over.is_set():
                self.read(must_answer=False)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield
        finally:
            over.set()
            reader.join()

    def explained(self, bucket: str, key: str) -> dict[str, Any]:
        path = f"/explain/{key}?bucket={bucket}"
        found: dict[str, Any] = self.store.request("GET", path).expect(200).json()
        return found

    def codings(self, bucket: str) -> set[str]:
        """Of all stripes of the newest versions."""
        keys = {key for b, key, _ in list(self.written) if b == bucket}
        stripes = [s for key in keys for s in self.explained(bucket, key)["stripes"]]
        return {"copies" if s["is_replicated"] else s["coding"] for s in stripes}


def status(store: LocalStore) -> dict[str, Any]:
    found: dict[str, Any] = store.request("GET", STATUS).expect(200).json()
    return found


def job(store: LocalStore) -> dict[str, Any]:
    found: dict[str, Any] = status(store)["jobs"][0]
    return found


def held_shards(store: LocalStore) -> int:
    """What really lies on the disks."""
    total = 0.0
    for blob in store.cluster()["blobs"]:
        with urllib.request.urlopen(f"{blob['url']}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        total += sum(float(line.split()[-1]) for line in lines if line.startswith("oss_shards{"))
    return int(total)


def filled(store: LocalStore) -> Objects:
    """Buckets that share some bytes, objects of all kinds, several versions."""
    for bucket, profile in (("photos", "2+1"), ("other", "2+1"), ("wide", "5+1")):
        store.request("PUT", f"/buckets/{bucket}?profile={quote(profile)}").expect(201)
    objects = Objects(store)
    shared = noise(300 * KIB, seed=1)
    objects.put("photos", "shared", shared)
    objects.put("other", "shared", shared)
    objects.put("other", "own", noise(70 * KIB, seed=2))
    objects.put("photos", "inline", b"small")
    objects.put("photos", "text", text(2 * MIB))
    objects.put("photos", "long", noise(18 * MIB, seed=3))
    for number in range(12):
        objects.put("photos", f"k{number % 6}", noise(400 * KIB + number, seed=10 + number))
    return objects


def refuse_what_cannot_be(store: LocalStore, objects: Objects) -> None:
    for bucket, profile, code in (("photos", "4-2", 400), ("nowhere", "4+2", 404)):
        path = f"/buckets/{bucket}?profile={quote(profile)}&reencode=1"
        store.request("PATCH", path).expect(code)
    words = ("bucket", "set-profile", "photos", "8+1", "--reencode")
    assert b"needs 9 nodes" in store.ossctl(*words, code=FAILURE).stderr
    assert status(store)["jobs"] == [] and objects.codings("photos") == {"2+1"}


def is_down(store: LocalStore, name: str) -> bool:
    """Asked of whoever leads by now."""
    answer = store.request("GET", "/v1/cluster")
    blobs = answer.json()["blobs"] if answer.status == 200 else []
    return any(blob["id"] == name and blob["state"] == "down" for blob in blobs)


def lies_apart(store: LocalStore) -> bool:
    told = store.request("GET", "/v1/maintenance/rebalance").expect(200).json()
    return bool(told["stripes"] == {"crowded": 0, "replicas": 0})


def named_shards(store: LocalStore) -> int:
    """How many the catalog names."""
    return sum(disk["shards"] for blob in store.cluster()["blobs"] for disk in blob["disks"])


@pytest.mark.long
def test_a_bucket_is_encoded_anew_whatever_dies(six: LocalStore) -> None:
    """Long: each step, and each crash between two, is also in tests/blobd/repair and
    tests/raftmeta."""
    objects = filled(six)
    refuse_what_cannot_be(six, objects)
    six.request("PATCH", "/buckets/photos?profile=4%2B2").expect(200)
    objects.put("photos", "newer", noise(90 * KIB, seed=40))
    assert objects.codings("photos") == {"2+1", "4+2"} and status(six)["jobs"] == []

    six.ossctl("bucket", "set-profile", "photos", "4+2", "--reencode")
    with objects.read_on():
        wait_for(lambda: job(six)["done"]["stripes"], what="some are done")
        # Killed in the middle: who plans, and one that encodes and stores.
        six.kill(six.leader(), "blob-6")
        wait_for(lambda: six.request("GET", STATUS).status == 200, what="another leads")
        assert job(six)["state"] == "running"
        wait_for(lambda: is_down(six, "blob-6"), what="it is missed")
        objects.put("wide", "w", noise(200 * KIB, seed=50))
        assert objects.codings("wide") == {"copies"}
        six.up()
        wait_for(lambda: job(six)["state"] == "done", what="its end", deadline_s=SLOW_DEADLINE_S)
        wait_for(lambda: objects.codings("wide") == {"5+1"}, what="copies encoded anew")
    assert objects.wrong == [] and objects.read_count > len(objects.written)
    assert objects.codings("photos") == {"4+2"}
    codings = {key: objects.explained("other", key)["stripes"][0]["coding"] for key in OF_OTHER}
    assert codings == {"own": "2+1", "shared": "4+2"}
    found = six.ossctl_json("reencode", "status", "photos")[0]["jobs"][0]
    assert found["left"] is None and found["done"]["stripes"] >= 14

    # Former shards leave the disks, and any two nodes the cluster.
    wait_for(lambda: lies_apart(six), what="no two on a node", deadline_s=SLOW_DEADLINE_S)
    wait_for(
        lambda: not six.census()["trash"] and held_shards(six) == named_shards(six),
        what="former shards are deleted",
        deadline_s=SLOW_DEADLINE_S,
    )
    six.kill("blob-1", "blob-2")
    del objects.written["wide", "w", 1], objects.written["other", "own", 1]
    objects.read(must_answer=True)
    assert objects.wrong == []
