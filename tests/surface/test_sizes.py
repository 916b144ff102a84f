"""Every size of every kind of body, and every name, through every way in and out."""

from base64 import b64decode
from hashlib import sha256
from urllib.parse import quote

import pytest

from tests.cluster.local import object_path
from tests.surface import tokens
from tests.surface.cluster import SurfaceStore
from tests.surface.ways import (
    FILE_WAYS,
    KINDS,
    NAMES,
    OBJECT_WAYS,
    REST_OF,
    SIZES_OF,
    VECTORS,
    file_at,
    object_at,
)

pytestmark = pytest.mark.cluster

# What compresses goes the same way behind every door; tests/cluster sends it through the first.
HERE = [pytest.param(kind, marks=[pytest.mark.long] * (kind == "text")) for kind in KINDS]


@pytest.mark.parametrize("kind", HERE)
@pytest.mark.parametrize("way", OBJECT_WAYS)
def test_every_size_goes_in_and_out_as_an_object(store: SurfaceStore, way: str, kind: str) -> None:
    as_objects(store, way, kind, SIZES_OF[kind])


@pytest.mark.long
@pytest.mark.parametrize("kind", REST_OF)
@pytest.mark.parametrize("way", OBJECT_WAYS)
def test_longer_sizes_go_in_and_out_as_an_object(store: SurfaceStore, way: str, kind: str) -> None:
    as_objects(store, way, kind, REST_OF[kind])


@pytest.mark.parametrize("kind", HERE)
@pytest.mark.parametrize("way", FILE_WAYS)
def test_every_size_goes_in_and_out_as_a_file(store: SurfaceStore, way: str, kind: str) -> None:
    as_files(store, way, kind, SIZES_OF[kind])


@pytest.mark.long
@pytest.mark.parametrize("kind", REST_OF)
@pytest.mark.parametrize("way", FILE_WAYS)
def test_longer_sizes_go_in_and_out_as_a_file(store: SurfaceStore, way: str, kind: str) -> None:
    as_files(store, way, kind, REST_OF[kind])


def as_objects(store: SurfaceStore, way: str, kind: str, sizes: list[int]) -> None:
    """Each size in by one way, and out again as it was."""
    for size in sizes:
        body, name = KINDS[kind](size), f"sizes/{way}/{kind}/{size}"
        OBJECT_WAYS[way](store, name, body)
        object_at(store, name).check(body)
        # The next way must bring its bytes itself.
        store.remove_for_good(name)


def as_files(store: SurfaceStore, way: str, kind: str, sizes: list[int]) -> None:
    """Likewise by the token API."""
    for size in sizes:
        body = KINDS[kind](size)
        FILE_WAYS[way](store, body)
        file_at(store, body).check(body)
        tokens.data(tokens.remove(store, sha256(body).hexdigest()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", OBJECT_WAYS)
def test_every_name_is_kept_exactly(store: SurfaceStore, way: str, name: str) -> None:
    body = f"{way}: {name}".encode()
    OBJECT_WAYS[way](store, name, body)
    object_at(store, name).check(body)
    # However much of the name is escaped, it is the same name.
    whole = "".join(f"%{byte:02x}" for byte in name.encode())
    for path in ("/objects/" + quote(name, safe=""), "/objects/" + whole):
        assert store.ask("GET", path, at=1).expect(200).body == body, path
    listed = store.ask("GET", f"/objects?prefix={quote(name, safe='')}&limit=1").expect(200)
    assert [each["key"] for each in listed.json()["objects"]] == [name]
    store.remove_for_good(name)
    assert store.ask("GET", object_path(name)).status == 404


@pytest.mark.parametrize("body", VECTORS, ids=[body.decode() for body in VECTORS])
def test_known_digests_are_those_of_the_vectors(store: SurfaceStore, body: bytes) -> None:
    encoded = VECTORS[body]
    as_hex = b64decode(encoded).hex()
    for way, put in OBJECT_WAYS.items():
        put(store, f"vector/{way}", body)
        object_at(store, f"vector/{way}").check(body)
        (version,) = store.versions(f"vector/{way}")
        assert version["Hash"] == encoded
        located = [
            store.ask("GET", "/locate/" + text).expect(200).json()
            for text in (quote(encoded, safe=""), as_hex)
        ]
        assert located[0] == located[1]
        store.remove_for_good(f"vector/{way}")
    for put_file in FILE_WAYS.values():
        put_file(store, body)
        file_at(store, body).check(body)
        tokens.data(tokens.remove(store, as_hex))
