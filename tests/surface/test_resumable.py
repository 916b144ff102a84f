"""POST /objects/NAME, HEAD and PUT /temp/TOKEN: uploads that go on where they stopped."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from tests.cluster.local import Answer, noise, object_path, wait_for
from tests.surface.cluster import SurfaceStore
from tests.surface.raw import cut_connection, request_head
from tests.surface.ways import STRIPE, append, begin, digest_header, fresh, go_on, object_at, offset

pytestmark = pytest.mark.cluster


@pytest.fixture
def body(request: pytest.FixtureRequest) -> bytes:
    """Bytes of two stripes and a bit that no other test has."""
    return noise(STRIPE + 70_000, seed=sum(request.node.name.encode()))


@pytest.fixture
def begun(store: SurfaceStore, body: bytes) -> tuple[str, str]:
    """The name and the location of an upload of `body` that holds nothing yet."""
    name = fresh("resumable/an upload")
    return name, begin(store, name, body).expect(201).headers["Location"]


def ok(answer: Answer) -> Answer:
    """Itself, if it is a success."""
    assert 200 <= answer.status < 300, (answer.status, answer.body[:500])
    return answer


# --- success -----------------------------------------------------------------------------------


def test_an_upload_in_parts_at_two_frontends(
    store: SurfaceStore, begun: tuple[str, str], body: bytes
) -> None:
    name, location = begun
    assert location.startswith("/temp/")
    borders = [0, 1, 65_537, STRIPE - 1, STRIPE + 3, len(body)]
    for at, (first, last) in enumerate(itertools.pairwise(borders)):
        assert offset(store, location, at=at) == first
        assert store.ask("GET", object_path(name)).status == 404
        ok(append(store, location, first, body[first:last], at=at + 1))
    object_at(store, name).check(body)
    (version,) = store.versions(name)
    assert (version["Version"], version["Size"]) == (1, len(body))


def test_the_offset_may_be_told_as_upload_offset(
    store: SurfaceStore, begun: tuple[str, str], body: bytes
) -> None:
    name, location = begun
    for first, last in ((0, 100_000), (100_000, len(body))):
        headers = {"Upload-Offset": str(first)}
        ok(store.ask("PUT", location, body=body[first:last], headers=headers))
    object_at(store, name).check(body)


def test_content_that_is_known_is_not_sent_again(store: SurfaceStore, body: bytes) -> None:
    source, name = fresh("known"), fresh("known")
    store.put(source, body)
    store.put(name, b"an older version")
    begin(store, name, body, at=1).expect(200)
    object_at(store, name).check(body)
    assert [each["Version"] for each in store.versions(name)] == [1, 2]
    store.remove_for_good(source)
    object_at(store, name).check(body)


def test_an_upload_makes_the_next_version(store: SurfaceStore, body: bytes) -> None:
    name = fresh("next")
    store.put(name, b"first")
    location = begin(store, name, body).expect(201).headers["Location"]
    store.put(name, b"second, meanwhile")
    ok(append(store, location, 0, body))
    assert [each["Version"] for each in store.versions(name)] == [1, 2, 3]
    object_at(store, name).check(body)


def test_what_is_finished_stays_finished(
    store: SurfaceStore, begun: tuple[str, str], body: bytes
) -> None:
    """A client whose last answer was lost asks again, and makes no second version."""
    name, location = begun
    ok(append(store, location, 0, body))
    for at in (0, 1):
        assert offset(store, location, at=at) == len(body)
        ok(append(store, location, len(body), b"", at=at))
    assert append(store, location, 0, body).status == 416
    assert [each["Version"] for each in store.versions(name)] == [1]


@pytest.mark.parametrize("size", [0, 1, 4096, 4097])
def test_short_bodies_in_two_parts(store: SurfaceStore, size: int) -> None:
    name, body = fresh("short"), noise(size, seed=size + 17)
    begun = begin(store, name, body)
    if begun.status == 201:
        location = begun.headers["Location"]
        ok(append(store, location, 0, body[: size // 2]))
        if offset(store, location) < size or not store.versions(name):
            ok(append(store, location, size // 2, body[size // 2 :], at=1))
    else:
        assert (begun.status, size) == (200, 0)  # nothing is known to everybody
    object_at(store, name).check(body)
    assert len(store.versions(name)) == 1


# --- connections that break --------------------------------------------------------------------


def test_what_came_before_a_cut_is_kept_and_gone_on_from(
    store: SurfaceStore, begun: tuple[str, str], body: bytes
) -> None:
    name, location = begun
    held = 0
    for door, sent in enumerate((10_000, STRIPE // 2, STRIPE - 20_000)):
        fields = {
            **store.authorization(),
            "Range": f"bytes={held}-",
            "Content-Length": str(len(body) - held),
        }
        address = store.frontends[door % 2]
        head = request_head("PUT", location, address, fields)
        cut_connection(address, head + body[held : held + sent])

        def more(door: int = door, held: int = held) -> int | None:
            found = offset(store, location, at=door + 1)
            return found if found > held else None

        most, held = held + sent, wait_for(more, what="the bytes before the cut to be kept")
        assert held <= most
    ok(go_on(store, location, held, body))
    object_at(store, name).check(body)


# --- failures ----------------------------------------------------------------------------------


def test_a_wrong_offset_is_416_and_says_the_right_one(
    store: SurfaceStore, begun: tuple[str, str], body: bytes
) -> None:
    name, location = begun
    ok(append(store, location, 0, body[:70_000]))
    for wrong in (0, 1, 69_999, 70_001, len(body), 2**62):
        for headers in ({"Range": f"bytes={wrong}-"}, {"Upload-Offset": str(wrong)}):
            answer = store.ask("PUT", location, body=b"wrong", headers=headers, at=wrong)
            assert answer.status == 416, (wrong, answer.status)
            assert answer.headers["Upload-Offset"] == "70000", wrong
    assert offset(store, location) == 70_000
    ok(append(store, location, 70_000, body[70_000:]))
    object_at(store, name).check(body)


@pytest.mark.parametrize("given", ["bytes=-5", "bytes=x-", "5", "bytes=0-1,4-5", "bytes=--1-"])
def test_a_range_that_is_no_offset_changes_nothing(
    store: SurfaceStore, begun: tuple[str, str], given: str
) -> None:
    _, location = begun
    answer = store.ask("PUT", location, body=b"x", headers={"Range": given})
    assert answer.status in (400, 416), answer.status
    assert offset(store, location) == 0


def test_more_than_size_is_413_and_none_of_it_is_taken(
    store: SurfaceStore, begun: tuple[str, str], body: bytes
) -> None:
    name, location = begun
    assert append(store, location, 0, body + b"x").status == 413
    assert offset(store, location, at=1) == 0
    ok(append(store, location, 0, body[:-1]))
    assert append(store, location, len(body) - 1, b"xy", at=1).status == 413
    assert offset(store, location) == len(body) - 1
    assert store.versions(name) == []
    ok(append(store, location, len(body) - 1, body[-1:]))
    object_at(store, name).check(body)
    # It is a version now, and takes nothing more: not even unasked.
    headers = {"Range": f"bytes={len(body)}-"}
    for more in (b"x", iter([b"x"]), b"x" * STRIPE):
        assert store.ask("PUT", location, body=more, headers=headers, at=1).status == 413
    ok(append(store, location, len(body), b""))
    ok(store.ask("PUT", location, body=iter([b""]), headers=headers))
    object_at(store, name).check(body)
    assert [each["Version"] for each in store.versions(name)] == [1]


def test_more_than_size_without_a_length_is_413_and_what_is_held_of_it_is_right(
    store: SurfaceStore, begun: tuple[str, str], body: bytes
) -> None:
    """Nobody knows how long such a body is before it came: what fitted may be kept."""
    name, location = begun
    for beyond in (b"x", b"x" * STRIPE):
        first = offset(store, location)
        sent = body[first:] + beyond
        pieces = (sent[at : at + 65_536] for at in range(0, len(sent), 65_536))
        headers = {"Range": f"bytes={first}-"}
        assert store.ask("PUT", location, body=pieces, headers=headers).status == 413
        assert first <= offset(store, location, at=1) <= len(body)
        assert store.versions(name) == []
    held = offset(store, location)
    ok(append(store, location, held, body[held:], at=1))
    object_at(store, name).check(body)


def test_an_upload_given_up_is_404_and_makes_no_version(
    store: SurfaceStore, begun: tuple[str, str], body: bytes
) -> None:
    name, location = begun
    ok(append(store, location, 0, body[:-1]))
    store.ask("DELETE", location, at=1).expect(204)
    for at in (0, 1):
        assert store.ask("HEAD", location, at=at).status == 404
        assert append(store, location, len(body) - 1, body[-1:], at=at).status == 404
        store.ask("DELETE", location, at=at).expect(404)
    assert store.versions(name) == []
    # The bytes are not held against whoever begins again.
    again = begin(store, name, body).expect(201).headers["Location"]
    assert offset(store, again) == 0
    ok(append(store, again, 0, body))
    object_at(store, name).check(body)


def test_what_became_a_version_cannot_be_given_up(
    store: SurfaceStore, begun: tuple[str, str], body: bytes
) -> None:
    name, location = begun
    ok(append(store, location, 0, body))
    for at in (0, 1):
        store.ask("DELETE", location, at=at).expect(409)
    object_at(store, name).check(body)
    assert [each["Version"] for each in store.versions(name)] == [1]


def test_a_forged_token_gives_nothing_up(
    store: SurfaceStore, begun: tuple[str, str], body: bytes
) -> None:
    _, location = begun
    ok(append(store, location, 0, body[:5]))
    for forged in spoiled(location.removeprefix("/temp/")):
        assert store.ask("DELETE", f"/temp/{forged}").status == 403, forged
    assert offset(store, location) == 5


def test_content_that_is_not_the_digest_is_422_and_no_version(
    store: SurfaceStore, begun: tuple[str, str], body: bytes
) -> None:
    name, location = begun
    ok(append(store, location, 0, body[:-1]))
    last = bytes([body[-1] ^ 1])
    assert append(store, location, len(body) - 1, last, at=1).status == 422
    assert store.versions(name) == []
    assert store.ask("GET", object_path(name)).status == 404
    # No byte of it can be changed any more: the upload is gone, on both frontends.
    for at in (0, 1):
        assert store.ask("HEAD", location, at=at).status == 404
        assert append(store, location, 0, body, at=at).status == 404


def spoiled(token: str) -> Iterator[str]:
    """Tokens that nobody gave."""
    for at in {0, len(token) // 2, len(token) - 2}:
        other = "A" if token[at] != "A" else "B"
        yield token[:at] + other + token[at + 1 :]
    yield from (token[:-4], token[: len(token) // 2], token + "AAAA", token[::-1])
    yield from ("x", "0" * 64, "A" * 3000)


def test_a_forged_token_is_403(store: SurfaceStore, begun: tuple[str, str]) -> None:
    _, location = begun
    token = location.removeprefix("/temp/")
    for forged in spoiled(token):
        for at in (0, 1):
            path = f"/temp/{forged}"
            assert store.ask("HEAD", path, at=at).status == 403, forged
            assert append(store, path, 0, b"x", at=at).status == 403, forged
    assert offset(store, location) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"Digest": None},
        {"Digest": "SHA-256=AAAA"},
        {"Digest": "MD5=1B2M2Y8AsgTpgAmY7PhCfg=="},
        {"Digest": "nonsense"},
        {"Size": None},
        {"Size": "-1"},
        {"Size": "x"},
        {"Size": "1.5"},
        {"Size": ""},
    ],
    ids=str,
)
def test_a_post_without_a_digest_or_size_is_400(
    store: SurfaceStore, changed: dict[str, str | None]
) -> None:
    name = fresh("refused")
    fields = {**digest_header(b"x"), "Size": "1", **changed}
    headers = {field: value for field, value in fields.items() if value is not None}
    answer = store.ask("POST", object_path(name), headers=headers).expect(400)
    assert "Location" not in answer.headers
    assert store.versions(name) == []


def test_a_post_of_an_impossible_size_is_refused(store: SurfaceStore) -> None:
    for size in (2**63, 2**64, 10**40):
        headers = {**digest_header(b"x"), "Size": str(size)}
        answer = store.ask("POST", object_path(fresh("huge")), headers=headers)
        assert answer.status in (400, 413), answer.status


def test_other_methods_are_405_with_allow(store: SurfaceStore, begun: tuple[str, str]) -> None:
    _, location = begun
    answer = store.ask("GET", location).expect(405)
    assert {"HEAD", "PUT"} <= {word.strip() for word in answer.headers["Allow"].split(",")}


def test_credentials_are_not_needed_but_must_be_good(
    store: SurfaceStore, begun: tuple[str, str], body: bytes
) -> None:
    """The token is the right to this upload; who sends a key as well wants to know."""
    name, location = begun
    for wrong in ("Basic eDp5", "Bearer x:y", "Basic"):
        headers = {"Range": "bytes=0-", "Authorization": wrong}
        for method in ("HEAD", "PUT"):
            sent = b"x" if method == "PUT" else None
            answer = store.ask(method, location, body=sent, headers=headers, anonymous=True)
            assert answer.status == 401, (method, wrong)
    assert offset(store, location) == 0
    ok(store.ask("PUT", location, body=body, headers={"Range": "bytes=0-"}, anonymous=True))
    object_at(store, name).check(body)


def test_of_sixteen_writers_at_one_offset_one_wins(
    store: SurfaceStore, begun: tuple[str, str], body: bytes
) -> None:
    name, location = begun
    first = 300_000

    def push(number: int) -> int:
        return append(store, location, 0, body[:first], at=number).status

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(push, range(16)))
    assert sum(status < 300 for status in statuses) == 1, statuses
    assert {status for status in statuses if status >= 300} <= {409, 416}, statuses
    assert offset(store, location) == first
    ok(append(store, location, first, body[first:]))
    object_at(store, name).check(body)
    assert sha256(body).hexdigest() == store.ask("HEAD", object_path(name)).headers["ETag"][1:-1]
