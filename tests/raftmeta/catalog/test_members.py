"""The table of the metanodes that count: written by entries only, the same after any restart."""

from pathlib import Path

from raftmeta.admission import refusal
from raftmeta.catalog import copies, restored
from raftmeta.catalog.catalog import Catalog
from raftmeta.commands import Done
from raftmeta.entries import Entry
from raftmeta.members import Member, SetMembers
from tests.raftmeta.catalog.harness import Driver


def members(*numbers: int) -> tuple[Member, ...]:
    return tuple(Member(id=f"meta-{n}", raft=f"h:{n}", url=f"http://h:{n}") for n in numbers)


def set_members(driver: Driver, *numbers: int) -> int:
    """Apply the command as the Raft layer logs it; answers its index."""
    assert driver.apply(Entry(0, 0, SetMembers(members=members(*numbers)))) == [Done()]
    return driver.index


def test_before_the_first_change_the_catalog_names_nobody(driver: Driver) -> None:
    assert driver.catalog.members() == (0, ())


def test_last_change_counts_and_is_there_after_a_restart_and_in_a_copy(
    driver: Driver, tmp_path: Path
) -> None:
    set_members(driver, 1, 2, 3, 4)
    index = set_members(driver, 1, 2, 4)
    driver.open()
    assert driver.catalog.members() == (index, members(1, 2, 4))
    driver.catalog.copy_to(tmp_path / "copy.db")
    driver.catalog.close()
    for path in (driver.path, tmp_path / "copy.db"):
        catalog = Catalog(path)
        assert catalog.members() == (index, members(1, 2, 4))
        catalog.close()
    driver.catalog = Catalog(driver.path)


def test_nobody_may_set_members_like_any_other_command() -> None:
    error = refusal(SetMembers(members=members(1)), admits_writes=True)
    assert error is not None and error.code == "InvalidArgument"


def test_a_restored_catalog_names_nobody_of_the_lost_cluster(driver: Driver) -> None:
    set_members(driver, 7, 8, 9)
    copy = driver.path.with_name("restored.db")
    driver.catalog.copy_to(copy)
    copies.settle(copy)
    begun = restored.prepare(copy, now_ms=driver.now_ms)
    catalog = Catalog(copy)
    # Newer than whatever clients of the lost cluster were told of its members.
    assert catalog.members() == (begun.applied_index, ())
    catalog.close()
