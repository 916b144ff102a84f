"""The index: two layers that answer as one, and records that merge in any order."""

import itertools
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blobd.index import (
    IN_MEMORY,
    Change,
    Index,
    IndexUnusable,
    Location,
    State,
    VolumeRow,
    merged,
    remove_index,
)
from blobd.record import KEY_BYTES, record_bytes
from blobd.recovery import open_index


def key(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "big")


def place(
    volume: int, offset: int = 0, *, state: State = State.LIVE, size_bytes: int = 100, crc: int = 1
) -> Location:
    target = volume if state == State.DELETED else 0
    return Location(volume, offset, size_bytes, crc, state, volume, target)


def add(index: Index, number: int, new: Location | None) -> None:
    index.publish([Change(key(number), index.find(key(number)), new)])


@pytest.fixture(params=["file", "memory"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Index:
    return Index.open(IN_MEMORY if request.param == "memory" else tmp_path / "index.sqlite")


def test_flush_changes_no_answer(index: Index) -> None:
    for number in range(20):
        add(index, number, place(1, number * 8))
    add(index, 3, None)
    add(index, 4, place(2, state=State.DELETED))

    def answers() -> object:
        found = [index.find(key(number)) for number in range(21)]
        many = index.find_many([key(number) for number in range(21)])
        return found, many, index.page(b"", 100), index.page(key(5), 3)

    before = answers()
    assert index.dirty
    index.flush()
    assert not index.dirty
    assert index.fresh_count == 0
    assert answers() == before
    assert [row[0] for row in index.page(b"", 100)] == [
        key(number) for number in range(20) if number not in (3, 4)
    ]


@given(
    st.lists(st.tuples(st.integers(0, 15), st.sampled_from(["put", "delete", "drop", "flush"]))),
    st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_pages_are_full_and_in_order_whatever_is_flushed(
    steps: list[tuple[int, str]], limit: int
) -> None:
    index, model = Index.open(IN_MEMORY), dict[bytes, Location]()
    for count, (number, step) in enumerate(steps):
        if step == "flush":
            index.flush()
            continue
        new = None if step == "drop" else place(1, count, state=_STATES[step])
        add(index, number, new)
        model.pop(key(number), None)
        if step == "put" and new is not None:
            model[key(number)] = new
    found: list[tuple[bytes, Location]] = []
    while page := index.page(found[-1][0] if found else b"", limit):
        found += page
        if len(page) < limit:
            break
    assert found == sorted(model.items())
    assert sum(use.shard_count for use in index.use.values()) == len(model)
    index.close()


_STATES = {"put": State.LIVE, "delete": State.DELETED}


def test_counts_survive_reopening(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    index = Index.open(path)
    for number, size_bytes in enumerate((0, 1, 65536, 65537, 1_000_000)):
        add(index, number, place(1 + number % 2, number, size_bytes=size_bytes))
    add(index, 9, place(2, state=State.DELETED))
    row = VolumeRow(2, b"saltsalt", 4096, True, False)
    index.publish((), row)
    index.flush()
    expected = dict(index.use)
    index.close()
    index = Index.open(path)
    assert index.use == expected
    assert index.use[1].shard_bytes == sum(record_bytes(size) for size in (0, 65536, 1_000_000))
    assert index.volumes == {2: row}
    index.close()


def test_swap_gives_way_to_what_happened_meanwhile(index: Index) -> None:
    add(index, 1, place(1))
    assert not index.swap(key(1), place(2), None)
    assert index.swap(key(1), place(1), place(3))
    assert index.find(key(1)) == place(3)


def test_corrupt_or_foreign_file_is_unusable_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"\x00garbage" * 999)
    with pytest.raises(IndexUnusable):
        Index.open(path)
    open_index(path).close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(IndexUnusable):
        Index.open(path)
    open_index(path).close()
    remove_index(path)
    assert not path.exists()


RECORDS = (
    place(3, 80, state=State.DAMAGED, crc=1),
    place(5, 0, crc=2),
    place(7, 16, crc=2),
    place(6, 8, state=State.DELETED),
)


@pytest.mark.parametrize("records", [RECORDS[:2], RECORDS[:3], RECORDS, RECORDS[1:]])
def test_records_merge_to_the_same_in_any_order_and_twice(records: tuple[Location, ...]) -> None:
    results = set()
    for order in itertools.permutations(records):
        found: Location | None = None
        for record in (*order, *order):
            found = merged(found, record)
        assert found is not None
        results.add(found)
    assert len(results) == 1
    (result,) = results
    assert result.since == min(record.volume for record in records)
    if RECORDS[3] in records:
        assert result.state == State.DELETED
        assert result.target >= max(record.volume for record in records)
    else:
        assert result.volume == max(r.volume for r in records if r.state == State.LIVE)


def test_damage_is_not_forgotten_by_merging_the_same_record_again() -> None:
    assert merged(place(1), place(1, state=State.DAMAGED)).state == State.DAMAGED
    assert merged(place(1, state=State.DAMAGED), place(1)).state == State.DAMAGED
