"""What a start costs: nothing is compiled, and nothing is loaded that it does not need."""

import subprocess
import sys

import pytest

from tests.compiled import ROOT

ROLES = ("raftmeta", "blobd", "frontend", "cli")


@pytest.mark.parametrize("role", ROLES)
def test_a_process_that_tests_start_compiles_nothing(role: str) -> None:
    started = subprocess.run(
        [sys.executable, "-v", "-P", "-c", f"import {role}.__main__"],
        capture_output=True,
        text=True,
        check=True,
    )
    compiled = [
        line
        for line in started.stderr.splitlines()
        if line.startswith("# code object from") and str(ROOT) in line and ".pyc" not in line
    ]
    assert compiled == []
