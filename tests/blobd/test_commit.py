"""What the writing thread decides when operations meet in one batch."""

import pytest

from blobd.appender import Appender
from blobd.commit import Committer, Delete, Move, Put, Roll
from blobd.index import IN_MEMORY, Index, Location, State
from blobd.reading import read_record
from blobd.record import digest, identity_key
from blobd.room import Room, StoreSettings
from blobd.volumefiles import VolumeFiles
from osscore.errors import ShardConflict
from tests.blobd.disk_story import CODING, FOLDER, body, shard
from tests.fakes.clock import ManualClock
from tests.fakes.disk import SimulatedDisk


class Bench:
    """A committer with all it needs."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk()
        self.files = VolumeFiles(self.disk, FOLDER)
        self.index = Index.open(IN_MEMORY)
        room = Room(self.disk, FOLDER, StoreSettings())
        clock = ManualClock()
        appender = Appender(
            self.files,
            disk=self.disk,
            clock=clock,
            random=lambda size_bytes: bytes(size_bytes),
            volume_bytes=room.volume_bytes,
        )
        self.committer = Committer(self.files, self.index, appender, room=room, clock=clock)

    def found(self, number: int) -> Location | None:
        return self.index.find(identity_key(shard(number)))

    def move(self, number: int) -> Move:
        key = identity_key(shard(number))
        location = self.index.find(key)
        assert location is not None
        with self.files.reading(location.volume) as (file, salt):
            record = read_record(file, salt, key=key, location=location)
        assert record is not None
        return Move(key, location, *record)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def put(number: int, data: bytes | None = None) -> Put:
    data = body(number) if data is None else data
    return Put(identity_key(shard(number)), CODING, data, *digest(data))


def test_batch_is_one_write_and_one_sync(bench: Bench) -> None:
    bench.committer.commit([put(0)])
    before = bench.disk.operation_count
    assert bench.committer.commit([put(number) for number in range(1, 50)]) == [True] * 49
    assert bench.disk.operation_count == before + 2


def test_later_operations_of_a_batch_see_earlier_ones(bench: Bench) -> None:
    outcomes = bench.committer.commit(
        [put(1), put(1), put(1, b"other"), Delete(put(1).key), put(1), Delete(put(1).key)]
    )
    assert outcomes[:2] == [True, False]
    assert isinstance(outcomes[2], ShardConflict)
    assert outcomes[3] is True
    assert isinstance(outcomes[4], ShardConflict)
    assert outcomes[5] is False
    found = bench.found(1)
    assert found is not None
    assert found.state == State.DELETED


def test_move_gives_way_to_a_delete_and_to_a_move_before_it(bench: Bench) -> None:
    bench.committer.commit([put(1), put(2)])
    stale, twice = bench.move(1), bench.move(2)
    assert bench.committer.commit([Delete(stale.key), stale]) == [True, False]
    assert bench.committer.commit([twice, twice]) == [True, False]
    found = bench.found(1)
    assert found is not None
    assert found.state == State.DELETED


def test_rolls_in_a_batch_are_done_before_its_records(bench: Bench) -> None:
    bench.committer.commit([put(1)])
    assert bench.committer.commit([put(2), Roll(1), put(3), Roll(9)]) == [True, True, True, False]
    places = [bench.found(number) for number in (1, 2, 3)]
    assert [place.volume for place in places if place is not None] == [1, 2, 2]
    assert bench.index.volumes[1].sealed


def test_tombstone_names_the_volumes_that_hold_its_record(bench: Bench) -> None:
    bench.committer.commit([put(1), put(2)])
    bench.committer.commit([Roll(1), bench.move(2)])
    bench.committer.commit([Delete(put(1).key), Delete(put(2).key), Delete(put(3).key)])
    spans = [(found.since, found.target) for n in (1, 2, 3) if (found := bench.found(n))]
    assert spans == [(1, 1), (1, 2), (0, 0)]
