"""One member's view of the members, and a leader's dealings with them, message by message."""

import msgspec
import pytest

from osscore.errors import (
    Conflict,
    CorruptJournal,
    MetanodeExists,
    MetanodeRemoved,
    NoSuchNode,
    NotLeader,
    NotReady,
    QuorumAtRisk,
    StoreError,
)
from raftmeta.changing import LEARNER_FORGOTTEN_S
from raftmeta.commands import OpenSession
from raftmeta.engine import Applied
from raftmeta.entries import Batch, Entry
from raftmeta.members import Member
from raftmeta.membership import MEMBERS, Addition, Change, Configuration, Membership, Removal
from raftmeta.messages import (
    Append,
    Appended,
    AskPreVote,
    AskTerm,
    AskVote,
    Mismatch,
    PreVote,
    Stand,
    TermHeld,
    Vote,
)
from raftmeta.messages import Entry as LogEntry
from tests.raftmeta.lone_engine import NO_OP, LoneEngine
from tests.raftmeta.simulated_cluster import wrapped


def member(name: str) -> Member:
    return Member(id=name, raft=f"{name}:1", url=f"http://{name}")


def members(names: str) -> tuple[Member, ...]:
    return tuple(member(name) for name in names)


def ids(engine: LoneEngine) -> str:
    return "".join(each.id for each in engine.membership.latest.members)


def entry(term: int, names: str) -> LogEntry:
    """The log entry that sets these members."""
    return LogEntry(term, MEMBERS + wrapped(members(names)))


def leading(names: str = "abc") -> LoneEngine:
    """A leader whose no-op is applied, and whom the others follow."""
    engine = LoneEngine(members=names)
    term = engine.lead() if len(names) > 1 else _lead_alone(engine)
    acknowledge(engine, *names[1:], term=term)
    return engine


def _lead_alone(engine: LoneEngine) -> int:
    engine.tick(2.0)
    engine.tick()
    assert engine.engine.core.is_leader
    return engine.engine.core.term


def acknowledge(engine: LoneEngine, *names: str, term: int | None = None) -> None:
    """These have all that the leader has."""
    for name in names:
        engine.hear(name, Appended(term or engine.engine.core.term, engine.journal.last_index))
    engine.tick()
    engine.tick()


def follow(engine: LoneEngine, name: str) -> None:
    """A learner that has caught up."""
    engine.engine.changing.admit(member(name), counted_since=None)
    acknowledge(engine, name)


def propose(engine: LoneEngine, change: Change) -> list[Applied | StoreError]:
    outcomes: list[Applied | StoreError] = []
    engine.engine.propose_change(change, wrapped, outcomes.append)
    engine.tick()
    return outcomes


# --- when a change counts ---------------------------------------------------------------------


def test_leader_changes_nobody_before_an_entry_of_its_own_term_is_applied():
    # The bug of 2015: else two leaders in turn may each make one change to the same members,
    # neither knowing of the other's, and their majorities need not meet.
    engine = LoneEngine()
    engine.lead()
    engine.engine.changing.admit(member("d"), counted_since=None)
    engine.hear("d", Appended(engine.engine.core.term, engine.journal.last_index))
    assert isinstance(propose(engine, Addition(member("d")))[0], NotReady)
    assert ids(engine) == "abc"


def test_change_counts_as_soon_as_it_is_in_the_log():
    engine = leading()
    follow(engine, "d")
    outcomes = propose(engine, Addition(member("d")))
    assert ids(engine) == "abcd" and outcomes == []
    acknowledge(engine, "b")
    assert outcomes == []  # two of four are no majority, though two of three were one
    acknowledge(engine, "d")
    assert isinstance(outcomes[0], Applied)


def test_removed_member_counts_no_more_at_once_and_is_sent_nothing():
    engine = leading("abcd")
    engine.links.sent.clear()
    outcomes = propose(engine, Removal("d"))
    acknowledge(engine, "d")
    assert outcomes == []
    assert "d" not in {to for to, message in engine.links.sent if isinstance(message, Append)}
    acknowledge(engine, "b")
    assert isinstance(outcomes[0], Applied) and ids(engine) == "abc"


def test_acknowledgements_of_a_learner_do_not_commit_and_count_anew_once_it_counts():
    engine = leading()
    follow(engine, "d")
    applied: list[Applied | StoreError] = []
    engine.engine.propose(b"x", applied.append)
    engine.tick()
    acknowledge(engine, "d")
    assert applied == []
    propose(engine, Addition(member("d")))
    assert engine.engine.core.match_index("d") == 0


def test_second_change_waits_until_the_first_is_committed():
    engine = leading()
    follow(engine, "d")
    follow(engine, "e")
    propose(engine, Addition(member("d")))
    assert isinstance(propose(engine, Addition(member("e")))[0], Conflict)
    acknowledge(engine, "b", "c", "d")
    assert propose(engine, Addition(member("e"))) == []
    assert ids(engine) == "abcde"


def test_truncated_change_is_taken_back():
    engine = LoneEngine()
    engine.follow(1, NO_OP, entry(1, "abcd"))
    assert ids(engine) == "abcd"
    engine.hear("c", Append(2, 1, 1, 0, (LogEntry(2, b"\x01"),)))
    assert ids(engine) == "abc"
    engine.hear("c", Append(2, 2, 2, 0, (entry(2, "ab"), entry(2, "abe"))))
    assert ids(engine) == "abe"
    engine.hear("b", Append(3, 3, 2, 0, (LogEntry(3, b"\x01"),)))
    assert ids(engine) == "ab"


def test_change_in_the_log_counts_after_a_restart_committed_or_not():
    engine = LoneEngine()
    engine.follow(1, NO_OP, entry(1, "abcd"))
    engine.tick()
    again = LoneEngine(disk=engine.disk)
    assert ids(again) == "abcd" and again.membership.majority == 3


def test_members_the_catalog_holds_are_those_at_its_index():
    membership = Membership("a", Configuration(7, members("abcd")))
    membership.append(7, MEMBERS + wrapped(members("abc")))
    assert membership.latest.index == 7 and len(membership.latest.members) == 4
    with pytest.raises(CorruptJournal, match="committed"):
        membership.truncate(7)


@pytest.mark.parametrize(
    "body",
    [
        MEMBERS + b"garbage",
        MEMBERS + msgspec.msgpack.encode(Batch(time_ms=1, entries=())),
        MEMBERS + msgspec.msgpack.encode(Batch(time_ms=1, entries=(Entry(0, 0, OpenSession()),))),
    ],
)
def test_entry_that_sets_no_members_stops_the_member(body):
    with pytest.raises(CorruptJournal):
        Membership("a", Configuration(0, members("abc"))).append(1, body)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (Addition(member("b")), MetanodeExists),
        (Addition(Member(id="e", raft="b:1", url="http://e")), Conflict),
        (Addition(Member(id="e", raft="e:1", url="http://b")), Conflict),
        (Addition(member("e")), NotReady),
        (Removal("e"), NoSuchNode),
        (Removal("a"), Conflict),
    ],
)
def test_change_is_refused_with_its_reason_and_changes_nothing(change, error):
    engine = leading()
    last_index = engine.journal.last_index
    assert type(propose(engine, change)[0]) is error
    assert (ids(engine), engine.journal.last_index) == ("abc", last_index)


def test_last_member_cannot_be_removed():
    with pytest.raises(QuorumAtRisk):
        Removal("a").apply_to(members("a"))


def test_removal_that_would_leave_too_few_who_follow_is_refused():
    engine = leading()
    engine.clock.advance(1.2)
    engine.hear("b", Appended(engine.engine.core.term, engine.journal.last_index))
    assert isinstance(propose(engine, Removal("b"))[0], QuorumAtRisk)
    assert propose(engine, Removal("c")) == [] and ids(engine) == "ab"


def test_addition_that_needs_more_than_follow_is_refused():
    engine = leading()
    follow(engine, "d")
    engine.clock.advance(1.2)
    engine.hear("d", Appended(engine.engine.core.term, engine.journal.last_index))
    assert isinstance(propose(engine, Addition(member("d")))[0], QuorumAtRisk)


def test_newcomer_without_a_copy_is_refused_however_short_the_log():
    engine = leading()
    engine.engine.changing.admit(member("d"), counted_since=None)
    assert isinstance(propose(engine, Addition(member("d")))[0], NotReady)


def test_change_elsewhere_than_at_the_leader_is_refused():
    engine = LoneEngine()
    assert isinstance(propose(engine, Removal("c"))[0], NotLeader)
    with pytest.raises(NotLeader):
        engine.engine.changing.admit(member("d"), counted_since=None)


def test_one_alone_takes_in_another_and_lets_it_go():
    engine = leading("a")
    follow(engine, "b")
    added = propose(engine, Addition(member("b")))
    acknowledge(engine, "b")
    assert isinstance(added[0], Applied) and ids(engine) == "ab"
    removed = propose(engine, Removal("b"))
    engine.tick()
    engine.tick()
    assert isinstance(removed[0], Applied) and ids(engine) == "a"


# --- learners ---------------------------------------------------------------------------------


def test_word_of_a_learner_decides_nothing():
    engine = leading()
    follow(engine, "d")
    indexes: list[int | None] = []
    engine.engine.confirm_read(indexes.append)
    engine.tick()
    asked = engine.links.take(AskTerm)[0]
    engine.hear("d", TermHeld(asked.round, asked.term))
    engine.tick()
    assert indexes == []
    engine.hear("b", TermHeld(asked.round, asked.term))
    engine.tick()
    assert len(indexes) == 1


def test_encouragement_and_vote_of_one_who_does_not_count_are_not_counted():
    engine = LoneEngine()
    engine.tick(2.0)
    asked = engine.links.take(AskPreVote)[0]
    engine.hear("d", PreVote(asked.round, 0))
    engine.tick()
    assert engine.links.take(AskVote) == []
    engine.hear("b", PreVote(asked.round, 0))
    engine.tick()
    term = engine.links.take(AskVote)[0].term
    engine.hear("d", Vote(term))
    assert not engine.engine.core.is_leader
    engine.hear("c", Vote(term))
    assert engine.engine.core.is_leader


def test_one_who_does_not_count_never_stands_but_votes_for_who_counts_on_it():
    engine = LoneEngine()
    engine.follow(1, NO_OP, entry(1, "bc"))
    engine.tick()
    for _ in range(10):
        engine.tick(1.0)
    assert engine.links.take(AskPreVote) == []
    engine.hear("c", AskVote(2, 5, 1))
    assert engine.links.take(Vote) == [Vote(2)]


def test_higher_term_of_one_who_does_not_count_deposes_nobody():
    engine = leading()
    engine.hear("x", Mismatch(99, 1))
    engine.tick()
    assert engine.engine.core.is_leader
    engine.hear("b", Mismatch(99, 1))
    assert not engine.engine.core.is_leader


def test_learner_that_goes_away_is_forgotten():
    engine = leading()
    follow(engine, "d")
    for _ in range(int(LEARNER_FORGOTTEN_S) + 1):
        engine.tick(1.0)
        acknowledge(engine, "b", "c", "d")
    assert engine.membership.learners == {} and engine.engine.core.is_leader
    assert [each.member.id for each in engine.engine.changing.progress()] == ["b", "c"]


def test_one_that_was_removed_is_told_so_and_one_whose_entry_was_undone_follows_again():
    engine = leading("abcd")
    propose(engine, Removal("d"))
    with pytest.raises(NotReady):  # not while the removal may still be undone
        engine.engine.changing.admit(member("d"), counted_since=0)
    acknowledge(engine, "b")
    with pytest.raises(MetanodeRemoved):
        engine.engine.changing.admit(member("d"), counted_since=0)
    engine.engine.changing.admit(member("e"), counted_since=99)
    with pytest.raises(MetanodeExists):
        engine.engine.changing.admit(member("b"), counted_since=0)


# --- giving the lead away -----------------------------------------------------------------------


def test_lead_is_given_to_one_that_has_everything():
    engine = leading()
    given: list[StoreError | None] = []
    late: list[Applied | StoreError] = []
    engine.engine.propose(b"x", lambda outcome: None)
    engine.tick()
    engine.engine.changing.give_away("c", given.append)
    engine.engine.propose(b"y", late.append)
    engine.tick()
    assert engine.links.take(Stand) == [] and late == []
    acknowledge(engine, "c")
    term = engine.engine.core.term
    assert ("c", Stand(term)) in engine.links.sent
    engine.hear("c", AskVote(term + 1, engine.journal.last_index, term, True))
    engine.tick()
    assert given == [None] and isinstance(late[0], NotLeader)


def test_lead_that_nobody_takes_stays_and_what_waited_goes_on():
    engine = leading()
    given: list[StoreError | None] = []
    late: list[Applied | StoreError] = []
    engine.engine.changing.give_away("", given.append)
    engine.engine.propose(b"y", late.append)
    for _ in range(6):
        engine.tick(0.5)
        acknowledge(engine, "b", "c")
    assert isinstance(given[0], NotReady) and isinstance(late[0], Applied)
    assert engine.engine.core.is_leader


@pytest.mark.parametrize(("to", "error"), [("a", Conflict), ("z", NoSuchNode), ("d", NoSuchNode)])
def test_lead_is_given_to_another_member_only(to, error):
    engine = leading()
    follow(engine, "d")
    given: list[StoreError | None] = []
    engine.engine.changing.give_away(to, given.append)
    assert type(given[0]) is error


def test_lead_is_given_to_nobody_who_lags_nor_twice():
    engine = leading()
    given: list[StoreError | None] = []
    engine.engine.changing.give_away("b", given.append)
    engine.engine.changing.give_away("c", given.append)
    assert isinstance(given[0], Conflict)
    other = leading()
    other.clock.advance(1.2)
    other.engine.changing.give_away("b", given.append)
    assert isinstance(given[1], NotReady)


def test_order_to_stand_is_obeyed_only_if_it_is_the_leaders():
    engine = LoneEngine()
    engine.follow(1, NO_OP)
    engine.tick()
    engine.hear("c", Stand(1))
    engine.tick()
    assert engine.links.take(AskVote) == []
    engine.hear("b", Stand(1))
    engine.tick()
    assert engine.links.take(AskVote) == [AskVote(2, 1, 1, True)] * 2


def test_candidate_is_heard_while_a_leader_lives_only_if_that_sent_it():
    engine = LoneEngine()
    engine.follow(1, NO_OP)
    engine.tick()
    engine.hear("c", AskVote(2, 5, 1))
    assert engine.links.take(Vote) == []
    engine.hear("c", AskVote(2, 5, 1, True))
    assert engine.links.take(Vote) == [Vote(2)]
