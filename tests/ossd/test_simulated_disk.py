"""The simulated disk loses what a real one may lose, and nothing else."""

import errno
from pathlib import Path
from random import Random

import pytest

from ossd.disk import read_file, write_file_atomically
from tests.fakes.disk import Operation, PowerCut, SimulatedDisk, crash_points

DATA = Path("/data")
DRAWS = 200


def a_file(disk: SimulatedDisk, name: str = "a", content: bytes = b""):
    file = disk.open(DATA / name, create=True)
    file.pwrite([content], 0)
    file.sync()
    disk.sync_directory(DATA)
    return file


def found(disk: SimulatedDisk, name: str = "a") -> set[bytes | None]:
    """Everything a restart may find under that name."""
    states: set[bytes | None] = set()
    for seed in range(DRAWS):
        after = disk.power_cut(Random(seed))
        states.add(read_file(after, DATA / name) if after.exists(DATA / name) else None)
    return states


def test_synced_bytes_under_a_synced_name_survive_every_cut():
    disk = SimulatedDisk()
    a_file(disk, content=b"kept")
    assert found(disk) == {b"kept"}


def test_unsynced_writes_may_be_lost_torn_or_kept():
    disk = SimulatedDisk()
    a_file(disk, content=b"----").pwrite([b"new!"], 0)
    states = found(disk)
    assert {b"----", b"new!", b"n---", b"ne--"} <= states
    assert None not in states


def test_a_later_unsynced_write_may_survive_an_earlier_one():
    disk = SimulatedDisk()
    file = a_file(disk, content=b"--")
    file.pwrite([b"1"], 0)
    file.pwrite([b"2"], 1)
    assert {b"-2", b"1-", b"12", b"--"} <= found(disk)


def test_an_unsynced_append_may_leave_zeros():
    disk = SimulatedDisk()
    a_file(disk, content=b"old").pwrite([b"new"], 3)
    assert b"old\0\0\0" in found(disk)


def test_an_unsynced_name_may_vanish_though_its_bytes_were_synced():
    disk = SimulatedDisk()
    file = disk.open(DATA / "a", create=True)
    file.pwrite([b"x"], 0)
    file.sync()
    assert found(disk) == {None, b"x"}


def test_an_unsynced_unlink_may_come_back():
    disk = SimulatedDisk()
    a_file(disk, content=b"x")
    disk.unlink(DATA / "a")
    assert found(disk) == {None, b"x"}


def test_a_folder_made_but_not_synced_may_vanish_with_all_in_it():
    disk = SimulatedDisk()
    disk.make_directory(DATA / "sub")
    a_file(disk, "sub/a", b"x")
    disk.sync_directory(DATA / "sub")
    disk2 = disk.power_cut(Random(0))
    assert read_file(disk2, DATA / "sub" / "a") == b"x"
    other = SimulatedDisk()
    other.make_directory(DATA / "sub")
    file = other.open(DATA / "sub" / "a", create=True)
    file.sync()
    other.sync_directory(DATA / "sub")
    assert found(other, "sub/a") == {None, b""}


def test_after_a_failed_sync_the_bytes_are_lost_even_if_the_next_sync_succeeds():
    disk = SimulatedDisk()
    file = a_file(disk, content=b"old")
    heal = disk.fail(lambda asked: errno.EIO if asked.kind == "sync" else None)
    file.pwrite([b"new"], 0)
    with pytest.raises(OSError):
        file.sync()
    heal()
    file.sync()
    assert file.pread(3, 0) == b"new"
    assert found(disk) == {b"old"}


def test_a_failing_write_leaves_a_part():
    disk = SimulatedDisk()
    file = a_file(disk, content=b"----")

    def second(asked: Operation) -> int | None:
        return errno.EIO if asked.kind == "pwrite" and asked.path.name == "a" else None

    disk.fail(second)
    with pytest.raises(OSError) as raised:
        file.pwrite([b"abcd"], 0)
    assert raised.value.errno == errno.EIO
    assert disk.content(DATA / "a") == b"ab--"


def test_a_full_disk_refuses_growth_but_not_overwriting():
    disk = SimulatedDisk(capacity_bytes=10)
    file = a_file(disk, content=bytes(8))
    with pytest.raises(OSError) as raised:
        file.pwrite([bytes(4)], 8)
    assert raised.value.errno == errno.ENOSPC
    file.pwrite([b"12345678"], 0)
    assert disk.space(DATA).free_bytes == 0


def test_a_read_only_disk_reads_on():
    disk = SimulatedDisk()
    file = a_file(disk, content=b"x")
    disk.read_only = True
    assert file.pread(1, 0) == b"x"
    for change in (
        lambda: file.pwrite([b"y"], 0),
        lambda: disk.open(DATA / "b", create=True),
        lambda: disk.unlink(DATA / "a"),
    ):
        with pytest.raises(OSError) as raised:
            change()
        assert raised.value.errno == errno.EROFS


def test_a_flipped_bit_is_durable():
    disk = SimulatedDisk()
    a_file(disk, content=b"\x00\x00")
    disk.flip_bit(DATA / "a", 1, bit=3)
    assert found(disk) == {b"\x00\x08"}


def test_locks_end_with_the_power():
    disk = SimulatedDisk()
    disk.lock(DATA / "lock")
    disk.power_cut(Random(0)).lock(DATA / "lock")


def test_once_cut_nothing_works():
    disk = SimulatedDisk(cut_after=1)
    file = disk.open(DATA / "a", create=True)
    for use in (lambda: file.pwrite([b"x"], 0), file.sync, lambda: file.pread(1, 0)):
        with pytest.raises(PowerCut):
            use()


def test_an_atomic_write_leaves_the_old_or_the_new_at_every_crash_point():
    acknowledged: list[bytes] = []

    def scenario(disk: SimulatedDisk) -> None:
        acknowledged.clear()
        for content in (b"first " * 300, b"second " * 300):
            write_file_atomically(disk, DATA / "a", content)
            acknowledged.append(content)

    points = set()
    for point, after in crash_points(scenario, cuts_each=20):
        points.add(point)
        content = read_file(after, DATA / "a") if after.exists(DATA / "a") else None
        allowed = {0: {None, b"first " * 300}, 1: {b"first " * 300, b"second " * 300}}
        assert content in allowed.get(len(acknowledged), {b"second " * 300})
    assert len(points) == 11  # 2 * (create, write, sync, rename, sync folder), and the end
