"""A leader's dealings with the members themselves: learners, changes, giving the lead away.

Belongs to the tick thread. What makes a change safe is judged by `raftmeta.membership`; here
it is judged whether it can succeed: whoever would decide afterwards must follow closely now.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from osscore.errors import Conflict, NoSuchNode, NotLeader, NotReady, StoreError
from raftmeta.journal import Journal
from raftmeta.members import Member
from raftmeta.membership import Change, Membership
from raftmeta.messages import AnyMessage, Stand
from raftmeta.pysync import Core
from raftmeta.settings import RaftSettings

LEARNER_FORGOTTEN_S = 10.0
"""A learner announces itself every second; after so long without, it is sent no more."""

Wrap = Callable[[tuple[Member, ...]], bytes]
"""The body of the entry that sets these members; must not raise."""
Refuse = Callable[[StoreError], None]
GivenAway = Callable[[StoreError | None], None]
"""Called once: None when this member leads no more."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How closely one follower follows: entries it surely has, seconds since it answered."""

    member: Member
    counts: bool
    match_index: int
    silence_s: float


@dataclass(slots=True)
class _Transfer:
    to: str
    until_s: float
    done: GivenAway
    ordered: bool = False


class Changing:
    """`log(body, done)` appends an entry of this leader's term."""

    def __init__(
        self,
        *,
        core: Core,
        journal: Journal,
        membership: Membership,
        settings: RaftSettings,
        send: Callable[[str, AnyMessage], bool],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._core = core
        self._journal = journal
        self._membership = membership
        self._settings = settings
        self._send = send
        self._monotonic_s = monotonic_s
        self._announced_s: dict[str, float] = {}
        self._queue: deque[tuple[Change, Wrap, Callable[[bytes], None], Refuse]] = deque()
        self._transfer: _Transfer | None = None

    # --- learners -----------------------------------------------------------------------

    def admit(self, member: Member, *, counted_since: int | None) -> None:
        """A metanode with a full copy asks for the log. Raises NotLeader, and what
        `Membership.admit_learner` raises."""
        if not self._core.is_leader:
            raise NotLeader()
        is_new = not self._membership.is_follower(member.id)
        self._membership.admit_learner(member, counted_since=counted_since)
        if is_new:
            self._core.follow_learner(member.id)
        self._announced_s[member.id] = self._monotonic_s()

    def progress(self) -> list[Progress]:
        """All followers, members first. Empty unless this member leads."""
        if not self._core.is_leader:
            return []
        found = []
        for member_id in self._membership.followers:
            member = self._membership.latest.member(member_id)
            found.append(
                Progress(
                    member=member or self._membership.learners[member_id],
                    counts=member is not None,
                    match_index=self._core.match_index(member_id),
                    silence_s=self._core.silence_s(member_id),
                )
            )
        return found

    # --- changes ------------------------------------------------------------------------

    def propose(
        self, change: Change, wrap: Wrap, log: Callable[[bytes], None], refuse: Refuse
    ) -> None:
        """Have a change logged in the coming tick; `refuse` if it may not be."""
        self._queue.append((change, wrap, log, refuse))

    def accept(self) -> bool:
        """As the leader: log what waits and may be; answers whether anything was logged."""
        any_logged = False
        while self._queue:
            change, wrap, log, refuse = self._queue.popleft()
            try:
                members = self._judge(change)
            except StoreError as error:
                refuse(error)
                continue
            log(wrap(members))
            any_logged = True
        return any_logged

    def _judge(self, change: Change) -> tuple[Member, ...]:
        # Until an entry of the own term is applied a leader does not know whether a change it
        # never heard of is committed, and its own could leave two majorities apart.
        if self._core.applied_index < self._core.no_op_index:
            raise NotReady("This leader has only just begun.")
        if self._transfer is not None:
            raise NotReady("The leader is giving its place away.")
        return self._membership.after(change, able=self._able())

    def _able(self) -> set[str]:
        # An entry of this term at least: one that was never heard of holds nothing yet, however
        # short the log may be.
        floor = max(self._core.no_op_index, self._journal.last_index - self._settings.able_entries)
        able = {self._membership.member_id}
        for progress in self.progress():
            heard = progress.silence_s <= self._settings.able_within_s
            if heard and progress.match_index >= floor:
                able.add(progress.member.id)
        return able

    def refuse_waiting(self) -> None:
        """Not the leader: what was not logged surely is not done."""
        while self._queue:
            self._queue.popleft()[3](NotLeader())

    # --- giving the lead away -------------------------------------------------------------

    def give_away(self, to: str, done: GivenAway) -> None:
        """Have another member lead, soon; "": whoever follows most closely.

        Refused Conflict (it leads already, or another transfer is under way), NoSuchNode,
        NotLeader, NotReady (nobody able; it did not take over in time).
        """
        try:
            target = self._target(to)
        except StoreError as error:
            done(error)
            return
        until_s = self._monotonic_s() + 2 * self._settings.election_max_s
        self._transfer = _Transfer(target, until_s, done)

    def _target(self, to: str) -> str:
        if not self._core.is_leader:
            raise NotLeader()
        if to == self._membership.member_id:
            raise Conflict(f"{to} leads already.")
        if self._transfer is not None:
            raise Conflict("The leader is giving its place away already.")
        if not self._membership.is_settled:
            raise Conflict("A change of the members is under way.")
        if to and to not in self._membership.others:
            raise NoSuchNode(f"{to} is not a member.")
        able = self._able()
        wanted = (to,) if to else self._membership.others
        matches = [(self._core.match_index(each), each) for each in wanted if each in able]
        if not matches:
            raise NotReady(f"{to or 'No other member'} does not follow closely now.")
        return max(matches)[1]

    @property
    def holds_proposals(self) -> bool:
        """Whether new proposals wait, so that the one to lead next can have everything."""
        return self._transfer is not None

    def step(self) -> None:
        """Each tick: forget learners that went away, bring a transfer forward."""
        self._membership.settle(self._core.commit_index)
        now_s = self._monotonic_s()
        for member_id in list(self._membership.learners):
            if now_s - self._announced_s.get(member_id, 0.0) > LEARNER_FORGOTTEN_S:
                del self._membership.learners[member_id]
                self._core.forget_follower(member_id)
        transfer = self._transfer
        if transfer is None:
            return
        if now_s > transfer.until_s:
            self._transfer = None
            transfer.done(NotReady(f"{transfer.to} did not take over in time."))
        elif not transfer.ordered and self._is_complete(transfer.to):
            transfer.ordered = self._send(transfer.to, Stand(self._core.term))

    def _is_complete(self, member_id: str) -> bool:
        last_index = self._journal.last_index
        has_all = self._core.match_index(member_id) >= last_index
        return has_all and self._core.applied_index >= last_index

    # --- the end of a leadership ------------------------------------------------------------

    def end(self) -> None:
        """This member leads no more, or stops: whoever waits learns it."""
        for member_id in self._membership.learners:
            self._core.forget_follower(member_id)
        self._membership.drop_learners()
        self._announced_s.clear()
        self.refuse_waiting()
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            transfer.done(None)
