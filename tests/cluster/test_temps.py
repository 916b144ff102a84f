"""Large files sent straight to a blob daemon, through deaths and restarts of real processes."""

import http.client
import signal
import threading
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests.cluster.local import Answer, LocalStore, noise, wait_for

MIB = 1024 * 1024
STRIPE = 8 * MIB
SIZES = (0, 1, 3, 4095, 4096, 4097, 65_536, STRIPE - 1, STRIPE, STRIPE + 1, 40 * MIB)
GIVEN_BACK_S = 90.0


class TempDoor:
    """The `/temp` door of one blob daemon."""

    def __init__(self, store: LocalStore, node: str = "blob-2") -> None:
        self.store = store
        self.node = node

    def __call__(self, method: str, what: str, **more: Any) -> Answer:
        address = urlsplit(self.store.node(self.node)["http"]).netloc
        return self.store.request(method, "/temp/" + quote(what, safe="/"), address=address, **more)

    def post(self, name: str, body: bytes) -> Any:
        """Send a file; its JSON, whose facts were compared."""
        held = self("POST", name, body=body).expect(201).json()
        assert (held["size"], held["sha256"]) == (len(body), sha256(body).hexdigest())
        return held

    def confirm(self, temp: str) -> Any:
        """PATCH until it is answered by 200."""

        def ask() -> Any:
            try:
                answer = self("PATCH", temp)
            except OSError:  # the daemon is on its way up
                return None
            return answer.expect(200, 503).json() if answer.status == 200 else None

        return wait_for(ask, what=f"{temp} to be confirmed", deadline_s=60)


def versions(store: LocalStore, name: str) -> list[dict[str, Any]]:
    """All versions of an object, newest first."""
    answer = store.request("GET", f"/buckets/objects/versions/{quote(name, safe='')}")
    return list(answer.expect(200, 404).json().get("versions", []))


def test_a_temp_becomes_an_object_whatever_its_size(unharmed: LocalStore) -> None:
    door = TempDoor(unharmed)
    for size_bytes in SIZES:
        name, body = f"temps/size {size_bytes}", noise(size_bytes, seed=size_bytes + 1)
        held = door.post(name, body)
        assert unharmed.request("GET", f"/objects/{quote(name)}").status == 404
        head = door("HEAD", held["id"]).expect(200)
        assert head.headers["Content-Length"] == head.headers["Upload-Offset"] == str(size_bytes)
        asserted = f'{{"sha256":"{held["sha256"]}","size":{size_bytes}}}'.encode()
        made = door("PATCH", held["id"], body=asserted).expect(200).json()
        assert (made["name"], made["version"], made["size"]) == (name, 1, size_bytes)
        assert unharmed.get(name) == body
        assert door("PATCH", held["id"]).expect(200).json() == made
        assert door("DELETE", held["id"]).status == 409
        unharmed.remove_for_good(name)


def test_what_is_confirmed_by_many_at_once_becomes_one_version(unharmed: LocalStore) -> None:
    door, body = TempDoor(unharmed), noise(20 * MIB, seed=71)
    held = door.post("temps/many", body)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: door("PATCH", held["id"]), range(6)))
    assert len({answer.expect(200).body for answer in answers}) == 1
    assert [version["version"] for version in versions(unharmed, "temps/many")] == [1]
    assert unharmed.get("temps/many") == body


def test_a_temp_survives_its_daemon_and_so_does_the_answer(store: LocalStore) -> None:
    door, body = TempDoor(store), noise(10 * MIB, seed=72)
    held = door.post("temps/killed", body)
    store.kill("blob-2")
    store.up()
    made = door.confirm(held["id"])
    store.kill("blob-2")
    store.up()
    assert door.confirm(held["id"]) == made
    assert store.get("temps/killed") == body
    assert len(versions(store, "temps/killed")) == 1


@pytest.mark.parametrize("victim", ["frontend-1", "blob-3", "leader"])
def test_death_in_the_middle_of_a_confirmation_makes_no_second_version(
    store: LocalStore, victim: str
) -> None:
    name = f"temps/middle {victim}"
    door, body = TempDoor(store, "blob-3"), noise(48 * MIB, seed=73)
    for delay_s in (0.1, 0.4):
        held = door.post(name, body)
        before = {version["version"] for version in versions(store, name)}
        dying = store.leader() if victim == "leader" else victim
        patching = threading.Thread(target=confirm_unheard, args=(door, held["id"]))
        patching.start()
        time.sleep(delay_s)  # the moment of a fault, not a wait for anything
        store.kill(dying)
        patching.join()
        store.make_whole() if victim != "frontend-1" else store.up()
        made = door.confirm(held["id"])
        assert door.confirm(held["id"]) == made
        after = {version["version"] for version in versions(store, name)}
        assert after - before == {made["version"]}
        assert store.get(name) == body


def confirm_unheard(door: TempDoor, temp: str) -> None:
    """A PATCH whose client does not care how it ends."""
    try:
        door("PATCH", temp)
    except (OSError, http.client.HTTPException):
        pass


@pytest.mark.long
def test_what_nobody_confirms_expires_and_its_space_comes_back(store: LocalStore) -> None:
    door = TempDoor(store, "blob-4")
    before = sum(path.stat().st_size for path in store.volumes("blob-4"))
    held = [door.post(f"temps/left {n}", noise(10 * MIB, seed=80 + n)) for n in range(3)]
    given_up, broken_off, left = held
    door("DELETE", given_up["id"]).expect(204)
    door("DELETE", given_up["id"]).expect(404)
    assert sum(path.stat().st_size for path in store.volumes("blob-4")) > before + 30 * MIB
    store.kill("blob-4")
    store.up()
    assert door("HEAD", left["id"]).status == 200
    for temp in (broken_off, left):
        wait_for(
            lambda temp=temp: door("PATCH", temp["id"]).status == 404 if expired(temp) else None,
            what="a 404 after the expiry",
            deadline_s=GIVEN_BACK_S,
        )

    def given_back() -> bool:
        return sum(path.stat().st_size for path in store.volumes("blob-4")) < before + 12 * MIB

    wait_for(given_back, what="the space of expired temps", deadline_s=GIVEN_BACK_S)
    assert versions(store, "temps/left 2") == []


def expired(temp: Any) -> bool:
    """Whether its time is over, by its own word."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) > temp["expires_at"][:19]


def test_a_temp_is_no_shard(unharmed: LocalStore) -> None:
    door = TempDoor(unharmed, "blob-5")
    before = unharmed.census()
    held = door.post("temps/no shard", noise(9 * MIB, seed=90))
    assert unharmed.census()["stripes"] == before["stripes"]
    assert unharmed.census()["missing"] == before["missing"]
    door("DELETE", held["id"]).expect(204)


def test_whoever_may_not_is_told_so(unharmed: LocalStore) -> None:
    door = TempDoor(unharmed)
    refused = door("POST", "x", body=b"x", anonymous=True)
    assert (refused.status, refused.code) == (401, "Unauthenticated")
    assert refused.headers["WWW-Authenticate"].startswith("Basic ")
    wrong = {"Authorization": "Basic " + b64encode(b"root:wrong").decode()}
    assert door("POST", "x", body=b"x", headers=wrong, anonymous=True).status == 401
    assert door("PATCH", "f" * 32).status == 404
    wrong_way = door("GET", "f" * 32)
    assert (wrong_way.status, wrong_way.headers["Allow"]) == (405, "HEAD, POST, DELETE, PATCH")
    # Nothing else of the daemon opens to a user's key.
    address = urlsplit(unharmed.node("blob-2")["http"]).netloc
    assert unharmed.request("GET", "/v1/status", address=address).status == 401
    piece = f"/v1/temps/{'f' * 32}/pieces/0"
    assert unharmed.request("GET", piece, address=address).status == 401


def test_a_paused_frontend_is_waited_for(store: LocalStore) -> None:
    """It is suspected and may live: the confirmation ends when it goes on."""
    door, body = TempDoor(store), noise(5 * MIB, seed=91)
    held = door.post("temps/paused", body)
    store.send(signal.SIGSTOP, "frontend-1")
    answers: list[Answer] = []
    patching = threading.Thread(target=lambda: answers.append(door("PATCH", held["id"])))
    patching.start()
    time.sleep(1.0)  # the length of the pause
    store.send(signal.SIGCONT, "frontend-1")
    patching.join()
    assert answers[0].expect(200).json()["version"] == 1
    assert store.get("temps/paused") == body
