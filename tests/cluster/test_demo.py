"""`make demo`: it passes, it fails when a step does not hold, and it leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.local import OSSCTL, default_ports_taken, environment, noise, text

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
SECONDS_MAX = 120
SPOILED = """#!/bin/sh
real() {{ '{ossctl}' "$@"; }}
case "$*" in
{pattern}) {instead} ;;
*) real "$@" ;;
esac
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two stripes: random bytes, and text that compresses."""
    path = tmp_path / "two stripes"
    path.write_bytes(noise(8 * MIB, seed=1) + text(3 * MIB))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder for temporary files; empty again in the end."""
    path = tmp_path / "temporary"
    path.mkdir()
    return path


def surroundings(place: Path) -> dict[str, str]:
    """Without what an outer `make` says to an inner one."""
    kept = {k: v for k, v in environment({}).items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    return {**kept, "TMPDIR": str(place)}


def play(command: list[str], place: Path) -> tuple[int, str]:
    """Exit status and output of a demo, which has cleaned up."""
    with default_ports_taken():
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=surroundings(place),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    assert nothing_is_left(place), done.stdout
    return done.returncode, done.stdout


def nothing_is_left(place: Path) -> bool:
    """No file, and no process of a cluster that was there."""
    mark = f"OSS_DIR={place}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                return False
        except OSError:
            continue  # ended just now, or another user's
    return not list(place.glob("raftoss-demo-*"))


def test_the_demo_passes_with_a_file_of_ours(file: Path, place: Path) -> None:
    python = Path(sys.executable)
    # What runs this is installed already: nothing for `make` to set up.
    command = ["make", "demo", f"FILE={file}", f"BIN={python.parent}", "STAMP="]
    code, output = play(command, place)
    assert code == 0, output
    assert "Demo passed" in output
    assert "version 2 added 1 stripe and shares 1" in output
    assert output.count(" killed\n") == 3
    assert output.count("is the same byte for byte") == 2


@pytest.mark.parametrize(
    ("pattern", "instead", "complaint"),
    [
        pytest.param(
            "'get '*'--version 1'",
            'real "$@" && printf "\\377\\0" | dd of="$3" conv=notrunc bs=1 seek=5 status=none',
            "version 1 is the same byte for byte",
            id="a wrong byte comes back",
        ),
        pytest.param(
            "'kill meta-'*",
            'echo "$2 killed"',
            "three processes are gone",
            id="the leader is spared",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "down",
            ":",
            "no process is left",
            id="nothing is stopped",
            marks=pytest.mark.long,
        ),
    ],
)
def test_the_demo_fails_when_a_step_does_not_hold(
    file: Path, place: Path, tmp_path: Path, pattern: str, instead: str, complaint: str
) -> None:
    spoiled = tmp_path / "ossctl"
    spoiled.write_text(SPOILED.format(ossctl=OSSCTL, pattern=pattern, instead=instead))
    spoiled.chmod(0o700)
    command = [sys.executable, "-m", "tests.demo", "--ossctl", str(spoiled), str(file)]
    code, output = play(command, place)
    assert code == 1, output
    failure = output.partition("Demo FAILED: ")[2].splitlines()[0]
    assert complaint in failure, output
    assert "Demo passed" not in output


def test_a_file_that_is_not_there_is_said_before_anything_starts(place: Path) -> None:
    code, output = play([sys.executable, "-m", "tests.demo", "nowhere"], place)
    assert code == 1
    assert "there is no file" in output and "ossctl up" not in output


def test_a_demo_that_is_interrupted_leaves_nothing(file: Path, place: Path) -> None:
    with (
        default_ports_taken(),
        subprocess.Popen(
            [sys.executable, "-m", "tests.demo", str(file)],
            cwd=ROOT,
            env=surroundings(place),
            stdout=subprocess.PIPE,
            text=True,
        ) as demo,
    ):
        assert demo.stdout is not None
        started = next(line for line in demo.stdout if "ten processes run" in line)
        os.kill(demo.pid, signal.SIGINT)
        output = demo.stdout.read()
    assert started and demo.returncode == 1
    assert "Demo FAILED: interrupted" in output
    assert nothing_is_left(place)
