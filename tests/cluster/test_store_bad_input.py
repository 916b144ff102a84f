"""Whatever a client gets wrong: a clear 4xx, nothing stored, nothing broken."""

import asyncio
import json
import socket
from collections.abc import Iterator
from hashlib import sha256

import pytest

from ossd.clock import SystemClock, system_random
from ossd.rpc import AioRpc
from ossd.signing import ClusterSecrets, Signer, seal
from raftmeta.access import ADMIN, DOWNLOAD
from raftmeta.client import MetaClient, unwrap_catalog_key
from raftmeta.commands import Done
from raftmeta.credentials import PutAccessKey
from raftmeta.queries import ClusterDescribed, GetCluster
from tests.cluster.local import Answer, LocalStore

pytestmark = pytest.mark.cluster

EXISTING = "bad-input/exists"
BODY = b"hello world"
OTHER_DIGEST = "GYqqAdFPt+CScnUDc0/Gcu3kwcWmOADKNYpiZtdbgsM="


def listed(store: LocalStore) -> list[tuple[str, int]]:
    """Every object of the default bucket and its newest version."""
    found, after = [], ""
    while True:
        page = store.request("GET", f"/objects?limit=1000&after={after}").expect(200).json()
        found += [(each["key"], each["version"]) for each in page["objects"]]
        if page["next"] is None:
            return found
        after = page["next"]


@pytest.fixture
def unchanged(unharmed: LocalStore) -> Iterator[LocalStore]:
    """A store in which the test must store nothing and end no process."""
    if unharmed.request("HEAD", f"/objects/{EXISTING}").status == 404:
        unharmed.put(EXISTING, BODY)
    before, census = listed(unharmed), unharmed.census()
    yield unharmed
    assert listed(unharmed) == before
    assert unharmed.census()["versions"] == census["versions"]
    assert unharmed.get(EXISTING) == BODY


def check_error(answer: Answer, status: int, code: str) -> None:
    """An answer in the form every error has."""
    assert (answer.status, answer.code) == (status, code), answer.body[:500]
    assert answer.headers["Content-Type"] == "application/json"
    error = answer.json()["error"]
    assert error["message"] and "Traceback" not in error["message"]
    assert error["request_id"] == answer.headers["X-Request-Id"]


PUT_PATHS = [
    ("/objects/", 405, "MethodNotAllowed"),
    ("/objects/" + "n" * 1025, 400, "InvalidName"),
    ("/objects/" + "%C3%A9" * 513, 400, "InvalidName"),
    ("/objects/%00", 400, "InvalidName"),
    ("/objects/a%00b", 400, "InvalidName"),
    ("/objects/%ff%fe", 400, "InvalidName"),
    ("/objects/%C3", 400, "InvalidName"),
    ("/objects/%ED%A0%80", 400, "InvalidName"),
    ("/objects/%zz", 400, "InvalidName"),
    ("/objects/100%", 400, "InvalidName"),
    ("/buckets/ab/objects/x", 400, "InvalidName"),
    ("/buckets/UPPER/objects/x", 400, "InvalidName"),
    ("/buckets/" + "b" * 64 + "/objects/x", 400, "InvalidName"),
    ("/buckets/under_score/objects/x", 400, "InvalidName"),
    ("/buckets/a..b/objects/x", 400, "InvalidName"),
    ("/buckets/192.168.1.1/objects/x", 400, "InvalidName"),
    ("/buckets/%2e%2e%2f/objects/x", 400, "InvalidName"),
    ("/buckets/no-such-bucket/objects/x", 404, "NoSuchBucket"),
    ("/buckets/objects", 409, "BucketAlreadyExists"),
    ("/buckets/ab", 400, "InvalidName"),
    ("/", 404, "NotFound"),
    ("/nothing/here", 404, "NotFound"),
    ("/objectsx", 404, "NotFound"),
    ("/etc/passwd", 404, "NotFound"),
]


def test_names_that_are_not_allowed_are_refused_and_store_nothing(unchanged: LocalStore) -> None:
    for path, status, code in PUT_PATHS:
        check_error(unchanged.request("PUT", path, body=BODY), status, code)


PUT_HEADERS = [
    ({"Digest": f"SHA-256={OTHER_DIGEST}"}, "BadDigest"),
    ({"Digest": "SHA-256=abc"}, "InvalidArgument"),
    ({"Digest": "SHA-256="}, "InvalidArgument"),
    ({"Digest": "SHA-256=!!!!"}, "InvalidArgument"),
    ({"Digest": "nonsense"}, "InvalidArgument"),
    ({"Content-Digest": f"sha-256=:{OTHER_DIGEST}:"}, "BadDigest"),
    ({"Content-Digest": f"sha-256={OTHER_DIGEST}"}, "InvalidArgument"),
    ({"Repr-Digest": f"sha-256=:{OTHER_DIGEST}:"}, "BadDigest"),
    ({"Repr-Digest": "sha-256=:abcd:"}, "InvalidArgument"),
    ({"Digest": f"SHA-256={OTHER_DIGEST}", "Content-Digest": "sha-256=::"}, "InvalidArgument"),
    ({"X-Oss-Profile": "99+99"}, "InvalidArgument"),
    ({"X-Oss-Profile": "four"}, "InvalidArgument"),
    ({"X-Oss-Meta-Big": "v" * 9000}, "InvalidArgument"),
]


def test_wrong_and_malformed_headers_of_a_put_store_nothing(unchanged: LocalStore) -> None:
    for size_bytes in (len(BODY), 100_000):
        body = (BODY * 10_000)[:size_bytes]
        for headers, code in PUT_HEADERS:
            answer = unchanged.request("PUT", "/objects/refused", body=body, headers=headers)
            check_error(answer, 400, code)


GETS = [
    ("/objects/no-such-object", 404, "NoSuchKey"),
    (f"/objects/{EXISTING}?version=99", 404, "NoSuchVersion"),
    (f"/objects/{EXISTING}?version=0", 404, "NoSuchVersion"),
    (f"/objects/{EXISTING}?version=" + "9" * 400, 404, "NoSuchVersion"),
    (f"/objects/{EXISTING}?version=-1", 400, "InvalidArgument"),
    (f"/objects/{EXISTING}?version=text", 400, "InvalidArgument"),
    (f"/objects/{EXISTING}?version=", 400, "InvalidArgument"),
    (f"/objects/{EXISTING}?version=1.5", 400, "InvalidArgument"),
    (f"/objects/{EXISTING}?version=%ff", 400, "InvalidArgument"),
    (f"/objects/{EXISTING}?version=%D9%A1", 400, "InvalidArgument"),
    (f"/objects/{EXISTING}?version_id=nonsense", 404, "NoSuchVersion"),
    (f"/objects/{EXISTING}?version=1&version_id=x", 400, "InvalidArgument"),
    ("/buckets/no-such-bucket/objects", 404, "NoSuchBucket"),
    ("/buckets/no-such-bucket/objects/x", 404, "NoSuchBucket"),
    ("/buckets/no-such-bucket/versions", 404, "NoSuchBucket"),
    ("/buckets/objects/objects?limit=0", 400, "InvalidArgument"),
    ("/buckets/objects/objects?limit=many", 400, "InvalidArgument"),
    ("/buckets/objects/objects?prefix=%ff", 400, "InvalidArgument"),
    ("/buckets/objects/objects?delimiter=%ff", 400, "InvalidArgument"),
    ("/locate/no-such-object", 404, "NoSuchKey"),
    ("/v1/maintenance", 400, "InvalidArgument"),
    ("/v1/maintenance?node=nobody", 404, "NoSuchNode"),
    ("/v2/cluster", 404, "NotFound"),
]


def test_reads_of_what_is_not_there_say_so(unchanged: LocalStore) -> None:
    for path, status, code in GETS:
        check_error(unchanged.request("GET", path), status, code)


@pytest.mark.parametrize("asked", ["11-", "11-11", "99-100", "-0", "9" * 30 + "-"])
def test_ranges_beyond_the_end_are_416_with_the_size(unchanged: LocalStore, asked: str) -> None:
    path, headers = f"/objects/{EXISTING}", {"Range": f"bytes={asked}"}
    answer = unchanged.request("GET", path, headers=headers)
    check_error(answer, 416, "InvalidRange")
    assert answer.headers["Content-Range"] == f"bytes */{len(BODY)}"


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=a-b", "bytes=", "bytes=-", "lines=1-2"])
def test_a_malformed_range_gives_the_whole_object(unchanged: LocalStore, asked: str) -> None:
    answer = unchanged.request("GET", f"/objects/{EXISTING}", headers={"Range": asked})
    assert answer.expect(200).body == BODY


def test_wrong_keys_are_401_and_open_nothing(unchanged: LocalStore) -> None:
    facts = unchanged.facts()
    root = facts["root_access_key"]
    wrong: list[dict[str, str]] = [
        {},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic Og=="},
        {"Authorization": "Bearer nobody:nothing"},
        {"Authorization": f"Bearer {root}"},
        {"Authorization": f"Bearer {root}:"},
        {"Authorization": f"Bearer {root}:{facts['root_secret_key'][:-1]}"},
        {"Authorization": f"Bearer {root}:{facts['root_secret_key']}x"},
        {"Authorization": f"Bearer {root}:{facts['system_token']}"},
        {"Authorization": f"Digest {root}"},
        {"Authorization": "Basic " + "A" * 5000},
    ]
    paths = [("GET", f"/objects/{EXISTING}"), ("PUT", "/objects/refused"), ("GET", "/v1/cluster")]
    paths += [
        ("DELETE", f"/objects/{EXISTING}?version=1"),
        ("GET", "/buckets"),
        ("GET", "/objects"),
    ]
    for headers in wrong:
        for method, path in paths:
            answer = unchanged.request(method, path, headers=headers, anonymous=True)
            check_error(answer, 401, "Unauthenticated")
            assert answer.headers["WWW-Authenticate"].startswith("Basic")


def add_key(store: LocalStore, access_key: str, *scopes: str, bucket: str = "") -> dict[str, str]:
    """Make an access key with a secret of the same text; answers its header."""
    secrets = ClusterSecrets(current=(store.folder / "secret").read_text().strip())

    async def make() -> None:
        rpc = AioRpc(signer=Signer(secrets, SystemClock(), system_random))
        urls = [node["http"] for node in store.facts()["metanodes"]]
        meta = MetaClient(rpc, urls, clock=SystemClock(), random=system_random)
        described = await meta.query(GetCluster(), ClusterDescribed)
        key = unwrap_catalog_key(secrets, described.catalog_key_wrapped)
        command = PutAccessKey(
            access_key=access_key,
            secret_sealed=seal(key, access_key.encode(), system_random),
            scopes=scopes,
            buckets=(bucket,) if bucket else (),
        )
        await meta.propose(command, Done)
        await meta.close()
        await rpc.close()

    asyncio.run(make())
    return {"Authorization": f"Bearer {access_key}:{access_key}"}


def test_a_key_does_only_what_its_scopes_and_buckets_say(unchanged: LocalStore) -> None:
    reader = add_key(unchanged, "READER", DOWNLOAD)
    stranger = add_key(unchanged, "STRANGER", ADMIN, bucket="another-bucket")
    path = f"/objects/{EXISTING}"
    may = unchanged.request("GET", path, headers=reader, anonymous=True)
    assert may.expect(200).body == BODY
    refused = [
        ("PUT", path),
        ("DELETE", path),
        ("DELETE", path + "?version=1"),
        ("GET", "/objects"),
    ]
    refused += [("POST", path + "?undelete=1"), ("PUT", "/buckets/reader"), ("GET", "/v1/cluster")]
    refused += [("GET", f"/locate/{EXISTING}"), ("GET", f"/versions/{EXISTING}")]
    for method, where in refused:
        answer = unchanged.request(method, where, headers=reader, anonymous=True)
        check_error(answer, 403, "AccessDenied")
    for method, where in [("GET", path), ("PUT", path), ("GET", "/objects"), ("GET", "/versions/")]:
        answer = unchanged.request(method, where, headers=stranger, anonymous=True)
        check_error(answer, 403, "AccessDenied")
    assert unchanged.request("GET", "/buckets", headers=stranger, anonymous=True).json() == {
        "buckets": []
    }


WRONG_METHODS = [
    ("PATCH", f"/objects/{EXISTING}", {"GET", "HEAD", "PUT", "POST", "DELETE"}),
    ("BREW", f"/objects/{EXISTING}", {"GET", "HEAD", "PUT", "POST", "DELETE"}),
    ("DELETE", "/objects", {"GET", "HEAD"}),
    ("POST", f"/locate/{EXISTING}", {"GET", "HEAD"}),
    ("PUT", f"/versions/{EXISTING}", {"GET", "HEAD"}),
    ("DELETE", "/v1/cluster", {"GET", "HEAD"}),
    ("PUT", "/readyz", {"GET"}),
    ("POST", "/buckets/objects", {"GET", "HEAD", "PUT", "DELETE"}),
]


def test_wrong_methods_are_405_with_allow(unchanged: LocalStore) -> None:
    for method, path, allowed in WRONG_METHODS:
        answer = unchanged.request(method, path)
        check_error(answer, 405, "MethodNotAllowed")
        assert allowed <= set(answer.headers["Allow"].split(", ")), (method, path)


def exchange(store: LocalStore, sent: bytes, *, half_close: bool = True) -> bytes:
    """Send bytes to the frontend and read until it closes."""
    host, port = store.api.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        peer.sendall(sent)
        if half_close:
            peer.shutdown(socket.SHUT_WR)
        received = b""
        while piece := peer.recv(65536):
            received += piece
        return received


def head(store: LocalStore, name: str, *headers: str) -> bytes:
    """The head of a PUT."""
    fields = [f"PUT /objects/{name} HTTP/1.1", "Host: x", *headers]
    fields += [f"{key}: {value}" for key, value in store.authorization().items()]
    return "\r\n".join([*fields, "", ""]).encode()


@pytest.mark.parametrize("declared", [100, 1_000_000, 50_000_000])
def test_a_body_shorter_than_declared_stores_nothing(unchanged: LocalStore, declared: int) -> None:
    sent = head(unchanged, "short", f"Content-Length: {declared}") + b"x" * (declared // 2)
    answer = exchange(unchanged, sent)
    assert b" 200 " not in answer.split(b"\r\n")[0]


def test_a_chunked_body_that_breaks_off_stores_nothing(unchanged: LocalStore) -> None:
    sent = head(unchanged, "broken", "Transfer-Encoding: chunked") + b"1000\r\n" + b"x" * 4096
    for end in (b"", b"\r\n", b"\r\nnothex\r\nabc", b"\r\n5\r\nabc"):
        assert b" 200 " not in exchange(unchanged, sent + end).split(b"\r\n")[0]


def test_bytes_behind_the_declared_body_are_no_part_of_it(unharmed: LocalStore) -> None:
    sent = head(unharmed, "bad-input/longer", "Content-Length: 5") + b"hello AND MORE\r\n\r\n"
    answer = exchange(unharmed, sent)
    assert answer.startswith(b"HTTP/1.1 200 ")
    stored = json.loads(answer.split(b"\r\n\r\n", 1)[1].split(b"\n")[0].split(b"HTTP/1.1")[0])
    assert stored["sha256"] == sha256(b"hello").hexdigest()
    assert unharmed.get("bad-input/longer") == b"hello"


@pytest.mark.parametrize("length", ["-5", "five", "5, 6", "5 5", "0x10", "1" * 30])
def test_a_senseless_length_is_refused(unchanged: LocalStore, length: str) -> None:
    answer = exchange(unchanged, head(unchanged, "senseless", f"Content-Length: {length}") + BODY)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]


def test_two_framings_of_one_body_are_refused(unchanged: LocalStore) -> None:
    sent = head(unchanged, "smuggled", "Content-Length: 5", "Transfer-Encoding: chunked")
    answer = exchange(unchanged, sent + b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert b" 200 " not in answer.split(b"\r\n")[0]
    assert answer.count(b"HTTP/1.1") <= 1


@pytest.mark.parametrize("name", ["..", ".", "../x", "a/../b", "//", "a//b", "/lead", "trail/"])
def test_dots_and_slashes_are_ordinary_parts_of_a_name(unharmed: LocalStore, name: str) -> None:
    body = f"this is {name}".encode()
    unharmed.put(name, body)
    assert unharmed.get(name) == body
    unharmed.remove_for_good(name)
    assert unharmed.request("GET", f"/objects/{name}").status == 404
