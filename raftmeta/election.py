"""Pre-vote: no term rises until a majority has lost its leader too (SAFETY rule 22), or the
leader itself gives its place away.

Without it a member that was cut off for a while comes back with a higher term and deposes
a leader everybody else was happy with.
"""

from collections.abc import Callable

from raftmeta.journal import Journal
from raftmeta.membership import Membership
from raftmeta.messages import AnyMessage, AskPreVote, AskVote, PreVote, Stand
from raftmeta.pysync import Core
from raftmeta.settings import RaftSettings

_RETRY_FRACTION = 0.4  # of election_min_s: a pre-vote costs nothing, ask again soon


class Election:
    """When to stand, and whom to encourage. Belongs to the tick thread."""

    def __init__(
        self,
        *,
        core: Core,
        journal: Journal,
        membership: Membership,
        settings: RaftSettings,
        send: Callable[[str, AnyMessage], bool],
        monotonic_s: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._core = core
        self._journal = journal
        self._membership = membership
        self._settings = settings
        self._send = send
        self._monotonic_s = monotonic_s
        self._jitter = jitter
        self._heard_s = monotonic_s()
        self._round = 0
        self._terms: dict[str, int] | None = None  # who encouraged this round, with its term
        self._stood_s = 0.0
        self._voters: set[str] = set()  # who voted for this candidacy
        self._ordered_term: int | None = None
        self.by_order = False
        """Whether the last candidacy was one the leader asked for."""
        self.may_stand = True

    @property
    def silence_s(self) -> float:
        """How long no leader was heard, in seconds."""
        return 0.0 if self._core.is_leader else self._monotonic_s() - self._heard_s

    def heard_leader(self) -> None:
        """A leader of the present term spoke: forget about standing."""
        self._heard_s = self._monotonic_s()
        self._terms = None
        self._core.restart_election_timer()

    def step(self) -> None:
        """Start a round when silence lasted too long; stand when a round succeeded."""
        self._core.do_not_stand()
        ordered, self._ordered_term = self._ordered_term, None
        if self._core.is_leader:
            self._terms = None
        elif ordered == self._core.term:
            self._stand(self._core.term, by_order=True)
        elif self._terms is not None and self._membership.decides(set(self._terms)):
            self._stand(max(self._terms.values()))
        elif (
            self.may_stand
            and self._membership.is_voter
            and self._monotonic_s() >= self._core.election_due_s
        ):
            self._ask()

    def _ask(self) -> None:
        self._round += 1
        self._terms = {self._membership.member_id: self._core.term}
        pause_s = self._settings.election_min_s * _RETRY_FRACTION * (1 + self._jitter())
        self._core.election_due_s = self._monotonic_s() + pause_s
        question = AskPreVote(self._round, self._journal.last_index, self._journal.last_term)
        for other in self._membership.others:
            self._send(other, question)
        if self._membership.decides(set(self._terms)):
            self._stand(self._core.term)

    def _stand(self, above_term: int, *, by_order: bool = False) -> None:
        self._terms = None
        self.by_order = by_order
        self._stood_s = self._monotonic_s()
        self._voters = set()
        self._core.stand(above_term)

    def on_ask_pre_vote(self, member: str, asked: AskPreVote) -> None:
        """Encourage a member unless a leader is alive or our log is ahead of its log."""
        silence_s = self._monotonic_s() - self._heard_s
        if self._core.is_leader or silence_s < self._settings.election_min_s:
            return
        mine = (self._journal.last_term, self._journal.last_index)
        if (asked.last_term, asked.last_index) >= mine:
            self._send(member, PreVote(asked.round, self._core.term))

    def on_stand(self, member: str, order: Stand) -> None:
        """The leader gives its place to this member: stand in the next step, unasked."""
        from_leader = member == self._core.leader_id and order.term == self._core.term
        if from_leader and self.may_stand and self._membership.is_voter:
            self._ordered_term = order.term

    def on_pre_vote(self, member: str, given: PreVote) -> None:
        """Count an encouragement; acted upon in the next step."""
        counts = member in self._membership.others
        if counts and self._terms is not None and given.round == self._round:
            self._terms[member] = given.term

    def admits_candidate(self, asked: AskVote) -> bool:
        """Whether a vote request may be looked at: not while a leader is alive."""
        if self._core.is_leader and asked.term > self._core.term:
            return True  # it stands with a majority behind it
        if asked.by_order:
            return True  # the leader wants it so
        return self._monotonic_s() - self._heard_s >= self._settings.election_min_s

    def admits_vote(self, member: str) -> bool:
        """Whether a vote for us counts: each member once, and only while it is fresh.

        A member that lost its disk may have voted before and not know it. It stays away
        for longer than a vote stays fresh, so no vote of its former life counts later.
        """
        fresh = self._monotonic_s() - self._stood_s <= self._settings.election_max_s
        if not fresh or member in self._voters or member not in self._membership.others:
            return False
        self._voters.add(member)
        return True
