"""The commands that the documents show work as they are written, in an empty folder."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.local import GRACE_S, LocalStore, default_ports_taken, environment

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
SET_UP = re.compile(r"make |python3 -m venv ")
"""Lines that install: this test runs in what they would install."""
FOLDER_OF_README = "raftoss-data"


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """An empty folder; a cluster that a document starts there ends with the test."""
    yield tmp_path
    LocalStore(tmp_path / FOLDER_OF_README).end()


def shell(script: str, folder: Path) -> str:
    """Run a script as a reader would paste it, but stop at the first failure."""
    with default_ports_taken():
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env=environment({"OSS_GC_GRACE_S": str(GRACE_S), "HOME": str(folder)}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=200,
        )
    output = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, f"{script}\n---\n{output}"
    return output


def commands(document: Path) -> str:
    """All shell blocks of a document in order, without the lines that install."""
    lines = "".join(BLOCK.findall(document.read_text())).splitlines()
    return "\n".join(line for line in lines if not SET_UP.match(line))


def test_the_commands_of_the_readme_work_in_their_order(empty: Path) -> None:
    (empty / "report.pdf").write_bytes(b"%PDF-1.7 not really" * 10_000)
    (empty / "photos").mkdir()
    (empty / "photos" / "one.jpg").write_bytes(b"picture")
    script = commands(ROOT / "README.md")
    assert script.count("ossctl") >= 12 and script.count("curl") >= 4
    output = shell(script, empty)
    assert (empty / "copy.pdf").read_bytes() == (empty / "report.pdf").read_bytes()
    assert '"version":2' in output or '"version":3' in output
    assert '"prefix' in output
    shell("ossctl down", empty)


def test_every_make_target_a_document_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {m for d in documents for m in re.findall(r"(?:`|^)make ([a-z]+)", d.read_text(), re.M)}
    assert {"demo", "test", "big"} <= named
    missing = {target for target in named if not re.search(rf"^{target}:", makefile, re.M)}
    assert not missing


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name}: {link}"
