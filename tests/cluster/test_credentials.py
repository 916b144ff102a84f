"""Keys, tokens, links and the audit at two frontends: what one takes away both refuse."""

import http.client
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cluster.local import LocalStore, default_ports_taken, wait_for

pytestmark = pytest.mark.cluster

HELLO = b"hello world"
DENIED = 4


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """A small cluster with two frontends."""
    store = LocalStore(tmp_path_factory.mktemp("pair") / "store")
    try:
        with default_ports_taken():
            store.up("--metanodes", "3", "--blobs", "3", "--frontends", "2")
        yield store
    finally:
        store.end()


def apis(store: LocalStore) -> list[str]:
    return [urlsplit(frontend["api"]).netloc for frontend in store.facts()["frontends"]]


def basic(key: Any) -> dict[str, str]:
    pair = f"{key['access_key']}:{key['secret_key']}".encode()
    return {"Authorization": "Basic " + b64encode(pair).decode()}


def make_key(store: LocalStore, *words: str) -> Any:
    (made,) = store.ossctl_json("key", "create", *words)
    return made


class Hammer(threading.Thread):
    """Reads an object with a key at one frontend, again and again; knows what it was told."""

    def __init__(self, address: str, key: Any) -> None:
        super().__init__()
        self._address, self._headers = address, basic(key)
        self.statuses: list[int] = []
        self.stopping = False

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        while not self.stopping:
            connection.request("GET", "/objects/shown", headers=self._headers)
            answer = connection.getresponse()
            answer.read()
            self.statuses.append(answer.status)
        connection.close()


def test_a_revoked_key_is_refused_by_both_at_once(pair: LocalStore) -> None:
    pair.put("shown", HELLO)
    for attempt in range(5):
        key = make_key(pair, "--id", f"hammered-{attempt}", "-s", "download")
        hammers = [Hammer(address, key) for address in apis(pair)]
        for hammer in hammers:
            hammer.start()
        for hammer in hammers:
            wait_for(lambda hammer=hammer: len(hammer.statuses) > 20, what="requests in a row")
        path = f"/v1/keys/{key['access_key']}"
        pair.request("DELETE", path, address=apis(pair)[attempt % 2]).expect(204)
        # Acknowledged: not one request that begins now may succeed anywhere.
        for address in apis(pair):
            answer = pair.request("GET", "/objects/shown", headers=basic(key), address=address)
            assert answer.status == 401
        for hammer in hammers:
            hammer.stopping = True
            hammer.join()
            turn = hammer.statuses.index(401)
            assert set(hammer.statuses[:turn]) == {200}
            assert set(hammer.statuses[turn:]) == {401}


def test_rotation_is_seamless_and_its_end_is_not(pair: LocalStore) -> None:
    former = make_key(pair, "--id", "rotated", "-s", "info")
    (newer,) = pair.ossctl_json("key", "rotate", "rotated", "--overlap", "1h")
    (newest,) = pair.ossctl_json("key", "rotate", "rotated", "--overlap", "0")
    for address in apis(pair):
        for key, status in ((former, 401), (newer, 401), (newest, 200)):
            answer = pair.request("GET", "/buckets", headers=basic(key), address=address)
            assert answer.status == status


def test_the_last_admin_key_stays(pair: LocalStore) -> None:
    root = pair.facts()["root_access_key"]
    assert b"LastAdminKey" not in pair.ossctl("key", "revoke", root, code=1).stdout
    assert root in pair.ossctl("key", "ls").stdout.decode()


def test_root_may_be_rotated_and_ossctl_goes_on(pair: LocalStore) -> None:
    facts = pair.facts()
    former = {"access_key": facts["root_access_key"], "secret_key": facts["root_secret_key"]}
    pair.ossctl("key", "rotate", facts["root_access_key"], "--overlap", "0")
    assert pair.ossctl("bucket", "ls").returncode == 0
    for address in apis(pair):
        assert pair.request("GET", "/buckets", headers=basic(former), address=address).status == 401


def test_tokens_outlive_a_rotation_with_overlap_and_end_with_one_without(pair: LocalStore) -> None:
    digest = sha256(HELLO).hexdigest()
    (made,) = pair.ossctl_json("token", "create", digest, "--type", "download")
    assert made["token"].count(".") == 1
    pair.ossctl("token", "rotate-key", "--overlap", "1h")
    assert len(pair.ossctl_json("token", "keys")) == 2
    pair.ossctl("token", "rotate-key", "--overlap", "0")
    assert len(pair.ossctl_json("token", "keys")) == 1
    pair.ossctl("token", "revoke", made["token"])


def test_a_link_is_opened_anywhere_until_it_is_taken_back(pair: LocalStore) -> None:
    pair.put("linked/ü.txt", HELLO)
    key = make_key(pair, "--id", "sharer", "-s", "download", "-p", "linked/")
    one = pair.ossctl("share", "linked/ü.txt").stdout.decode().strip()
    body = json.dumps({"key": "linked/ü.txt"}).encode()
    other = pair.request("POST", "/v1/shares", body=body, headers=basic(key)).expect(201).json()

    def opened(url: str) -> set[int]:
        path = urlsplit(url).path
        return {pair.request("GET", path, anonymous=True, address=a).status for a in apis(pair)}

    assert opened(one) == opened(other["url"]) == {200}
    pair.ossctl("key", "revoke", "sharer")
    assert (opened(one), opened(other["url"])) == ({200}, {401})
    pair.ossctl("token", "revoke", one)
    assert opened(one) == {401}


def test_the_audit_survives_a_change_of_leader_and_a_restart(pair: LocalStore) -> None:
    pair.ossctl("bucket", "create", "audited", "--json")
    pair.ossctl("bucket", "create", "audited", code=1)
    pair.kill(pair.leader())
    pair.ossctl("bucket", "rm", "audited")
    pair.make_whole()

    def rows() -> list[tuple[str, str]]:
        found = pair.ossctl_json("audit", "ls", "--action", "bucket", "--limit", "3")
        return [(entry["action"], entry["outcome"]) for entry in found]

    expected = [
        ("bucket.create", "done"),
        ("bucket.create", "BucketAlreadyExists"),
        ("bucket.remove", "done"),
    ]
    assert rows() == expected
    pair.ossctl("down")
    pair.up()
    assert rows() == expected


def test_a_key_of_a_stranger_administers_nothing(pair: LocalStore) -> None:
    key = make_key(pair, "--id", "stranger", "-s", "info", "-s", "download")
    for path in ("/v1/keys", "/v1/audit", "/v1/signing-keys"):
        assert pair.request("GET", path, headers=basic(key)).status == 403
        assert pair.request("GET", path, anonymous=True).status == 401


def test_no_secret_is_in_any_log(pair: LocalStore) -> None:
    key = make_key(pair, "--id", "secretive", "-s", "info")
    pair.request("GET", "/buckets", headers=basic(key)).expect(200)
    pair.ossctl("token", "set-system")
    secrets = [key["secret_key"], pair.facts()["system_token"], pair.facts()["root_secret_key"]]
    for path in Path(pair.folder / "logs").iterdir():
        logged = path.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in logged], path
