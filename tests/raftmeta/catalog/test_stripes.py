"""Naming, dedup, damage and collection of stripes: SAFETY rules 1 to 7, 9, 11."""

import msgspec
import pytest

from osscore.model import Profile, ShardIdentity, Slot, SlotState, StripeDraft, reed_solomon
from osscore.names import StripeId, stripe_id
from raftmeta.catalog import stripes
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import (
    BeginUpload,
    Collected,
    DeleteVersion,
    Done,
    MarkBad,
    MarkGood,
    ObjectPut,
    SetDiskState,
    Stage,
    Staged,
    StripeQuestion,
    TrashDone,
)
from raftmeta.queries import (
    CatalogCounted,
    CountCatalog,
    ExpectedSlots,
    FindObject,
    FindUnwanted,
    Found,
    ReadTrash,
    SlotsExpected,
    TrashRead,
    Unwanted,
)
from tests.raftmeta.catalog.harness import (
    GRACE_MS,
    MINUTE_MS,
    Driver,
    refusal,
    register_command,
)


def stripe_of(driver: Driver, key: str, segment: int = 0) -> object:
    found = driver.ask(FindObject(bucket="bucket", key=key))
    assert isinstance(found, Found), found
    return found.segments[segment].stripe


def counted(driver: Driver) -> CatalogCounted:
    answer = driver.ask(CountCatalog())
    assert isinstance(answer, CatalogCounted)
    return answer


def trash(driver: Driver, disk: int) -> tuple[ShardIdentity, ...]:
    answer = driver.ask(ReadTrash(disk=disk))
    assert isinstance(answer, TrashRead)
    return tuple(row.identity for row in answer.rows)


def unwanted(driver: Driver, disk: int, *identities: ShardIdentity) -> tuple[ShardIdentity, ...]:
    answer = driver.ask(FindUnwanted(disk=disk, grace_ms=0, identities=identities))
    assert isinstance(answer, Unwanted)
    return answer.identities


def kill(driver: Driver, key: str) -> None:
    driver.run(DeleteVersion(bucket="bucket", key=key, number=1))


# --- rule 1: birth, grace, wanted -------------------------------------------------------


def test_a_stripe_born_before_the_grace_is_refused(driver: Driver) -> None:
    stale = driver.draft(1)
    just_in_time = driver.draft(2)
    driver.pass_time(GRACE_MS - 1000)
    assert isinstance(driver.put("k", just_in_time), ObjectPut)
    driver.pass_time(2000)
    assert refusal(driver.put("k", stale)) == "StaleStripe"


def test_a_birth_ahead_of_time_is_refused(driver: Driver) -> None:
    ahead = stripe_id(driver.now_ms + 60_000, b"r" * 10)
    assert refusal(driver.put("k", driver.draft(1, stripe=ahead))) == "StaleStripe"


def test_the_sweep_spares_what_may_still_be_named_and_what_is_a_slot(driver: Driver) -> None:
    named = driver.draft(1)
    driver.put("k", named)
    orphan = ShardIdentity(driver.new_id(), 0, 0)
    slot = ShardIdentity(named.stripe, 0, 0)
    other_gen = ShardIdentity(named.stripe, 0, 7)
    assert unwanted(driver, 1, orphan, slot, other_gen) == ()
    driver.pass_time(GRACE_MS + 1000)
    assert unwanted(driver, 1, orphan, slot, other_gen) == (orphan, other_gen)
    assert unwanted(driver, 2, slot) == (slot,), "the disk is part of the slot"
    assert refusal(driver.put("late", driver.draft(9, stripe=orphan.stripe))) == "StaleStripe"


def test_surplus_shards_of_a_damaged_stripe_are_kept(driver: Driver) -> None:
    named = driver.draft(1)
    driver.put("k", named)
    surplus = ShardIdentity(named.stripe, 1, 7)
    driver.run(MarkBad(identity=ShardIdentity(named.stripe, 0, 0), disk=1))
    driver.pass_time(GRACE_MS + 1000)
    assert unwanted(driver, 3, surplus) == ()


def test_a_stripe_id_is_named_once_only(driver: Driver) -> None:
    draft = driver.draft(1)
    driver.put("k", draft)
    assert refusal(driver.put("again", draft)) == "Conflict"
    same_id = driver.draft(2, stripe=draft.stripe)
    assert refusal(driver.put("again", same_id)) == "Conflict"


def test_a_mapped_away_stripe_id_is_spent_until_it_is_stale(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    loser = driver.draft(1)
    driver.put("twin", loser)
    # Its shards are being deleted: naming it for other bytes would name a hole.
    assert refusal(driver.put("again", driver.draft(2, stripe=loser.stripe))) == "Conflict"
    driver.pass_time(GRACE_MS + 1000)
    driver.collect()
    assert refusal(driver.put("again", driver.draft(2, stripe=loser.stripe))) == "StaleStripe"


# --- rule 5: dedup -------------------------------------------------------------------------


def test_a_duplicate_is_mapped_and_the_losers_shards_are_trashed(driver: Driver) -> None:
    first = driver.draft(1)
    loser = driver.draft(1)
    driver.put("a", first)
    driver.put("b", loser)
    assert stripe_of(driver, "a") == stripe_of(driver, "b")
    for disk in (1, 2, 3):
        assert trash(driver, disk) == (ShardIdentity(loser.stripe, disk - 1, 0),)
    assert (counted(driver).stripes, counted(driver).segments) == (1, 2)


def test_two_equal_stripes_of_one_object_become_one(driver: Driver) -> None:
    driver.put("k", driver.draft(1), driver.draft(1))
    assert stripe_of(driver, "k", 0) == stripe_of(driver, "k", 1)
    kill(driver, "k")
    assert counted(driver).dead_stripes == 1


@pytest.mark.parametrize("damage", ["bad", "lost"])
def test_nothing_is_mapped_onto_an_unhealthy_stripe(driver: Driver, damage: str) -> None:
    first = driver.draft(1)
    driver.put("a", first)
    if damage == "bad":
        driver.run(MarkBad(identity=ShardIdentity(first.stripe, 0, 0), disk=1))
        second = driver.draft(1)
    else:
        driver.run(SetDiskState(disk=1, state="lost"))
        driver.run(register_command(4))
        second = driver.draft(1, disks=(4, 2, 3))
    driver.put("b", second)
    assert stripe_of(driver, "b").stripe == second.stripe  # type: ignore[attr-defined]
    third = driver.draft(1, disks=tuple(s.disk for s in second.slots))
    driver.put("c", third)
    assert stripe_of(driver, "c").stripe == second.stripe, "the key passed to the healthy one"  # type: ignore[attr-defined]


def test_a_dead_stripe_is_never_revived(driver: Driver) -> None:
    driver.put("a", driver.draft(1))
    kill(driver, "a")
    again = driver.draft(1)
    driver.put("b", again)
    assert stripe_of(driver, "b").stripe == again.stripe  # type: ignore[attr-defined]
    assert (counted(driver).stripes, counted(driver).dead_stripes) == (1, 1)


@pytest.mark.parametrize("other", [{"domain": b"of another key"}, {"profile": Profile(1, 2)}])
def test_the_same_bytes_under_another_profile_or_key_domain_are_not_shared(
    driver: Driver, other: dict[str, object]
) -> None:
    first = driver.draft(1)
    coding = {"coding": reed_solomon(Profile(1, 2))} if "profile" in other else {}
    second = msgspec.structs.replace(driver.draft(1), **other, **coding)
    driver.put("a", first)
    driver.put("b", second)
    assert stripe_of(driver, "a").stripe == first.stripe  # type: ignore[attr-defined]
    assert stripe_of(driver, "b").stripe == second.stripe  # type: ignore[attr-defined]
    begin = BeginUpload(upload=bytes(16), bucket="bucket", key="k", ttl_ms=GRACE_MS)
    driver.run(begin)
    asked = StripeQuestion(
        profile=second.profile, domain=second.domain, digest=second.digest, plain_bytes=1000
    )
    staged = driver.run(Stage(upload=begin.upload, position=0, ask=(asked,)))
    assert isinstance(staged, Staged)
    assert staged.hits == (stripe_of(driver, "b").row,)  # type: ignore[attr-defined]


def test_a_healed_stripe_gets_its_free_key_back(driver: Driver) -> None:
    first = driver.draft(1)
    driver.put("a", first)
    identity = ShardIdentity(first.stripe, 0, 0)
    driver.run(MarkBad(identity=identity, disk=1))
    driver.run(MarkGood(identity=identity, disk=1))
    driver.put("b", driver.draft(1))
    assert stripe_of(driver, "b").stripe == first.stripe  # type: ignore[attr-defined]


def test_a_healed_stripe_leaves_a_taken_key_alone(driver: Driver) -> None:
    first, second = driver.draft(1), driver.draft(1)
    driver.put("a", first)
    identity = ShardIdentity(first.stripe, 0, 0)
    driver.run(MarkBad(identity=identity, disk=1))
    driver.put("b", second)
    driver.run(MarkGood(identity=identity, disk=1))
    driver.put("c", driver.draft(1))
    assert stripe_of(driver, "c").stripe == second.stripe  # type: ignore[attr-defined]


# --- rules 7 and 9: acknowledging ------------------------------------------------------------


def test_two_plus_one_on_three_nodes_needs_all_three(driver: Driver) -> None:
    assert refusal(driver.put("k", driver.draft(1, states=(0, 0, 1)))) == "UnderReplicated"
    assert refusal(driver.put("k", driver.draft(1, disks=(1, 1, 2)))) == "UnderReplicated"


@pytest.mark.parametrize(("nodes", "expected"), [(6, 0), (3, 1)])
def test_two_shards_on_a_node_are_marked_to_be_spread(
    driver: Driver, nodes: int, expected: int
) -> None:
    """SAFETY rule 8: 4+2 on three nodes goes on writing, and is spread when nodes return."""
    for number in (4, 5, 6):
        driver.run(register_command(number, node=f"blob-{number - 6 + nodes}"))
    draft = msgspec.structs.replace(
        driver.draft(1),
        profile=Profile(4, 2),
        coding=reed_solomon(Profile(4, 2)),
        shard_crcs=(1,) * 6,
        slots=tuple(Slot(index, 0, 1 + index) for index in range(6)),
    )
    assert isinstance(driver.put("k", draft), ObjectPut)
    assert under_spread(driver) == expected


@pytest.mark.parametrize("copies", [False, True])
def test_replicas_are_marked_to_be_coded(driver: Driver, copies: bool) -> None:
    driver.put("k", driver.draft(1, copies=copies))
    assert under_spread(driver) == int(copies)


def under_spread(driver: Driver) -> int:
    """How many stripes wait to be spread."""
    query = "SELECT COUNT(*) FROM stripes WHERE under_spread = 1 AND dead_since_ms IS NULL"
    return int(driver.catalog._writer.execute(query).fetchone()[0])


def test_missing_slots_are_recorded_as_the_repair_queue(driver: Driver) -> None:
    draft = driver.draft(1, states=(0, 0, 1), copies=True)
    assert isinstance(driver.put("k", draft), ObjectPut)
    assert counted(driver).missing == {1: 1}
    driver.run(MarkGood(identity=ShardIdentity(draft.stripe, 2, 0), disk=3))
    assert counted(driver).missing == {}


@pytest.mark.parametrize("gone", ["lost", "unknown"])
def test_a_slot_on_a_disk_that_is_gone_becomes_missing(driver: Driver, gone: str) -> None:
    disks = (1, 2, 3) if gone == "lost" else (1, 2, 99)
    if gone == "lost":
        driver.run(SetDiskState(disk=3, state="lost"))
    assert refusal(driver.put("k", driver.draft(1, disks=disks))) == "UnderReplicated"
    driver.put("k", driver.draft(1, disks=disks, copies=True))
    slots = stripe_of(driver, "k").slots  # type: ignore[attr-defined]
    assert [slot.state for slot in slots] == [SlotState.GOOD, SlotState.GOOD, SlotState.MISSING]


def test_a_draining_disk_still_counts(driver: Driver) -> None:
    driver.run(SetDiskState(disk=3, state="draining"))
    assert isinstance(driver.put("k", driver.draft(1)), ObjectPut)


def broken(driver: Driver) -> list[StripeDraft]:
    good = driver.draft(1)
    replace = msgspec.structs.replace
    return [
        replace(good, digest=b"short"),
        replace(good, stripe=StripeId(b"short")),
        replace(good, plain_bytes=0),
        replace(good, plain_bytes=(1 << 23) + 1),
        replace(good, shard_crcs=(1, 2)),
        replace(good, shard_crcs=(1, 2, 1 << 40)),
        replace(good, slots=good.slots[:2]),
        replace(good, slots=(good.slots[1], good.slots[0], good.slots[2])),
        replace(good, stored_bytes=1 << 63),
    ]


def test_a_stripe_that_no_encoder_makes_is_refused(driver: Driver) -> None:
    for draft in broken(driver):
        assert refusal(driver.put("k", draft)) in ("InvalidArgument", "ContentMismatch")
    assert counted(driver).stripes == 0


# --- rule 11: marks ------------------------------------------------------------------------------


def test_marks_compare_index_gen_and_disk(driver: Driver) -> None:
    draft = driver.draft(1)
    driver.put("k", draft)
    for index, gen, disk in ((0, 1, 1), (0, 0, 2), (1, 0, 1)):
        identity = ShardIdentity(draft.stripe, index, gen)
        assert driver.run(MarkBad(identity=identity, disk=disk)) == Done()
    assert counted(driver).missing == {}
    driver.run(MarkBad(identity=ShardIdentity(draft.stripe, 0, 0), disk=1))
    assert counted(driver).missing == {1: 1}
    assert stripe_of(driver, "k").slots[0].state == SlotState.BAD  # type: ignore[attr-defined]


# --- rule 3: collection -----------------------------------------------------------------------


def test_a_dead_stripe_is_claimed_after_the_grace_and_forgotten(driver: Driver) -> None:
    draft = driver.draft(1)
    driver.put("k", draft)
    kill(driver, "k")
    driver.pass_time(GRACE_MS - 1000)
    driver.collect()
    assert counted(driver).dead_stripes == 1
    driver.pass_time(2000)
    assert driver.collect() == Collected(stripes=1)
    assert (counted(driver).dead_stripes, counted(driver).trash) == (0, 3)
    assert (counted(driver).stored_bytes, counted(driver).logical_bytes) == (0, 0)
    answer = driver.ask(ReadTrash(disk=2))
    assert isinstance(answer, TrashRead)
    assert [row.identity for row in answer.rows] == [ShardIdentity(draft.stripe, 1, 0)]
    other_disk = TrashDone(disk=1, rows=(answer.rows[0].row,))
    driver.run(other_disk)
    assert counted(driver).trash == 3, "a disk confirms only its own rows"
    driver.run(TrashDone(disk=2, rows=(answer.rows[0].row, 12345)))
    assert (counted(driver).trash, trash(driver, 2)) == (2, ())


def test_a_deletion_is_ordered_only_when_due(driver: Driver) -> None:
    """Readers of an old manifest get time to finish (SAFETY rule 3)."""
    writer, meta = driver.catalog._writer, driver.catalog._meta
    time_ms = driver.catalog.head.catalog_time_ms
    tx = Transaction(db=writer, meta=meta, index=driver.index, time_ms=time_ms)
    draft = driver.draft(1)
    assert stripes.trash_shards(tx, draft.stripe, draft.slots, delay_ms=10 * MINUTE_MS) == 3
    meta.save(writer)
    driver.pass_time(9 * MINUTE_MS)
    assert trash(driver, 1) == ()
    driver.pass_time(2 * MINUTE_MS)
    assert trash(driver, 1) == (ShardIdentity(draft.stripe, 0, 0),)


def test_a_removed_disks_trash_is_dropped(driver: Driver) -> None:
    driver.run(register_command(4))
    driver.put("k", driver.draft(1))
    driver.put("twin", driver.draft(1, disks=(4, 2, 3)))
    assert len(trash(driver, 4)) == 1
    driver.run(SetDiskState(disk=4, state="removed"))
    driver.collect()
    assert (trash(driver, 4), counted(driver).trash) == ((), 2)


def test_a_time_jump_pauses_claims(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    kill(driver, "k")
    driver.now_ms += 2 * GRACE_MS
    driver.apply()
    assert driver.collect() == Collected()
    assert counted(driver).dead_stripes == 1


def test_expected_slots_page_by_stripe(driver: Driver) -> None:
    for content in range(5):
        driver.put(f"k{content}", driver.draft(content, disks=(1, 2, 3)))
    driver.run(register_command(4))
    first = driver.ask(ExpectedSlots(disk=2, limit=3))
    assert isinstance(first, SlotsExpected)
    rest = driver.ask(ExpectedSlots(disk=2, after_row=first.next_row, limit=3))
    assert isinstance(rest, SlotsExpected)
    assert (len(first.slots), len(rest.slots), rest.next_row) == (3, 2, 0)
    assert {(slot.identity.index, slot.crc) for slot in first.slots} == {(1, 2)}
    assert driver.ask(ExpectedSlots(disk=4)) == SlotsExpected(slots=())
