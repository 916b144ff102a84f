"""The short form of `make resume`, and that it notices what it is there to notice."""

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from tests.big.content import Content
from tests.cluster.local import default_ports_taken, environment
from tests.surface.cluster import SurfaceStore
from tests.surface.resume.downloads import fetch
from tests.surface.resume.trouble import Cut, Trouble
from tests.surface.resume.uploads import door
from tests.surface.ways import MIB, object_at

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 280
DOORS = {
    "PUT /objects of a frontend",
    "PUT /buckets of a frontend",
    "PUT /temp of a frontend",
    "POST /temp of a frontend",
    "POST /temp of a blob",
    "POST /upload/single of a frontend",
    "POST /upload/chunk of a frontend",
    "POST /upload/chuck of a frontend",
}
"""Every request that takes the bytes of users, as the older stores had them and as ours has."""


def resume(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m tests.surface.resume WORDS`, which must leave nothing in `place`."""
    with default_ports_taken():
        done = subprocess.run(
            [sys.executable, "-m", "tests.surface.resume", *words],
            cwd=ROOT,
            env=environment({"TMPDIR": str(place)}),
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    assert not list(place.glob("raftoss-resume-*")), done.stderr
    return done


@pytest.mark.long
@pytest.mark.cluster
def test_every_way_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    """Long: `test_deaths` and `test_token_deaths` kill between the requests of an upload too."""
    done = resume(tmp_path, "--size=24MiB", "--cuts=3", "--kills=1")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert {each for moved in report["ways"].values() for each in moved["doors"]} == DOORS
    for way, moved in report["ways"].items():
        assert moved["up"]["cuts"] + moved["up"]["kills"] >= 1, (way, moved)
        assert moved["down"]["cuts"] + moved["down"]["kills"] >= 1, (way, moved)
    roles = [name.partition("-")[0] for name in report["peak_mib"]]
    assert [roles.count(role) for role in ("frontend", "meta", "blob")] == [2, 3, 6]
    assert all(10 < peak < 300 for peak in report["peak_mib"].values())


@pytest.mark.cluster
def test_no_other_request_of_the_description_takes_bytes(store: SurfaceStore) -> None:
    """What a frontend says of itself; a new way in must be interrupted as well."""
    found = set()
    for path, operations in store.ask("GET", "/openapi.json").expect(200).json()["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            kinds = set(operation.get("requestBody", {}).get("content", ()))
            if kinds & {"application/octet-stream", "multipart/form-data"}:
                found.add(f"{method.upper()} {door(path)} of a frontend")
    assert found == {each for each in DOORS if each.endswith("frontend")}


@pytest.mark.cluster
def test_a_process_that_takes_too_much_is_told(tmp_path: Path) -> None:
    words = ("--size=1MiB", "--cuts=1", "--kills=0", "--ways", "put", "--peak-mib-max=20")
    done = resume(tmp_path, *words)
    assert done.returncode == 1, done.stdout + done.stderr
    greedy = {words.split()[0] for words in json.loads(done.stdout)["violations"]}
    assert {"frontend-1", "meta-1", "blob-1"} <= greedy


@pytest.mark.cluster
def test_other_bytes_have_another_hash(store: SurfaceStore) -> None:
    content, other = (Content(size_bytes=3 * MIB, seed=seed) for seed in (1, 2))
    store.put("resume/other", b"".join(other.pieces()))
    trouble = Trouble(store, Random(1))
    trouble.allow(cuts=2, kills=0)
    found = fetch(object_at(store, "resume/other"), content, trouble)
    assert found == other.sha256() != content.sha256()
    assert trouble.cuts == 2


def test_a_disturbed_body_ends_somewhere_in_the_middle(tmp_path: Path) -> None:
    content = Content(size_bytes=5 * MIB, seed=3)
    trouble = Trouble(SurfaceStore(tmp_path), Random(5))
    trouble.allow(cuts=3, kills=0)
    ends = set()
    for _ in range(3):
        sent = bytearray()
        with pytest.raises(Cut):
            for piece in trouble.disturbed(content.pieces(), content.size_bytes, "frontend-1"):
                sent += piece
        assert bytes(sent) == b"".join(content.pieces())[: len(sent)]
        ends.add(len(sent))
    assert len(ends) == 3 and trouble.cuts == 3
    whole = b"".join(trouble.disturbed(content.pieces(), content.size_bytes, "frontend-1"))
    assert sha256(whole).hexdigest() == content.sha256()
