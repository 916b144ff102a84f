"""Claims about one member, message by message."""

import random

import pytest

from osscore.errors import CorruptJournal, NotLeader, OutcomeUnknown
from raftmeta.engine import Applied
from raftmeta.journal import Journal
from raftmeta.messages import (
    Append,
    Appended,
    AskPreVote,
    AskTerm,
    AskVote,
    Behind,
    Entry,
    Mismatch,
    PreVote,
    TermHeld,
    Vote,
)
from raftmeta.settings import JournalSettings
from tests.raftmeta.lone_engine import FOLDER, NO_OP, CountingMachine, LoneEngine


def batch(term: int, text: bytes) -> Entry:
    return Entry(term, b"\x00" + text)


# --- follower -----------------------------------------------------------------------------


def test_acknowledgement_leaves_only_after_the_entries_are_synced():
    member = LoneEngine()
    member.follow(1, NO_OP, batch(1, b"x"))
    assert member.links.take(Appended) == []
    assert member.journal.synced_index == 0
    member.tick()
    assert member.links.take(Appended) == [Appended(1, 2)]
    assert member.journal.synced_index == 2


def test_failed_sync_is_final_and_acknowledges_nothing():
    member = LoneEngine()
    member.follow(1, NO_OP)
    member.disk.fail(lambda operation: 5 if operation.kind == "sync" else None)
    with pytest.raises(OSError):
        member.tick()
    member.disk.faults.clear()
    with pytest.raises(OSError):
        member.tick()
    assert member.links.take(Appended) == []


def test_acknowledgement_of_a_term_that_has_passed_is_dropped():
    member = LoneEngine()
    member.follow(1, NO_OP, batch(1, b"x"))
    member.clock.advance(2.0)
    member.hear("c", AskVote(2, 9, 1))
    member.tick()
    assert member.links.take(Appended) == []


def test_delayed_append_truncates_nothing_that_does_not_contradict_it():
    member = LoneEngine()
    entries = (NO_OP, batch(1, b"x"), batch(1, b"y"), batch(1, b"z"))
    member.follow(1, *entries)
    member.follow(1, entries[1], prev=(1, 1))
    member.follow(1, prev=(2, 1))
    assert member.journal.last_index == 4
    member.tick()
    assert member.links.take(Appended) == [Appended(1, 4)]


def test_contradicting_entries_are_replaced_from_the_first_one_on():
    member = LoneEngine()
    member.follow(1, NO_OP, batch(1, b"x"), batch(1, b"y"), batch(1, b"z"))
    member.hear("c", Append(2, 2, 1, 0, (batch(2, b"other"),)))
    assert (member.journal.last_index, member.journal.last_term) == (3, 2)


def test_commit_index_never_passes_what_this_append_verified():
    member = LoneEngine()
    member.follow(1, NO_OP, batch(1, b"x"), batch(1, b"y"))
    member.hear("c", Append(2, 1, 1, 3, ()))
    assert member.engine.core.commit_index == 1


def test_committed_entry_that_contradicts_stops_the_member():
    member = LoneEngine()
    member.hear("b", Append(1, 0, 0, 2, (NO_OP, batch(1, b"x"))))
    with pytest.raises(CorruptJournal, match="committed entry 2"):
        member.hear("c", Append(2, 1, 1, 0, (batch(2, b"y"),)))


def test_gap_and_difference_are_told_to_the_leader_with_where_to_resume():
    member = LoneEngine()
    member.follow(1, NO_OP, batch(1, b"x"), batch(1, b"y"))
    member.follow(1, batch(1, b"w"), prev=(7, 1))
    member.hear("c", Append(3, 3, 2, 0, ()))
    assert member.links.take(Mismatch) == [Mismatch(1, 4), Mismatch(3, 1)]


def test_deposed_leader_is_told_the_newer_term():
    member = LoneEngine()
    member.follow(5, Entry(5, b"\x01"))
    member.hear("c", Append(4, 0, 0, 0, ()))
    assert member.links.take(Mismatch)[-1].term == 5


def test_member_behind_the_leaders_log_asks_once_for_a_copy():
    member = LoneEngine()
    member.follow(1, NO_OP)
    member.hear("b", Behind(1, 100, 1))
    member.hear("b", Behind(1, 100, 1))
    assert member.lags == 1
    member.hear("b", Behind(1, 1, 1))
    assert member.links.take(Mismatch)[-1] == Mismatch(1, 2)


def test_entries_are_applied_once_and_in_order_across_a_restart():
    member = LoneEngine()
    member.hear("b", Append(1, 0, 0, 3, (NO_OP, batch(1, b"x"), batch(1, b"y"))))
    member.tick()
    assert member.machine.blobs == [b"x", b"y"]
    again = LoneEngine(disk=member.disk, machine=CountingMachine(applied_index=2))
    again.hear("b", Append(1, 3, 1, 3, ()))
    again.tick()
    assert again.machine.blobs == [b"y"]


def test_catalog_ahead_of_the_journal_refuses_to_start():
    with pytest.raises(CorruptJournal, match="the catalog holds entry 7"):
        LoneEngine(machine=CountingMachine(applied_index=7))


def test_catalog_behind_the_journal_needs_a_copy_and_never_stands():
    member = LoneEngine()
    member.journal.close()
    for name in member.disk.names(FOLDER):
        member.disk.unlink(FOLDER / name)
    Journal.create(FOLDER, disk=member.disk, base_index=9, base_term=1, term=1).close()
    again = LoneEngine(disk=member.disk, machine=CountingMachine(applied_index=3))
    assert again.lags == 1
    again.tick(5.0)
    again.tick(5.0)
    assert again.links.take(AskPreVote) == []


def test_whatever_apply_raises_leaves_the_tick():
    member = LoneEngine()
    member.machine.apply = lambda index, blob: 1 / 0  # type: ignore[method-assign]
    member.hear("b", Append(1, 0, 0, 2, (NO_OP, batch(1, b"x"))))
    with pytest.raises(ZeroDivisionError):
        member.tick()
    assert member.engine.core.applied_index == 1


# --- elections ----------------------------------------------------------------------------


def test_no_term_rises_before_a_majority_lost_its_leader_too():
    member = LoneEngine()
    for _ in range(50):
        member.tick(0.5)
    assert (member.engine.core.term, member.journal.term) == (0, 0)
    assert member.links.take(AskVote) == []


def test_candidacy_is_above_every_term_its_supporters_know():
    member = LoneEngine()
    member.tick(2.0)
    asked = member.links.take(AskPreVote)[0]
    member.hear("c", PreVote(asked.round, 6))
    member.tick()
    assert member.links.take(AskVote)[0].term == 7
    assert (member.journal.term, member.journal.voted_for) == (7, "a")


def test_support_for_an_earlier_round_does_not_count():
    member = LoneEngine()
    member.tick(2.0)
    asked = member.links.take(AskPreVote)[0]
    member.tick(2.0)
    member.hear("c", PreVote(asked.round, 0))
    member.tick()
    assert member.links.take(AskVote) == []


def test_nobody_is_supported_while_a_leader_is_heard():
    member = LoneEngine()
    member.tick(5.0)
    member.follow(1, NO_OP)
    member.hear("c", AskPreVote(1, 9, 9))
    member.hear("c", AskVote(9, 9, 9))
    assert member.links.take(PreVote) == [] and member.engine.core.term == 1
    member.tick(0.6)
    member.hear("c", AskPreVote(2, 9, 9))
    assert member.links.take(PreVote) == [PreVote(2, 1)]


def test_shorter_log_is_not_supported():
    member = LoneEngine()
    member.follow(2, Entry(2, b"\x01"), Entry(2, b"\x01"))
    member.tick(3.0)
    member.hear("c", AskPreVote(1, 1, 2))
    member.hear("c", AskPreVote(2, 9, 1))
    assert member.links.take(PreVote) == []


def test_vote_is_durable_before_it_is_sent_and_given_once():
    member = LoneEngine()
    member.tick(3.0)
    sent_with: list[tuple[int, str | None]] = []
    send = member.links.send

    def watched(target, message):
        if isinstance(message, Vote):
            after = Journal.open(FOLDER, disk=member.disk.power_cut(random.Random(1)))
            sent_with.append((after.term, after.voted_for))
        return send(target, message)

    member.links.send = watched  # type: ignore[method-assign]
    member.hear("c", AskVote(4, 0, 0))
    member.hear("b", AskVote(4, 0, 0))
    assert sent_with == [(4, "c")]


def test_vote_of_one_member_counts_once_and_only_while_fresh():
    member = LoneEngine()
    member.tick(2.0)
    asked = member.links.take(AskPreVote)[0]
    member.hear("b", PreVote(asked.round, 0))
    member.tick()
    member.clock.advance(1.5)
    member.hear("b", Vote(1))
    assert not member.engine.core.is_leader


# --- leader -------------------------------------------------------------------------------


def test_entry_is_committed_by_a_majority_of_this_term_only():
    member = LoneEngine()
    term = member.lead()
    outcomes: list[object] = []
    member.engine.propose(b"x", outcomes.append)
    member.tick()
    last = member.journal.last_index
    member.hear("b", Appended(term - 1, last))
    member.tick()
    assert outcomes == [] and member.engine.core.match_index("b") == 0
    member.hear("b", Appended(term, last))
    member.tick()
    assert isinstance(outcomes[0], Applied) and outcomes[0].index == last


def test_leader_that_steps_down_leaves_outcomes_unknown():
    member = LoneEngine()
    term = member.lead()
    outcomes: list[object] = []
    member.engine.propose(b"x", outcomes.append)
    member.tick()
    member.hear("b", Mismatch(term + 1, 1))
    member.engine.propose(b"y", outcomes.append)
    member.tick()
    assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown, NotLeader]


def test_read_waits_for_the_first_commit_and_a_majority():
    member = LoneEngine()
    term = member.lead()
    indexes: list[int | None] = []
    member.engine.confirm_read(indexes.append)
    member.tick()
    assert member.links.take(AskTerm) == []
    member.hear("b", Appended(term, member.journal.last_index))
    member.tick()
    member.tick()
    asked = member.links.take(AskTerm)[0]
    member.tick()
    assert indexes == []
    member.hear("c", TermHeld(asked.round, term))
    member.tick()
    assert indexes == [member.journal.last_index]


def test_read_excluding_a_member_waits_for_its_votes_to_lapse_and_forgets_its_word():
    member = LoneEngine()
    term = member.lead()
    member.hear("b", Appended(term, member.journal.last_index))
    member.tick()
    indexes: list[int | None] = []
    member.engine.confirm_read(indexes.append, excluding="b")
    assert member.engine.core.match_index("b") == 0 and member.links.dropped == ["b"]
    member.tick(1.4)
    assert member.links.take(AskTerm) == []
    member.hear("c", Appended(term, member.journal.last_index))
    member.tick(0.2)
    asked = member.links.take(AskTerm)[0]
    member.hear("b", TermHeld(asked.round, term))
    member.tick()
    assert indexes == []
    member.hear("c", TermHeld(asked.round, term))
    member.tick()
    assert indexes == [member.journal.last_index]


def test_term_is_confirmed_only_while_it_is_the_highest_known():
    member = LoneEngine()
    member.follow(3, Entry(3, b"\x01"))
    member.hear("b", AskTerm(1, 3))
    member.hear("b", AskTerm(2, 2))
    assert member.links.take(TermHeld) == [TermHeld(1, 3)]


def test_follower_whose_entries_are_cut_is_told_to_install_a_copy():
    settings = JournalSettings(segment_bytes=200, keep_bytes=0)
    member = LoneEngine(settings=settings)
    term = member.lead()
    for _ in range(20):
        member.engine.propose(b"x" * 50, lambda outcome: None)
        member.tick()
        member.hear("b", Appended(term, member.journal.last_index))
    member.tick()
    assert member.engine.cut_log(member.journal.last_index) > 0
    member.hear("c", Mismatch(term, 1))
    member.hear("b", Appended(term, member.journal.last_index))
    member.tick(0.3)
    base = (member.journal.base_index, member.journal.base_term)
    assert member.links.take(Behind) == [Behind(term, *base)]


def test_only_applied_entries_are_told_and_only_those_the_log_still_holds() -> None:
    """The archive sends them: what is not committed may yet be another leader's."""
    it = LoneEngine()
    term = it.lead()
    it.tick()
    first = it.journal.last_index
    it.engine.propose(b"blob", lambda outcome: None)
    it.tick()
    assert it.journal.last_index == first + 1
    assert it.engine.applied_entries(1, bytes_max=1 << 20) == []
    for index in (first, first + 1):
        it.hear("b", Appended(term, index))
        it.tick()
    it.tick()
    found = it.engine.applied_entries(1, bytes_max=1 << 20)
    assert found is not None and [entry.index for entry in found] == [1, 2]
    assert it.engine.applied_entries(1, bytes_max=1) == found[:1]
    assert it.engine.applied_entries(3, bytes_max=1) == []
    assert it.engine.applied_entries(0, bytes_max=1) is None
