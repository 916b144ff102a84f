"""Who decides, as this member's own log says (docs/adr/0017-metanode-membership.md).

A change of the members is a log entry of its own kind. It counts from the moment it is in
the log, committed or not, and no longer once it is truncated from there. So that any two
majorities that may decide at the same time share a member, a leader appends one only while

- it adds or removes exactly one member,
- the change before it is committed,
- an entry of the leader's own term is committed and applied.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from osscore.errors import (
    Conflict,
    CorruptJournal,
    MetanodeExists,
    MetanodeRemoved,
    NoSuchNode,
    NotReady,
    QuorumAtRisk,
)
from raftmeta.entries import Batch
from raftmeta.members import Member, SetMembers

MEMBERS = b"\x02"
"""First byte of an entry that changes the members; behind it a Batch of one SetMembers."""

_decode = msgspec.msgpack.Decoder(Batch).decode


@dataclass(frozen=True, slots=True)
class Configuration:
    """The members as of log entry `index`; 0: as the cluster was formed."""

    index: int
    members: tuple[Member, ...]

    def member(self, member_id: str) -> Member | None:
        """The member of that id, if there is one."""
        return next((member for member in self.members if member.id == member_id), None)


@dataclass(frozen=True, slots=True)
class Addition:
    """Count this member from now on; it follows as a learner already."""

    member: Member

    def apply_to(self, members: tuple[Member, ...]) -> tuple[Member, ...]:
        """The members afterwards, by id. Raises MetanodeExists, Conflict if an address is taken."""
        new = self.member
        for member in members:
            if member.id == new.id:
                raise MetanodeExists(f"{new.id} is a member already.")
            if new.raft == member.raft or new.url == member.url:
                raise Conflict(f"{new.id} has an address of member {member.id}.")
        return tuple(sorted((*members, new), key=lambda each: each.id))


@dataclass(frozen=True, slots=True)
class Removal:
    """Count this member no more."""

    member_id: str

    def apply_to(self, members: tuple[Member, ...]) -> tuple[Member, ...]:
        """The members afterwards. Raises NoSuchNode, QuorumAtRisk if none would remain."""
        rest = tuple(member for member in members if member.id != self.member_id)
        if len(rest) == len(members):
            raise NoSuchNode(f"{self.member_id} is not a member.")
        if not rest:
            raise QuorumAtRisk("The last member cannot be removed.")
        return rest


Change = Addition | Removal


def members_of(body: bytes) -> tuple[Member, ...] | None:
    """The members an entry sets; None for every other entry. Raises CorruptJournal."""
    if body[:1] != MEMBERS:
        return None
    try:
        entries = _decode(memoryview(body)[1:]).entries
    except msgspec.MsgspecError as error:
        raise CorruptJournal(f"an entry that changes the members is unreadable: {error}") from error
    if len(entries) != 1 or not isinstance(entries[0].command, SetMembers):
        raise CorruptJournal("an entry that changes the members holds something else")
    return entries[0].command.members


class Membership:
    """This member's view of the members. Belongs to the tick thread.

    `learners` are followers that do not count: they are sent the log, and nothing they say
    decides anything. Only a leader has them, and only until its leadership ends.
    """

    def __init__(self, member_id: str, configuration: Configuration) -> None:
        """`configuration`: what the catalog holds; later ones come from the log."""
        self.member_id = member_id
        self.learners: dict[str, Member] = {}
        self.on_change: Callable[[], None] = lambda: None
        self._history = [configuration]
        self._read()

    def _read(self) -> None:
        latest = self._history[-1]
        ids = {member.id for member in latest.members}
        self.latest = latest
        self._ids = frozenset(ids)
        self.is_voter = self.member_id in ids
        """Whether this member counts, by its own log."""
        self.others: tuple[str, ...] = tuple(sorted(ids - {self.member_id}))
        """Ids of the other members that count."""
        self.majority = len(ids) // 2 + 1
        """How many of those that count decide."""

    def decides(self, agreeing: set[str]) -> bool:
        """Whether these ids hold a majority, of which this member has to be one."""
        return self.is_voter and len(self._ids & agreeing) >= self.majority

    @property
    def followers(self) -> tuple[str, ...]:
        """Whom a leader sends its log: the other members and the learners."""
        return (*self.others, *(each for each in self.learners if each not in self.others))

    def is_follower(self, member_id: str) -> bool:
        """Whether a leader has dealings with that id."""
        return member_id in self.others or member_id in self.learners

    def address(self, member_id: str) -> str:
        """host:port of a follower's Raft link."""
        found = self.latest.member(member_id) or self.learners[member_id]
        return found.raft

    # --- the log ------------------------------------------------------------------------

    def append(self, index: int, body: bytes) -> None:
        """An entry was added to the log. Raises CorruptJournal."""
        members = members_of(body)
        if members is not None and index > self.latest.index:
            self._history.append(Configuration(index, members))
            self._changed()

    def truncate(self, first_index: int) -> None:
        """All entries from `first_index` on are void: so is what they set."""
        if self.latest.index < first_index:
            return
        while len(self._history) > 1 and self._history[-1].index >= first_index:
            self._history.pop()
        if self._history[-1].index >= first_index:
            raise CorruptJournal(f"entry {first_index} is void, but its members are committed")
        self._changed()

    def settle(self, commit_index: int) -> None:
        """What is committed is never taken back: forget what it replaced."""
        while len(self._history) > 1 and self._history[1].index <= commit_index:
            del self._history[0]

    @property
    def is_settled(self) -> bool:
        """Whether the latest change is known committed (after `settle`)."""
        return len(self._history) == 1

    def _changed(self) -> None:
        self._read()
        for member_id in self.others:
            self.learners.pop(member_id, None)
        self.on_change()

    # --- learners -------------------------------------------------------------------------

    def admit_learner(self, member: Member, *, counted_since: int | None) -> None:
        """As the leader: let a metanode follow. Raises Conflict, NotReady, MetanodeRemoved.

        `counted_since`: the entry since which it counts by its own log, if it does. Should
        that entry be undone it has to be a learner again; but if a later one is committed
        here, and it does not count by that, it was removed and is to stay away.

        One that a change under way removes must not get the entry that says so: with it its
        log would be ahead of those whose vote it owes while that change can still be undone.
        """
        if not self.is_settled:
            raise NotReady("A change of the members is under way.")
        is_member = self.latest.member(member.id) is not None
        if counted_since is not None and counted_since < self.latest.index and not is_member:
            raise MetanodeRemoved()
        Addition(member).apply_to(self.latest.members)
        self.learners[member.id] = member

    def drop_learners(self) -> None:
        """The leadership ended, and with it what it knew."""
        self.learners.clear()

    # --- changes ----------------------------------------------------------------------------

    def after(self, change: Change, *, able: set[str]) -> tuple[Member, ...]:
        """The members after a change, if a leader may make it now.

        `able`: who follows closely at the moment, this member included. Raises Conflict,
        NoSuchNode, NotReady (a learner that is not there yet), QuorumAtRisk.
        """
        if not self.is_settled:
            raise Conflict("Another change of the members is under way.")
        members = change.apply_to(self.latest.members)
        if isinstance(change, Addition) and change.member.id not in able:
            raise NotReady(f"{change.member.id} has not caught up yet.")
        if isinstance(change, Removal) and change.member_id == self.member_id:
            raise Conflict("The leader removes itself only after another one leads.")
        _check_quorum(members, able)
        return members


def _check_quorum(members: Sequence[Member], able: set[str]) -> None:
    ready_count = sum(member.id in able for member in members)
    majority = len(members) // 2 + 1
    if ready_count < majority:
        raise QuorumAtRisk(
            f"Of the {len(members)} members there would be, {ready_count} follow closely now "
            f"and {majority} are needed."
        )
