"""Uploads by token over two frontends while a frontend, the leader and a blob daemon die."""

import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cluster.local import Answer, LocalStore, noise, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.long]

PART_BYTES = 700_000
BODY = noise(20 * PART_BYTES + 12_345, seed=1)
PARTS = [BODY[at : at + PART_BYTES] for at in range(0, len(BODY), PART_BYTES)]
HASH = sha256(BODY).hexdigest()
BOUNDARY = "b0undary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
NEW_TOKEN = "another-system-token-of-tests"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[LocalStore]:
    """A cluster with two frontends; uploads live as long as they do by default."""
    store = LocalStore(tmp_path / "store", times={"OSS_HEARTBEAT_S": "0.5"})
    try:
        store.create("--frontends", "2")
        yield store
        for node, lines in store.logged_since({}).items():
            assert not any('"exception"' in line for line in lines), node
    finally:
        store.end()


def form_of(body: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    return head.encode() + body + f"\r\n--{BOUNDARY}--\r\n".encode()


def ask(store: LocalStore, frontend: int, method: str, path: str, **more: Any) -> Answer:
    """One request of a client that has nothing but what it sends, to that frontend."""
    address = urlsplit(store.facts()["frontends"][frontend]["api"]).netloc
    return store.request(method, path, address=address, anonymous=True, **more)


def token(store: LocalStore, kind: str, system: str, frontend: int = 0) -> str:
    headers = {"systemToken": system}
    answer = ask(store, frontend, "GET", f"/{kind}/token?hash={HASH}", headers=headers)
    return str(answer.expect(200).json()["data"]["token"])


def send(store: LocalStore, frontend: int, upload: str, number: int) -> Answer:
    headers = {"token": upload, **FORM}
    path = f"/upload/chunk?chunk={number}"
    return ask(store, frontend, "POST", path, headers=headers, body=form_of(PARTS[number]))


def send_until_held(store: LocalStore, frontend: int, upload: str, number: int) -> None:
    """As a client that does not give up: sent again until it is known to be held."""

    def is_held() -> bool:
        try:
            return send(store, frontend, upload, number).expect(200, 409, 503).status != 503
        except (OSError, http.client.HTTPException):
            return False

    wait_for(is_held, what=f"chunk {number}", deadline_s=60)


def begin_and_kill(store: LocalStore, upload: str, number: int) -> None:
    """Half of a chunk to the second frontend, which is killed while it waits for the rest."""
    address = urlsplit(store.facts()["frontends"][1]["api"]).netloc
    connection = http.client.HTTPConnection(address, timeout=30)
    form = form_of(PARTS[number])
    connection.putrequest("POST", f"/upload/chuck?chuck={number}")
    for name, value in {**FORM, "token": upload, "Content-Length": str(len(form))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(form[: len(form) // 2])
    store.kill("frontend-2")
    connection.close()


def test_an_upload_in_chunks_outlives_whoever_dies(two: LocalStore) -> None:
    system = two.facts()["system_token"]
    upload = token(two, "upload", system)
    for number in (3, 1, 0):
        received = send(two, number % 2, upload, number).expect(200).json()["data"]["received"]
        assert number in received
    begin_and_kill(two, upload, 2)
    held = send(two, 0, upload, 4).expect(200).json()["data"]
    assert (held["received"], held["count"], held["speed"]) == ([0, 1, 3, 4], 4, "4")
    two.kill(two.leader(), "blob-2")
    with ThreadPoolExecutor(16) as clients:
        some = range(2, len(PARTS), 2)
        list(clients.map(lambda number: send_until_held(two, 0, upload, number), some))
    two.up()
    with ThreadPoolExecutor(16) as clients:
        rest = range(1, len(PARTS), 2)
        list(clients.map(lambda n: send_until_held(two, n // 2 % 2, upload, n), rest))
    headers = {"token": upload, "systemToken": system}
    for frontend in (1, 0, 1):
        path = "/upload/finish?file_name=survivor.bin"
        ask(two, frontend, "GET", path, headers=headers).expect(200)
    download = token(two, "download", system, 1)
    for frontend in (0, 1):
        got = ask(two, frontend, "GET", f"/download?token={download}").expect(200)
        assert got.body == BODY
        assert got.headers["Content-Disposition"] == 'attachment; filename="survivor.bin"'
    info = ask(two, 1, "GET", "/file/info", headers=headers).expect(200).json()["data"]
    assert (info["size"], info["hash"]) == (len(BODY), HASH)
    # The shards of what is removed go; what is uploaded afterwards is stored anew.
    ask(two, 0, "DELETE", "/file", headers=headers).expect(200)
    assert ask(two, 1, "GET", f"/download?token={download}").expect(404).json()["code"] == 5547
    single = {"token": upload, **FORM}
    ask(two, 1, "POST", "/upload/single", headers=single, body=form_of(BODY)).expect(200)
    assert ask(two, 0, "GET", f"/download?token={download}").expect(200).body == BODY


def test_the_system_token_changes_everywhere_at_once_and_stays(two: LocalStore) -> None:
    old = two.facts()["system_token"]
    minted = token(two, "upload", old, 1)
    body = f'{{"token": "{NEW_TOKEN}"}}'.encode()
    ask(two, 0, "PUT", "/server/token", headers={"systemToken": old}, body=body).expect(200)
    for frontend in (1, 0):
        refused = ask(two, frontend, "GET", "/server/active", headers={"systemToken": old})
        assert refused.expect(401).json()["code"] == 5533
        active = ask(two, frontend, "GET", "/server/active", headers={"systemToken": NEW_TOKEN})
        assert active.expect(200).json()["data"]["count"] == len(two.facts()["blobs"])
    # Tokens made before go on; after everything was killed, the new one is still the one.
    send(two, 1, minted, 0).expect(200)
    two.kill(*two.running())
    two.up()
    assert token(two, "download", NEW_TOKEN, 1)
    ask(two, 0, "GET", "/server/active", headers={"systemToken": old}).expect(401)
    held = send(two, 0, minted, 1).expect(200).json()["data"]["received"]
    assert held == [0, 1]
    two.kill("blob-1", "blob-2")

    def counted() -> bool:
        answer = ask(two, 1, "GET", "/server/active", headers={"systemToken": NEW_TOKEN})
        return bool(answer.expect(200).json()["data"]["count"] == len(two.facts()["blobs"]) - 2)

    wait_for(counted, what="two fewer", deadline_s=60)
