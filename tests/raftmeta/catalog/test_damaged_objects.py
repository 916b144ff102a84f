"""How many versions of objects damage concerns: by the worst of their stripes, within bounds."""

import pytest

from osscore.model import ObjectAttributes, ShardIdentity
from raftmeta.catalog import query_damage
from raftmeta.commands import (
    CopyBody,
    DeleteVersion,
    Done,
    MarkBad,
    ObjectPut,
    PutObject,
    SetDiskState,
)
from raftmeta.moving import CountDamagedObjects, DamagedObjectsCounted
from tests.raftmeta.catalog.harness import Driver, register_command


def counted(driver: Driver, stripes_max: int = 2000) -> DamagedObjectsCounted:
    found = driver.ask(CountDamagedObjects(stripes_max=stripes_max))
    assert isinstance(found, DamagedObjectsCounted)
    return found


@pytest.mark.parametrize("worst", [0, 1])
def test_an_object_counts_once_by_its_worst_stripe(driver: Driver, worst: int) -> None:
    drafts = [driver.draft(1), driver.draft(2)]
    driver.put("two-stripes", *drafts)
    driver.put("whole", driver.draft(3))
    driver.put_inline("inline", b"x")
    assert counted(driver) == DamagedObjectsCounted(by_missing={})
    for draft in drafts:
        for index in (0, 1) if draft is drafts[worst] else (0,):
            bad = MarkBad(identity=ShardIdentity(draft.stripe, index, 0), disk=index + 1)
            assert driver.run(bad) == Done()
    assert counted(driver).by_missing == {2: 1}


def test_all_versions_that_share_a_stripe_count(driver: Driver) -> None:
    draft = driver.draft(1)
    driver.put("a", draft)
    copy = CopyBody(bucket="bucket", key="a", number=1)
    attributes = ObjectAttributes(size_bytes=1000)
    for key in ("a", "b"):
        put = PutObject(bucket="bucket", key=key, attributes=attributes, body=copy)
        assert isinstance(driver.run(put), ObjectPut)
    driver.run(MarkBad(identity=ShardIdentity(draft.stripe, 0, 0), disk=1))
    assert counted(driver).by_missing == {1: 3}
    driver.run(DeleteVersion(bucket="bucket", key="a", number=1))
    assert counted(driver).by_missing == {1: 2}


def test_shards_on_lost_disks_are_missing_until_the_disk_is_back(driver: Driver) -> None:
    driver.run(register_command(4))
    draft = driver.draft(1)
    driver.put("a", draft)
    driver.put("elsewhere", driver.draft(2, disks=(1, 2, 4)))
    driver.run(MarkBad(identity=ShardIdentity(draft.stripe, 0, 0), disk=1))
    driver.run(SetDiskState(disk=3, state="lost"))
    assert counted(driver).by_missing == {2: 1}
    driver.run(SetDiskState(disk=4, state="lost"))
    assert counted(driver).by_missing == {1: 1, 2: 1}
    driver.run(SetDiskState(disk=3, state="in"))
    driver.run(SetDiskState(disk=4, state="in"))
    assert counted(driver).by_missing == {1: 1}


@pytest.mark.parametrize("lost", [False, True])
def test_more_than_is_looked_at_is_said(driver: Driver, lost: bool) -> None:
    drafts = [driver.draft(number) for number in range(5)]
    for number, draft in enumerate(drafts):
        driver.put(f"k{number}", draft)
        if not lost:
            driver.run(MarkBad(identity=ShardIdentity(draft.stripe, 0, 0), disk=1))
    if lost:
        driver.run(SetDiskState(disk=1, state="lost"))
    assert counted(driver, 5) == DamagedObjectsCounted(by_missing={1: 5})
    assert counted(driver, 4) == DamagedObjectsCounted(by_missing={1: 4}, is_partial=True)


def test_a_stripe_of_many_versions_is_bounded_too(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_damage, "VERSIONS_MAX", 3)
    draft = driver.draft(1)
    for number in range(5):
        driver.put(f"k{number}", driver.draft(1) if number else draft)
    driver.run(MarkBad(identity=ShardIdentity(draft.stripe, 0, 0), disk=1))
    assert counted(driver) == DamagedObjectsCounted(by_missing={1: 3}, is_partial=True)
