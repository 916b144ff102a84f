"""Garbage on every port: dropped, logged once, and the service goes on beside it."""

import json
import os
import random
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import pytest

from tests.cluster.local import LocalStore, wait_for

pytestmark = pytest.mark.cluster

LINES_MAX = 25
"""Lines one node may log for everything a test here does to it."""
CONNECTIONS = 1000
LOUDMOUTH = "127.0.0.2"
"""Where noise comes from: a line is logged once for each peer, and others come from .1."""


def ports(store: LocalStore) -> list[tuple[str, int]]:
    """Every port of every node, the frontend's first; Raft's too."""
    facts = store.facts()
    others = [*facts["metanodes"], *facts["blobs"]]
    urls = [facts["frontends"][0]["api"], *(node["http"] for node in others)]
    addresses = [urlsplit(url).netloc for url in urls] + [m["raft"] for m in facts["metanodes"]]
    assert len(addresses) == 13
    return [(host, int(port)) for host, _, port in (a.partition(":") for a in addresses)]


@contextmanager
def serving(store: LocalStore) -> Iterator[None]:
    """A block after which the store still works and the logs are short."""
    sizes = store.log_sizes()
    yield
    store.put("garbage/after", b"still here")
    assert store.get("garbage/after") == b"still here"
    assert store.get("garbage/large") == LARGE
    for node, lines in store.logged_since(sizes).items():
        assert len(lines) <= LINES_MAX, (node, len(lines), lines[:3], lines[-3:])


LARGE = random.Random(5).randbytes(300_000)


@pytest.fixture
def filled(unharmed: LocalStore) -> LocalStore:
    """A store with something to lose."""
    unharmed.put("garbage/large", LARGE)
    return unharmed


def shout(address: tuple[str, int], sent: bytes) -> None:
    """Send bytes, take what comes until the peer closes or a moment has passed."""
    with socket.create_connection(address, timeout=10, source_address=(LOUDMOUTH, 0)) as peer:
        peer.settimeout(0.05)
        try:
            peer.sendall(sent)
            while peer.recv(65536):
                pass
        except (TimeoutError, ConnectionError):
            pass  # dropped or waiting for more: both are fine


def tls_hello() -> bytes:
    """What a TLS client says first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="x")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass  # it now waits for the server's part
    return outgoing.read()


def noises() -> list[bytes]:
    """Many ways to say nothing sensible."""
    generator = random.Random(7)
    return [
        *(generator.randbytes(size) for size in (1, 7, 100, 5_000, 200_000)),
        b"\0" * 10_000,
        b"\xff" * 10_000,
        b"\r\n" * 1000,
        b"A" * 200_000,
        b"GET",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x00\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PUT /objects/half HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nhalf",
        b"POST /v1/propose HTTP/1.1\r\nContent-Length: 20\r\n\r\n" + b"\x93" * 20,
        b"PUT /v1/shards HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nX-Big: " + b"v" * 1_000_000 + b"\r\n\r\n",
        b"\x80\x04\x95" + generator.randbytes(60) + b".",
        (1 << 30).to_bytes(4, "big") + b"z" * 100,
        (1 << 31).to_bytes(4, "little") + b"z" * 100,
        b"\x16\x03\x01" + os.urandom(50),
        tls_hello(),
    ]


def test_noise_on_every_port_is_dropped_and_logged_once(filled: LocalStore) -> None:
    sizes = filled.log_sizes()
    with serving(filled):
        for address in ports(filled):
            for sent in noises():
                shout(address, sent)
    metanodes = {node["id"] for node in filled.facts()["metanodes"]}
    for node, lines in filled.logged_since(sizes).items():
        events = [json.loads(line) for line in lines if LOUDMOUTH in line]
        malformed = [event for event in events if event["event"] == "malformed_request"]
        assert len(malformed) == 1, (node, malformed)
        refused = [event["reason"] for event in events if event["event"] == "raft_link_refused"]
        assert len(refused) == len(set(refused)), (node, refused)
        assert bool(refused) == (node in metanodes), (node, refused)
        assert len(events) == len(malformed) + len(refused), (node, events)


def test_connections_left_half_way_do_not_keep_others_out(filled: LocalStore) -> None:
    starts = (b"", b"G", b"PUT /objects/x HTTP/1.1\r\nContent-Length: 9999\r\n\r\nabc")
    with serving(filled), ExitStack() as held:
        for address in ports(filled):
            for number in range(60):
                peer = held.enter_context(socket.create_connection(address, timeout=10))
                peer.sendall(starts[number % len(starts)])
        for number in range(5):
            filled.put("garbage/meanwhile", b"%d" % number)
            assert filled.get("garbage/meanwhile") == b"%d" % number


def test_a_thousand_connections_opened_and_dropped_harm_nothing(filled: LocalStore) -> None:
    with serving(filled):
        for address in ports(filled):
            began_s = time.monotonic()
            for number in range(CONNECTIONS):
                peer = socket.create_connection(address, timeout=10)
                if number % 3 == 0:
                    peer.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                peer.close()
            # A full backlog would cost each a second: the kernel's next attempt.
            assert time.monotonic() - began_s < 5, address


def test_a_thousand_connections_held_open_leave_room_for_clients(filled: LocalStore) -> None:
    host, port = ports(filled)[0]
    before = descriptors(filled, "frontend-1")
    with serving(filled):
        with ExitStack() as held:
            for _ in range(CONNECTIONS):
                held.enter_context(socket.create_connection((host, port), timeout=10))
            filled.put("garbage/crowded", b"in")
            assert filled.get("garbage/crowded") == b"in"
        wait_for(
            lambda: descriptors(filled, "frontend-1") <= before + 50,
            what="the frontend to let go of closed connections",
        )


def descriptors(store: LocalStore, name: str) -> int:
    """How many files and sockets a node has open."""
    return len(os.listdir(f"/proc/{store.node(name)['pid']}/fd"))


def test_unsigned_requests_to_internal_ports_change_and_tell_nothing(filled: LocalStore) -> None:
    facts = filled.facts()
    before = filled.census()
    meta = urlsplit(facts["metanodes"][0]["http"]).netloc
    blob = urlsplit(facts["blobs"][0]["http"]).netloc
    attempts = [
        (meta, "POST", "/v1/propose", b"\x90"),
        (meta, "POST", "/v1/query", b"\x90"),
        (meta, "POST", "/v1/bootstrap", b"\x90"),
        (meta, "POST", "/v1/form", b"\x90"),
        (meta, "GET", "/v1/snapshot", b""),
        (blob, "POST", "/v1/shards", b"\x90"),
        (blob, "PUT", "/v1/shards", b"\x90"),
    ]
    for address, method, path, body in attempts:
        answer = filled.request(method, path, body=body, address=address)
        assert 400 <= answer.status < 500, (path, answer.status)
        assert facts["root_secret_key"].encode() not in answer.body
    after = filled.census()
    for count in ("buckets", "versions", "markers", "logical_bytes"):
        assert after[count] == before[count], count
