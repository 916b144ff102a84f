"""No path of a request ever becomes a path of a file."""

from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from tests.surface.cluster import SurfaceStore
from tests.surface.raw import RawAnswer, exchange, request_head
from tests.surface.tricks import BLOB_TEMPLATES, TEMPLATES, endings, names_around

pytestmark = pytest.mark.cluster

NAMED = ("/objects/{}", "/temp/{}")
BODY = b"this must never be a file of its own"


def send(store: SurfaceStore, address: str, method: str, target: str) -> RawAnswer:
    """One request whose target goes out exactly as it is."""
    fields = {**store.authorization(), "Connection": "close"}
    body = BODY if method in ("PUT", "POST") else b""
    if method != "GET":
        fields["Content-Length"] = str(len(body))
    return exchange(address, request_head(method, target, address, fields) + body, method=method)


def is_known_name(target: str) -> bytes | None:
    """The object name a target of /objects stands for, None if it stands for none."""
    path, query, _ = target.partition("?")
    name = unquote_to_bytes(path.removeprefix("/objects/"))
    if query or not 1 <= len(name) <= 1024:
        return None
    try:
        return name if "\0" not in name.decode() else None
    except UnicodeDecodeError:
        return None


def some_endings(template: str) -> list[str]:
    """All for the paths whose rest is a name; a fifth, another one each, for the others."""
    found = list(endings())
    return found if template in NAMED else found[len(template) % 5 :: 5]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_frontend_makes_no_file_of_a_path(store: SurfaceStore, template: str) -> None:
    around = names_around(store.folder.parent)
    sizes = store.log_sizes()
    with store.same_processes():
        for number, ending in enumerate(some_endings(template)):
            target, address = template.format(ending), store.frontends[number % 2]
            for method in ("PUT", "POST", "GET", "HEAD", "PATCH", "DELETE"):
                answer = send(store, address, method, target)
                assert 200 <= answer.status < 500, (method, target, answer)
                assert "X-Injected" not in answer.headers, target
                assert b"root:" not in answer.body
    assert names_around(store.folder.parent) == around
    for node, lines in store.logged_since(sizes).items():
        assert not [line for line in lines if "Traceback" in line], node


@pytest.mark.parametrize("template", BLOB_TEMPLATES)
def test_a_blob_daemon_makes_no_file_of_a_path(store: SurfaceStore, template: str) -> None:
    around = names_around(store.folder.parent)
    with store.same_processes():
        for ending in some_endings(template):
            target = template.format(ending)
            for method in ("POST", "PUT", "GET", "HEAD", "PATCH", "DELETE"):
                answer = send(store, store.blobs[0], method, target)
                assert 200 <= answer.status < 500, (method, target, answer)
                assert b"root:" not in answer.body
    assert names_around(store.folder.parent) == around


def test_what_looks_like_a_file_is_an_object_or_refused(store: SurfaceStore) -> None:
    """Each target is one name, percent-decoded once; another spelling finds the same object."""
    stored = 0
    for ending in endings():
        target = "/objects/" + ending
        answer = send(store, store.frontends[0], "PUT", target)
        if not 200 <= answer.status < 300:
            assert 400 <= answer.status < 500, (target, answer)
            continue
        stored += 1
        name = is_known_name(target)
        assert name is not None, target
        spelled = "".join(f"%{byte:02X}" for byte in name)
        found = send(store, store.frontends[1], "GET", "/objects/" + spelled)
        assert (found.status, found.body) == (200, BODY), target
        send(store, store.frontends[1], "DELETE", "/objects/" + spelled)
    assert stored > 20


def test_bytes_in_a_target_that_no_url_has_are_refused(store: SurfaceStore) -> None:
    around = names_around(store.folder.parent)
    raw = (b"\x00", b"\x01", b"\xff\xfe", b"\xc0\xae", b"a\x00b", b"a b", b"\x7f", b"\r")
    fields = store.authorization()["Authorization"].encode()
    for address in (*store.frontends, store.blobs[0]):
        for prefix in (b"/objects/", b"/temp/", b"/versions/", b"/download?token="):
            for each in raw:
                head = b"PUT " + prefix + each + b"tricked-out HTTP/1.1\r\nHost: x\r\n"
                head += b"Authorization: " + fields + b"\r\nContent-Length: 1\r\n\r\nx"
                answer = exchange(address, head, method="PUT")
                assert answer.status == 0 or answer.status < 500, (prefix, each, answer)
    assert names_around(store.folder.parent) == around


def test_the_tree_would_show_a_file(tmp_path: Path) -> None:
    before = names_around(tmp_path)
    (tmp_path / "store" / "meta-1").mkdir(parents=True)
    (tmp_path / "store" / "meta-1" / "tricked-out").touch()
    (tmp_path / "stray").touch()
    after = names_around(tmp_path)
    assert after["marked"] - before["marked"] == {"store/meta-1/tricked-out"}
    assert "stray" in after["around"] - before["around"]
