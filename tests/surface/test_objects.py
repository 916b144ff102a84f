"""PUT, GET, HEAD, DELETE of objects; versions; locate; methods."""

import gzip
import json
from base64 import b64decode, b64encode
from hashlib import md5, sha256
from typing import Any
from urllib.parse import quote

import pytest

from tests.cluster.local import noise, object_path, text
from tests.surface.cluster import SurfaceStore
from tests.surface.ways import STRIPE, VECTORS, digest_header, fresh, object_at

pytestmark = pytest.mark.cluster

BODY = noise(300_000, seed=4)
WRONG = b64encode(sha256(b"something else").digest()).decode()


@pytest.fixture
def one(store: SurfaceStore) -> str:
    """An object whose only version is BODY."""
    name = fresh("one")
    store.put(name, BODY)
    return name


# --- PUT ---------------------------------------------------------------------------------------


def test_each_put_makes_a_version_that_both_frontends_give(store: SurfaceStore) -> None:
    name = fresh("versions/of me")
    for number, body in enumerate((b"one", BODY, b""), start=1):
        answer = store.ask("PUT", object_path(name), body=body, at=number).expect(200)
        assert answer.json()["version"] == number
        object_at(store, name).check(body)
    for number, body in enumerate((b"one", BODY, b""), start=1):
        path = f"{object_path(name)}?version={number}"
        assert store.ask("GET", path, at=number).expect(200).body == body
    listed = store.versions(name)
    assert [(each["Version"], each["Size"]) for each in listed] == [(1, 3), (2, 300_000), (3, 0)]
    assert {each["Name"] for each in listed} == {name}
    assert b64decode(listed[1]["Hash"]) == sha256(BODY).digest()


@pytest.mark.parametrize(
    "field", ["Digest: SHA-256={}", "Content-Digest: sha-256=:{}:", "Repr-Digest: sha-256=:{}:"]
)
def test_a_declared_digest_is_held_to(store: SurfaceStore, field: str) -> None:
    name, _, template = field.partition(": ")
    path = "/objects/" + fresh("declared")
    for body, right in VECTORS.items():
        headers = {name: template.format(right)}
        store.ask("PUT", path, body=body, headers=headers).expect(200)
    for value in (template.format(WRONG), template.format("AAAA"), template.format("%%%")):
        for body in (b"hello world", BODY):
            answer = store.ask("PUT", path, body=body, headers={name: value})
            assert answer.status == 400, value
    assert [each["Version"] for each in store.versions(path[9:])] == [1, 2]


def test_the_same_content_is_stored_once(store: SurfaceStore) -> None:
    body = noise(STRIPE + 5_000, seed=77)

    def stripes(number: int) -> list[Any]:
        explained = store.ask("GET", f"/explain/once/{number}", at=number).expect(200).json()
        return [(each["stripe"], each["references"]) for each in explained["stripes"]]

    for number in range(4):
        store.ask("PUT", f"/objects/once/{number}", body=body, at=number).expect(200)
    assert len(stripes(0)) == 2
    assert {references for _, references in stripes(0)} == {4}
    for number in range(4):
        assert stripes(number) == stripes(0)
        object_at(store, f"once/{number}").check(body)


# --- GET ---------------------------------------------------------------------------------------


def test_an_unknown_version_is_404_and_no_number_400(store: SurfaceStore, one: str) -> None:
    assert store.ask("GET", f"/objects/{one}?version=1").expect(200).body == BODY
    for number in ("2", "999999999", str(2**62), str(2**70)):
        assert store.ask("GET", f"/objects/{one}?version={number}").status == 404, number
    for bad in ("x", "", "-1", "1.5", "0x1", "1%00", "%D9%A1"):
        assert store.ask("GET", f"/objects/{one}?version={bad}").status == 400, bad
    assert store.ask("GET", "/objects/never-stored").status == 404


def test_a_range_beyond_the_end_is_416(store: SurfaceStore, one: str) -> None:
    size = len(BODY)
    whole = store.ask("GET", "/objects/" + one, headers={"Range": "bytes=5-"}).expect(206)
    assert whole.body == BODY[5:]
    for beyond in (f"bytes={size}-", f"bytes={size + 7}-{size + 9}", "bytes=-0"):
        answer = store.ask("GET", "/objects/" + one, headers={"Range": beyond}).expect(416)
        assert answer.headers["Content-Range"] == f"bytes */{size}", beyond


def test_gzip_is_given_to_who_asks_but_never_of_a_range(store: SurfaceStore) -> None:
    body = text(200_000)
    store.put("packed", body)
    packed = store.ask("GET", "/objects/packed", headers={"Accept-Encoding": "gzip"})
    assert packed.expect(200).headers["Content-Encoding"] == "gzip"
    assert "accept-encoding" in packed.headers["Vary"].lower()
    assert gzip.decompress(packed.body) == body and len(packed.body) < len(body)
    both = {"Accept-Encoding": "gzip", "Range": "bytes=10-19"}
    ranged = store.ask("GET", "/objects/packed", headers=both).expect(206)
    assert ranged.headers["Content-Encoding"] is None and ranged.body == body[10:20]
    plain = store.ask("GET", "/objects/packed", headers={"Accept-Encoding": "identity"})
    assert plain.expect(200).body == body and plain.headers["ETag"] != packed.headers["ETag"]


def test_the_etag_is_strong_and_spares_the_body(store: SurfaceStore, one: str) -> None:
    etag = store.ask("HEAD", "/objects/" + one).expect(200).headers["ETag"]
    assert etag == f'"{sha256(BODY).hexdigest()}"'
    fresh = store.ask("GET", "/objects/" + one, headers={"If-None-Match": etag}, at=1)
    assert (fresh.status, fresh.body) == (304, b"")
    store.put(one, b"other")
    stale = store.ask("GET", "/objects/" + one, headers={"If-None-Match": etag}, at=1)
    assert (stale.status, stale.body) == (200, b"other")


# --- DELETE ------------------------------------------------------------------------------------


def test_delete_leaves_a_marker_and_the_old_versions(store: SurfaceStore, one: str) -> None:
    store.ask("DELETE", "/objects/" + one, at=1).expect(204)
    for method in ("GET", "HEAD"):
        assert store.ask(method, "/objects/" + one).status == 404
    first, marker = store.versions(one)
    assert (marker["Version"], marker["Size"], marker["Hash"]) == (2, 0, "")
    assert first["Size"] == len(BODY)
    assert store.ask("GET", f"/objects/{one}?version=1").expect(200).body == BODY
    assert store.ask("GET", f"/objects/{one}?version=2").status == 404
    assert store.put(one, b"again")["version"] == 3


# --- versions and locate -----------------------------------------------------------------------


def test_versions_are_lines_or_an_array_and_come_in_pages(store: SurfaceStore) -> None:
    folder = fresh("pages")
    names = [f"{folder}/{number}" for number in range(5)]
    for name in names:
        store.put(name, name.encode())
        store.put(name, b"second")
    lines = store.ask("GET", "/versions/").expect(200).body.decode().splitlines()
    mine = [each for each in map(json.loads, lines) if each["Name"] in names]
    assert [(each["Name"], each["Version"]) for each in mine] == [
        (name, number) for name in names for number in (1, 2)
    ]
    assert all(set(each) == {"Name", "Version", "Size", "Hash"} for each in mine)
    as_json = {"Accept": "application/json"}
    assert store.ask("GET", "/versions/", headers=as_json).json() == list(map(json.loads, lines))
    found: list[Any] = []
    path = "/versions/?limit=3"
    while path:
        page = store.ask("GET", path, headers=as_json, at=len(found)).expect(200)
        assert len(page.json()) <= 3
        found += page.json()
        path = (page.headers["Link"] or "").partition(">")[0].lstrip("<")
    assert sorted(map(str, found)) == sorted(str(json.loads(line)) for line in lines)


def test_locate_finds_the_daemons_of_a_hash_or_a_name(store: SurfaceStore, one: str) -> None:
    digest = sha256(BODY)
    escaped = quote(b64encode(digest.digest()).decode(), safe="")
    by_hash = store.ask("GET", f"/locate/{escaped}", at=1).expect(200).json()
    assert sorted(by_hash) == ["0", "1", "2", "3", "4", "5"]
    assert set(by_hash.values()) == set(store.blobs)
    assert store.ask("GET", f"/locate/{digest.hexdigest()}").json() == by_hash
    assert store.ask("GET", "/locate/" + one).json() == by_hash
    for unknown in ("0" * 64, "never-stored", md5(b"x").hexdigest()):
        assert store.ask("GET", f"/locate/{unknown}").status == 404, unknown


def located(store: SurfaceStore, text: str) -> list[int]:
    """Lengths of the stripes that /locate finds under a name or hash."""
    path = f"/locate/{quote(text, safe='')}?all=1"
    stripes = store.ask("GET", path).expect(200).json()["stripes"]
    return [stripe["length"] for stripe in stripes]


def test_a_name_wins_over_a_hash(store: SurfaceStore) -> None:
    body, other = noise(200_000, seed=51), noise(100_000, seed=52)
    digest = sha256(body)
    store.put(fresh("wins"), body)
    for name in (digest.hexdigest(), b64encode(digest.digest()).decode()):
        assert located(store, name) == [len(body)]
        # Somebody calls another object what is the hash of the first.
        store.put(name, other)
        assert located(store, name) == [len(other)]
        object_at(store, name).check(other)
        store.remove_for_good(name)
        assert located(store, name) == [len(body)]


# --- methods and credentials -------------------------------------------------------------------

METHODS = {
    "/objects/ONE": {"GET", "HEAD", "PUT", "POST", "DELETE"},
    "/versions/ONE": {"GET", "HEAD"},
    "/versions/": {"GET", "HEAD"},
    "/locate/ONE": {"GET", "HEAD"},
}


@pytest.mark.parametrize("path", METHODS)
def test_other_methods_are_405_with_allow(store: SurfaceStore, one: str, path: str) -> None:
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"):
        if method in METHODS[path]:
            continue
        answer = store.ask(method, path.replace("ONE", one), body=b"x")
        assert answer.status == 405, (method, path)
        allowed = {word.strip() for word in answer.headers["Allow"].split(",")}
        assert METHODS[path] <= allowed | {"POST"} and method not in allowed, (method, allowed)
    object_at(store, one).check(BODY)


@pytest.mark.parametrize("sent", ["", "Basic", "Basic !!!", "Bearer x:y", "Basic OjpvOg=="])
def test_nothing_is_told_or_changed_without_credentials(
    store: SurfaceStore, one: str, sent: str
) -> None:
    headers = {"Authorization": sent} if sent else {}
    for method, path in (
        ("GET", "/objects/" + one),
        ("PUT", "/objects/" + one),
        ("DELETE", "/objects/" + one),
        ("DELETE", f"/objects/{one}?version=1"),
        ("POST", "/objects/" + one),
        ("GET", "/versions/" + one),
        ("GET", "/locate/" + one),
        ("GET", "/v1/cluster"),
    ):
        sent_body = b"intruder" if method in ("PUT", "POST") else None
        more = {**headers, **digest_header(b"intruder"), "Size": "8"} if sent_body else headers
        for at in (0, 1):
            answer = store.ask(method, path, body=sent_body, headers=more, at=at, anonymous=True)
            assert answer.status == 401, (method, path, answer.status)
            assert answer.headers["WWW-Authenticate"], (method, path)
            assert set(answer.json()["error"]) >= {"code", "message", "request_id"}
    assert [each["Version"] for each in store.versions(one)] == [1]
    object_at(store, one).check(BODY)
