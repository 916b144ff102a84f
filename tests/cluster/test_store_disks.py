"""A store whose disks are full or read-only, as its callers see it."""

import http.client
import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.harness import Cluster, Daemon, answers, mounted, remount, wait_until
from tests.cluster.local import OSSCTL, Answer, environment, noise, object_path

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
SHORT, LONG = 6 * MIB, 20 * MIB
NODES = ("blob-1", "blob-2", "blob-3")
TIMES = {
    "OSS_VOLUME_BYTES": "2MiB",
    "OSS_HEARTBEAT_S": "0.5",
    "OSS_GC_GRACE_S": "4",
    "OSS_UPLOAD_EXPIRY_S": "4",
}
OBJECTS_MAX = 3 * 32 * MIB // SHORT
LEFT_BYTES = 2 * MIB
"""Less than the reserve of such a disk, a few volumes."""
ROOM_DEADLINE_S = 60.0


class SmallStore:
    """A metanode, three blob daemons with a small disk each, a frontend."""

    def __init__(self, cluster: Cluster, disks: list[Path]) -> None:
        cluster.form_metanodes(1)
        self.disks = disks
        self.blobs: list[Daemon] = [cluster.add_blobd(node) for node in NODES]
        self.frontend = cluster.add_frontend()
        for daemon in (*self.blobs, self.frontend):
            daemon.wait_ready()
        assert cluster.formed is not None
        self._key = (cluster.formed.root_access_key, cluster.formed.root_secret_key)

    def request(self, method: str, path: str, body: bytes = b"") -> Answer:
        """One request with the root key."""
        connection = http.client.HTTPConnection(self.frontend.url[7:], timeout=60)
        try:
            secret = b64encode(":".join(self._key).encode()).decode()
            connection.request(
                method, path, body=body, headers={"Authorization": f"Basic {secret}"}
            )
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def put(self, name: str, body: bytes) -> Answer:
        return self.request("PUT", object_path(name), body)

    def get(self, name: str) -> Answer:
        return self.request("GET", object_path(name))

    def check_holds(self, bodies: dict[str, bytes]) -> None:
        """All of them and nothing else can be read."""
        for name, body in bodies.items():
            assert self.get(name).expect(200).body == body, name
        page = self.request("GET", "/objects?limit=1000").expect(200).json()
        assert {each["key"] for each in page["objects"]} == set(bodies)

    def delete(self, name: str) -> None:
        """Its only version, for good."""
        self.request("DELETE", f"{object_path(name)}?version=1").expect(204)

    def census(self) -> dict[str, int]:
        """Counts of the catalog."""
        found: dict[str, int] = self.request("GET", "/v1/cluster").expect(200).json()["census"]
        return found

    def disk_of(self, node: str) -> dict[str, Any]:
        """What the store knows of a daemon's disk."""
        blobs = self.request("GET", "/v1/cluster").expect(200).json()["blobs"]
        (found,) = (each["disks"][0] for each in blobs if each["id"] == node)
        return dict(found)

    def wait_writable(self, nodes: Sequence[str], expected: bool) -> None:
        """Until the store knows that the disks of these daemons can be written to, or not."""
        wait_until(
            lambda: all(self.disk_of(node)["writable"] is expected for node in nodes),
            what=f"disks of {nodes} known as writable: {expected}",
        )

    def ossctl(self, *words: str) -> "subprocess.CompletedProcess[bytes]":
        """Run `ossctl WORDS` on this store."""
        access_key, secret_key = self._key
        own = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
        return subprocess.run(
            [OSSCTL, *words],
            env=environment({**own, "OSS_ENDPOINT": self.frontend.url}),
            capture_output=True,
            timeout=60,
        )

    def empty(self) -> None:
        """Delete everything and wait until there is room again."""
        page = self.request("GET", "/versions/").expect(200).body.splitlines()
        for version in map(json.loads, page):
            path = f"{object_path(version['Name'])}?version={version['Version']}"
            self.request("DELETE", path).expect(204)

        def has_room() -> bool:
            disks = [self.disk_of(node) for node in NODES]
            return all(disk["free_bytes"] > disk["capacity_bytes"] / 2 for disk in disks)

        wait_until(has_room, what="room on all disks", deadline_s=ROOM_DEADLINE_S)


@pytest.fixture(scope="module")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallStore]:
    """A store on three file systems of 32 MiB."""
    folder = tmp_path_factory.mktemp("small")
    disks = [folder / node / "disk-0" for node in NODES]
    with ExitStack() as held:
        for disk in disks:
            held.enter_context(mounted(disk, "-t", "tmpfs", "-o", "size=32m", "tmpfs"))
        cluster = held.enter_context(Cluster(folder, environment=TIMES))
        store = SmallStore(cluster, disks)
        yield store
        for daemon in (store.frontend, *store.blobs):
            assert daemon.stop() == 0
            assert "Traceback" not in daemon.log.read_text()


@pytest.fixture
def store(small_store: SmallStore) -> Iterator[SmallStore]:
    """The same, empty and with room; its logs are shown where a test fails."""
    yield small_store
    for daemon in (small_store.frontend, *small_store.blobs):
        print(daemon.tail(), file=sys.stderr)
    small_store.empty()


def refused_as(answer: Answer, status: int, code: str, cause: str) -> None:
    """A refusal that names its cause and when to come back."""
    assert answer.expect(status).code == code
    assert cause in answer.json()["error"]["message"]
    assert answer.headers["Retry-After"]


def test_full_disks_are_named_to_the_caller_who_reads_on_and_writes_once_there_is_room(
    store: SmallStore, tmp_path: Path
) -> None:
    bodies = {"before": noise(SHORT, seed=1), "small": b"before"}
    for name, body in bodies.items():
        store.put(name, body).expect(200)
    before = store.census()
    with ExitStack() as filled:
        for disk in store.disks:
            filled.enter_context(full(disk))
        # At once, by the daemons' own refusal.
        refused_as(store.put("new", noise(SHORT, seed=10)), 507, "DiskFull", "full: ")
        store.wait_writable(NODES, False)
        for size in (100_000, SHORT):
            answer = store.put("new", noise(size, seed=10 + size))
            refused_as(answer, 507, "DiskFull", "full: blob-1, blob-2, blob-3")
        source = tmp_path / "source"
        source.write_bytes(noise(LONG, seed=2))
        by_ossctl = store.ossctl("put", str(source), "new")
        assert by_ossctl.returncode == 5, by_ossctl
        assert b"full: blob-1" in by_ossctl.stderr and b"Traceback" not in by_ossctl.stderr

        bodies["small"] = b"inline: needs no disk of a blob daemon"
        store.put("small", bodies["small"]).expect(200)
        store.check_holds(bodies)
        assert answers(f"{store.frontend.url}/readyz")
        wait_until(lambda: store.census()["uploads"] == 0, what="the given up upload to end")
        assert store.census()["stripes"] == before["stripes"]

    bodies["new"] = noise(SHORT, seed=3)
    wait_until(lambda: store.put("new", bodies["new"]).status == 200, what="writes to resume")
    store.check_holds(bodies)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """A block with less left than the reserve of a disk, as another program might do."""
    space = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(bytes(space.f_bavail * space.f_frsize - LEFT_BYTES))
    try:
        yield
    finally:
        filler.unlink()


def test_objects_fill_the_store_and_their_deletion_makes_room(store: SmallStore) -> None:
    bodies: dict[str, bytes] = {}
    for number in range(OBJECTS_MAX):
        body = noise(SHORT, seed=100 + number)
        answer = store.put(f"o-{number}", body)
        if answer.status != 200:
            break
        bodies[f"o-{number}"] = body
    refused_as(answer, 507, "DiskFull", "full: ")
    assert len(bodies) >= 4
    store.check_holds(bodies)
    for name in ("o-0", "o-1", "o-2"):
        store.delete(name)
        del bodies[name]
    bodies["new"] = noise(SHORT, seed=4)
    wait_until(
        lambda: store.put("new", bodies["new"]).status == 200,
        what="writes to resume",
        deadline_s=ROOM_DEADLINE_S,
    )
    store.check_holds(bodies)


def test_read_only_disks_are_named_to_the_caller_and_take_writes_again_once_repaired(
    store: SmallStore,
) -> None:
    before = noise(SHORT, seed=1)
    store.put("before", before).expect(200)
    switch(store, "ro")
    for size in (100_000, SHORT):
        answer = store.put("new", noise(size, seed=20 + size))
        refused_as(answer, 503, "DiskFailing", "read-only: blob-2, blob-3")
    store.check_holds({"before": before})
    assert "ead-only" in store.disk_of("blob-2")["problem"]
    assert store.disk_of("blob-1")["writable"]

    switch(store, "rw")
    after = noise(SHORT, seed=2)
    wait_until(lambda: store.put("after", after).status == 200, what="writes to resume")
    store.check_holds({"before": before, "after": after})


def switch(store: SmallStore, mode: str) -> None:
    """Two of three daemons come back with their disks mounted so."""
    for daemon, disk in zip(store.blobs[1:], store.disks[1:], strict=True):
        assert daemon.stop() == 0
        remount(disk, mode)
        daemon.start()

    store.wait_writable(NODES[1:], mode == "rw")
