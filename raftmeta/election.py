"""Pre-vote: no term rises until a majority has lost its leader too (SAFETY rule 22).

Without it a member that was cut off for a while comes back with a higher term and deposes
a leader everybody else was happy with.
"""

from collections.abc import Callable

from raftmeta.journal import Journal
from raftmeta.messages import AnyMessage, AskPreVote, AskVote, PreVote
from raftmeta.pysync import Core
from raftmeta.settings import RaftIdentity, RaftSettings

_RETRY_FRACTION = 0.4  # of election_min_s: a pre-vote costs nothing, ask again soon


class Election:
    """When to stand, and whom to encourage. Belongs to the tick thread."""

    def __init__(
        self,
        *,
        core: Core,
        journal: Journal,
        identity: RaftIdentity,
        settings: RaftSettings,
        send: Callable[[str, AnyMessage], bool],
        monotonic_s: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._core = core
        self._journal = journal
        self._identity = identity
        self._settings = settings
        self._send = send
        self._monotonic_s = monotonic_s
        self._jitter = jitter
        self._heard_s = monotonic_s()
        self._round = 0
        self._terms: dict[str, int] | None = None  # who encouraged this round, with its term
        self._stood_s = 0.0
        self._voters: set[str] = set()
        self.may_stand = True

    def heard_leader(self) -> None:
        """A leader of the present term spoke: forget about standing."""
        self._heard_s = self._monotonic_s()
        self._terms = None
        self._core.restart_election_timer()

    def step(self) -> None:
        """Start a round when silence lasted too long; stand when a round succeeded."""
        self._core.do_not_stand()
        if self._core.is_leader:
            self._terms = None
        elif self._terms is not None and len(self._terms) >= self._identity.majority:
            self._stand(max(self._terms.values()))
        elif self.may_stand and self._monotonic_s() >= self._core.election_due_s:
            self._ask()

    def _ask(self) -> None:
        self._round += 1
        self._terms = {self._identity.member_id: self._core.term}
        pause_s = self._settings.election_min_s * _RETRY_FRACTION * (1 + self._jitter())
        self._core.election_due_s = self._monotonic_s() + pause_s
        question = AskPreVote(self._round, self._journal.last_index, self._journal.last_term)
        for other in self._identity.others:
            self._send(other, question)
        if len(self._terms) >= self._identity.majority:
            self._stand(self._core.term)

    def _stand(self, above_term: int) -> None:
        self._terms = None
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

    def on_pre_vote(self, member: str, given: PreVote) -> None:
        """Count an encouragement; acted upon in the next step."""
        if self._terms is not None and given.round == self._round:
            self._terms[member] = given.term

    def admits_candidate(self, asked: AskVote) -> bool:
        """Whether a vote request may be looked at: not while a leader is alive."""
        if self._core.is_leader and asked.term > self._core.term:
            return True  # it stands with a majority behind it
        return self._monotonic_s() - self._heard_s >= self._settings.election_min_s

    def admits_vote(self, member: str) -> bool:
        """Whether a vote for us counts: each member once, and only while it is fresh.

        A member that lost its disk may have voted before and not know it. It stays away
        for longer than a vote stays fresh, so no vote of its former life counts later.
        """
        fresh = self._monotonic_s() - self._stood_s <= self._settings.election_max_s
        if not fresh or member in self._voters:
            return False
        self._voters.add(member)
        return True
