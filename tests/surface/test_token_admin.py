"""The system token, live daemons, and the tokens that a back end asks for."""

import json
import threading
import time
from hashlib import sha256
from urllib.parse import urlencode

import pytest

from tests.cluster.local import noise
from tests.surface import tokens
from tests.surface.cluster import SurfaceStore
from tests.surface.tokens import ask, data, mint, payload, refused, system

pytestmark = pytest.mark.cluster

HASH = sha256(b"token admin").hexdigest()
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def rotate(store: SurfaceStore, old: str, new: str, *, at: int = 0) -> None:
    """PUT /server/token."""
    body = json.dumps({"token": new}).encode()
    answer = ask(store, "PUT", "/server/token", headers=system(store, old), body=body, at=at)
    assert data(answer) == {"status": "success"}


# --- PUT /server/token -------------------------------------------------------------------------


def test_a_new_system_token_ends_the_old_one_everywhere_at_once(store: SurfaceStore) -> None:
    first = store.facts()["system_token"]
    second = "s" * 20
    minted = mint(store, "upload", HASH)
    try:
        for at in (0, 1):
            rotate(store, first, second, at=at)
            for door in (0, 1, 0, 1):
                path = f"/upload/token?hash={HASH}"
                refused(ask(store, "GET", path, headers=system(store, first), at=door), 401, 5533)
                data(ask(store, "GET", path, headers=system(store, second), at=door))
            rotate(store, second, first, at=1 - at)
    finally:
        ask(
            store,
            "PUT",
            "/server/token",
            headers=system(store, second),
            body=json.dumps({"token": first}).encode(),
        )
    # What was given out before goes on.
    data(tokens.send_file(store, "/upload/single", minted, b"token admin", at=1))


def test_the_system_token_outlives_every_process(store: SurfaceStore) -> None:
    first, second = store.facts()["system_token"], "r" * 200
    rotate(store, first, second)
    try:
        store.kill(*store.running())
        store.revive()
        path = f"/upload/token?hash={HASH}"
        refused(ask(store, "GET", path, headers=system(store, first)), 401, 5533)
        data(ask(store, "GET", path, headers=system(store, second), at=1))
    finally:
        rotate(store, second, first)


def test_uploads_go_on_while_the_system_token_changes(store: SurfaceStore) -> None:
    body = noise(3_000_000, seed=5150)
    parts = [body[at : at + 100_000] for at in range(0, len(body), 100_000)]
    upload = mint(store, "upload", sha256(body).hexdigest())
    failures: list[str] = []

    def send() -> None:
        for number, part in enumerate(parts):
            answer = tokens.send_chunk(store, upload, number, part, at=number)
            if answer.status != 200:
                failures.append(f"{number}: {answer.status} {answer.body[:200]!r}")

    sender = threading.Thread(target=send)
    sender.start()
    current = store.facts()["system_token"]
    first = current
    try:
        for number in range(6):
            new = f"system-token-number-{number}"
            rotate(store, current, new, at=number)
            refused(
                ask(store, "GET", "/server/active", headers=system(store, current), at=number + 1),
                401,
                5533,
            )
            current = new
    finally:
        rotate(store, current, first)
        sender.join()
    assert failures == []
    data(tokens.finish(store, upload))
    download = mint(store, "download", sha256(body).hexdigest())
    assert ask(store, "GET", "/download", headers=download, at=1).expect(200).body == body


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("sent", [b"", b"{", b"token", b"\xff\xfe", b"[[[[", b'{"token": "aaa'])
def test_a_body_that_is_no_json_is_5521(store: SurfaceStore, sent: bytes, at: int) -> None:
    refused(ask(store, "PUT", "/server/token", headers=system(store), body=sent, at=at), 400, 5521)
    data(ask(store, "GET", "/server/active", headers=system(store)))


@pytest.mark.parametrize("length", [0, 1, 19, 201, 5000])
def test_a_token_too_short_or_long_is_5523(store: SurfaceStore, length: int) -> None:
    body = json.dumps({"token": "x" * length}).encode()
    refused(ask(store, "PUT", "/server/token", headers=system(store), body=body), 400, 5523)
    data(ask(store, "GET", "/server/active", headers=system(store)))


@pytest.mark.parametrize("value", [b"{}", b"[]", b'{"token": 5}', b'{"token": null}', b'"x"'])
def test_json_of_another_shape_changes_nothing(store: SurfaceStore, value: bytes) -> None:
    answer = ask(store, "PUT", "/server/token", headers=system(store), body=value)
    refused(answer, 400)
    data(ask(store, "GET", "/server/active", headers=system(store)))


WRONG_SYSTEM = ("", "x", "wrong-" * 6, "s" * 5000)
SYSTEM_ROWS = (
    ("PUT", "/server/token", json.dumps({"token": "t" * 30}).encode()),
    ("GET", "/server/active", None),
    ("GET", f"/upload/token?hash={HASH}", None),
    ("GET", f"/download/token?hash={HASH}", None),
    ("POST", "/upload/finish?file_name=x", b""),
    ("GET", "/upload/finish?file_name=x", None),
    ("GET", "/file/info", None),
    ("DELETE", "/file", None),
)


@pytest.mark.parametrize("wrong", WRONG_SYSTEM, ids=lambda text: text[:8])
@pytest.mark.parametrize(("method", "path", "body"), SYSTEM_ROWS)
def test_without_the_system_token_each_row_is_5533(
    store: SurfaceStore, method: str, path: str, body: bytes | None, wrong: str
) -> None:
    token = mint(store, "upload", HASH)
    headers = {**token, **({"systemToken": wrong} if wrong else {})}
    for at in (0, 1):
        refused(ask(store, method, path, headers=headers, body=body, at=at), 401, 5533)
    data(ask(store, "GET", "/server/active", headers=system(store)))


# --- GET /server/active ------------------------------------------------------------------------


def test_active_lists_the_live_blob_daemons(store: SurfaceStore) -> None:
    for at in (0, 1):
        found = data(ask(store, "GET", "/server/active", headers=system(store), at=at))
        assert set(found) == {"status", "ips", "count"} and isinstance(found["status"], str)
        assert (found["count"], len(found["ips"])) == (6, 6)
        assert all("127.0.0.1" in each for each in found["ips"])


def test_a_dead_daemon_is_not_active(store: SurfaceStore) -> None:
    store.kill("blob-6")
    try:
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            found = data(ask(store, "GET", "/server/active", headers=system(store)))
            if found["count"] == 5:
                break
            time.sleep(0.2)
        assert (found["count"], len(found["ips"])) == (5, 5)
    finally:
        store.revive()


# --- GET /upload/token, /download/token --------------------------------------------------------


@pytest.mark.parametrize(("kind", "bit"), [("upload", 1), ("download", 2)])
def test_a_token_says_what_it_is_for(store: SurfaceStore, kind: str, bit: int) -> None:
    before_s = int(time.time()) - 2
    found = payload(mint(store, kind, HASH))
    assert (found["token_type"], found["hash"]) == (bit, HASH)
    assert before_s <= found["create_time"] <= time.time() + 2
    assert found["expire_at"] - found["create_time"] == 86_400
    short = payload(mint(store, kind, HASH, ttl=60))
    assert short["expire_at"] - short["create_time"] == 60
    assert payload(mint(store, kind, HASH, max_size=77))["max_size"] == 77
    assert found["jti"] != short["jti"]


def test_arguments_may_come_as_a_form(store: SurfaceStore) -> None:
    for kind in ("upload", "download"):
        body = urlencode({"hash": HASH, "ttl": "60"}).encode()
        headers = {**system(store), **FORM}
        found = data(ask(store, "POST", f"/{kind}/token", headers=headers, body=body))
        assert payload({"token": found["token"]})["hash"] == HASH


def test_headers_are_found_whatever_their_case(store: SurfaceStore) -> None:
    for name in ("systemtoken", "SYSTEMTOKEN", "SystemToken"):
        headers = {name: store.facts()["system_token"]}
        data(ask(store, "GET", f"/upload/token?hash={HASH}", headers=headers))


@pytest.mark.parametrize(
    "query",
    [
        "",
        "hash=",
        "hash=" + "0" * 63,
        "hash=" + "0" * 65,
        "hash=" + "g" * 64,
        "hash=" + "%00" * 64,
        f"hash={HASH}&ttl=x",
        f"hash={HASH}&ttl=0",
        f"hash={HASH}&ttl=-1",
        f"hash={HASH}&ttl=" + "9" * 30,
        f"hash={HASH}&max_size=x",
        f"hash={HASH}&max_size=-1",
    ],
)
def test_wrong_arguments_are_400(store: SurfaceStore, query: str) -> None:
    for kind in ("upload", "download"):
        refused(ask(store, "GET", f"/{kind}/token?{query}", headers=system(store)), 400)


def test_an_access_key_stands_for_the_system_token(store: SurfaceStore) -> None:
    """A calling system's own key, whose scopes say what it may."""
    root = store.authorization()
    for path in (f"/upload/token?hash={HASH}", f"/download/token?hash={HASH}", "/server/active"):
        data(ask(store, "GET", path, headers=root, at=1))
    made = store.ask("POST", "/v1/keys", body=b'{"scopes": ["download"]}').expect(201).json()
    reader = {"Authorization": f"Bearer {made['access_key']}:{made['secret_key']}"}
    data(ask(store, "GET", f"/download/token?hash={HASH}", headers=reader))
    answer = ask(store, "GET", f"/upload/token?hash={HASH}", headers=reader)
    refused(answer, answer.status)
    assert answer.status in (401, 403)
    store.ask("DELETE", f"/v1/keys/{made['access_key']}").expect(204)
    refused(ask(store, "GET", f"/download/token?hash={HASH}", headers=reader, at=1), 401)


@pytest.mark.parametrize(
    "path",
    [
        "/server/token",
        "/server/active",
        "/upload/token",
        "/upload/single",
        "/upload/chuck",
        "/upload/chunk",
        "/upload/finish",
        "/download",
        "/file/info",
        "/file",
    ],
)
def test_other_methods_are_405_with_allow(store: SurfaceStore, path: str) -> None:
    answer = ask(store, "PATCH", path, headers=system(store))
    refused(answer, 405)
    assert answer.headers["Allow"] and "PATCH" not in answer.headers["Allow"]
