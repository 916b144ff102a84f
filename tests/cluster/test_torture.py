"""The short form of `make torture`."""

import json
import subprocess
import sys

import pytest


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_kill_loops_break_no_promise() -> None:
    faults = ["--leader-kills=3", "--kill-all=2", "--rolling=1", "--wipes=1", "--blob-kills=2"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture", *faults, "--seed=7"],
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["counts"]["put"] > 50
    assert report["counts"]["verified"] > 50
