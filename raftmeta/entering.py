"""How a metanode without state comes into a cluster (SAFETY rule 21): it looks for one that is
formed, and is admitted by its leader before it takes a copy."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from osscore.errors import StoreError
from ossd.rpc import Rpc
from raftmeta.client import read_status
from raftmeta.identity import MemberState, MetadataFolder
from raftmeta.joining import is_formed, lists_me
from raftmeta.standing import ask_to_follow

log = logging.getLogger(__name__)


class Entering:
    """`changing` is held while the identity changes; `join_from` takes a copy of the leader
    there and makes it this metanode's state."""

    def __init__(
        self,
        *,
        folder: MetadataFolder,
        peers: Sequence[str],
        rpc: Rpc,
        changing: asyncio.Lock,
        join_from: Callable[[str], Awaitable[None]],
    ) -> None:
        self._folder = folder
        self._peers = peers
        self._rpc = rpc
        self._changing = changing
        self._join_from = join_from
        self._trouble = ""

    async def attempt(self) -> None:
        """Ask every metanode known here, once. What goes wrong is only logged."""
        known = [member.url for member in self._folder.identity.members]
        for url in dict.fromkeys([*self._peers, *known]):
            if url == self._folder.identity.url:
                continue
            try:
                await self._enter_by(url)
            except (StoreError, OSError) as error:
                self._complain(url, error)

    async def _enter_by(self, url: str) -> None:
        status = await read_status(self._rpc, url)
        if self._folder.identity.state is MemberState.VOTER or not is_formed(status):
            return
        if not lists_me(status, self._folder.identity):
            # Its leader must know of this metanode before it gives a copy.
            await ask_to_follow(self._rpc, status.leader_url, self._folder.identity)
        async with self._changing:
            identity = self._folder.identity
            if identity.state is MemberState.VOTER:
                return
            joining = identity.with_cluster(
                MemberState.JOINING, bytes.fromhex(status.cluster_id), status.members
            )
            if joining != identity:
                await asyncio.to_thread(self._folder.write_identity, joining)
                log.info("joining", extra={"cluster_id": status.cluster_id})
        if status.leader_url and status.leader != identity.id:
            await self._join_from(status.leader_url)

    def _complain(self, url: str, error: Exception) -> None:
        trouble = f"{url}: {error}"
        if trouble != self._trouble:
            log.info("join_waits", extra={"peer": url, "reason": str(error)})
        self._trouble = trouble
