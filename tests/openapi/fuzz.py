"""Requests of every kind, allowed and forbidden, to a cluster of its own, by Schemathesis.

::

    python -m tests.openapi.fuzz --seconds 600 --seed 42

It reads the description that a frontend serves and sends what that allows and what it does
not: values at the edges, wrong types, methods that are not there, operations in sequences.
Every answer must be described: status, headers, content type and fields; none may be an
error of the store itself, but for 503 and 507, which say what to do.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.cluster.local import SHORT_TIMES, LocalStore, default_ports_taken
from tests.openapi.hooks import ROOT_VARIABLE

ST = str(Path(sys.executable).with_name("st"))
CONFIG = Path(__file__).with_name("schemathesis.toml")
TOKEN_VARIABLE = "FUZZ_TOKEN"
ANSWERS_MIN = 300
REFUSED_SHARE_MAX = 0.35
SMALL = ("--metanodes", "3", "--blobs", "3")


@dataclass(frozen=True)
class Outcome:
    """How one run ended."""

    failed: bool
    output: str
    statuses: Counter[int]

    def expect_good(self) -> None:
        """Raises AssertionError with what failed, or where too little was tried."""
        assert not self.failed, self.output
        count = sum(self.statuses.values())
        assert count >= ANSWERS_MIN, f"only {count} answers\n{self.output}"
        good = sum(number for status, number in self.statuses.items() if status < 300)
        refused = self.statuses[401]
        # A run whose key is refused finds nothing wrong.
        assert good >= count / 10, f"{self.statuses}\n{self.output}"
        assert refused <= count * REFUSED_SHARE_MAX, f"{self.statuses}\n{self.output}"


def fuzz(store: LocalStore, folder: Path, *, seed: int, options: list[str]) -> Outcome:
    """Run Schemathesis against the first frontend of `store`; reports go to `folder`."""
    facts = store.facts()
    answers = folder / "answers.ndjson"
    done = subprocess.run(
        [
            ST,
            *("--config-file", str(CONFIG)),
            *("run", f"http://{store.api}/openapi.json", "--seed", str(seed)),
            *("--auth", f"{facts['root_access_key']}:{facts['root_secret_key']}"),
            *("--report", "ndjson", "--report-ndjson-path", str(answers)),
            *options,
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "SCHEMATHESIS_HOOKS": "tests.openapi.hooks",
            ROOT_VARIABLE: facts["root_access_key"],
            TOKEN_VARIABLE: _token(store),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode != 0, done.stdout + done.stderr, _statuses(answers))


def _token(store: LocalStore) -> str:
    """A token that uploads and downloads one content."""
    wanted = {"type": "both", "hash": sha256(b"hello world").hexdigest()}
    made = store.request("POST", "/v1/tokens", body=json.dumps(wanted).encode()).expect(201)
    return str(made.json()["token"])


def _statuses(report: Path) -> Counter[int]:
    found: Counter[int] = Counter()
    if report.exists():
        with report.open() as lines:
            for line in lines:
                found.update(_statuses_in(json.loads(line)))
    return found


def _statuses_in(value: Any) -> list[int]:
    if isinstance(value, dict):
        own = [value["status_code"]] if isinstance(value.get("status_code"), int) else []
        return own + [status for inner in value.values() for status in _statuses_in(inner)]
    if isinstance(value, list):
        return [status for inner in value for status in _statuses_in(inner)]
    return []


def main() -> int:
    """Fuzz a fresh cluster; 1 if anything is not as described."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}, about {chosen.seconds} s", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = LocalStore(folder / "store", times=SHORT_TIMES)
        try:
            with default_ports_taken():
                store.up(*SMALL)
            options = ["--max-time", str(chosen.seconds)]
            outcome = fuzz(store, folder, seed=chosen.seed, options=options)
            print(outcome.output)
            print(f"answers by status: {dict(sorted(outcome.statuses.items()))}")
            outcome.expect_good()
        finally:
            store.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
