"""An older state of a disk: who may compare it, and what holds once it is readmitted (rule 15)."""

import msgspec
import pytest

from osscore.model import ShardIdentity, SlotState
from raftmeta.catalog.apply_rejoin import EPOCH_LEAP
from raftmeta.commands import (
    DiskGrant,
    Done,
    MarkBad,
    MarkGood,
    NodeRegistered,
    SetDiskState,
)
from raftmeta.entries import AnyResult
from raftmeta.generations import ConfirmCensus
from raftmeta.healing import JudgeDisk
from raftmeta.moving import REPAIR, MoveSlot, OpenTasks, ReadTasks, SlotMoved, TaskDraft, TasksRead
from raftmeta.queries import ExpectedSlot, ExpectedSlots, FindObject, Found, SlotsExpected
from raftmeta.rejoining import ABSENT_AT_ONCE, BeginRejoin, CompareSlots, FinishRejoin
from tests.raftmeta.catalog.harness import Driver, disk_uuid, refusal, register_command

CLAIM, OTHER = b"a" * 16, b"b" * 16
GOOD, MISSING, BAD = SlotState.GOOD, SlotState.MISSING, SlotState.BAD


@pytest.fixture
def behind(driver: Driver) -> Driver:
    """Objects 0 to 2 have a slot on disk 1, of which the catalog's epoch is 6."""
    driver.run(register_command(1, epoch=5))
    for number in range(3):
        driver.put(f"k{number}", driver.draft(number))
    return driver


def begin(driver: Driver, *, claim: bytes = CLAIM, node: int = 1, **changes: object) -> AnyResult:
    command = BeginRejoin(
        uuid=disk_uuid(1),
        node=f"blob-{node}",
        url=f"http://blob-{node}:9201",
        epoch=3,
        claim=claim,
        generation=driver.catalog.head.generation,
    )
    return driver.run(msgspec.structs.replace(command, **changes))


def compare(
    driver: Driver,
    after: int,
    through: int,
    *absent: ShardIdentity,
    claim: bytes = CLAIM,
    generation: int = 0,
) -> AnyResult:
    return driver.run(
        CompareSlots(
            disk=1,
            claim=claim,
            generation=generation or driver.catalog.head.generation,
            after_row=after,
            through_row=through,
            slot_count=1,
            absent=absent,
        )
    )


def finish(driver: Driver, *, claim: bytes = CLAIM, generation: int = 0) -> AnyResult:
    generation = generation or driver.catalog.head.generation
    return driver.run(FinishRejoin(disk=1, claim=claim, generation=generation))


def slots(driver: Driver) -> tuple[ExpectedSlot, ...]:
    told = driver.ask(ExpectedSlots(disk=1))
    assert isinstance(told, SlotsExpected)
    return told.slots


def states(driver: Driver) -> list[SlotState]:
    return [SlotState(slot.state) for slot in slots(driver)]


def register(driver: Driver, *, epoch: int, node: str = "") -> NodeRegistered:
    result = driver.run(register_command(1, epoch=epoch, node=node))
    assert isinstance(result, NodeRegistered)
    return result


def is_granted(result: AnyResult) -> bool:
    return isinstance(result, NodeRegistered) and bool(result.granted)


def last_row(driver: Driver) -> int:
    return max(slot.row for slot in slots(driver))


def test_it_is_granted_an_epoch_once_all_its_slots_were_compared(behind: Driver) -> None:
    first, second, third = slots(behind)
    assert begin(behind) == Done()
    assert refusal(finish(behind)) == "Conflict"
    assert compare(behind, 0, second.row, second.identity) == Done()
    assert refusal(finish(behind)) == "Conflict"  # the third was not looked for
    assert compare(behind, second.row, third.row) == Done()
    assert states(behind) == [GOOD, BAD, GOOD]
    grant = DiskGrant(uuid=disk_uuid(1), disk=1, epoch=6 + EPOCH_LEAP)
    assert finish(behind) == NodeRegistered(granted=(grant,), refused={})
    assert first.row < second.row and behind.catalog.contradictions() == []
    assert is_granted(register(behind, epoch=grant.epoch + 1))


def test_pages_follow_each_other_and_are_bounded(behind: Driver) -> None:
    begin(behind)
    rows = [slot.row for slot in slots(behind)]
    assert refusal(compare(behind, rows[0], rows[2])) == "Conflict"
    assert compare(behind, 0, rows[1]) == Done()
    assert refusal(compare(behind, 0, rows[1])) == "Conflict"
    assert refusal(compare(behind, rows[1], rows[0])) == "Conflict"
    many = (slots(behind)[2].identity,) * (ABSENT_AT_ONCE + 1)
    assert refusal(compare(behind, rows[1], rows[2], *many)) == "CommandTooLarge"
    assert states(behind) == [GOOD, GOOD, GOOD]


def test_only_an_older_state_is_compared(behind: Driver) -> None:
    assert refusal(begin(behind, epoch=6)) == "Conflict"
    assert refusal(begin(behind, uuid=disk_uuid(9))) == "NoSuchNode"
    assert refusal(begin(behind, claim=b"short")) == "InvalidArgument"
    assert refusal(begin(behind, generation=99)) == "Conflict"
    assert begin(behind, epoch=5) == Done()


def test_a_clone_is_not_compared_while_the_original_is_not_lost(behind: Driver) -> None:
    assert refusal(begin(behind, node=9)) == "Conflict"
    assert refusal(begin(behind, url="http://elsewhere:1")) == "Conflict"  # the same name, cloned
    behind.run(JudgeDisk(disk=1, is_lost=True))
    assert begin(behind, node=9) == Done()


def test_a_clone_whose_node_took_over_the_name_of_the_originals_is_not_compared(
    behind: Driver,
) -> None:
    clone = msgspec.structs.replace(register_command(1, epoch=3), url="http://elsewhere:1")
    result = behind.run(clone)
    assert isinstance(result, NodeRegistered) and result.refused
    assert refusal(begin(behind, url="http://elsewhere:1")) == "Conflict"


def test_a_removed_disk_is_not_compared(driver: Driver) -> None:
    driver.run(register_command(1, epoch=5))
    driver.run(SetDiskState(disk=1, state="removed"))
    assert refusal(begin(driver)) == "Conflict"


def test_a_clone_is_not_readmitted_once_the_original_is_back(behind: Driver) -> None:
    for number, comes_back in enumerate(
        (JudgeDisk(disk=1, is_lost=False), SetDiskState(disk=1, state="in"))
    ):
        behind.run(JudgeDisk(disk=1, is_lost=True))
        assert begin(behind, node=9) == Done()
        assert compare(behind, 0, last_row(behind)) == Done()
        behind.run(comes_back)
        assert refusal(finish(behind)) == "Conflict"
        assert refusal(compare(behind, last_row(behind), last_row(behind))) == "Conflict"
        # Nothing of the claim is left: the disk takes new shards again.
        behind.put("new", behind.draft(50 + number, copies=True))
        assert states(behind)[-1] == GOOD


def test_an_original_that_registers_while_its_older_state_is_compared_is_granted(
    behind: Driver,
) -> None:
    begin(behind)
    compare(behind, 0, last_row(behind))
    assert is_granted(register(behind, epoch=7))
    assert refusal(finish(behind)) == "Conflict"
    behind.put("new", behind.draft(50, copies=True))
    assert states(behind)[-1] == GOOD


def test_an_original_that_comes_back_too_late_is_an_older_state_itself(behind: Driver) -> None:
    behind.run(JudgeDisk(disk=1, is_lost=True))
    begin(behind, node=9)
    compare(behind, 0, last_row(behind))
    assert is_granted(finish(behind))
    for epoch in (7, 100, 1000):  # it may have raised its own, without knowing the outcome
        assert not is_granted(register(behind, epoch=epoch))
    assert refusal(begin(behind, epoch=7)) == "Conflict"  # the other may live
    assert is_granted(register(behind, epoch=6 + EPOCH_LEAP + 1, node="blob-9"))


def test_a_later_claim_ends_the_earlier(behind: Driver) -> None:
    begin(behind)
    compare(behind, 0, last_row(behind))
    begin(behind, claim=OTHER)
    assert refusal(finish(behind)) == "Conflict"
    assert refusal(compare(behind, 0, 1, slots(behind)[0].identity)) == "Conflict"
    assert refusal(finish(behind, claim=OTHER)) == "Conflict"  # it compared nothing itself
    assert states(behind) == [GOOD, GOOD, GOOD]


def test_what_was_compared_under_another_generation_does_not_count(behind: Driver) -> None:
    begin(behind)
    behind_by_one = behind.catalog.head.generation + 1
    assert refusal(compare(behind, 0, 1, generation=behind_by_one)) == "Conflict"
    compare(behind, 0, last_row(behind))
    assert refusal(finish(behind, generation=behind_by_one)) == "Conflict"


def test_no_slot_there_becomes_good_while_it_is_compared(behind: Driver) -> None:
    """Each of these may come from the state that is gone."""
    behind.run(register_command(4))
    absent = slots(behind)[0].identity
    behind.run(MarkBad(identity=slots(behind)[1].identity, disk=1))
    late = behind.draft(70, copies=True)
    behind.put("away", behind.draft(60, disks=(4, 2, 3)))
    opened = task_to_disk_1(behind, "away")
    begin(behind)
    compare(behind, 0, last_row(behind), absent)
    for identity in (absent, slots(behind)[1].identity):
        assert behind.run(MarkGood(identity=identity, disk=1)) == Done()
    behind.put("late", late)
    moved = behind.run(MoveSlot(task=opened))
    assert isinstance(moved, SlotMoved) and not moved.moved
    assert states(behind) == [BAD, BAD, GOOD, MISSING]
    assert is_granted(finish(behind))  # rows named since are not good there: they need no look
    behind.run(MarkGood(identity=absent, disk=1))
    assert states(behind)[0] == GOOD
    assert behind.catalog.contradictions() == []


def test_what_was_written_to_the_state_that_is_gone_is_missing_when_it_is_named_later(
    behind: Driver,
) -> None:
    behind.run(register_command(4))
    behind.put("away", behind.draft(60, disks=(4, 2, 3)))
    before, opened = behind.draft(70, copies=True), task_to_disk_1(behind, "away")
    begin(behind)
    compare(behind, 0, last_row(behind))
    assert is_granted(finish(behind))
    register(behind, epoch=6 + EPOCH_LEAP + 1)  # it outlives the next start
    behind.put("before", before)
    moved = behind.run(MoveSlot(task=opened))
    assert isinstance(moved, SlotMoved) and not moved.moved
    behind.put("after", behind.draft(80, copies=True))
    assert states(behind)[3:] == [MISSING, GOOD]
    moved = behind.run(MoveSlot(task=task_to_disk_1(behind, "away")))
    assert isinstance(moved, SlotMoved) and moved.moved


def test_its_census_counts_no_more(behind: Driver) -> None:
    generation = behind.catalog.head.generation
    assert behind.run(ConfirmCensus(disk=1, generation=generation)) == Done()
    begin(behind)
    compare(behind, 0, last_row(behind))
    assert is_granted(finish(behind))
    (count,) = behind.catalog._writer.execute("SELECT COUNT(*) FROM censuses").fetchone()
    assert count == 0


def task_to_disk_1(driver: Driver, key: str) -> int:
    """Opens one that moves the object's first slot there."""
    found = driver.ask(FindObject(bucket="bucket", key=key))
    assert isinstance(found, Found)
    stripe = found.segments[0].stripe
    driver.run(OpenTasks(tasks=(TaskDraft(stripe.row, 0, 0, 4, 1, REPAIR),)))
    tasks = driver.ask(ReadTasks(target=1))
    assert isinstance(tasks, TasksRead) and tasks.tasks
    return tasks.tasks[-1].task
