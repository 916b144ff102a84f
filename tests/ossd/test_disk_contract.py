"""Both disks, the machine's and the simulated one, keep the contract of ossd.disk."""

from pathlib import Path

import pytest

from ossd.disk import Disk, SystemDisk, read_file, write_file_atomically
from tests.fakes.disk import SimulatedDisk


@pytest.fixture(params=["system", "simulated"])
def place(request, tmp_path) -> tuple[Disk, Path]:
    if request.param == "system":
        return SystemDisk(), tmp_path
    return SimulatedDisk(), Path("/data")


def test_written_pieces_are_read_back_in_order(place):
    disk, folder = place
    file = disk.open(folder / "a", create=True)
    assert file.pwrite([b"one", bytearray(b""), memoryview(b"two")], 0) == 6
    assert file.pread(100, 0) == b"onetwo"
    assert file.pread(2, 2) == b"et"
    assert file.pread(5, 6) == b""
    assert file.size_bytes() == 6


def test_a_thousand_pieces_are_written_by_one_call(place):
    disk, folder = place
    file = disk.open(folder / "a", create=True)
    pieces = [bytes([n % 256]) * 3 for n in range(1500)]
    assert file.pwrite(pieces, 5) == 4500
    assert file.pread(4505, 0) == bytes(5) + b"".join(pieces)


def test_a_write_behind_the_end_leaves_zeros_between(place):
    disk, folder = place
    file = disk.open(folder / "a", create=True)
    file.pwrite([b"x"], 4)
    assert file.pread(10, 0) == b"\0\0\0\0x"


def test_truncate_cuts_and_extends_with_zeros(place):
    disk, folder = place
    file = disk.open(folder / "a", create=True)
    file.pwrite([b"abcdef"], 0)
    file.truncate(2)
    file.truncate(4)
    assert read_file(disk, folder / "a") == b"ab\0\0"


def test_create_refuses_an_existing_name_and_open_a_missing_one(place):
    disk, folder = place
    disk.open(folder / "a", create=True).close()
    with pytest.raises(FileExistsError):
        disk.open(folder / "a", create=True)
    with pytest.raises(FileNotFoundError):
        disk.open(folder / "b")
    with pytest.raises(FileNotFoundError):
        disk.open(folder / "none" / "b", create=True)


def test_a_file_opened_for_reading_refuses_writes(place):
    disk, folder = place
    disk.open(folder / "a", create=True).close()
    file = disk.open(folder / "a", write=False)
    with pytest.raises(OSError):
        file.pwrite([b"x"], 0)


def test_a_closed_file_refuses_everything_and_closes_twice(place):
    disk, folder = place
    file = disk.open(folder / "a", create=True)
    file.close()
    file.close()
    for use in (lambda: file.pread(1, 0), lambda: file.pwrite([b"x"], 0), file.sync):
        with pytest.raises(OSError):
            use()


def test_names_are_sorted_and_unlinked_files_stay_readable_while_open(place):
    disk, folder = place
    kept = disk.open(folder / "b", create=True)
    kept.pwrite([b"kept"], 0)
    disk.open(folder / "a", create=True).close()
    assert disk.names(folder) == ["a", "b"]
    disk.unlink(folder / "b")
    assert disk.names(folder) == ["a"]
    assert kept.pread(4, 0) == b"kept"
    with pytest.raises(FileNotFoundError):
        disk.unlink(folder / "b")


def test_replace_takes_the_place_of_what_is_there(place):
    disk, folder = place
    write_file_atomically(disk, folder / "a", b"old")
    write_file_atomically(disk, folder / "b", b"new")
    disk.replace(folder / "b", folder / "a")
    assert read_file(disk, folder / "a") == b"new"
    assert not disk.exists(folder / "b")
    with pytest.raises(FileNotFoundError):
        disk.replace(folder / "b", folder / "a")


def test_make_directory_makes_parents_and_may_be_repeated(place):
    disk, folder = place
    disk.make_directory(folder / "x" / "y")
    disk.make_directory(folder / "x" / "y")
    assert disk.names(folder / "x") == ["y"]
    with pytest.raises(FileNotFoundError):
        disk.names(folder / "z")
    disk.sync_directory(folder / "x")


def test_a_lock_is_held_until_it_is_closed(place):
    disk, folder = place
    held = disk.lock(folder / "lock")
    with pytest.raises(BlockingIOError):
        disk.lock(folder / "lock")
    held.close()
    disk.lock(folder / "lock").close()


def test_space_is_told(place):
    disk, folder = place
    space = disk.space(folder)
    assert 0 < space.free_bytes <= space.total_bytes


def test_an_atomic_write_ignores_the_rest_of_an_earlier_one(place):
    disk, folder = place
    disk.open(folder / "a.tmp", create=True).pwrite([b"left over, and longer"], 0)
    write_file_atomically(disk, folder / "a", b"whole")
    assert read_file(disk, folder / "a") == b"whole"
    assert disk.names(folder) == ["a"]


def test_a_folder_is_no_file(place):
    disk, folder = place
    disk.make_directory(folder / "folder")
    with pytest.raises(IsADirectoryError):
        disk.open(folder / "folder")
