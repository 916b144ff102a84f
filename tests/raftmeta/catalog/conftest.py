from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.raftmeta.catalog.harness import Driver


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    """A formed cluster of three nodes with one bucket; whatever a test did, facts must agree."""
    made = Driver(tmp_path / "catalog.sqlite")
    made.form()
    yield made
    assert made.catalog.contradictions() == []
    made.catalog.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Driver]:
    """A catalog to which nothing was applied."""
    made = Driver(tmp_path / "catalog.sqlite")
    yield made
    made.catalog.close()
