"""The short form of `make big`, and that it notices what it is there to notice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.local import OSSCTL, default_ports_taken, environment

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 240


def big(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m tests.big WORDS`."""
    return run([sys.executable, "-m", "tests.big", *words], place)


def run(command: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that leaves nothing in `place`."""
    # An outer `make` must not tell an inner one what to do.
    kept = {k: v for k, v in environment({}).items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    with default_ports_taken():
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**kept, "TMPDIR": str(place)},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    assert not list(place.glob("raftoss-big-*")), done.stderr
    return done


@pytest.mark.cluster
def test_no_process_takes_300_mib_for_an_object_of_300_mib(tmp_path: Path) -> None:
    # What runs this is installed already: nothing for `make` to set up.
    words = ["SIZE=300MiB", f"BIN={Path(sys.executable).parent}", "STAMP="]
    done = run(["make", "--silent", "big", *words], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    roles = [name.partition("-")[0] for name in report["peak_mib"]]
    assert [roles.count(role) for role in ("frontend", "meta", "blob")] == [1, 3, 6]
    assert {"ossctl put", "ossctl get", "this program"} <= report["peak_mib"].keys()
    assert all(10 < peak_mib < 300 for peak_mib in report["peak_mib"].values())
    assert len(report["transfers"]) == 4


@pytest.mark.cluster
def test_wrong_bytes_and_greedy_processes_are_told(tmp_path: Path) -> None:
    spoiled = tmp_path / "ossctl"
    get = "get) " + f"'{OSSCTL}' \"$@\" | tr '\\000' '\\001' ;;"
    spoiled.write_text(f"#!/bin/sh\ncase $1 in\n{get}\n*) exec '{OSSCTL}' \"$@\" ;;\nesac\n")
    spoiled.chmod(0o700)
    done = big(tmp_path, "--size=5MiB", "--peak-mib-max=30", f"--ossctl={spoiled}")
    assert done.returncode == 1, done.stdout + done.stderr
    wrong, *greedy = json.loads(done.stdout)["violations"]
    assert wrong.startswith("get_by_ossctl: SHA-256")
    assert {"frontend-1", "meta-1", "blob-1"} <= {words.split()[0] for words in greedy}


def test_a_disk_that_is_too_small_is_said_first(tmp_path: Path) -> None:
    done = big(tmp_path, "--size=1000000GiB")
    assert done.returncode == 1
    assert "free and" in done.stderr and "SIZE=" in done.stderr
    assert "starting" not in done.stderr
