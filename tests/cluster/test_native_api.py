"""The native API against real processes: sizes, dead and paused daemons, memory, leftovers."""

import hashlib
import http.client
import signal
import time
from collections.abc import Iterator

import pytest

from tests.big.room import peak_bytes
from tests.cluster.local import LocalStore, noise, object_path, text, wait_for

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
STRIPE = 8 * MIB
SIZES = [
    *(0, 1, 3, 4, 5, 4095, 4096, 4097, 31_999, 32_001),
    *(STRIPE - 1, STRIPE, STRIPE + 1, 2 * STRIPE, 2 * STRIPE + 1, 3 * STRIPE + 3),
]
FRONTEND = "frontend-1"
MEMORY_MIB_MAX = 300
PAUSED_S_MAX = 15.0


def body_of(kind: str, size_bytes: int) -> bytes:
    """A body of that size, harder or easier to compress."""
    if kind == "noise":
        return noise(size_bytes, size_bytes)
    return text(size_bytes) if kind == "text" else bytes(size_bytes)


@pytest.mark.parametrize("kind", ["noise", "text", "zeros"])
def test_every_size_round_trips(store: LocalStore, kind: str) -> None:
    for size_bytes in SIZES:
        body = body_of(kind, size_bytes)
        name = f"native/{kind}/{size_bytes}"
        store.put(name, body)
        assert store.get(name) == body
        if size_bytes > 5:
            tail = store.request("GET", object_path(name), headers={"Range": "bytes=-5"})
            assert tail.expect(206).body == body[-5:]


def test_two_dead_blob_daemons_stop_neither_reads_nor_writes(store: LocalStore) -> None:
    bodies = {f"native/dead/{size}": noise(size, size) for size in (20_000, 9_000_000)}
    for name, body in bodies.items():
        store.put(name, body)
    store.kill("blob-1", "blob-4")
    for name, body in bodies.items():
        assert store.get(name) == body
        store.put(name + "/new", body[::-1])
        assert store.get(name + "/new") == body[::-1]


def test_paused_blob_daemon_delays_but_does_not_stop(store: LocalStore) -> None:
    body = noise(9_000_000, 7)
    store.put("native/paused", body)
    store.send(signal.SIGSTOP, "blob-3")
    began_s = time.monotonic()
    assert store.get("native/paused") == body
    store.put("native/paused/new", body[1:])
    assert store.get("native/paused/new") == body[1:]
    assert time.monotonic() - began_s < PAUSED_S_MAX


def test_writes_go_on_over_the_death_of_the_leader(store: LocalStore) -> None:
    store.kill(store.leader())
    body = noise(9_000_000, 8)
    assert store.put("native/leader", body)["size"] == len(body)
    assert store.get("native/leader") == body


def test_memory_stays_flat_while_large_bodies_stream(store: LocalStore) -> None:
    piece = noise(MIB, 9)
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for number in range(300):
            changed = number.to_bytes(8, "big") + piece[8:]
            digest.update(changed)
            yield changed

    path = object_path("native/large")
    stored = store.request("PUT", path, body=pieces())
    assert stored.expect(200).json()["sha256"] == digest.hexdigest()
    connection = http.client.HTTPConnection(store.api, timeout=60)
    connection.request("GET", path, headers=store.authorization())
    got, answer = hashlib.sha256(), connection.getresponse()
    while part := answer.read(MIB):
        got.update(part)
    connection.close()
    assert got.digest() == digest.digest()
    # Peaks since each process began: whatever other tests have done to it counts as well.
    peaks_mib = {node["id"]: peak_bytes(node["pid"]) // MIB for node in store.nodes()}
    assert max(peaks_mib.values()) < MEMORY_MIB_MAX, peaks_mib
    assert len(peaks_mib) == 10
    store.remove_for_good("native/large")


@pytest.mark.long
def test_frontend_killed_during_an_upload_leaves_nothing(store: LocalStore) -> None:
    store.wait_collected()
    connection = http.client.HTTPConnection(store.api, timeout=60)
    connection.putrequest("PUT", object_path("native/broken"))
    for name, value in store.authorization().items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(64 * MIB))
    connection.endheaders()
    for number in range(20):
        connection.send(noise(MIB, number))
    wait_for(lambda: store.census()["uploads"] == 1, what="the upload to be staged")
    store.kill(FRONTEND)
    connection.close()
    store.make_whole()
    assert store.request("GET", object_path("native/broken")).status == 404
    assert store.wait_collected()["uploads"] == 0
