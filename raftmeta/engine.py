"""One member's Raft, without threads: every call belongs to the thread that ticks.

Order within a tick, on which durability rests: sync the journal, release the
acknowledgements that the sync made true, then let the library elect and count votes and
matches (its own log is wholly synced here), apply what is committed, accept proposals,
send them, sync again while they travel, and poll the network.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from osscore.errors import CorruptJournal, NotLeader, OutcomeUnknown, StoreError
from raftmeta.changing import Changing, Wrap
from raftmeta.election import Election
from raftmeta.entries import BATCH, AnyResult
from raftmeta.journal import Journal, LogEntry
from raftmeta.membership import MEMBERS, Change, Membership
from raftmeta.messages import (
    AnyMessage,
    Append,
    Appended,
    AskPreVote,
    AskTerm,
    AskVote,
    Behind,
    Mismatch,
    PreVote,
    Stand,
    TermHeld,
    Vote,
)
from raftmeta.pysync import Core
from raftmeta.readindex import ReadDone, ReadIndex
from raftmeta.replication import Replication
from raftmeta.settings import RaftSettings
from raftmeta.transport import Links, RaftTransport

_MARK_EVERY_S = 1.0
_READ_BYTES = 4 * 1024 * 1024


class StateMachine(Protocol):
    """What committed batches are applied to. Apply is total: anything raised is final."""

    @property
    def applied_index(self) -> int:
        """Index of the last batch applied."""

    def apply(self, index: int, blob: bytes) -> list[AnyResult]:
        """Apply the batch of that log index, in one transaction with the index."""


class Applied:
    """Outcome of a proposal that was applied."""

    __slots__ = ("index", "results")

    def __init__(self, index: int, results: list[AnyResult]) -> None:
        self.index = index
        self.results = results


ProposeDone = Callable[[Applied | StoreError], None]
"""Called once in the tick thread; must not raise."""


class Engine:
    """The protocol around the library, its journal and its state machine."""

    def __init__(
        self,
        *,
        membership: Membership,
        journal: Journal,
        machine: StateMachine,
        links: Links,
        settings: RaftSettings,
        monotonic_s: Callable[[], float],
        jitter: Callable[[], float],
        on_lag: Callable[[], None],
    ) -> None:
        applied_index = _start_index(journal, machine)
        self._membership = membership
        self._journal = journal
        self._machine = machine
        self._links = links
        self._settings = settings
        self._monotonic_s = monotonic_s
        self._proposals: deque[tuple[bytes, ProposeDone]] = deque()
        self._waiting: dict[int, tuple[int, ProposeDone]] = {}
        self._marked_s = monotonic_s()
        _read_members(journal, membership, behind_index=applied_index)
        self._transport = RaftTransport(links, by_order=lambda: self._election.by_order)
        self.core = Core(
            membership=membership,
            journal=journal,
            transport=self._transport,
            hooks=self,
            settings=settings,
            monotonic_s=monotonic_s,
            jitter=jitter,
            applied_index=max(applied_index, journal.base_index),
        )
        self._election = Election(
            core=self.core,
            journal=journal,
            membership=membership,
            settings=settings,
            send=links.send,
            monotonic_s=monotonic_s,
            jitter=jitter,
        )
        self._reads = ReadIndex(
            core=self.core,
            membership=membership,
            settings=settings,
            send=links.send,
            monotonic_s=monotonic_s,
        )
        self._replication = Replication(
            core=self.core,
            journal=journal,
            membership=membership,
            settings=settings,
            send=links.send,
            has_room=links.has_room,
            heard_leader=self._election.heard_leader,
            on_lag=on_lag,
        )
        self.changing = Changing(
            core=self.core,
            journal=journal,
            membership=membership,
            settings=settings,
            send=links.send,
            monotonic_s=monotonic_s,
        )
        membership.on_change = lambda: self.core.set_others(membership.others)
        self._begin(applied_index, on_lag)

    def _begin(self, applied_index: int, on_lag: Callable[[], None]) -> None:
        if applied_index < self._journal.base_index:
            # The catalog lacks what the log no longer holds: it must not lead.
            self._election.may_stand = False
            on_lag()
        self._links.start(
            self.core.poller, on_message=self._receive, on_change=self._transport.link_changed
        )

    # --- the tick -----------------------------------------------------------------------

    def tick(self, wait_s: float) -> None:
        """One round; waits at most that long for the network. Anything raised is final."""
        self._links.step()
        self._journal.sync()
        self._replication.release_acks()
        self._reads.step()
        self.changing.step()
        self._election.step()
        self.core.tick(wait_s)

    def apply_committed(self) -> None:
        """Apply committed entries in order, for at most a slice of time."""
        core = self.core
        if not self._election.may_stand:
            return
        until_s = self._monotonic_s() + self._settings.apply_slice_s
        while core.applied_index < core.commit_index and self._monotonic_s() <= until_s:
            found = self._journal.entries(
                core.applied_index + 1,
                bytes_max=self._settings.append_bytes_max,
                count_max=core.commit_index - core.applied_index,
            )
            for entry in found:
                self._apply(entry)
                if self._monotonic_s() > until_s:
                    break
        self._reads.finish()

    def _apply(self, entry: LogEntry) -> None:
        # A leader commits only what it synced, a follower syncs before this point of the
        # tick: the catalog never runs ahead of the journal.
        assert entry.index <= self._journal.synced_index
        results: list[AnyResult] = []
        if entry.body[:1] in (BATCH, MEMBERS) and entry.index > self._machine.applied_index:
            results = self._machine.apply(entry.index, entry.body[1:])
        self.core.applied_index = entry.index
        term, done = self._waiting.pop(entry.index, (0, None))
        if done is not None:
            if term == entry.term:
                done(Applied(entry.index, results))
            else:
                done(NotLeader("Another leader's entry took the place of this one."))

    def send_appends(self) -> None:
        """Replicate or keep the followers quiet."""
        self._replication.send_appends()

    def accept_proposals(self) -> None:
        """As the leader: log, send, and sync what waits. Else refuse it, surely unapplied."""
        if not self.core.is_leader:
            self._refuse_proposals()
            self._mark_when_idle()
            return
        any_logged = self.changing.accept()
        while self._proposals and not self.changing.holds_proposals:
            blob, done = self._proposals.popleft()
            self._log(BATCH + blob, done)
            any_logged = True
        if not any_logged:
            self._mark_when_idle()
            return
        self._replication.send_appends()
        # While the followers write theirs. Our own copy counts from the next tick on.
        self._journal.sync()

    def _log(self, body: bytes, done: ProposeDone) -> None:
        index = self._journal.last_index + 1
        self._journal.append(index, self.core.term, body)
        self._waiting[index] = (self.core.term, done)
        self._membership.append(index, body)

    def _mark_when_idle(self) -> None:
        now_s = self._monotonic_s()
        if now_s - self._marked_s >= _MARK_EVERY_S:
            self._marked_s = now_s
            self._journal.mark()

    def role_changed(self) -> None:
        """A leader that ceased to be one no longer knows what becomes of its entries."""
        if not self.core.is_leader:
            self._forget_waiting()
            self._reads.give_up()
            self.changing.end()

    # --- orders from the same thread ----------------------------------------------------

    def propose(self, blob: bytes, done: ProposeDone) -> None:
        """Replicate and apply one batch; `done` is called with the outcome.

        NotLeader: surely not applied. OutcomeUnknown: it may yet be.
        """
        self._proposals.append((blob, done))

    def propose_change(self, change: Change, wrap: Wrap, done: ProposeDone) -> None:
        """Add or remove one member; `wrap` makes the batch that records the members.

        Outcomes as of `propose`, and the refusals of `Changing` and `Membership.after`.
        """
        self.changing.propose(
            change,
            lambda members: MEMBERS + wrap(members),
            lambda body: self._log(body, done),
            done,
        )

    @property
    def silence_s(self) -> float:
        """How long no leader was heard, in seconds; 0 on the leader."""
        return self._election.silence_s

    def confirm_read(self, done: ReadDone, *, excluding: str | None = None) -> None:
        """Confirm leadership for a linearizable read, without the word of `excluding`,
        whose earlier acknowledgements are forgotten first; that takes 1.5 election times."""
        if excluding is not None:
            self.forget_match(excluding)
        self._reads.ask(done, excluding)

    def forget_match(self, member: str) -> None:
        """That member may have lost its disk: count nothing it said, read or unread."""
        self._replication.forget_match(member)
        self._links.drop(member)

    def applied_entries(self, first: int, *, bytes_max: int) -> list[LogEntry] | None:
        """Applied entries from `first` on; at least one if there is one, then within the bound.
        None: the log does not hold `first` any more. Raises CorruptJournal."""
        if first <= self._journal.base_index:
            return None
        count = self.core.applied_index - first + 1
        if count <= 0:
            return []
        return self._journal.entries(first, bytes_max=bytes_max, count_max=count)

    def cut_log(self, durable_index: int) -> int:
        """Drop old segments that a durable catalog of that index makes needless."""
        return self._journal.cut(min(durable_index, self.core.applied_index))

    def stop(self) -> None:
        """Cut the links and tell everybody who waits; the journal stays open."""
        self._links.close()
        self._refuse_proposals()
        self._forget_waiting()
        self._reads.give_up()
        self.changing.end()

    # --- inside -------------------------------------------------------------------------

    def _refuse_proposals(self) -> None:
        self.changing.refuse_waiting()
        while self._proposals:
            self._proposals.popleft()[1](NotLeader())

    def _forget_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for _term, done in waiting.values():
            done(OutcomeUnknown())

    def _receive(self, member: str, message: AnyMessage) -> None:
        if isinstance(message, Append):
            self._replication.on_append(member, message)
        elif isinstance(message, Appended):
            self._replication.on_appended(member, message)
        elif isinstance(message, Mismatch):
            self._replication.on_mismatch(member, message)
        elif isinstance(message, Behind):
            self._replication.on_behind(member, message)
        elif isinstance(message, AskTerm):
            self._reads.on_ask_term(member, message)
        elif isinstance(message, TermHeld):
            self._reads.on_term_held(member, message)
        else:
            self._receive_election(member, message)

    def _receive_election(self, member: str, message: AnyMessage) -> None:
        if isinstance(message, AskPreVote):
            self._election.on_ask_pre_vote(member, message)
        elif isinstance(message, PreVote):
            self._election.on_pre_vote(member, message)
        elif isinstance(message, Stand):
            self._election.on_stand(member, message)
        elif isinstance(message, AskVote) and self._election.admits_candidate(message):
            self._transport.deliver_ask_vote(member, message)
        elif (
            isinstance(message, Vote)
            and self.core.is_candidate
            and message.term == self.core.term
            and self._election.admits_vote(member)
        ):
            self._transport.deliver_vote(member, message)


def _start_index(journal: Journal, machine: StateMachine) -> int:
    applied_index = machine.applied_index
    if applied_index > journal.last_index:
        raise CorruptJournal(
            f"the catalog holds entry {applied_index}, the journal ends at "
            f"{journal.last_index}: acknowledged entries are missing; re-join this member"
        )
    return applied_index


def _read_members(journal: Journal, membership: Membership, *, behind_index: int) -> None:
    """What the log says of the members behind what the catalog holds, committed or not."""
    index = max(behind_index, journal.base_index)
    while index < journal.last_index:
        for entry in journal.entries(index + 1, bytes_max=_READ_BYTES):
            membership.append(entry.index, entry.body)
            index = entry.index
