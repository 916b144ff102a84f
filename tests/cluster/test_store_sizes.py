"""Every size and every name comes back byte for byte, by HTTP, by curl and by ossctl."""

import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.cluster.local import LocalStore, noise, object_path, text

pytestmark = pytest.mark.cluster

KIB, MIB = 1024, 1024 * 1024
INLINE, BLOCK, STRIPE = 4 * KIB, 64 * KIB, 4 * MIB
DATA_SHARDS = 4
BORDERS = (INLINE, BLOCK, BLOCK * DATA_SHARDS, MIB, STRIPE, 2 * STRIPE)
SIZES = sorted(
    {0, 1, 3, 4, 5, 31_999, 32_001, 3 * STRIPE + 12_345, 5 * STRIPE}
    | {border + shift for border in BORDERS for shift in (-1, 0, 1)}
)
KINDS = {"zeros": bytes, "noise": lambda size: noise(size, seed=size), "text": text}
NAMES = [
    "a name with spaces",
    " leading and trailing ",
    "percent%20sign%",
    "plus+and&and=and?and#",
    "quote\"'`$(x);|\\",
    "emoji 🦀🗄️ and ünïcödé 名前",
    "nested/deep/er/name",
    "-starts-with-dash",
    "tab\tand\nnewline",
    "..",
    "../../etc/passwd",
    "ends/with/slash/",
    "oss://looks/like/a/url",
    "é" * 512,
    "n" * 1024,
]
FILE_NAMES = [n for n in NAMES if ".." not in n and "//" not in n and n[-1] != "/" and len(n) < 200]


def check_ranges(store: LocalStore, name: str, body: bytes) -> None:
    """Some ranges across the borders of an object are what Python cuts."""
    size = len(body)
    for first in {0, size // 2, size - 1, max(0, size - BLOCK - 1), min(size - 1, STRIPE - 1)}:
        last = min(size - 1, first + 5)
        asked = {"Range": f"bytes={first}-{last}"}
        answer = store.request("GET", object_path(name), headers=asked).expect(206)
        assert answer.body == body[first : last + 1], (name, first)
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{size}"


@pytest.mark.parametrize("kind", KINDS)
def test_every_size_round_trips_by_http(unharmed: LocalStore, kind: str) -> None:
    for size in SIZES:
        body, name = KINDS[kind](size), f"sizes/{kind}/{size}"
        stored = unharmed.put(name, body)
        assert stored["size"] == size
        assert unharmed.get(name) == body, (kind, size)
        if size:
            check_ranges(unharmed, name, body)


def test_every_size_round_trips_by_ossctl(unharmed: LocalStore, tmp_path: Path) -> None:
    source, target = tmp_path / "sizes", tmp_path / "back"
    for kind, make in KINDS.items():
        (source / kind).mkdir(parents=True)
        for size in SIZES:
            (source / kind / str(size)).write_bytes(make(size))
    unharmed.ossctl("put", "-r", str(source), "by-ossctl/")
    unharmed.ossctl("get", "-r", "by-ossctl", str(target))
    found = {p.relative_to(target): p.read_bytes() for p in files(target)}
    assert found == {p.relative_to(source): p.read_bytes() for p in files(source)}
    assert len(found) == len(SIZES) * len(KINDS)


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_kept_exactly(unharmed: LocalStore, name: str) -> None:
    body = f"body of {name}".encode()
    unharmed.put(name, body)
    assert unharmed.get(name) == body
    page = unharmed.request("GET", "/objects?limit=1000").expect(200).json()
    assert name in [each["key"] for each in page["objects"]]


def test_odd_names_round_trip_by_ossctl(unharmed: LocalStore, tmp_path: Path) -> None:
    source, target = tmp_path / "odd names ü", tmp_path / "back"
    for name in FILE_NAMES:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file {name}")
    unharmed.ossctl("put", "-r", str(source))
    for name in FILE_NAMES:
        assert unharmed.get(f"odd names ü/{name}") == f"file {name}".encode()
    unharmed.ossctl("get", "-r", "odd names ü", str(target))
    assert {str(p.relative_to(target)): p.read_text() for p in files(target)} == {
        name: f"file {name}" for name in FILE_NAMES
    }


@pytest.mark.parametrize("name", ["../../etc/passwd", "oss://looks/like/a/url"])
def test_names_that_are_no_files_round_trip_by_ossctl(unharmed: LocalStore, name: str) -> None:
    full, body = f"oss://objects/{name}", f"by ossctl: {name}".encode()
    unharmed.ossctl("put", "-", full, stdin=body)
    assert unharmed.get(name) == body
    assert unharmed.ossctl("cat", full).stdout == body


def test_256_mib_round_trip_by_curl(unharmed: LocalStore, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    assert curl, "the tests need curl"
    body = noise(256 * MIB, seed=256)
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(body)
    facts = unharmed.facts()
    url = f"http://{unharmed.api}/objects/by-curl"
    key = f"{facts['root_access_key']}:{facts['root_secret_key']}"
    common = [curl, "-sS", "--fail", "-u", key]
    subprocess.run([*common, "-T", str(sent), url], check=True, timeout=120, capture_output=True)
    subprocess.run([*common, "-o", str(back), url], check=True, timeout=120)
    assert sha256(back.read_bytes()).digest() == sha256(body).digest()
    unharmed.remove_for_good("by-curl")
