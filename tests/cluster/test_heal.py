"""The short form of `make heal`: wiped disks and flipped bytes come back, read shard by shard."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.local import default_ports_taken, environment

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 240


@pytest.mark.cluster
def test_disks_are_wiped_and_bytes_flipped_and_all_comes_back(tmp_path: Path) -> None:
    words = ["--objects=40", "--flipped=12", "--seed=7"]
    with default_ports_taken():
        done = subprocess.run(
            [sys.executable, "-m", "tests.heal", *words],
            cwd=ROOT,
            env={**environment({}), "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["wiped_1"]["shards_written"] >= report["stripes"] / 2, "nothing was shown"
    assert report["wiped_2"]["shards_written"] > report["wiped_1"]["shards_written"]
    assert report["flipped"]["found"] == report["flipped"]["shards"] == 24
    assert not list(tmp_path.glob("raftoss-heal-*"))
