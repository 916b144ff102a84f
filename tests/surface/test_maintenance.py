"""Prune, scan and what may be stopped, by HTTP alone; orphans are in test_expiry.py, where
they are old enough within seconds. tests/cluster/test_maintenance.py is the same by `ossctl`."""

from collections import Counter
from typing import Any
from urllib.parse import quote

import pytest

from tests.cluster.local import noise, object_path, wait_for
from tests.cluster.test_store_bitrot import data_needles, flip, holders
from tests.surface.cluster import SurfaceStore
from tests.surface.ways import STRIPE, fresh, object_at

pytestmark = pytest.mark.cluster

BODY_BYTES = 200_000
SHARDS = 6


def history(store: SurfaceStore, name: str, count: int) -> list[bytes]:
    """So many versions of an object; their bodies, the first first."""
    bodies = [noise(BODY_BYTES, seed=900 + number) for number in range(count)]
    for number, body in enumerate(bodies):
        store.ask("PUT", object_path(name), body=body, at=number).expect(200)
    return bodies


def numbers(store: SurfaceStore, name: str) -> list[int]:
    """The versions there are, the first first."""
    return [each["Version"] for each in store.versions(name)]


# --- prune -------------------------------------------------------------------------------------


def test_the_newest_versions_stay_and_older_ones_go(store: SurfaceStore) -> None:
    name = fresh("prune/one")
    bodies = history(store, name, 7)
    prune = f"/v1/maintenance/prune?key={quote(name, safe='')}"
    (dry,) = store.steps(f"{prune}&dry_run=1")
    assert (dry["dry_run"], dry["keep"], dry["versions"], dry["markers"]) == (True, 5, 2, 0)
    assert dry["bytes"] == 2 * BODY_BYTES
    assert numbers(store, name) == [1, 2, 3, 4, 5, 6, 7]
    (done,) = store.steps(prune, at=1)
    assert (done["dry_run"], done["versions"], done["bytes"]) == (False, 2, 2 * BODY_BYTES)
    (changed,) = done["objects"]
    assert (changed["key"], changed["versions"]) == (name, 2)
    assert numbers(store, name) == [3, 4, 5, 6, 7]
    for number in (1, 2):
        assert store.ask("GET", f"{object_path(name)}?version={number}", at=number).status == 404
    for number in range(3, 8):
        found = store.ask("GET", f"{object_path(name)}?version={number}", at=number).expect(200)
        assert found.body == bodies[number - 1]
    assert [step["versions"] for step in store.steps(prune)] == [0]


def test_a_prefix_is_pruned_and_nothing_beside_it(store: SurfaceStore) -> None:
    folder = fresh("prune/many")
    inside, outside = [f"{folder}/a", f"{folder}/b"], f"{folder}-not"
    for name in (*inside, outside):
        history(store, name, 3)
    store.ask("DELETE", object_path(inside[0])).expect(204)
    steps = store.steps(f"/v1/maintenance/prune?prefix={quote(folder + '/', safe='')}&keep=1")
    assert sum(step["versions"] for step in steps) == 4
    # A delete marker is no version that is kept instead of one.
    assert numbers(store, inside[0]) == [3, 4]
    assert numbers(store, inside[1]) == [3]
    assert numbers(store, outside) == [1, 2, 3]
    store.ask("POST", f"{object_path(inside[0])}?undelete=1").expect(200)
    object_at(store, inside[0]).check(noise(BODY_BYTES, seed=902))


def test_a_bucket_that_asks_for_it_is_pruned_in_the_background(store: SurfaceStore) -> None:
    bucket = fresh("tidy")
    store.ask("PUT", f"/buckets/{bucket}").expect(201)
    pruned = store.census()["pruned_versions"]
    changed = store.ask("PATCH", f"/buckets/{bucket}?keep_versions=2", at=1).expect(200).json()
    assert changed["keep_versions"] == 2
    for number in range(5):
        path = f"/buckets/{bucket}/objects/x"
        store.ask("PUT", path, body=b"%d" % number, at=number).expect(200)

    def left() -> list[int]:
        found = store.ask("GET", f"/buckets/{bucket}/versions/x").expect(200).json()["versions"]
        return [each["version"] for each in found]

    wait_for(lambda: left() == [5, 4], what="the leader to prune", deadline_s=60)
    assert store.census()["pruned_versions"] >= pruned + 3
    progress = store.cluster()["pruning"]
    assert progress["buckets"] >= 1
    for number, status in ((5, 200), (4, 200), (3, 404)):
        found = store.ask("GET", f"/buckets/{bucket}/objects/x?version={number}", at=number)
        assert found.status == status
    store.ask("PATCH", f"/buckets/{bucket}?keep_versions=0").expect(200)


# --- scan --------------------------------------------------------------------------------------


def scanned(store: SurfaceStore, query: str) -> Any:
    """All steps of a scan as one: sums of what is counted, lists of what is named."""
    steps = store.steps("/v1/maintenance/scan?" + query)
    shards = Counter[str]()
    for step in steps:
        shards.update(step["shards"])
    return {
        "stripes": sum(step["stripes"] for step in steps),
        "shards": shards,
        "damaged": [each for step in steps for each in step["damaged"]],
        "unreadable": [each for step in steps for each in step["unreadable"]],
    }


def test_flipped_bits_are_found_named_and_repaired(store: SurfaceStore) -> None:
    name = fresh("scan/flipped")
    query = f"bucket=objects&prefix={quote(name, safe='')}"
    body = store.put_whole(name, STRIPE, seed=3_001)
    needles = data_needles(body, range(2))
    places = [next(iter(holders(store, needle).items())) for needle in needles]
    nodes = {node for node, _ in places}
    clean = scanned(store, query)
    assert (clean["stripes"], clean["shards"]["checked"], clean["shards"]["good"]) == (1, 6, 6)
    # Under running daemons: one that starts looks for damage itself, and the store mends it.
    for (_, path), needle in zip(places, needles, strict=True):
        flip(path, needle)
    mended = scanned(store, query + "&repair=1")
    assert (mended["shards"]["corrupt"], mended["shards"]["repaired"]) == (2, 2)
    assert {each["node"] for each in mended["damaged"]} == nodes
    assert scanned(store, query)["shards"]["good"] == SHARDS
    object_at(store, name).check(body)
    store.kill(*nodes)
    away = scanned(store, query + "&repair=1")
    assert (away["shards"]["unreachable"], away["shards"]["good"]) == (2, 4)
    assert away["unreadable"] == []
    store.revive()


def test_more_damage_than_parity_is_named_with_its_objects(store: SurfaceStore) -> None:
    name = fresh("scan/lost")
    query = f"bucket=objects&prefix={quote(name, safe='')}"
    body = store.put_whole(name, STRIPE, seed=3_002)
    needles = data_needles(body, range(3))
    places = [next(iter(holders(store, needle).items())) for needle in needles]
    store.kill(*{node for node, _ in places})
    for (_, path), needle in zip(places, needles, strict=True):
        flip(path, needle)
    store.revive()

    def reached() -> Any:
        found = scanned(store, query + "&repair=1")
        return None if found["shards"]["unreachable"] else found

    lost = wait_for(reached, what="every daemon to be asked again")
    (unreadable,) = lost["unreadable"]
    newest = numbers(store, name)[-1]  # put_whole may have needed several
    assert unreadable["objects"] == [{"bucket": "objects", "key": name, "version": newest}]
    assert (unreadable["good"], unreadable["needed"]) == (3, 4)
    assert lost["shards"]["repaired"] == 0
    refused = store.ask("GET", object_path(name), at=1).expect(503)
    assert refused.code == "StripeUnreadable"
    store.remove_for_good(name)


# --- who may, and what is refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("POST /v1/maintenance/prune?keep=0", 400),
        ("POST /v1/maintenance/prune?keep=x", 400),
        ("POST /v1/maintenance/prune?keep=1001", 400),
        ("POST /v1/maintenance/prune?bucket=never-made", 404),
        ("POST /v1/maintenance/prune?key=never-stored", 404),
        ("POST /v1/maintenance/scan?prefix=x", 400),
        ("POST /v1/maintenance/scan?after=x", 400),
        ("POST /v1/maintenance/scan?bucket=never-made", 404),
        ("POST /v1/maintenance/orphans", 400),
        ("POST /v1/maintenance/orphans?disk=x", 400),
        ("POST /v1/maintenance/orphans?disk=999999", 404),
        ("GET /v1/maintenance?node=nobody", 404),
        ("GET /v1/maintenance/scan", 405),
        ("GET /v1/maintenance/prune", 405),
        ("GET /v1/maintenance/orphans", 405),
    ],
)
def test_what_is_no_command_is_refused(store: SurfaceStore, request_line: str, status: int) -> None:
    method, _, path = request_line.partition(" ")
    for at in (0, 1):
        answer = store.ask(method, path, at=at).expect(status)
        assert answer.json()["error"]["message"]


def test_maintenance_is_for_who_administers_it(store: SurfaceStore) -> None:
    name = fresh("prune/not yours")
    history(store, name, 3)
    wish = b'{"scopes": ["upload", "download", "info"]}'
    made = store.ask("POST", "/v1/keys", body=wish).expect(201).json()
    weak = {"Authorization": f"Bearer {made['access_key']}:{made['secret_key']}"}
    for path in (
        f"/v1/maintenance/prune?key={quote(name, safe='')}&keep=1",
        "/v1/maintenance/scan?repair=1",
        "/v1/maintenance/orphans?disk=1",
    ):
        for headers, status in (({}, 401), ({"Authorization": "Bearer x:y"}, 401), (weak, 403)):
            store.ask("POST", path, headers=headers, anonymous=True).expect(status)
    assert numbers(store, name) == [1, 2, 3]
    store.ask("DELETE", f"/v1/keys/{made['access_key']}").expect(204)


def test_a_daemon_may_be_stopped_while_no_other_is_away(store: SurfaceStore) -> None:
    def obstacle() -> str:
        answer = store.ask("GET", "/v1/maintenance?node=blob-3").expect(200, 412)
        return "" if answer.status == 200 else str(answer.json()["error"]["message"])

    store.mend()  # what a write has left out would be an obstacle as well
    assert obstacle() == ""
    store.kill("blob-1")
    try:
        assert "blob-1" in obstacle()  # at once: heartbeats would tell it later
    finally:
        store.revive()
    wait_for(lambda: not obstacle(), what="all to be there again")
