"""Every size and every name comes back byte for byte, by HTTP, by curl and by ossctl."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from tests.cluster.local import LocalStore, noise, object_path, text

pytestmark = pytest.mark.cluster

KIB, MIB = 1024, 1024 * 1024
INLINE, BLOCK, STRIPE = 4 * KIB, 64 * KIB, 8 * MIB
DATA_SHARDS = 4
BORDERS = (INLINE, BLOCK, BLOCK * DATA_SHARDS, MIB, STRIPE, 2 * STRIPE)
SIZES = sorted(
    {0, 1, 3, 4, 5, 31_999, 32_001, 3 * STRIPE + 12_345}
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


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FILE_NAMES])
def test_names_that_are_no_files_round_trip_by_ossctl(unharmed: LocalStore, name: str) -> None:
    full, body = f"oss://objects/{name}", f"by ossctl: {name}".encode()
    unharmed.ossctl("put", "-", full, stdin=body)
    assert unharmed.get(name) == body
    assert unharmed.ossctl("cat", full).stdout == body


def run_curl(store: LocalStore, folder: Path, transfers: Iterable[Mapping[str, str]]) -> None:
    """All transfers in one run of curl; each is its options by name. The first failure ends it."""
    curl = shutil.which("curl")
    assert curl, "the tests need curl"
    facts = store.facts()
    common = {"user": f"{facts['root_access_key']}:{facts['root_secret_key']}"}
    flags = "silent\nshow-error\nfail\npath-as-is\ngloboff\n"
    blocks = [
        flags + "".join(f'{name} = "{value}"\n' for name, value in {**common, **each}.items())
        for each in transfers
    ]
    config = folder / "transfers.curl"
    config.write_text("next\n".join(blocks))
    subprocess.run([curl, "--fail-early", "-K", str(config)], check=True, timeout=240)


def url_of(store: LocalStore, name: str) -> str:
    return f"http://{store.api}{object_path(name)}"


def test_every_size_round_trips_by_curl(unharmed: LocalStore, tmp_path: Path) -> None:
    bodies = {f"{kind}-{size}": KINDS[kind](size) for kind in KINDS for size in SIZES}
    sent, back = tmp_path / "sent", tmp_path / "back"
    for folder in (sent, back):
        folder.mkdir()
    for name, body in bodies.items():
        (sent / name).write_bytes(body)
    urls = {name: url_of(unharmed, f"by-curl/{name}") for name in bodies}
    uploads = [
        {"url": url, "upload-file": str(sent / name), "output": os.devnull}
        for name, url in urls.items()
    ]
    downloads = [{"url": url, "output": str(back / name)} for name, url in urls.items()]
    run_curl(unharmed, tmp_path, uploads + downloads)
    wrong = [name for name, body in bodies.items() if read(back / name) != body]
    assert not wrong


def read(path: Path) -> bytes | None:
    """What curl wrote; for an empty body it may make no file."""
    return path.read_bytes() if path.exists() else b""


def test_every_name_round_trips_by_curl(unharmed: LocalStore, tmp_path: Path) -> None:
    bodies = {name: f"by curl: {name}".encode() for name in NAMES}
    uploads, downloads = [], []
    for number, (name, body) in enumerate(bodies.items()):
        (tmp_path / f"sent-{number}").write_bytes(body)
        url = url_of(unharmed, name)
        # Not upload-file: to a URL that ends with a slash curl adds the name of the file.
        sent = {"request": "PUT", "data-binary": f"@{tmp_path / f'sent-{number}'}"}
        uploads.append({"url": url, **sent, "output": os.devnull})
        downloads.append({"url": url, "output": str(tmp_path / f"back-{number}")})
    run_curl(unharmed, tmp_path, uploads + downloads)
    for number, (name, body) in enumerate(bodies.items()):
        assert (tmp_path / f"back-{number}").read_bytes() == body, name
        assert unharmed.get(name) == body


@pytest.mark.long
def test_256_mib_round_trip_by_curl(unharmed: LocalStore, tmp_path: Path) -> None:
    body = noise(256 * MIB, seed=256)
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(body)
    url = url_of(unharmed, "large-by-curl")
    upload = {"url": url, "upload-file": str(sent), "output": os.devnull}
    run_curl(unharmed, tmp_path, [upload, {"url": url, "output": str(back)}])
    assert sha256(back.read_bytes()).digest() == sha256(body).digest()
    unharmed.remove_for_good("large-by-curl")


def test_256_mib_round_trip_by_ossctl(unharmed: LocalStore, tmp_path: Path) -> None:
    body = noise(256 * MIB, seed=257)
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(body)
    unharmed.ossctl("put", str(sent), "large-by-ossctl")
    unharmed.ossctl("get", "large-by-ossctl", str(back))
    assert sha256(back.read_bytes()).digest() == sha256(body).digest()
    unharmed.remove_for_good("large-by-ossctl")
