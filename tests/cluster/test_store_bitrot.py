"""Bytes that change on the disks of blob daemons: found, and never served."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.cluster.local import LocalStore, noise, wait_for

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
SHARDS = 6
NEEDLE_BYTES = 48
PARITY = 2


def holders(store: LocalStore, needle: bytes) -> dict[str, Path]:
    """Node -> volume file that holds these bytes."""
    found = {}
    for blob in store.facts()["blobs"]:
        path = holder(store, blob["id"], needle)
        if path is not None:
            found[blob["id"]] = path
    return found


def holder(store: LocalStore, node: str, needle: bytes) -> Path | None:
    """The volume file of that node that holds these bytes."""
    while True:
        try:
            found = [path for path in store.volumes(node) if needle in path.read_bytes()]
        except FileNotFoundError:
            continue  # compaction has moved its records meanwhile: look again
        return found[-1] if found else None


def flip(path: Path, needle: bytes) -> None:
    """Change one bit in the middle of these bytes of a file."""
    at = path.read_bytes().index(needle) + len(needle) // 2
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def data_needles(body: bytes, shards: Iterable[int]) -> list[bytes]:
    """Bytes out of the middle of data shards of the first stripe of an incompressible body.

    The code is systematic: four data shards lie on the disks as they are.
    """
    shard_bytes = len(body) // 4
    return [body[i * shard_bytes + 70_000 :][:NEEDLE_BYTES] for i in shards]


def test_a_flipped_bit_in_each_of_two_shards_is_never_served_and_found(store: LocalStore) -> None:
    # A write that a busy machine held up for 2 s has left a shard out, which is no damage.
    left_out = store.census()["missing"]
    body = noise(8 * MIB, seed=71)  # one stripe
    store.put("bitrot/two", body)
    needles = data_needles(body, range(PARITY))
    places = [next(iter(holders(store, needle).items())) for needle in needles]
    nodes = [node for node, _ in places]
    assert len(set(nodes)) == PARITY
    for node in nodes:
        store.ossctl("stop", node)
    for (_, path), needle in zip(places, needles, strict=True):
        flip(path, needle)
        assert not holders(store, needle)
    sizes = store.log_sizes()
    store.up()

    assert store.get("bitrot/two") == body
    part = store.request("GET", "/objects/bitrot/two", headers={"Range": "bytes=70000-70099"})
    assert part.expect(206).body == body[70_000:70_100]
    # Whoever is first: a reader writes the right shard back, or its owner finds and reports it.
    wait_for(
        lambda: (
            [
                node
                for node, needle in zip(nodes, needles, strict=True)
                if node in holders(store, needle) or reported(store.logged_since(sizes)[node])
            ]
            == nodes
        ),
        what="both damaged shards to be healed or reported",
    )
    assert store.get("bitrot/two") == body
    store.remove_for_good("bitrot/two")
    wait_for(lambda: store.census()["missing"] == left_out, what="the damage to go with its object")


def reported(lines: list[str]) -> bool:
    """Whether a blob daemon has logged a bad shard."""
    return any('"shard_bad"' in line for line in lines)


def test_more_damage_than_parity_is_refused_and_never_served(store: LocalStore) -> None:
    body = noise(8 * MIB, seed=72)
    store.put("bitrot/lost", body)
    needles = data_needles(body, range(PARITY + 1))
    places = [next(iter(holders(store, needle).items())) for needle in needles]
    store.ossctl("stop", places[0][0])
    store.kill(places[1][0], places[2][0])
    for (_, path), needle in zip(places, needles, strict=True):
        flip(path, needle)
    store.up()
    for attempt in range(2):
        refused = store.request("GET", "/objects/bitrot/lost").expect(503)
        assert refused.code == "StripeUnreadable", attempt
    touched = {"Range": "bytes=70000-70010"}
    assert store.request("GET", "/objects/bitrot/lost", headers=touched).status == 503
    store.remove_for_good("bitrot/lost")
    store.wait_collected()


def test_a_damaged_record_head_costs_that_shard_alone(store: LocalStore) -> None:
    bodies = {f"bitrot/head-{n}": noise(8 * MIB, seed=80 + n) for n in range(3)}
    for name, body in bodies.items():
        store.put(name, body)
    (needle,) = data_needles(bodies["bitrot/head-1"], [0])
    ((node, path),) = holders(store, needle).items()
    store.kill(node)
    data = path.read_bytes()
    at = data.rindex(b"\x8aossrec\n", 0, data.index(needle))
    with path.open("r+b") as file:
        file.seek(at + 20)
        file.write(b"\xff\xff\xff\xff")
    for index in path.parent.glob("index.sqlite*"):
        index.unlink()  # so that it has to be built again from the volumes
    store.up()
    for name, body in bodies.items():
        assert store.get(name) == body
    wait_for(lambda: node in holders(store, needle), what="the shard to be written back")
