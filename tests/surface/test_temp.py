"""POST, PATCH, DELETE /temp at a blob daemon and through frontends."""

from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from urllib.parse import urlsplit

import pytest

from tests.cluster.local import noise, object_path
from tests.surface.cluster import SurfaceStore
from tests.surface.raw import cut_connection, request_head
from tests.surface.ways import STRIPE, confirm, digest_header, fresh, object_at, post_temp

pytestmark = pytest.mark.cluster

BODY = noise(STRIPE + 12_345, seed=21)
DIGEST = sha256(BODY)


def daemon_of(store: SurfaceStore) -> str:
    """host:port of one blob daemon; only that one holds what was sent to it."""
    return urlsplit(store.node("blob-2")["http"]).netloc


DOORS: dict[str, Callable[[SurfaceStore], tuple[str, str]]] = {
    "frontends": lambda store: (store.frontends[0], store.frontends[1]),
    "blob daemon": lambda store: (daemon_of(store), daemon_of(store)),
}
"""Where to POST, and where to go on."""


@pytest.fixture(params=DOORS)
def doors(request: pytest.FixtureRequest, store: SurfaceStore) -> tuple[str, str]:
    """host:port to POST at, host:port for everything after."""
    return DOORS[request.param](store)


@pytest.fixture
def held(store: SurfaceStore, doors: tuple[str, str]) -> tuple[str, str, str]:
    """(address, name, id) of BODY, posted and not confirmed."""
    name = fresh("temp/a name & more")
    answer = post_temp(store, doors[0], name, BODY).expect(201).json()
    assert (answer["sha256"], answer["size"]) == (DIGEST.hexdigest(), len(BODY))
    assert answer["expires_at"]
    return doors[1], name, answer["id"]


Held = tuple[str, str, str]


def test_nothing_is_to_be_seen_before_the_patch(store: SurfaceStore, held: Held) -> None:
    address, name, temp = held
    for at in (0, 1):
        assert store.ask("GET", object_path(name), at=at).status == 404
    assert store.versions(name) == []
    assert f'"{name}"' not in store.ask("GET", "/objects?prefix=temp/").expect(200).body.decode()
    found = store.request("HEAD", f"/temp/{temp}", address=address).expect(200, 204)
    assert found.headers["Content-Length"] == str(len(BODY))
    confirm(store, address, temp).expect(200)
    object_at(store, name).check(BODY)


def test_a_patch_repeated_gives_the_same(store: SurfaceStore, held: Held) -> None:
    address, name, temp = held
    first = confirm(store, address, temp).expect(200).json()
    assert first == {
        "name": name,
        "version": 1,
        "sha256": DIGEST.hexdigest(),
        "size": len(BODY),
    }
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda _: confirm(store, address, temp), range(8)))
    assert [answer.expect(200).json() for answer in again] == [first] * 8
    assert len(store.versions(name)) == 1


def test_many_first_patches_at_once_make_one_version(store: SurfaceStore, held: Held) -> None:
    address, name, temp = held
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: confirm(store, address, temp), range(8)))
    good = [answer.json() for answer in answers if answer.status == 200]
    assert good and all(answer == good[0] for answer in good)
    assert {answer.status for answer in answers} <= {200, 409, 503}
    assert confirm(store, address, temp).expect(200).json() == good[0]
    assert len(store.versions(name)) == 1
    object_at(store, name).check(BODY)


def test_each_confirmed_body_is_the_next_version(
    store: SurfaceStore, doors: tuple[str, str]
) -> None:
    name = fresh("temp/versions")
    store.put(name, b"first")
    for number, body in enumerate((b"second", BODY, b""), start=2):
        temp = post_temp(store, doors[0], name, body).expect(201).json()["id"]
        assert confirm(store, doors[1], temp).expect(200).json()["version"] == number
        object_at(store, name).check(body)


@pytest.mark.parametrize("digest", [DIGEST.hexdigest(), b64encode(DIGEST.digest()).decode()])
def test_what_is_asserted_may_be_hex_or_base64(
    store: SurfaceStore, held: Held, digest: str
) -> None:
    address, name, temp = held
    confirm(store, address, temp, {"sha256": digest, "size": len(BODY)}).expect(200)
    object_at(store, name).check(BODY)


def test_a_wrong_assertion_is_422_and_changes_nothing(store: SurfaceStore, held: Held) -> None:
    address, name, temp = held
    other = sha256(b"other").hexdigest()
    for wrong in (
        {"sha256": other},
        {"size": len(BODY) + 1},
        {"sha256": other, "size": len(BODY)},
        {"sha256": DIGEST.hexdigest(), "size": 0},
    ):
        assert confirm(store, address, temp, dict(wrong)).status == 422, wrong
    assert store.versions(name) == []
    confirm(store, address, temp).expect(200)
    object_at(store, name).check(BODY)


@pytest.mark.parametrize(
    "sent", [b"{", b"[]", b'"x"', b"\xff", b'{"size": "x"}', b'{"sha256": 5}', b'{"sha256": "zz"}']
)
def test_an_assertion_that_is_none_is_400(store: SurfaceStore, held: Held, sent: bytes) -> None:
    address, name, temp = held
    answer = store.request("PATCH", f"/temp/{temp}", body=sent, address=address)
    assert answer.status == 400, (sent, answer.status)
    assert store.versions(name) == []


def test_delete_takes_it_back(store: SurfaceStore, held: Held) -> None:
    address, name, temp = held
    store.request("DELETE", f"/temp/{temp}", address=address).expect(204)
    assert confirm(store, address, temp).status == 404
    assert store.request("HEAD", f"/temp/{temp}", address=address).status == 404
    assert store.request("DELETE", f"/temp/{temp}", address=address).status in (204, 404)
    assert store.versions(name) == []


def test_an_id_nobody_gave_is_refused(store: SurfaceStore, held: Held) -> None:
    address, name, temp = held
    changed = temp[:-2] + ("AA" if temp[-2:] != "AA" else "BB")
    for other in (
        "0" * len(temp),
        changed,
        temp + "0",
        temp[:-1],
        "x",
        name,
        "%00",
        "..%2f" + temp,
    ):
        for method in ("PATCH", "DELETE", "HEAD"):
            path = "/temp/" + other.replace(" ", "%20")
            found = store.request(method, path, address=address)
            assert found.status in (400, 403, 404), (method, other, found.status)
    confirm(store, address, temp).expect(200)
    object_at(store, name).check(BODY)


def test_a_wrong_digest_is_400_and_holds_nothing(
    store: SurfaceStore, doors: tuple[str, str]
) -> None:
    name = fresh("temp/digest")
    answer = post_temp(store, doors[0], name, BODY, **digest_header(b"other"))
    assert answer.status == 400 and "id" not in answer.json()
    right = post_temp(store, doors[0], name, BODY, **digest_header(BODY)).expect(201)
    confirm(store, doors[1], right.json()["id"]).expect(200)
    assert len(store.versions(name)) == 1


def test_a_body_that_breaks_off_holds_nothing(store: SurfaceStore, doors: tuple[str, str]) -> None:
    name = fresh("temp/broken")
    fields = {**store.authorization(), "Content-Length": str(len(BODY))}
    head = request_head("POST", "/temp/" + name, doors[0], fields)
    with store.same_processes():
        for sent in (0, 1, 70_000, STRIPE + 1):
            cut_connection(doors[0], head + BODY[:sent])
        assert store.ask("GET", object_path(name)).status == 404
        temp = post_temp(store, doors[0], name, BODY).expect(201).json()["id"]
        confirm(store, doors[1], temp).expect(200)
    object_at(store, name).check(BODY)


def test_nothing_goes_with_wrong_credentials(store: SurfaceStore, held: Held) -> None:
    address, name, temp = held
    for wrong in ("Basic eDp5", "Bearer x:y", "Basic", "nonsense"):
        for method, path in (
            ("POST", f"/temp/{fresh('intruder')}"),
            ("PATCH", f"/temp/{temp}"),
            ("DELETE", f"/temp/{temp}"),
            ("HEAD", f"/temp/{temp}"),
        ):
            body = b"intruder" if method == "POST" else None
            headers = {"Authorization": wrong}
            answer = store.request(
                method, path, body=body, headers=headers, address=address, anonymous=True
            )
            assert answer.status == 401, (method, wrong, answer.status)
            assert answer.headers["WWW-Authenticate"]
    confirm(store, address, temp).expect(200)
    object_at(store, name).check(BODY)


def test_nobody_posts_without_credentials(store: SurfaceStore, doors: tuple[str, str]) -> None:
    path = f"/temp/{fresh('intruder')}"
    answer = store.request("POST", path, body=b"x", address=doors[0], anonymous=True)
    assert answer.status == 401 and answer.headers["WWW-Authenticate"]


def test_other_methods_are_405_with_allow(store: SurfaceStore, held: Held) -> None:
    address, _, temp = held
    answer = store.request("GET", f"/temp/{temp}", address=address).expect(405)
    allowed = {word.strip() for word in answer.headers["Allow"].split(",")}
    assert {"POST", "PATCH", "DELETE"} <= allowed and "GET" not in allowed


def test_a_name_is_needed(store: SurfaceStore, doors: tuple[str, str]) -> None:
    for path in ("/temp/", "/temp", "/temp/" + "n" * 1025, "/temp/%ff%fe"):
        answer = store.request("POST", path, body=b"x", address=doors[0])
        assert answer.status in (400, 404, 405), (path, answer.status)


def test_the_other_doors_of_a_blob_daemon_stay_shut(store: SurfaceStore) -> None:
    root = store.authorization()
    for method, path in (
        ("GET", "/v1/shards"),
        ("PUT", "/v1/shards"),
        ("DELETE", "/v1/shards"),
        ("GET", "/v1/inventory"),
        ("GET", "/v1/temp"),
        ("GET", "/objects/x"),
    ):
        body = b"x" if method == "PUT" else None
        answer = store.request(method, path, body=body, headers=root, address=store.blobs[0])
        assert answer.status in (401, 403, 404, 405), (method, path, answer.status)
