"""One disk's archive: what is acknowledged is there after any crash, what is not whole never is."""

import errno
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import pytest
from blake3 import blake3

from blobd.archive.shelf import Shelf
from osscore.errors import BadDigest, Conflict, DiskFailing, DiskFull, InvalidArgument, NotFound
from raftmeta.archive.pieces import ArchivedEntry, LogName, SnapshotName, pack_piece, scan_log
from raftmeta.archive.wire import Forget
from tests.fakes.disk import Operation, PowerCut, SimulatedDisk

CLUSTER, UUID = b"c" * 16, b"u" * 16
FOLDER = Path("/data/archive")
GENERATION = 1


def shelf_on(disk: SimulatedDisk, *, log_bytes: int = 1 << 20) -> Shelf:
    return Shelf(FOLDER, cluster_id=CLUSTER, disk=disk, log_bytes=log_bytes)


def piece(first: int, count: int = 1) -> bytes:
    return pack_piece([ArchivedEntry(n, 1, b"entry %d" % n) for n in range(first, first + count)])


def append(shelf: Shelf, first: int, count: int = 1, *, begins: bool = False) -> int:
    return shelf.append(GENERATION, piece(first, count), begins=begins)


def names(shelf: Shelf) -> list[str]:
    return [file.name for file in shelf.show(UUID).files]


def log_names(shelf: Shelf) -> list[LogName]:
    return [
        LogName(*(int(part, 16) for part in name.split("-")[1:]))
        for name in names(shelf)
        if name.startswith("log")
    ]


def snapshot_of(index: int, data: bytes, *, generation: int = GENERATION) -> SnapshotName:
    return SnapshotName(generation, index, blake3(data).hexdigest())


def send_snapshot(shelf: Shelf, index: int, data: bytes, *, generation: int = GENERATION) -> str:
    name = str(snapshot_of(index, data, generation=generation))
    half = len(data) // 2
    assert shelf.take_snapshot_piece(name, 0, data[:half]) == half
    assert shelf.take_snapshot_piece(name, half, data[half:]) == len(data)
    assert shelf.finish_snapshot(name) == len(data)
    return name


def test_pieces_continue_each_other_and_again_is_no_change() -> None:
    disk = SimulatedDisk()
    shelf = shelf_on(disk)
    assert append(shelf, 5, 3) == 0, "there is nothing that it could continue"
    assert append(shelf, 5, 3, begins=True) == 7
    assert append(shelf, 5, 3, begins=True) == 7
    assert append(shelf, 5, 3) == 7 and append(shelf, 6, 1) == 7
    assert append(shelf, 9) == 7, "entry 8 is missing"
    assert append(shelf, 8, 2) == 9
    assert log_names(shelf) == [LogName(GENERATION, 5, 5)]
    assert shelf_on(disk).end(GENERATION) == 9
    assert shelf.end(GENERATION + 1) == 0


def test_a_run_that_begins_anew_says_so() -> None:
    shelf = shelf_on(SimulatedDisk())
    append(shelf, 5, begins=True)
    assert append(shelf, 5, 9, begins=True) == 5, "nothing is written over"
    assert append(shelf, 20, begins=True) == 20
    assert append(shelf, 21) == 21
    assert log_names(shelf) == [LogName(GENERATION, 5, 5), LogName(GENERATION, 20, 20)]


def test_a_long_file_is_followed_by_another_of_the_same_run() -> None:
    disk = SimulatedDisk()
    shelf = shelf_on(disk, log_bytes=200)
    append(shelf, 1, begins=True)
    for index in range(2, 12):
        assert append(shelf, index) == index
    found = log_names(shelf)
    assert len(found) > 2 and {name.run for name in found} == {1}
    assert all(file.size_bytes < 400 for file in shelf.show(UUID).files)
    assert shelf_on(disk, log_bytes=200).end(GENERATION) == 11


def test_a_damaged_piece_is_refused() -> None:
    shelf = shelf_on(SimulatedDisk())
    rotten = bytearray(piece(1))
    rotten[-1] ^= 1
    with pytest.raises(BadDigest):
        shelf.append(GENERATION, rotten, begins=True)
    assert names(shelf) == []


@pytest.mark.parametrize("seed", range(40))
def test_after_a_power_cut_all_that_was_acknowledged_is_there_and_the_log_goes_on(
    seed: int,
) -> None:
    random = Random(seed)
    disk = SimulatedDisk(cut_after=random.randrange(1, 45))
    shelf = shelf_on(disk, log_bytes=250)
    acknowledged, snapshots = 0, []
    with suppress(PowerCut):
        for index in range(1, 12):
            acknowledged = append(shelf, index, begins=index == 1)
            if index % 4 == 0:
                snapshots.append(send_snapshot(shelf, index, b"catalog %d" % index))
    after = disk.power_cut(random)
    again = shelf_on(after, log_bytes=250)
    end = again.end(GENERATION)
    assert acknowledged <= end <= acknowledged + 1
    assert set(snapshots) <= set(names(again))
    assert not any(name.endswith(".part") for name in names(again))
    assert append(again, end + 1, 3, begins=end == 0) == end + 3
    assert readable(after) == list(range(1, end + 4))
    for name in names(again):
        if name.startswith("snapshot"):
            assert blake3(after.content(FOLDER / name)).hexdigest() == name.rsplit("-", 1)[1]


def readable(disk: SimulatedDisk) -> list[int]:
    """Entries that can be read of all files, in order of the files."""
    found = []
    for name in log_names(shelf_on(disk)):
        with closing(disk.open(FOLDER / str(name), write=False)) as file:
            pieces = scan_log(file, CLUSTER, name).pieces
        found += [n for p in pieces for n in range(p.head.first, p.head.last + 1)]
    return found


def test_the_end_that_a_killed_process_left_unsynced_is_synced_before_it_counts() -> None:
    disk = SimulatedDisk()
    append(shelf_on(disk), 1, begins=True)
    name = log_names(shelf_on(disk))[0]
    with closing(disk.open(FOLDER / str(name))) as file:
        file.pwrite([piece(2)], file.size_bytes())  # and then kill -9
    assert shelf_on(disk).end(GENERATION) == 2
    for seed in range(20):
        assert shelf_on(disk.power_cut(Random(seed))).end(GENERATION) == 2


def test_behind_an_end_that_cannot_be_read_another_file_goes_on() -> None:
    disk = SimulatedDisk()
    shelf = shelf_on(disk)
    append(shelf, 1, 2, begins=True)
    append(shelf, 3)
    name = log_names(shelf)[0]
    disk.flip_bit(FOLDER / str(name), len(disk.content(FOLDER / str(name))) - 1)
    again = shelf_on(disk)
    assert again.end(GENERATION) == 2
    assert append(again, 3, 2) == 4
    assert log_names(again) == [name, LogName(GENERATION, 1, 3)]
    assert readable(disk) == [1, 2, 3, 4]


def test_a_file_without_a_readable_piece_is_replaced() -> None:
    disk = SimulatedDisk()
    append(shelf_on(disk), 1, begins=True)
    name = log_names(shelf_on(disk))[0]
    disk.flip_bit(FOLDER / str(name), 3)
    again = shelf_on(disk)
    assert append(again, 1, 2, begins=True) == 2
    assert log_names(again) == [name] and readable(disk) == [1, 2]


def test_a_snapshot_has_its_name_only_once_it_is_whole() -> None:
    shelf = shelf_on(SimulatedDisk())
    name = str(snapshot_of(9, b"abcdef"))
    with pytest.raises(Conflict):
        shelf.take_snapshot_piece(name, 3, b"def")
    shelf.take_snapshot_piece(name, 0, b"abc")
    with pytest.raises(Conflict):
        shelf.take_snapshot_piece(name, 4, b"ef")
    assert names(shelf) == []
    with pytest.raises(BadDigest):
        shelf.finish_snapshot(name)
    with pytest.raises(Conflict):
        shelf.finish_snapshot(name)
    assert send_snapshot(shelf, 9, b"abcdef") == name
    assert shelf.finish_snapshot(name) == 6 == shelf.take_snapshot_piece(name, 0, b"abc")
    assert shelf.read(name, 2) == b"cdef"
    for wrong in ("label", "../label", name + ".part"):
        with pytest.raises(NotFound):
            shelf.read(wrong, 0)
        with pytest.raises(InvalidArgument):
            shelf.take_snapshot_piece(wrong, 0, b"")


def test_a_snapshot_that_begins_takes_the_place_of_one_that_was_not_finished() -> None:
    disk = SimulatedDisk()
    shelf = shelf_on(disk)
    shelf.take_snapshot_piece(str(snapshot_of(9, b"never sent whole")), 0, b"never")
    send_snapshot(shelf, 12, b"another")
    assert disk.names(FOLDER) == [str(snapshot_of(12, b"another"))]


def test_only_what_a_newer_snapshot_makes_needless_is_forgotten() -> None:
    disk = SimulatedDisk()
    shelf = shelf_on(disk, log_bytes=1)  # a file for each piece
    first = send_snapshot(shelf, 2, b"first")
    append(shelf, 1, 2, begins=True)
    append(shelf, 3, 2)
    append(shelf, 5, 2)
    second = send_snapshot(shelf, 5, b"second")
    assert first in names(shelf)
    shelf.forget(Forget(generation=GENERATION, index=5, spares_earlier=False))
    assert names(shelf) == [str(LogName(GENERATION, 1, 5)), second], "entry 6 is needed"
    assert append(shelf, 7) == 7
    assert shelf_on(disk).end(GENERATION) == 7


def test_the_log_of_a_keeper_stays_where_it_stands_still() -> None:
    """Else it would have to begin a new run."""
    shelf = shelf_on(SimulatedDisk())
    append(shelf, 1, 5, begins=True)
    send_snapshot(shelf, 5, b"all of it")
    shelf.forget(Forget(generation=GENERATION, index=5, spares_earlier=False))
    assert shelf.end(GENERATION) == 5 and append(shelf, 6) == 6


def test_who_keeps_no_new_snapshot_forgets_all_before_it() -> None:
    shelf = shelf_on(SimulatedDisk())
    append(shelf, 1, 5, begins=True)
    send_snapshot(shelf, 3, b"old")
    shelf.forget(Forget(generation=GENERATION, index=9, spares_earlier=False))
    assert names(shelf) == [] and shelf.end(GENERATION) == 0


def test_of_two_snapshots_as_of_one_entry_the_named_one_stays() -> None:
    shelf = shelf_on(SimulatedDisk())
    names_ = [send_snapshot(shelf, 3, data) for data in (b"packed once", b"packed twice")]
    assert len(names(shelf)) == 2
    order = Forget(generation=1, index=3, spares_earlier=False, snapshot=names_[1])
    shelf.forget(order)
    assert names(shelf) == [names_[1]]


def test_a_file_that_is_not_what_it_was_is_told_and_not_appended_to() -> None:
    disk = SimulatedDisk()
    shelf = shelf_on(disk)
    for index in range(1, 4):
        append(shelf, index, begins=index == 1)
    (name,) = log_names(shelf)
    assert shelf.is_sound(name) and shelf.show(UUID).damaged == ()
    content = disk.content(FOLDER / str(name))
    disk.flip_bit(FOLDER / str(name), len(content) // 2)
    assert not shelf.is_sound(name)
    shelf.note_damage(name)
    assert shelf.show(UUID).damaged == (str(name),)
    end = shelf.end(GENERATION)
    assert append(shelf, end + 1) == end + 1
    assert log_names(shelf) == [name, LogName(GENERATION, 1, end + 1)]
    with pytest.raises(NotFound):
        shelf.is_sound(LogName(GENERATION, 77, 77))


def test_an_end_that_a_crash_cut_short_is_no_damage_once_the_log_went_on() -> None:
    disk = SimulatedDisk()
    append(shelf_on(disk), 1, begins=True)
    (name,) = log_names(shelf_on(disk))
    with closing(disk.open(FOLDER / str(name))) as file:
        file.pwrite([piece(2)[:20]], file.size_bytes())
    again = shelf_on(disk)
    assert again.end(GENERATION) == 1 and again.is_sound(name)
    append(again, 2)
    assert again.is_sound(name) and all(map(again.is_sound, log_names(again)))
    with closing(disk.open(FOLDER / str(name))) as file:
        file.truncate(60)
    assert not again.is_sound(name), "entry 1 is missing before entry 2"


def test_earlier_generations_are_spared_until_they_are_not() -> None:
    shelf = shelf_on(SimulatedDisk())
    append(shelf, 1, 5, begins=True)
    old = send_snapshot(shelf, 3, b"old")
    new = send_snapshot(shelf, 1 << 33, b"new", generation=2)
    shelf.forget(Forget(generation=2, index=1 << 33, spares_earlier=True))
    assert names(shelf) == [str(LogName(1, 1, 1)), old, new]
    shelf.forget(Forget(generation=2, index=1 << 33, spares_earlier=False))
    assert names(shelf) == [new]


def test_a_full_disk_refuses_and_goes_on_once_there_is_room() -> None:
    disk = SimulatedDisk()
    shelf = shelf_on(disk)
    append(shelf, 1, begins=True)
    disk.capacity_bytes = disk.used_bytes() + 10
    with pytest.raises(DiskFull):
        append(shelf, 2)
    disk.capacity_bytes = 1 << 30
    assert shelf.end(GENERATION) == 1
    assert append(shelf, 2) == 2 and readable(disk) == [1, 2]


def test_after_a_failed_sync_nothing_more_is_kept() -> None:
    """SAFETY rule 13: what the page cache holds then may never reach the disk."""
    disk = SimulatedDisk()
    shelf = shelf_on(disk)
    append(shelf, 1, begins=True)

    def fault(operation: Operation) -> int | None:
        return errno.EIO if operation.kind == "sync" else None

    end = disk.fail(fault)
    with pytest.raises(DiskFailing):
        append(shelf, 2)
    end()
    for attempt in (lambda: append(shelf, 2), lambda: send_snapshot(shelf, 1, b"data")):
        with pytest.raises(DiskFailing):
            attempt()
    assert shelf.show(UUID).problem
