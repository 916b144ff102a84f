"""What a start costs: nothing is compiled, and nothing is loaded that it does not need."""

import subprocess
import sys

import pytest

from tests.compiled import ROOT

TABLES = {"sqlite_utils", "click", "dateutil"}  # for files that are made or brought up to date
CODING = {"numpy", "pyeclib", "pyfinite"}
TERMINAL = {"typer", "rich", "markdown_it"}
DESCRIPTION = {
    "frontend.description",
    "frontend.openapi.document",
    "frontend.openapi.shapes",
    "frontend.rest.described",
    "frontend.tokens.described",
}
# aiohttp comes with the first client that is made: a daemon makes it when it starts.
CLIENT = {"aiohttp", "yarl"}
NOT_LOADED = {
    "raftmeta": {"blobd", "frontend", "cli"} | TABLES | CODING | TERMINAL | CLIENT,
    "blobd": {"frontend", "cli", "cryptography", "pysyncobj"} | TABLES | CODING | TERMINAL | CLIENT,
    "frontend": {"cli", "cryptography", "pysyncobj", "sqlite3"}
    | {*TABLES, *CODING, *TERMINAL, *CLIENT, *DESCRIPTION},
    "cli": {"raftmeta", "blobd", "frontend", "cryptography", "pysyncobj", "sqlite3", "uvloop"}
    | {"tornado", "prometheus_client", "importlib.metadata", "markdown_it", "zstandard"}
    | {*TABLES, *CODING, *CLIENT},
}
"""What each role must not load before it knows that it needs it, and all below."""
ROLES = tuple(NOT_LOADED)


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


@pytest.mark.parametrize("role", ROLES)
def test_a_start_loads_only_what_every_start_needs(role: str) -> None:
    """Ten processes share a machine; each of these costs every one of them CPU and memory."""
    code = f"import sys, {role}.__main__; print(*sys.modules, sep='\\n')"
    loaded = subprocess.check_output([sys.executable, "-P", "-c", code], text=True).split()
    unwanted = [
        name
        for name in loaded
        for late in NOT_LOADED[role]
        if name == late or name.startswith(late + ".")
    ]
    assert unwanted == []
