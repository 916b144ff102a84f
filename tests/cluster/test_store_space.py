"""What objects occupy on the disks: once by content, less by compression, nothing in the end."""

import pytest

from tests.cluster.local import LocalStore, noise, object_path, text, wait_for

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
HUNDRED = 100 * MIB
STRIPES = -(-HUNDRED // (8 * MIB))
CODED = 6 / 4
SLACK = 1.03
"""Heads of records, seals, padding."""
EMPTIED_BYTES = 6 * 2 * MIB
"""What compaction may leave behind: on each disk an active volume too small to rewrite."""
ONE_BYTES_MAX = HUNDRED * CODED * SLACK + EMPTIED_BYTES
GIVEN_BACK_S = 60.0


def wait_volume_bytes(store: LocalStore, most: float) -> None:
    """Until the volume files together have at most that many bytes."""
    wait_for(
        lambda: store.volume_bytes() <= most,
        what=f"volume files to shrink to {most / MIB:.0f} MiB",
        deadline_s=GIVEN_BACK_S,
    )


def test_ten_names_of_one_content_occupy_one_and_the_last_delete_gives_it_back(
    store: LocalStore,
) -> None:
    before = store.wait_collected()
    empty_bytes = store.settled_volume_bytes()
    body = noise(HUNDRED, seed=1)
    names = [f"dedup/copy-{number}" for number in range(10)]

    store.put(names[0], body)
    one_bytes = store.volume_bytes() - empty_bytes
    assert HUNDRED * CODED <= one_bytes <= HUNDRED * CODED * SLACK
    one = store.census()
    for name in names[1:]:
        store.put(name, body)
    assert store.census()["stripes"] == one["stripes"] == before["stripes"] + STRIPES
    # Twins that travelled before anybody asked are trash by now: they go while all names stay.
    store.wait_collected()
    wait_volume_bytes(store, empty_bytes + ONE_BYTES_MAX)
    assert store.census()["stripes"] == one["stripes"]

    for name in names[:-1]:
        store.remove_for_good(name)
    store.wait_collected()
    wait_volume_bytes(store, empty_bytes + ONE_BYTES_MAX)
    assert store.census()["stripes"] == one["stripes"]
    assert store.get(names[-1]) == body

    store.remove_for_good(names[-1])
    after = store.wait_collected()
    for count in ("stripes", "segments", "versions", "stored_bytes", "logical_bytes"):
        assert after[count] == before[count], count
    wait_volume_bytes(store, empty_bytes + EMPTIED_BYTES)


def test_text_occupies_well_below_its_size(store: LocalStore) -> None:
    before = store.wait_collected()
    before_bytes = store.settled_volume_bytes()
    body = text(50_000_000)
    store.put("text", body)
    added_bytes = store.volume_bytes() - before_bytes
    assert 0 < added_bytes < len(body) / 2  # on six disks, parity included
    assert 0 < store.census()["stored_bytes"] - before["stored_bytes"] < len(body) / 3
    assert store.get("text") == body
    part = {"Range": "bytes=30000000-30099999"}
    assert (
        store.request("GET", "/objects/text", headers=part).expect(206).body
        == (body[30_000_000:30_100_000])
    )
    store.remove_for_good("text")


def test_a_new_version_that_differs_in_one_place_occupies_one_stripe_more(
    store: LocalStore,
) -> None:
    body = bytearray(noise(20 * MIB, seed=2))
    store.put("edited", bytes(body))
    before = store.census()["stripes"]
    body[10 * MIB] ^= 1
    store.put("edited", bytes(body))
    assert store.census()["stripes"] == before + 1
    assert store.get("edited") == bytes(body)
    body[10 * MIB] ^= 1
    first = store.request("GET", f"{object_path('edited')}?version=1").expect(200)
    assert first.body == bytes(body)
    store.remove_for_good("edited")


def test_deleting_behind_a_marker_keeps_the_bytes(store: LocalStore) -> None:
    body = noise(5 * MIB, seed=3)
    store.put("hidden", body)
    store.request("DELETE", "/objects/hidden").expect(204)
    store.wait_collected()
    store.request("GET", "/objects/hidden").expect(404)
    assert store.request("GET", "/objects/hidden?version=1").expect(200).body == body
    store.remove_for_good("hidden")
