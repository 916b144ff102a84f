"""The commands that the documents show work as they are written, in an empty folder."""

import http.client
import json
import re
import signal
import subprocess
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.cluster.local import (
    GRACE_S,
    OSSCTL,
    LocalStore,
    default_ports_taken,
    environment,
    object_path,
)
from tests.cluster.older_store import SYSTEM, Versions, lines, older_store

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
SET_UP = re.compile(r"make |python3 -m venv ")
"""Lines that install: this test runs in what they would install."""
DOCS = re.compile(r"^ossctl docs\b", re.MULTILINE)
"""It serves until it is interrupted, so that nothing could come after it."""
FOLDER_OF_README = "raftoss-data"


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """An empty folder; a cluster that a document starts there ends with the test."""
    yield tmp_path
    LocalStore(tmp_path / FOLDER_OF_README).end()


def bash(*words: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run bash there, with a cluster of its own to come."""
    with default_ports_taken():
        return subprocess.run(
            ["bash", *words],
            cwd=folder,
            env=environment({"OSS_GC_GRACE_S": str(GRACE_S), "HOME": str(folder)}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=400,
        )


def shell(script: str, folder: Path) -> str:
    """Run a script as a reader would paste it, but stop at the first failure."""
    done = bash("-euo", "pipefail", "-c", script, folder=folder)
    output = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, f"{script}\n---\n{output}"
    return output


def commands(document: Path) -> str:
    """All shell blocks of a document in order, without the lines that install."""
    lines = "".join(BLOCK.findall(document.read_text())).splitlines()
    return "\n".join(line for line in lines if not SET_UP.match(line) and not DOCS.match(line))


def test_the_documentation_is_served_as_the_readme_says(tmp_path: Path) -> None:
    (block,) = [
        each for each in BLOCK.findall((ROOT / "README.md").read_text()) if DOCS.search(each)
    ]
    words = block.partition("#")[0].split()
    found = subprocess.Popen(
        [OSSCTL, *words[1:], "--port", "0"],  # the usual one may be taken
        cwd=tmp_path,
        env=environment({}),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert found.stdout is not None
        address = found.stdout.readline().strip().removeprefix("documentation at http://")
        connection = http.client.HTTPConnection(address.rstrip("/"), timeout=20)
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.status == 200 and b"self-hosted object store" in answer.read()
        connection.close()
        found.send_signal(signal.SIGINT)
        assert found.wait(20) == 0
    finally:
        found.kill()
        found.wait()


def test_the_commands_of_the_readme_work_in_their_order(empty: Path) -> None:
    (empty / "report.pdf").write_bytes(b"%PDF-1.7 not really" * 10_000)
    (empty / "big.tar").write_bytes(bytes(range(256)) * 50_000)
    (empty / "photos").mkdir()
    (empty / "photos" / "one.jpg").write_bytes(b"picture")
    script = commands(ROOT / "README.md")
    assert script.count("ossctl") >= 12 and script.count("curl") >= 4
    output = shell(script, empty)
    assert (empty / "copy.pdf").read_bytes() == (empty / "report.pdf").read_bytes()
    assert '"version":2' in output or '"version":3' in output
    assert '"prefix' in output
    for copy in ("shared.pdf", "read.pdf"):
        assert (empty / copy).read_bytes() == (empty / "report.pdf").read_bytes()
    big = sha256((empty / "big.tar").read_bytes()).hexdigest()
    assert output.count(big) >= 3  # as a resumable upload, at a blob daemon, and confirmed
    assert '{"upload_offset":1000000' in output
    assert "bucket drafts" in output and '{"0":"127.0.0.1:' in output
    assert '"name":"video.mp4"' in output
    shell("ossctl down", empty)


def test_the_commands_of_the_token_api_work_in_their_order(empty: Path) -> None:
    (empty / "report.pdf").write_bytes(b"%PDF-1.7 not really" * 10_000)
    (empty / "big.tar").write_bytes(bytes(range(256)) * 50_000)
    shell("ossctl up --detach", empty)
    store = LocalStore(empty / FOLDER_OF_README)
    script = commands(ROOT / "docs" / "token-api.md")
    assert script.count("curl") >= 13
    former = store.facts()["system_token"]
    for _ in range(2):  # a reader may paste the page again
        output = shell(script, empty)
    current = store.facts()["system_token"]
    for token, status in ((former, 401), (current, 200)):
        headers = {"systemToken": token}
        store.request("GET", "/server/active", headers=headers, anonymous=True).expect(status)
    report = (empty / "report.pdf").read_bytes()
    assert (empty / "copy.pdf").read_bytes() == report
    assert (empty / "mine" / "report.pdf").read_bytes() == report
    assert (empty / "first-100-bytes").read_bytes() == report[:100]
    assert (empty / "same.pdf").read_bytes() == report
    assert '"received":[0,1,2,3],"count":4' in output
    assert output.count('"status":"success"') >= 7
    assert f'"size":{len(report)},"name":"report.pdf"' in output
    shell("ossctl down", empty)


def test_the_commands_of_the_native_api_work_in_their_order(empty: Path) -> None:
    report = b"%PDF-1.7 not really" * 10_000
    (empty / "report.pdf").write_bytes(report)
    (empty / "big.tar").write_bytes(bytes(range(256)) * 50_000)
    shell("ossctl up --detach", empty)
    store = LocalStore(empty / FOLDER_OF_README)
    script = commands(ROOT / "docs" / "native-api.md")
    assert script.count("curl") >= 45
    first = store.facts()["system_token"]
    for version in (1, 2):  # a reader may paste the page again
        output = shell(script, empty)
        assert f'"name":"papers/waiting.pdf","version":{version}' in output
        assert f'"name":"films/one.mkv","version":{version}' in output
        assert ('"upload_offset":1000000' in output) == (version == 1)
        assert "}304\n" in output and '"keep_versions":3' in output
        assert '"may_stop":true' in output and '"repair":true' in output
        assert f'"dry_run":true,"visited":1,"versions":{version - 1},' in output
        assert '"examined":{"shards":' in output
    assert (empty / "first-100-bytes").read_bytes() == report[:100]
    assert (empty / "the-rest").read_bytes() == report[100:]
    for copy in ("read.pdf", "unpacked.pdf", "by-token.pdf"):
        assert (empty / copy).read_bytes() == report, copy
    listed = json.loads((empty / "versions.json").read_text())
    assert {row["Name"] for row in listed} == {"papers/report.pdf"} and len(listed) == 2
    for name in ("draft.bin", "papers/unwanted.pdf", "films/unwanted.mkv"):
        store.request("GET", object_path(name)).expect(404)
    store.request("GET", "/buckets/drafts").expect(404)
    assert store.facts()["system_token"] != first
    assert store.get("papers/report.pdf") == store.get("papers/waiting.pdf") == report
    big = (empty / "big.tar").read_bytes()
    assert store.get("big.tar") == store.get("films/one.mkv") == big
    assert '"retires_at":null' in output and output.count('"kid"') >= 3
    for action in ("key.create", "key.change", "key.rotate", "key.revoke"):
        assert f'"action":"{action}"' in output
    shell("ossctl down", empty)


OLD_OBJECTS: Versions = {
    "a": [b"one", b"two", None, b"four", b"four", None, None],
    "photos/über den Fluß + 100%.jpg": [b"picture"],
    "../up": [b"a name like any other"],
    "gone": [b"was here", None, None],
    "empty": [b""],
    "long": [b"x", *[None] * 1_000, b"newest"],
}
BEGINS_MARKED: Versions = {"marked first": [None, b"then there"]}
OLD_FILES = [b"", b"second file" * 10_000, b"third"]


def histories(rows: Iterable[str]) -> list[Any]:
    """Lines of `/versions/` in an order of their own."""
    return sorted(map(json.loads, rows), key=lambda row: (row["Name"], row["Version"]))


def copied_objects(store: LocalStore) -> list[Any]:
    """What `/versions/` lists here."""
    answer = store.request("GET", "/versions/?limit=10000").expect(200)
    return histories(answer.body.decode().splitlines())


def put_most_of_a_long_history(store: LocalStore) -> None:
    """More versions than a page of `/versions/` has, as if an earlier run had copied them."""
    connection = http.client.HTTPConnection(store.api, timeout=60)
    for content in OLD_OBJECTS["long"][:-1]:
        method = "DELETE" if content is None else "PUT"
        connection.request(method, "/objects/long", body=content, headers=store.authorization())
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (200, 204)
    connection.close()


@pytest.mark.long
def test_the_migration_stops_at_a_failure_and_goes_on_there(empty: Path) -> None:
    names = [(sha256(body).hexdigest(), f'file "{n}".bin') for n, body in enumerate(OLD_FILES)]
    (empty / "files.txt").write_text("".join(f"{h} {name}\n" for h, name in names))
    shell("ossctl up --detach", empty)
    store = LocalStore(empty / FOLDER_OF_README)
    put_most_of_a_long_history(store)
    script = commands(ROOT / "docs" / "migration.md")
    assert script.count("curl") >= 7
    failing_once = [b"two", OLD_FILES[1]]
    everything = {**OLD_OBJECTS, **BEGINS_MARKED}
    expected = {**OLD_OBJECTS, "marked first": [b"then there"]}
    with older_store(everything, OLD_FILES, failing_once=failing_once) as old:
        script = f"OLD={old} OLD_SYSTEM={SYSTEM}\n{script}"
        # Without -e, as in the shell of a reader: the scripts must stop by themselves.
        broken = bash("-c", script, folder=empty)
        said = broken.stderr.decode()
        assert broken.returncode != 0
        assert "stopped at version 2 of a\n" in said
        assert "stopped at file {} {}\n".format(*names[1]) in said
        found = copied_objects(store)
        assert [(row["Name"], row["Version"]) for row in found if row["Name"] != "long"] == [
            ("a", 1)
        ]
        store.request("GET", f"/buckets/files/objects/{names[2][0]}").expect(404)
        for _ in range(2):  # again: nothing is copied twice
            done = bash("-c", script, folder=empty)
            assert done.returncode == 0, done.stderr.decode()
            assert copied_objects(store) == histories(lines(expected))
        assert done.stdout == b"", "the third run had nothing to do"
        store.put("gone", b"written by somebody else")
        refused = bash("-c", script, folder=empty)
        assert b"gone: its versions here are not the first of those there" in refused.stderr
    for digest, name in names:
        answer = store.request("GET", f"/buckets/files/objects/{digest}").expect(200)
        assert sha256(answer.body).hexdigest() == digest
        assert f"filename*=UTF-8''{quote(name)}" in answer.headers["Content-Disposition"]
        assert (
            len(store.request("GET", f"/buckets/files/versions/{digest}").json()["versions"]) == 1
        )
    shell("ossctl down", empty)


def test_every_make_target_a_document_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {
        m for d in documents for m in re.findall(r"(?:`|^)make ([a-z-]+)", d.read_text(), re.M)
    }
    assert {"demo", "test", "big"} <= named
    missing = {target for target in named if not re.search(rf"^{target}:", makefile, re.M)}
    assert not missing


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name}: {link}"
