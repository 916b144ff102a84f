"""The one module that touches the inside of PySyncObj (docs/adr/0003-raft-on-pysyncobj.md).

Of the library we keep the roles, the terms and votes, the commit rule and the tick with
its poller. Its journal, wire, replication loop, apply loop, command queue and dumps are
replaced through the names below, which are those of exactly one release.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import pysyncobj.pickle
import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport
from pysyncobj.version import VERSION

from raftmeta.journal import Journal
from raftmeta.membership import Membership
from raftmeta.settings import RaftSettings

SUPPORTED = "0.3.17"
if VERSION != SUPPORTED:
    raise ImportError(f"pysyncobj {SUPPORTED} is needed, found {VERSION}: see docs/adr/0003")

NO_OP = b"\x01"
"""Body of the entry a new leader begins with, as the library writes it."""

_FOLLOWER, _CANDIDATE, _LEADER = 0, 1, 2


def _refuse_pickle(*_args: object, **_kwargs: object) -> Any:
    raise RuntimeError("no pickle is read or written by this store")


# Nothing of ours is pickled, neither on the wire nor in the log. Should a path of the
# library that we believe closed ever be reached, it must fail rather than run what it got.
for _name in ("loads", "load", "dumps", "dump"):
    setattr(pysyncobj.pickle, _name, _refuse_pickle)
# `journalFile` carries the journal itself.
pysyncobj.syncobj.createJournal = lambda journal: journal


def use_clock(monotonic_s: Callable[[], float]) -> None:
    """Let the library read time from here. One clock serves all replicas of a process."""
    pysyncobj.syncobj.monotonicTime = monotonic_s


class Hooks(Protocol):
    """What the core asks of the engine around it."""

    def apply_committed(self) -> None:
        """Apply what is committed; called in each tick."""

    def send_appends(self) -> None:
        """Replicate to every follower; called by a leader at least each append period."""

    def accept_proposals(self) -> None:
        """Take waiting proposals into the log; called in each tick before the poll."""

    def role_changed(self) -> None:
        """This member became or ceased to be a leader or candidate."""


class _LibraryLog:
    """A Journal as the library's journal interface; bodies are never asked for by it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def add(self, body: bytes, index: int, term: int) -> None:
        self._journal.append(index, term, body)

    def __len__(self) -> int:
        return 1 + self._journal.last_index - self._journal.base_index

    def __getitem__(self, at: int) -> tuple[bytes, int, int]:
        if at == 0:
            return b"", self._journal.base_index, self._journal.base_term
        if at == -1:
            return b"", self._journal.last_index, self._journal.last_term
        raise IndexError(at)

    def getCurrentTerm(self) -> int:
        return self._journal.term

    def getVotedForNodeId(self) -> str | None:
        return self._journal.voted_for

    def setCurrentTerm(self, term: int, voted_for: str | None) -> None:
        self._journal.set_term(term, voted_for)

    def getRaftCommitIndex(self) -> int:
        return self._journal.base_index

    def setRaftCommitIndex(self, _index: int) -> None:
        """The commit index is volatile: a stored one beyond the log would acknowledge what
        no majority holds."""

    def onOneSecondTimer(self) -> None:
        """Nothing is put off to a timer."""

    def _destroy(self) -> None:
        """Whoever opened the journal closes it."""


class Core(SyncObj):  # type: ignore[misc]  # the library has no types
    """The library's state machine of roles, under our journal, wire and loops.

    All calls belong to the tick thread. `send_vote_requests` and the transport carry what
    the library itself still sends: vote requests and votes.
    """

    _SyncObj__otherNodes: set[Node]

    def __init__(
        self,
        *,
        membership: Membership,
        journal: Journal,
        transport: Transport,
        hooks: Hooks,
        settings: RaftSettings,
        monotonic_s: Callable[[], float],
        jitter: Callable[[], float],
        applied_index: int,
    ) -> None:
        use_clock(monotonic_s)
        self._journal = journal
        self._hooks = hooks
        self._settings = settings
        self._monotonic_s = monotonic_s
        self._jitter = jitter
        self.election_due_s = math.inf
        super().__init__(
            Node(membership.member_id),
            [Node(other) for other in membership.others],
            _conf(settings, _LibraryLog(journal), hooks),
            transport=transport,
        )
        # What the catalog holds was committed; all before the base likewise.
        self._SyncObj__raftLastApplied = applied_index
        self._SyncObj__raftCommitIndex = applied_index

    # --- what the engine reads and sets -------------------------------------------------

    def tick(self, wait_s: float) -> None:
        """One round: elect, commit, apply, replicate, accept, poll the network."""
        self._onTick(wait_s)

    @property
    def poller(self) -> Any:
        """Where file descriptors are subscribed."""
        return self._poller

    @property
    def term(self) -> int:
        """The current term."""
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def is_leader(self) -> bool:
        """Believes to lead; only a confirmed read knows."""
        return bool(self._SyncObj__raftState == _LEADER)

    @property
    def is_candidate(self) -> bool:
        """Asks for votes in `term`."""
        return bool(self._SyncObj__raftState == _CANDIDATE)

    @property
    def leader_id(self) -> str | None:
        """Last known leader of this term."""
        leader = self._SyncObj__raftLeader
        return None if leader is None else str(leader.id)

    @property
    def no_op_index(self) -> int:
        """Where this leader's term begins in the log."""
        return int(self._SyncObj__noopIDx or 0)

    @property
    def commit_index(self) -> int:
        """Highest entry known committed."""
        return int(self._SyncObj__raftCommitIndex)

    @commit_index.setter
    def commit_index(self, index: int) -> None:
        self._SyncObj__raftCommitIndex = index

    @property
    def applied_index(self) -> int:
        """Highest entry applied or known applied."""
        return int(self._SyncObj__raftLastApplied)

    @applied_index.setter
    def applied_index(self, index: int) -> None:
        self._SyncObj__raftLastApplied = index

    def follow(self, term: int, leader: str | None) -> None:
        """Become a follower in `term` (not below the present one); durable if it is new."""
        assert term >= self.term
        if term > self.term:
            self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__raftLeader = None if leader is None else Node(leader)
        self._SyncObj__setState(_FOLLOWER)

    def restart_election_timer(self) -> None:
        """The leader was heard."""
        self._SyncObj__generateRaftTimeout()

    def stand(self, above_term: int) -> None:
        """Become a candidate in the coming tick, in a term above `above_term`."""
        if above_term > self.term:
            self._SyncObj__setCurrentTerm(above_term, None)
        self._SyncObj__raftElectionDeadline = -math.inf

    def do_not_stand(self) -> None:
        """Take back `stand`, if the tick did not act on it."""
        self._SyncObj__raftElectionDeadline = math.inf

    def next_index(self, member: str) -> int:
        """Leader: the next entry to send there."""
        return int(self._SyncObj__raftNextIndex[Node(member)])

    def set_next_index(self, member: str, index: int) -> None:
        """Leader: send from `index` on."""
        self._SyncObj__raftNextIndex[Node(member)] = index

    def match_index(self, member: str) -> int:
        """Leader: up to where that member's log surely equals ours, durably there."""
        return int(self._SyncObj__raftMatchIndex[Node(member)])

    def set_match_index(self, member: str, index: int) -> None:
        """Leader: believe the member's acknowledgement (or forget it: 0)."""
        self._SyncObj__raftMatchIndex[Node(member)] = index

    def heard_from(self, member: str) -> None:
        """Leader: that follower answered in this term."""
        self._SyncObj__lastResponseTime[Node(member)] = self._monotonic_s()

    def silence_s(self, member: str) -> float:
        """Leader: how long ago that follower last answered in this term."""
        return float(self._monotonic_s() - self._SyncObj__lastResponseTime[Node(member)])

    # --- who counts (docs/adr/0017-metanode-membership.md) ------------------------------

    def set_others(self, others: Iterable[str]) -> None:
        """These and this member decide from now on; the library's own way is not used.

        Whoever is new has acknowledged nothing that counts, whatever it did as a learner.
        """
        before, now = self._SyncObj__otherNodes, {Node(other) for other in others}
        self._SyncObj__otherNodes = now
        for node in now - before:
            self._begin_to_follow(node)
        for node in before - now:
            self.forget_follower(node.id)

    def follow_learner(self, member: str) -> None:
        """Leader: send the log to one who does not count, from its end on until it objects."""
        self._begin_to_follow(Node(member))

    def forget_follower(self, member: str) -> None:
        """Leader: have no more dealings with that member."""
        for column in self._columns():
            column.pop(Node(member), None)

    def _begin_to_follow(self, node: Node) -> None:
        self._SyncObj__raftNextIndex.setdefault(node, self._journal.last_index + 1)
        self._SyncObj__raftMatchIndex[node] = 0
        self._SyncObj__lastResponseTime[node] = self._monotonic_s()

    def _columns(self) -> tuple[dict[Node, Any], ...]:
        return (
            self._SyncObj__raftNextIndex,
            self._SyncObj__raftMatchIndex,
            self._SyncObj__lastResponseTime,
        )

    # --- what replaces the library's own ways -------------------------------------------

    def _SyncObj__generateRaftTimeout(self) -> float:
        # The library may never start an election by itself: a term rises only behind a
        # pre-vote. Its deadline is always infinite, ours is kept here.
        low, high = self._settings.election_min_s, self._settings.election_max_s
        self.election_due_s = self._monotonic_s() + low + (high - low) * self._jitter()
        return math.inf

    def _SyncObj__onBecomeLeader(self) -> None:
        SyncObj._SyncObj__onBecomeLeader(self)
        # The library counts a leader's own log as durable in the same tick.
        self._journal.sync()

    def _SyncObj__applyLogEntries(self) -> bool:
        self._hooks.apply_committed()
        return False

    def _SyncObj__sendAppendEntries(self) -> None:
        self._SyncObj__newAppendEntriesTime = self._monotonic_s() + self._settings.append_period_s
        self._hooks.send_appends()

    def _checkCommandsToApply(self) -> None:
        self._hooks.accept_proposals()

    def _SyncObj__tryLogCompaction(self) -> None:
        """The log is cut by the engine, once the catalog is durable (SAFETY rule 20)."""

    def _SyncObj__getCurrentLogIndex(self) -> int:
        return self._journal.last_index

    def _SyncObj__getCurrentLogTerm(self) -> int:
        return self._journal.last_term

    def _SyncObj__getEntries(
        self, first: int, count: int | None = None, _bytes_max: int | None = None
    ) -> list[tuple[bytes, int, int]]:
        # The library asks only for the term of the entry it may commit.
        assert count == 1
        term = self._journal.term_at(first)
        return [] if term is None else [(b"", first, term)]


def _conf(settings: RaftSettings, log: _LibraryLog, hooks: Hooks) -> SyncObjConf:
    return SyncObjConf(
        autoTick=False,
        journalFile=log,
        raftMinTimeout=settings.election_min_s,
        raftMaxTimeout=settings.election_max_s,
        appendEntriesPeriod=settings.append_period_s,
        leaderFallbackTimeout=settings.leader_fallback_s,
        connectionTimeout=settings.link_timeout_s,
        appendEntriesUseBatch=True,
        dynamicMembershipChange=False,
        useFork=False,
        onStateChanged=lambda _old, _new: hooks.role_changed(),
    )
