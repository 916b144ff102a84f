"""The leader's side of changing the metanodes: who follows, who counts, who leads next.

Everything here answers at once; whoever wants a change asks again until it is done
(`raftmeta.member_client`). What makes it safe is in `raftmeta.membership`.
"""

import logging

import msgspec

from osscore.errors import NoSuchNode, NotLeader, NotReady
from ossd.clock import Clock
from raftmeta.changing import Progress
from raftmeta.credentials import AuditNote
from raftmeta.entries import Batch, Entry
from raftmeta.members import Member, SetMembers
from raftmeta.membership import Addition, Change, Removal
from raftmeta.voter import Voter
from raftmeta.wire import (
    ChangeMembers,
    Follower,
    GiveAway,
    Join,
    MembersShown,
)

log = logging.getLogger(__name__)


class Admitting:
    """Of one voter, for as long as it runs. Every method raises NotLeader elsewhere."""

    def __init__(self, voter: Voter, clock: Clock) -> None:
        self._voter = voter
        self._clock = clock

    async def join(self, request: Join) -> None:
        """Let a metanode follow without counting. Raises Conflict (it counts, or its id or
        address is taken), MetanodeRemoved, NotReady."""
        voter = self._voter
        voter.require_leader()
        if not voter.is_formed:
            raise NotReady("The cluster is still being formed.")
        if request.cluster_id not in (b"", voter.identity.cluster_id):
            raise NoSuchNode("That metanode belongs to another cluster.")
        await voter.replica.admit_learner(request.member, counted_since=request.counted_since)

    async def change(self, request: ChangeMembers) -> None:
        """Add one that follows, or remove one; done when this returns.

        Raises Conflict (another change is open, it is a member already), NoSuchNode (nobody of
        that id waits, or counts), NotReady (not caught up yet), QuorumAtRisk, OutcomeUnknown;
        NotLeader also when the leader is to be removed: it first gives its place away.
        """
        voter = self._voter
        voter.require_leader()
        if request.remove == voter.identity.id:
            # Raises QuorumAtRisk before anything is moved that then stays where it is.
            Removal(request.remove).apply_to(voter.replica.state.configuration.members)
            await voter.replica.give_away("")
            raise NotLeader("The leader that is to be removed gave its place away.")
        change = await self._change_of(request)
        await voter.replica.change_members(
            change, lambda members: self._batch(members, request.audit)
        )
        log.info("members_changed", extra={"added": request.add, "removed": request.remove})

    async def _change_of(self, request: ChangeMembers) -> Change:
        if request.remove:
            return Removal(request.remove)
        for follower in await self._voter.replica.progress():
            if follower.member.id == request.add:
                return Addition(follower.member)
        if request.add == self._voter.identity.id:
            return Addition(self._voter.identity.me)
        raise NoSuchNode(f"No metanode {request.add} has asked to join; start it with --peers.")

    def _batch(self, members: tuple[Member, ...], audit: AuditNote | None) -> bytes:
        entry = Entry(session=0, seq=0, command=SetMembers(members=members), audit=audit)
        return msgspec.msgpack.encode(Batch(time_ms=self._clock.now_ms(), entries=(entry,)))

    async def give_away(self, request: GiveAway) -> None:
        """Have `to` lead, or whoever is best placed. Raises Conflict, NoSuchNode, NotReady."""
        self._voter.require_leader()
        if request.term in (0, self._voter.replica.term):
            await self._voter.replica.give_away(request.to)

    async def show(self) -> MembersShown:
        """Who counts, who follows, and how closely."""
        voter = self._voter
        voter.require_leader()
        state = voter.replica.state
        followers = tuple(_shown(each) for each in await voter.replica.progress())
        me = Follower(member=voter.identity.me, counts=True, match_index=state.applied_index)
        return MembersShown(
            leader=voter.identity.id,
            term=state.term,
            applied_index=state.applied_index,
            members_index=state.configuration.index,
            followers=tuple(sorted((me, *followers), key=lambda each: each.member.id)),
        )


def _shown(progress: Progress) -> Follower:
    return Follower(
        member=progress.member,
        counts=progress.counts,
        match_index=progress.match_index,
        silent_ms=round(progress.silence_s * 1000),
    )
