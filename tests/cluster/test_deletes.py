"""The short form of `make deletes`: objects stored and deleted under kills, a paused frontend."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.local import default_ports_taken, environment

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 240


@pytest.mark.long
@pytest.mark.cluster
def test_what_is_deleted_goes_whoever_dies_or_stands_still_and_nothing_else_does(
    tmp_path: Path,
) -> None:
    words = ["--objects=240", "--kept=20", "--kills=3", "--pauses=1", "--slow=7"]
    with default_ports_taken():
        done = subprocess.run(
            [sys.executable, "-m", "tests.deletes", *words, "--stories=churn,paused", "--seed=7"],
            cwd=ROOT,
            env={**environment({}), "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["kills"] == {"leader": 1, "daemon": 1, "frontend": 1}
    before, after = report["takes_kept"], report["takes_paused"]
    for kind in ("shards", "shard_bytes"):
        assert after[kind] == before[kind]
    assert after["rows"]["stripes"] == after["rows"]["versions"] == 20
    seen = report["pause_0"]
    assert seen["refused"] and seen["acknowledged"], "nothing was shown"
    assert seen["paused_s"] > 8
    assert not list(tmp_path.glob("raftoss-deletes-*"))
