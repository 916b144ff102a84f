"""The cluster that the tests of this folder share, and one in which everything expires soon."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from tests.cluster.local import noise
from tests.surface import tokens
from tests.surface.cluster import SHORT_LIVES, SurfaceStore
from tests.surface.tokens import Token
from tests.surface.ways import STRIPE


@contextmanager
def living(store: SurfaceStore, *words: str) -> Iterator[SurfaceStore]:
    """A new cluster for the time of the block."""
    try:
        store.create(*words)
        store.ossctl("rebalance", "pause")  # tests look for shards where they were put
        yield store
    finally:
        store.end()


def check_logs(store: SurfaceStore, sizes: Mapping[Path, int]) -> None:
    """AssertionError if a traceback was logged since the logs had these sizes."""
    for node, lines in store.logged_since(sizes).items():
        guilty = [line for line in lines if "Traceback" in line or '"exception"' in line]
        assert not guilty, f"{node}: {guilty[0][:3000]}"


@pytest.fixture(scope="package")
def shared_surface(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SurfaceStore]:
    """3 metanodes, 6 blob daemons, 2 frontends for the whole folder."""
    folder = tmp_path_factory.mktemp("surface") / "store"
    with living(SurfaceStore(folder), "--frontends", "2") as store:
        yield store


@pytest.fixture
def store(shared_surface: SurfaceStore) -> Iterator[SurfaceStore]:
    """The shared cluster, whole. No test of it may leave a traceback in any log."""
    shared_surface.make_whole()
    sizes = shared_surface.log_sizes()
    yield shared_surface
    check_logs(shared_surface, sizes)


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SurfaceStore]:
    """A smaller cluster in which uploads, temporary bodies and garbage live for seconds."""
    folder = tmp_path_factory.mktemp("hasty") / "store"
    words = ("--frontends", "2", "--blobs", "3")
    with living(SurfaceStore(folder, times=SHORT_LIVES), *words) as store:
        yield store
        check_logs(store, {})


@pytest.fixture
def body(request: pytest.FixtureRequest) -> bytes:
    """Bytes that no other test has."""
    return noise(STRIPE + 300_000, seed=sum(request.node.name.encode()) + 99)


@pytest.fixture
def upload(store: SurfaceStore, body: bytes) -> Token:
    """An upload token for `body`."""
    return tokens.mint(store, "upload", sha256(body).hexdigest())


@pytest.fixture
def stored(store: SurfaceStore, body: bytes, upload: Token) -> Token:
    """`body` is stored; its download token."""
    tokens.data(tokens.send_file(store, "/upload/single", upload, body))
    return tokens.mint(store, "download", sha256(body).hexdigest())
