"""Processes die by kill -9 between and within the parts of an upload: it goes on."""

import http.client
import threading
from collections.abc import Iterator

import pytest

from tests.cluster.local import Answer, noise, object_path, wait_for
from tests.surface.cluster import PARITY, SurfaceStore, steady
from tests.surface.ways import (
    MIB,
    STRIPE,
    append,
    begin,
    confirm,
    fresh,
    object_at,
    offset,
    post_temp,
)

pytestmark = pytest.mark.cluster

DEADLINE_S = 60.0
MORTAL_BLOBS = tuple(f"blob-{number}" for number in range(1, PARITY + 1))


@pytest.fixture
def body(request: pytest.FixtureRequest) -> bytes:
    """Bytes of three stripes and a bit that no other test has."""
    return noise(3 * STRIPE + 77_777, seed=sum(request.node.name.encode()))


@pytest.fixture
def mortal(store: SurfaceStore) -> Iterator[SurfaceStore]:
    """The shared cluster in a test that kills; whole again after it."""
    yield store
    store.revive()


def push(store: SurfaceStore, location: str, body: bytes, last: int, *, at: int = 0) -> None:
    """Bring an upload to byte `last`, however often a frontend or an answer is lost."""
    turn = [at]

    def attempt() -> bool:
        turn[0] += 1
        try:
            held = offset(store, location, at=turn[0])
            if held < last:
                append(store, location, held, body[held:last], at=turn[0])
                held = offset(store, location, at=turn[0])
        except (OSError, http.client.HTTPException, AssertionError):
            return False
        return held >= last

    wait_for(attempt, what=f"byte {last} to be taken", deadline_s=DEADLINE_S)


def deaths(store: SurfaceStore) -> Iterator[str]:
    """One disaster after the other; what was killed lives again before the next."""
    store.kill("frontend-1")
    yield "frontend-1"
    store.ossctl("start", "frontend-1")
    leader = store.leader()
    store.kill(leader)
    yield leader
    store.ossctl("start", leader)
    store.kill(*MORTAL_BLOBS)
    yield " and ".join(MORTAL_BLOBS)
    for victim in MORTAL_BLOBS:
        store.ossctl("start", victim)
    store.kill("frontend-2")
    yield "frontend-2"
    store.revive()
    store.kill(*store.running())
    store.revive()
    yield "everything"


def test_a_resumable_upload_outlives_every_death_between_its_parts(
    mortal: SurfaceStore, body: bytes
) -> None:
    name = fresh("deaths/resumable")
    location = begin(mortal, name, body).expect(201).headers["Location"]
    step = len(body) // 7
    push(mortal, location, body, step)
    for number, _ in enumerate(deaths(mortal), start=2):
        push(mortal, location, body, number * step, at=number)
        held = steady(mortal, "HEAD", location).headers["Upload-Offset"]
        assert int(held) == number * step
    mortal.mend()
    # The victims of before: what was written without them lies on the other four.
    mortal.kill(*MORTAL_BLOBS)
    push(mortal, location, body, len(body))
    object_at(mortal, name).check(body)
    mortal.revive()
    object_at(mortal, name).check(body)
    assert [each["Version"] for each in mortal.versions(name)] == [1]


def test_what_was_acknowledged_is_held_when_everything_dies(
    mortal: SurfaceStore, body: bytes
) -> None:
    name = fresh("deaths/power")
    location = begin(mortal, name, body).expect(201).headers["Location"]
    assert append(mortal, location, 0, body[: STRIPE + 1]).status < 300
    posted = fresh("deaths/power-temp")
    temp = post_temp(mortal, mortal.frontends[1], posted, body).expect(201).json()["id"]
    put = fresh("deaths/power-put")
    mortal.put(put, body[:MIB])
    mortal.kill(*mortal.running())
    mortal.revive()
    assert offset(mortal, location) == STRIPE + 1
    confirm(mortal, mortal.frontends[0], temp).expect(200)
    push(mortal, location, body, len(body))
    for name_, wanted in ((name, body), (posted, body), (put, body[:MIB])):
        object_at(mortal, name_).check(wanted)


@pytest.mark.parametrize("victim", ["frontend", "leader", "blobs"])
def test_a_death_within_a_part_loses_nothing_acknowledged(
    mortal: SurfaceStore, body: bytes, victim: str
) -> None:
    name = fresh("deaths/within")
    location = begin(mortal, name, body).expect(201).headers["Location"]
    push(mortal, location, body, 100_000)
    mortal.mend()
    names = {
        "frontend": ["frontend-1"],
        "leader": [mortal.leader()],
        "blobs": ["blob-5", "blob-6"],
    }[victim]
    under_way = threading.Event()

    def slow() -> Iterator[bytes]:
        for at in range(100_000, len(body), MIB):
            yield body[at : at + MIB]
            if at > STRIPE:
                under_way.set()

    def send() -> None:
        headers = {"Range": "bytes=100000-", "Content-Length": str(len(body) - 100_000)}
        try:
            mortal.ask("PUT", location, body=slow(), headers=headers, at=0)
        except (OSError, http.client.HTTPException):
            pass  # it was killed under us

    sender = threading.Thread(target=send)
    sender.start()
    assert under_way.wait(DEADLINE_S)
    mortal.kill(*names)
    sender.join(DEADLINE_S)
    assert not sender.is_alive()
    held = int(steady(mortal, "HEAD", location, at=1).headers["Upload-Offset"])
    assert 100_000 <= held <= len(body)
    push(mortal, location, body, len(body), at=1)
    assert steady(mortal, "GET", object_path(name), at=1).expect(200).body == body
    mortal.revive()
    object_at(mortal, name).check(body)
    assert [each["Version"] for each in mortal.versions(name)] == [1]


def test_a_body_held_by_a_frontend_is_confirmed_by_the_other(
    mortal: SurfaceStore, body: bytes
) -> None:
    name = fresh("deaths/held")
    temp = post_temp(mortal, mortal.frontends[0], name, body).expect(201).json()["id"]
    mortal.kill("frontend-1", mortal.leader(), "blob-1", "blob-2")
    answer = steady(mortal, "PATCH", f"/temp/{temp}", at=1).expect(200)
    assert answer.json()["version"] == 1
    mortal.revive()
    assert confirm(mortal, mortal.frontends[0], temp).expect(200).json() == answer.json()
    object_at(mortal, name).check(body)


def test_a_body_held_by_a_blob_daemon_outlives_it(mortal: SurfaceStore, body: bytes) -> None:
    name, door = fresh("deaths/at-daemon"), mortal.blobs[2]
    temp = post_temp(mortal, door, name, body).expect(201).json()["id"]
    mortal.kill("blob-3", "frontend-1", "frontend-2")
    mortal.ossctl("start", "blob-3")
    # Nobody is left to take it in: not now, and the body stays.
    answer = confirm(mortal, door, temp).expect(503)
    assert answer.headers["Retry-After"]
    mortal.revive()

    def confirmed() -> Answer | None:
        answer = confirm(mortal, door, temp).expect(200, 503)
        return answer if answer.status == 200 else None

    first = wait_for(confirmed, what="the body to be taken in", deadline_s=DEADLINE_S).json()
    assert (first["name"], first["version"]) == (name, 1)
    mortal.kill("blob-3")
    mortal.revive()
    assert confirm(mortal, door, temp).expect(200).json() == first
    object_at(mortal, name).check(body)


def test_a_plain_put_is_whole_or_nothing_when_its_frontend_dies(
    mortal: SurfaceStore, body: bytes
) -> None:
    name = fresh("deaths/put")
    under_way = threading.Event()

    def slow() -> Iterator[bytes]:
        yield body[: 2 * STRIPE]
        under_way.set()
        yield body[2 * STRIPE :]

    def send() -> None:
        try:
            length = {"Content-Length": str(len(body))}
            mortal.ask("PUT", object_path(name), body=slow(), headers=length)
        except (OSError, http.client.HTTPException):
            pass  # it was killed under us

    sender = threading.Thread(target=send)
    sender.start()
    assert under_way.wait(DEADLINE_S)
    mortal.kill("frontend-1")
    sender.join(DEADLINE_S)
    listed = mortal.versions(name, at=1)
    assert [(each["Version"], each["Size"]) for each in listed] in ([], [(1, len(body))])
    steady(mortal, "PUT", object_path(name), body=body, at=1).expect(200)
    mortal.revive()
    object_at(mortal, name).check(body)


def test_reads_go_on_with_two_daemons_dead_and_are_503_with_three(
    mortal: SurfaceStore,
) -> None:
    name = fresh("deaths/read")
    body = mortal.put_whole(name, 2 * STRIPE + 5, seed=len(name))
    mortal.kill("blob-1", "blob-2")
    assert steady(mortal, "GET", object_path(name)).expect(200).body == body
    mortal.kill("blob-3")

    # A range that lies in a living shard alone is still right; the whole is not to be had.
    answer = mortal.ask("GET", object_path(name)).expect(503)
    assert answer.headers["Retry-After"] and answer.code == "StripeUnreadable"
    for first in range(0, len(body), 300_000):
        asked = {"Range": f"bytes={first}-{first + 9}"}
        answer = mortal.ask("GET", object_path(name), headers=asked).expect(206, 503)
        assert answer.status == 503 or answer.body == body[first : first + 10], first
    mortal.revive()
    object_at(mortal, name).check(body)


def test_writes_are_503_while_one_daemon_is_left_and_go_on_after(mortal: SurfaceStore) -> None:
    name, body = fresh("deaths/alone"), noise(MIB, seed=808)
    location = begin(mortal, name, body).expect(201).headers["Location"]
    mortal.kill(*(f"blob-{number}" for number in range(1, 6)))
    requests = (
        ("PUT", object_path(name), {}),
        ("PUT", location, {"Range": "bytes=0-"}),
        ("POST", f"/temp/{name}", {}),
    )
    for method, path, headers in requests:

        def refusal(
            method: str = method, path: str = path, headers: dict[str, str] = headers
        ) -> Answer | None:
            answer = mortal.ask(method, path, body=body, headers=headers)
            return answer if answer.status >= 300 else None

        answer = wait_for(refusal, what="a refusal")
        assert answer.status == 503 and answer.headers["Retry-After"], (path, answer.status)
    mortal.revive()
    if not mortal.versions(name):
        push(mortal, location, body, len(body))
    object_at(mortal, name).check(body)
