"""The short form of `make slow`, and that it notices what it is there to notice."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.local import default_ports_taken, environment
from tests.slow.__main__ import judge_speed
from tests.slow.measuring import measuring
from tests.slow.usual import UsualFailed

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 240


@pytest.mark.cluster
def test_slow_clients_end_well_and_stop_nobody(tmp_path: Path) -> None:
    """A quarter of the usual memory, which forty slow clients hold for 14 s.

    Room for four stripes is little: a normal client waits until the slow are old enough (2 s)
    to be recalled, behind those who waited before it. With both cores kept busy by others its
    16 MiB took up to 8.1 s in the median, its 4 KiB, which wait for nobody, up to 0.3 s.
    Tried: with recalls after 10 s instead of 2 s 16 MiB took 31 s in and 10 s out; without
    recalls its GET was cut off.
    """
    words = ["--count=40", "--bytes-per-s=500000", "--seconds=14", "--long-pause=16"]
    words += ["--large-mib=16", "--fast-mib=4", "--bodies-mib=64"]
    words += ["--slack-ms=15000", "--small-slack-ms=1000"]
    with default_ports_taken():
        done = subprocess.run(
            [sys.executable, "-m", "tests.slow", *words],
            cwd=ROOT,
            env={**environment({}), "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["recalled"] > 0, "nothing was short, so nothing was shown"
    assert report["slow_peak_mib"] <= report["slow_bound_mib"]
    assert not list(tmp_path.glob("raftoss-slow-*"))


def test_a_normal_client_that_fails_is_told(tmp_path: Path) -> None:
    async def measure() -> None:
        async with measuring(tmp_path / "no-cluster", large=1) as normal:
            await normal.end()

    with pytest.raises(UsualFailed, match="there is no "):
        asyncio.run(measure())


def test_a_normal_client_that_is_held_up_is_told() -> None:
    quiet = {"put_large": 500.0, "first_byte": 20.0}
    assert judge_speed(quiet, {"put_large": 1500.0, "first_byte": 200.0}) == []
    (held,) = judge_speed(quiet, {"put_large": 600.0, "first_byte": 5000.0})
    assert held.startswith("first_byte took 5000.0 ms")


def test_small_bodies_are_held_to_a_slack_of_their_own() -> None:
    quiet = {"put_large": 100.0, "put_small": 4.0, "get_small": 2.0}
    crowded = {"put_large": 5_000.0, "put_small": 1_000.0, "get_small": 1_100.0}
    (held,) = judge_speed(quiet, crowded, slack_ms=6_000, small_slack_ms=1_000)
    assert held.startswith("get_small took 1100.0 ms")
