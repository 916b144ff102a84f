"""How a metanode with a full copy comes to count, and how it learns that it does no more.

By its own log a metanode counts or not (`raftmeta.membership`). One that does not is a learner:
it asks the leader for the log each second. One that does, yet hears no leader, asks as well:
the entry that made it count may have been undone, or it was removed while it was away, which
the leader then tells.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from osscore.errors import Conflict, MetanodeRemoved, NotLeader, NotReady, StoreError
from ossd.clock import Clock
from ossd.rpc import Rpc, check
from raftmeta.client import read_status
from raftmeta.identity import Identity
from raftmeta.voter import Voter
from raftmeta.wire import JOIN, Join, Status

ANNOUNCE_EVERY_S = 1.0
JOIN_DEADLINE_S = 6.0

log = logging.getLogger(__name__)


async def ask_to_follow(
    rpc: Rpc, leader_url: str, me: Identity, *, counted_since: int | None = None
) -> None:
    """Ask the leader for its log, or whom that names instead. Raises what it answers
    (`Admitting.join`), NotReady if no leader is known."""
    if not leader_url:
        raise NotReady("No leader is known.")
    request = Join(member=me.me, cluster_id=me.cluster_id, counted_since=counted_since)
    body = msgspec.msgpack.encode(request)
    try:
        check(await rpc.call("POST", leader_url + JOIN, body=body, deadline_s=JOIN_DEADLINE_S))
    except NotLeader as error:
        if not error.leader_url:
            raise
        url = error.leader_url + JOIN
        check(await rpc.call("POST", url, body=body, deadline_s=JOIN_DEADLINE_S))


async def find_leader(rpc: Rpc, voter: Voter, peers: Sequence[str]) -> str:
    """Where the leader serves; "" if nobody says. One that was added since this metanode's log
    ends is in no list here, so the others are asked: of those, some may be out of date, too."""
    state = voter.replica.state
    if state.is_heard and voter.leader_url:
        return voter.leader_url
    urls = {member.url for member in state.configuration.members} | set(peers)
    statuses = await asyncio.gather(
        *(_status_of(rpc, url) for url in sorted(urls - {voter.identity.url}))
    )
    cluster_id = voter.identity.cluster_id.hex()
    told = [each for each in statuses if each is not None and each.cluster_id == cluster_id]
    newest = max(told, key=lambda each: (each.state == "leader", each.term), default=None)
    return newest.leader_url if newest is not None else ""


async def _status_of(rpc: Rpc, url: str) -> Status | None:
    try:
        return await read_status(rpc, url)
    except StoreError:
        return None


class Standing:
    """`voter` answers the running voter, if there is one; `on_removed` is awaited once the
    leader says that this metanode was removed."""

    def __init__(
        self,
        *,
        voter: Callable[[], Voter | None],
        peers: Sequence[str],
        on_removed: Callable[[Voter], Awaitable[None]],
        rpc: Rpc,
        clock: Clock,
    ) -> None:
        self._voter = voter
        self._peers = peers
        self._on_removed = on_removed
        self._rpc = rpc
        self._clock = clock
        self._trouble = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(ANNOUNCE_EVERY_S)
            voter = self._voter()
            if voter is not None and not voter.replica.is_leader:
                await self._look_after(voter)

    async def _look_after(self, voter: Voter) -> None:
        state = voter.replica.state
        counts = voter.counts
        if counts and state.is_heard:
            return
        try:
            await ask_to_follow(
                self._rpc,
                await find_leader(self._rpc, voter, self._peers),
                voter.identity,
                counted_since=state.configuration.index if counts else None,
            )
        except MetanodeRemoved:
            log.warning("removed_from_the_cluster", extra={"id": voter.identity.id})
            await self._on_removed(voter)
        except Conflict as error:
            if not counts:
                self._complain(error)  # else it is as it should be: the leader counts on it
        except StoreError as error:
            self._complain(error)

    def _complain(self, error: StoreError) -> None:
        if error.message != self._trouble:
            log.info("not_counted_yet", extra={"reason": error.message})
        self._trouble = error.message
