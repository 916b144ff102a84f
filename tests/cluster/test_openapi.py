"""The description holds on a real cluster: as much of `tests.openapi.fuzz` as CI has time for."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.local import LocalStore, default_ports_taken
from tests.openapi.fuzz import SMALL, fuzz

pytestmark = pytest.mark.cluster

SEED = int(os.environ.get("FUZZ_SEED", "1"))
EXAMPLES = 1
"""Of each operation, in each phase: as much work on a busy machine as on a quiet one."""


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[LocalStore]:
    """A cluster of its own: the fuzz changes keys and the system token."""
    store = LocalStore(tmp_path / "store")
    try:
        with default_ports_taken():
            store.up(*SMALL)
        yield store
    finally:
        store.end()


@pytest.mark.timeout(400)
def test_every_answer_is_described_whatever_is_asked(own_store: LocalStore, tmp_path: Path) -> None:
    sizes = own_store.log_sizes()
    options = ["--max-examples", str(EXAMPLES), "--no-shrink"]
    # A second or more each, in which the cluster gets another leader: left to `make openapi-fuzz`.
    options += ["--exclude-path", "/v1/meta/lead"]
    fuzz(own_store, tmp_path, seed=SEED, options=options).expect_good()
    assert own_store.all_up()
    for node, lines in own_store.logged_since(sizes).items():
        guilty = [line for line in lines if "Traceback" in line]
        assert not guilty, f"{node}: {guilty[0][:3000]}"


def test_a_frontend_serves_the_description_of_its_own_version(store: LocalStore) -> None:
    answer = store.request("GET", "/openapi.json", anonymous=True).expect(200)
    status = store.request("GET", "/v1/status", anonymous=True).expect(200).json()
    description = json.loads(answer.body)
    assert description["info"]["version"] == status["version"]
    assert description["paths"].keys() >= {"/objects/{key}", "/v1/cluster", "/readyz"}
