"""The store that tests with real processes share, one in each worker."""

from collections.abc import Iterator

import pytest

from tests.cluster.local import LocalStore
from tests.openapi.conformance import whole_description


@pytest.fixture(scope="package", autouse=True)
def answers_are_described() -> Iterator[None]:
    """Every answer that a test of this folder gets is one that /openapi.json names."""
    LocalStore.check_answer = whole_description().check
    yield
    LocalStore.check_answer = None


@pytest.fixture(scope="package")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """One cluster of 3 metanodes, 6 blob daemons and a frontend for this folder."""
    store = LocalStore(tmp_path_factory.mktemp("shared") / "store")
    try:
        store.create()
        # Tests look for shards where they were put.
        for work in ("rebalance", "reencode"):
            store.ossctl(work, "pause")
        yield store
    finally:
        store.end()


@pytest.fixture
def store(shared_store: LocalStore) -> Iterator[LocalStore]:
    """The shared cluster, whole. No test of it may leave a traceback in any log."""
    shared_store.make_whole()
    sizes = shared_store.log_sizes()
    yield shared_store
    for node, lines in shared_store.logged_since(sizes).items():
        guilty = [line for line in lines if "Traceback" in line or '"exception"' in line]
        assert not guilty, f"{node}: {guilty[0][:3000]}"


@pytest.fixture
def unrepaired(store: LocalStore) -> Iterator[LocalStore]:
    """The shared cluster, which leaves damage alone until the test has seen it."""
    store.ossctl("repair", "pause")
    try:
        yield store
    finally:
        store.ossctl("repair", "resume")


@pytest.fixture
def unharmed(store: LocalStore) -> Iterator[LocalStore]:
    """The shared cluster in a test that must end none of its processes."""
    before = store.running()
    yield store
    assert store.running() == before
    assert store.all_up()
