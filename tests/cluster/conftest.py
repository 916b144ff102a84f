"""Everything with real processes runs in one worker; the store that tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.local import LocalStore

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One group for all tests of this folder: clusters side by side starve each other."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """One cluster of 3 metanodes, 6 blob daemons and a frontend for the whole session."""
    store = LocalStore(tmp_path_factory.mktemp("shared") / "store")
    try:
        store.create()
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
def unharmed(store: LocalStore) -> Iterator[LocalStore]:
    """The shared cluster in a test that must end none of its processes."""
    before = store.running()
    yield store
    assert store.running() == before
    assert store.all_up()
