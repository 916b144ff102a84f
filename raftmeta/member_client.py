"""How the metanodes are changed from outside: the leader is asked until it is done or refused."""

from collections.abc import Callable, Sequence

import msgspec

from osscore.errors import (
    Conflict,
    InvalidArgument,
    MetanodeExists,
    NoLeader,
    NoSuchNode,
    NotLeader,
    OutcomeUnknown,
    StoreError,
)
from ossd.clock import Clock, RandomBytes
from ossd.rpc import Rpc
from raftmeta.credentials import AuditNote
from raftmeta.leaderseek import LeaderSeeker, is_permanent, is_surely_unprocessed
from raftmeta.wire import (
    CHANGE_MEMBERS,
    GIVE_AWAY,
    SHOW_MEMBERS,
    ChangeMembers,
    GiveAway,
    MembersShown,
)

PAUSE_S = 0.2
CHANGE_DEADLINE_S = 20.0
"""A newcomer that has not caught up by then is refused."""
SHOW_DEADLINE_S = 5.0


class MemberClient:
    """`urls` answers where metanodes are now, the leader or not. Use from one event loop."""

    def __init__(
        self, rpc: Rpc, urls: Callable[[], Sequence[str]], *, clock: Clock, random: RandomBytes
    ) -> None:
        self._rpc = rpc
        self._urls = urls
        self._clock = clock
        self._random = random

    async def show(self) -> MembersShown:
        """Who counts and who follows, as the leader sees it. Raises Unavailable errors."""
        reply = await self._ask(SHOW_MEMBERS, b"", deadline_s=SHOW_DEADLINE_S)
        return msgspec.msgpack.decode(reply, type=MembersShown)

    async def add(
        self, member: str, *, audit: AuditNote | None = None, deadline_s: float = CHANGE_DEADLINE_S
    ) -> None:
        """Count a metanode that follows. Raises MetanodeExists, NoSuchNode (none of that id has
        asked to join), NotReady (it did not catch up in time), QuorumAtRisk, Conflict (another
        change is open), OutcomeUnknown and other Unavailable errors."""
        body = msgspec.msgpack.encode(ChangeMembers(add=member, audit=audit))
        await self._ask(CHANGE_MEMBERS, body, deadline_s=deadline_s, done=MetanodeExists)

    async def remove(
        self, member: str, *, audit: AuditNote | None = None, deadline_s: float = CHANGE_DEADLINE_S
    ) -> None:
        """Count a metanode no more; one that leads gives its place away first. Raises
        NoSuchNode, QuorumAtRisk, Conflict, OutcomeUnknown and other Unavailable errors."""
        body = msgspec.msgpack.encode(ChangeMembers(remove=member, audit=audit))
        await self._ask(CHANGE_MEMBERS, body, deadline_s=deadline_s, done=NoSuchNode)

    async def replace(self, old: str, new: str, *, audit: AuditNote | None = None) -> None:
        """Count `new`, then `old` no more: two changes, since one that does both at once could
        leave two majorities that share nobody. Where it broke off, the same call goes on.

        Raises as `add` and `remove`; NoSuchNode before anything is done if `old` is unknown.
        """
        if old == new:
            raise InvalidArgument("A metanode is replaced by one of another id.")
        counted = {each.member.id for each in (await self.show()).followers if each.counts}
        if old not in counted:
            raise NoSuchNode(f"{old} is not a member.")
        if new not in counted:
            await self.add(new, audit=audit)
        await self.remove(old, audit=audit)

    async def give_away(self, to: str = "") -> str:
        """Have `to` lead, or whoever is best placed; answers who leads then.

        Raises Conflict (it leads already, a change is open), NoSuchNode, NotReady.
        """
        before = await self.show()
        if to and before.leader == to:
            raise Conflict(f"{to} leads already.")
        body = msgspec.msgpack.encode(GiveAway(to=to, term=before.term))
        await self._ask(GIVE_AWAY, body, deadline_s=SHOW_DEADLINE_S)
        return (await self.show()).leader

    async def _ask(
        self, path: str, body: bytes, *, deadline_s: float, done: type[StoreError] | None = None
    ) -> bytes:
        """Post until there is an answer. `done`: the refusal that says, after an attempt whose
        outcome is unknown, that it was done."""
        seeker = LeaderSeeker(self._rpc, self._urls(), clock=self._clock, random=self._random)
        last_s = self._clock.monotonic_s() + deadline_s
        maybe_done = False
        while True:
            try:
                return await seeker.post(path, body)
            except StoreError as error:
                if maybe_done and done is not None and isinstance(error, done):
                    return b""
                # A change that is open may be this very one.
                if is_permanent(error) and not (maybe_done and isinstance(error, Conflict)):
                    raise
                maybe_done = maybe_done or not is_surely_unprocessed(error)
                if self._clock.monotonic_s() > last_s:
                    if maybe_done and done is not None:
                        raise OutcomeUnknown() from error
                    if isinstance(error, NotLeader):
                        raise NoLeader() from error
                    raise
            await self._clock.sleep(PAUSE_S)
