"""Processes that die or freeze in the middle of things, all of them SIGKILLed or SIGSTOPped."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from http.client import HTTPException
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any

import pytest

from tests.cluster.local import LocalStore, noise, wait_for

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
TWENTY = noise(20 * MIB, seed=20)
PIECE_BYTES = 256 * 1024
BOUNDED_S = 20.0
PAIRS = {"killed": SIGKILL, "paused": SIGSTOP}


class Upload:
    """A PUT that gives its first part, waits to be told, and gives the rest."""

    def __init__(self, store: LocalStore, name: str, body: bytes, *, first: int) -> None:
        self.half_sent, self.go_on = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(1)
        headers = {"Content-Length": str(len(body))}
        self._answer = self._pool.submit(
            store.request,
            "PUT",
            f"/objects/{name}",
            body=self._pieces(body, first),
            headers=headers,
        )
        assert self.half_sent.wait(30)

    def _pieces(self, body: bytes, first: int) -> Iterator[bytes]:
        for at in range(0, len(body), PIECE_BYTES):
            if at >= first and not self.half_sent.is_set():
                self.half_sent.set()
                assert self.go_on.wait(30)
            yield body[at : at + PIECE_BYTES]

    def finish(self) -> Any:
        """Send the rest; the JSON of the answer."""
        self.go_on.set()
        answer = self._answer.result(60)
        self._pool.shutdown()
        return answer.expect(200).json()


def in_background(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start `work`; call the result to wait for its outcome."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return lambda: future.result(90)


def test_an_upload_goes_on_through_the_death_of_the_leader(store: LocalStore) -> None:
    upload = Upload(store, "faults/leader", TWENTY, first=len(TWENTY) // 2)
    store.kill(store.leader())
    assert upload.finish()["size"] == len(TWENTY)
    assert store.get("faults/leader") == TWENTY


def test_a_paused_leader_is_replaced_and_learns_better(store: LocalStore) -> None:
    store.put("faults/paused", b"before")
    old = store.leader()
    store.send(SIGSTOP, old)
    began_s = time.monotonic()
    store.put("faults/paused", b"after")
    assert time.monotonic() - began_s < BOUNDED_S
    store.send(SIGCONT, old)
    assert store.get("faults/paused") == b"after"
    wait_for(
        lambda: {n["id"]: n["state"] for n in store.cluster()["metanodes"]}[old] == "follower",
        what="the old leader to follow",
    )
    assert store.get("faults/paused") == b"after"


@pytest.mark.parametrize("how", PAIRS)
def test_two_daemons_lost_in_the_middle_of_a_put_cost_nothing(store: LocalStore, how: str) -> None:
    name = f"faults/put-{how}"
    upload = Upload(store, name, TWENTY, first=6 * MIB)
    store.send(PAIRS[how], "blob-2", "blob-5")
    assert upload.finish()["size"] == len(TWENTY)
    assert store.get(name) == TWENTY
    store.make_whole()
    assert store.get(name) == TWENTY


@pytest.mark.parametrize("how", PAIRS)
def test_two_daemons_lost_in_the_middle_of_a_get_cost_nothing(store: LocalStore, how: str) -> None:
    name = f"faults/get-{how}"
    body = store.put_whole(name, 20 * MIB, seed=20 + len(how))
    reading = in_background(lambda: [store.get(name) == body for _ in range(6)])
    store.send(PAIRS[how], "blob-1", "blob-6")
    assert reading() == [True] * 6
    part = store.request("GET", f"/objects/{name}", headers={"Range": "bytes=9000000-9000999"})
    assert part.expect(206).body == body[9_000_000:9_001_000]
    store.put(f"{name}/while-away", body[-5 * MIB :])
    assert store.get(f"{name}/while-away") == body[-5 * MIB :]


def test_three_dead_refuse_clearly_and_let_writes_go_on(store: LocalStore) -> None:
    store.put("faults/three", TWENTY)
    store.put("faults/small", b"inline")
    locations = store.request("GET", "/locate/faults/three?all=1").expect(200).json()["stripes"]
    store.kill("blob-1", "blob-2", "blob-3")
    began_s = time.monotonic()
    refused = store.request("GET", "/objects/faults/three")
    assert time.monotonic() - began_s < BOUNDED_S
    assert refused.expect(503).code == "StripeUnreadable"
    assert refused.headers["Retry-After"]
    assert locations[0]["stripe"] in refused.body.decode()
    assert store.get("faults/small") == b"inline"

    other = noise(9 * MIB, seed=33)
    store.put("faults/with-three", other)
    store.kill("blob-4")
    store.put("faults/with-two", other[::-1])
    assert store.get("faults/with-two") == other[::-1]
    assert store.get("faults/with-three") == other  # two of its six shards lay there
    store.kill("blob-5")
    began_s = time.monotonic()
    # Bytes that were never seen: known ones would only be referred to.
    too_few = store.request("PUT", "/objects/faults/with-one", body=noise(9 * MIB, seed=34))
    assert time.monotonic() - began_s < 2 * BOUNDED_S
    assert too_few.expect(503).code in ("TooFewNodes", "QuorumLost")
    store.put("faults/small", b"inline still")

    store.make_whole()
    assert store.get("faults/three") == TWENTY
    assert store.get("faults/with-two") == other[::-1]
    store.request("GET", "/objects/faults/with-one").expect(404)


def test_without_a_majority_of_metanodes_requests_wait_or_are_refused(store: LocalStore) -> None:
    path = "/objects/faults/majority"
    first = store.put("faults/majority", b"before")["version"]
    store.kill("meta-1", "meta-3")
    writing = in_background(lambda: store.request("PUT", path, body=b"after"))
    began_s = time.monotonic()
    answer = store.request("GET", path)
    assert time.monotonic() - began_s < BOUNDED_S
    assert answer.expect(503).headers["Retry-After"]
    store.up()
    outcome = writing().expect(200, 503)
    later = store.put("faults/majority", b"later")["version"]
    if outcome.status == 200:  # tried again and again, and applied once
        assert (outcome.json()["version"], later) == (first + 1, first + 2)
    else:
        assert later <= first + 2
    assert store.get("faults/majority") == b"later"


class Writers:
    """Threads that store objects and remember what was acknowledged."""

    def __init__(self, store: LocalStore, count: int) -> None:
        self.acknowledged: dict[str, bytes] = {}
        self._store = store
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(count)
        self._running = [self._pool.submit(self._write, number) for number in range(count)]

    def _write(self, number: int) -> None:
        size = (100, 5_000, 70_000, 5 * MIB)[number % 4]
        for turn in range(10_000):
            if self._stop.is_set():
                return
            name, body = f"faults/writer-{number}/{turn}", noise(size, seed=number * 10_000 + turn)
            try:
                self._store.put(name, body)
            except (OSError, HTTPException, AssertionError):
                return  # not acknowledged: anything may have become of it
            self.acknowledged[name] = body

    def stop(self) -> dict[str, bytes]:
        """End; answers what was acknowledged."""
        self._stop.set()
        wait(self._running)
        self._pool.shutdown()
        return self.acknowledged


def test_power_off_loses_no_acknowledged_object(store: LocalStore) -> None:
    ports = {n["id"]: n.get("http") or n["api"] for n in store.nodes()}
    store.put("faults/long-ago", TWENTY)
    writers = Writers(store, 8)
    wait_for(lambda: len(writers.acknowledged) >= 40, what="objects to be acknowledged")
    store.kill(*ports)
    acknowledged = writers.stop()
    assert not store.running()
    store.up()
    assert {n["id"]: n.get("http") or n["api"] for n in store.nodes()} == ports
    for name, body in acknowledged.items():
        assert store.get(name) == body, name
    assert store.get("faults/long-ago") == TWENTY
    assert len({body for body in acknowledged.values() if len(body) > MIB}) >= 1


def test_down_and_up_again_bring_the_same_data_on_the_same_ports(store: LocalStore) -> None:
    store.put("faults/kept", TWENTY)
    before, left_out = store.facts(), store.census()["missing"]
    store.ossctl("down")
    assert not store.running()
    store.up()
    after = store.facts()
    for group in ("frontends", "metanodes", "blobs"):
        assert [{**n, "pid": 0} for n in after[group]] == [{**n, "pid": 0} for n in before[group]]
    assert after["root_secret_key"] == before["root_secret_key"]
    assert store.get("faults/kept") == TWENTY
    assert store.census()["missing"] == left_out


def test_what_a_dead_frontend_left_is_collected_and_no_object(store: LocalStore) -> None:
    store.wait_collected()
    before, before_bytes = store.census(), store.volume_bytes()
    body = noise(40 * MIB, seed=44)
    host, port = store.api.split(":")
    head = f"PUT /objects/faults/torn HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{k}: {v}\r\n" for k, v in store.authorization().items()) + "\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(head.encode() + body[: 30 * MIB])
        wait_for(lambda: store.census()["uploads"], what="the upload to be staged")
        wait_for(
            lambda: store.volume_bytes() > before_bytes + 10 * MIB, what="shards to be written"
        )
        store.kill("frontend-1")
    store.ossctl("start", "frontend-1")
    store.request("GET", "/objects/faults/torn").expect(404)
    after = store.wait_collected()
    for count in ("versions", "stripes", "segments", "stored_bytes"):
        assert after[count] == before[count], count
    wait_for(
        lambda: store.volume_bytes() <= before_bytes + 12 * MIB,
        what="the leftovers to leave the disks",
        deadline_s=60,
    )
