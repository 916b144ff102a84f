"""Linearizable reads: a leader asks a majority whether its term still holds (ReadIndex).

The commit index of the moment the question goes out is safe to read at once a majority
has answered: no later leader can have committed anything before that moment. All readers
that wait at a tick share one round.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from raftmeta.membership import Membership
from raftmeta.messages import AnyMessage, AskTerm, TermHeld
from raftmeta.pysync import Core
from raftmeta.settings import RaftSettings

ReadDone = Callable[[int | None], None]
"""Called once in the tick thread: the index read at, applied here; None: not the leader."""

_ROUNDS_MAX = 4
_RESEND_S = 0.2
_VOTE_FRESH_MARGIN = 1.5  # clocks may run at slightly different speeds


@dataclass(slots=True)
class _Round:
    term: int
    read_index: int
    excluding: str | None
    waiting: list[ReadDone]
    asked_s: float
    held_by: set[str] = field(default_factory=set)


class ReadIndex:
    """Rounds of confirmation. Belongs to the tick thread."""

    def __init__(
        self,
        *,
        core: Core,
        membership: Membership,
        settings: RaftSettings,
        send: Callable[[str, AnyMessage], bool],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._core = core
        self._membership = membership
        self._vote_fresh_s = settings.election_max_s * _VOTE_FRESH_MARGIN
        self._send = send
        self._monotonic_s = monotonic_s
        self._queued: dict[str | None, list[ReadDone]] = {}
        self._not_before_s: dict[str, float] = {}
        self._rounds: dict[int, _Round] = {}
        self._round = 0

    def ask(self, done: ReadDone, excluding: str | None) -> None:
        """Wait for a confirmed index; `excluding`: that member's word does not count.

        It may have lost its disk, and with it the knowledge of a vote it gave a moment ago.
        So its round begins only once every candidate it may have voted for has won, which a
        majority without it then knows, or has let the vote lapse.
        """
        if excluding is not None and excluding not in self._queued:
            self._not_before_s[excluding] = self._monotonic_s() + self._vote_fresh_s
        self._queued.setdefault(excluding, []).append(done)

    def step(self) -> None:
        """Begin rounds for those who wait, repeat lost questions, finish what is confirmed."""
        if not self._core.is_leader:
            self.give_up()
            return
        self.finish()
        now_s = self._monotonic_s()
        if self._core.applied_index >= self._core.no_op_index:
            # Before the own no-op is committed a leader does not know the commit index.
            for excluding in list(self._queued):
                ripe = excluding is None or now_s >= self._not_before_s[excluding]
                if ripe and len(self._rounds) < _ROUNDS_MAX:
                    self._begin(excluding, self._queued.pop(excluding))
        for number, round_ in self._rounds.items():
            if now_s - round_.asked_s > _RESEND_S:
                round_.asked_s = now_s
                self._send_question(number, round_)
        self.finish()  # a cluster of one has nobody to wait for

    def _begin(self, excluding: str | None, waiting: list[ReadDone]) -> None:
        self._round += 1
        round_ = _Round(
            self._core.term, self._core.commit_index, excluding, waiting, self._monotonic_s()
        )
        self._rounds[self._round] = round_
        self._send_question(self._round, round_)

    def _send_question(self, number: int, round_: _Round) -> None:
        for other in self._membership.others:
            if other != round_.excluding and other not in round_.held_by:
                self._send(other, AskTerm(number, round_.term))

    def on_ask_term(self, member: str, asked: AskTerm) -> None:
        """Confirm a term that is still ours; anything else stays unanswered."""
        if asked.term == self._core.term:
            self._send(member, TermHeld(asked.round, asked.term))

    def on_term_held(self, member: str, held: TermHeld) -> None:
        """Count a confirmation."""
        round_ = self._rounds.get(held.round)
        if round_ is not None and held.term == round_.term and member != round_.excluding:
            round_.held_by.add(member)

    def finish(self) -> None:
        """Release the readers of confirmed rounds whose index is applied."""
        for number, round_ in list(self._rounds.items()):
            if not self._core.is_leader or round_.term != self._core.term:
                del self._rounds[number]
                _release(round_.waiting, None)
            elif (
                self._membership.decides(round_.held_by | {self._membership.member_id})
                and self._core.applied_index >= round_.read_index
            ):
                del self._rounds[number]
                _release(round_.waiting, round_.read_index)

    def give_up(self) -> None:
        """Tell everybody who waits that this is not the leader."""
        rounds, self._rounds = self._rounds, {}
        queued, self._queued = self._queued, {}
        for round_ in rounds.values():
            _release(round_.waiting, None)
        for waiting in queued.values():
            _release(waiting, None)


def _release(waiting: list[ReadDone], index: int | None) -> None:
    for done in waiting:
        done(index)
