"""Metadata in one process: the real catalog behind the real wire, without Raft.

`CatalogRpc` is an Rpc for MetaClient; every metanode URL leads to the same catalog. Tests
reach `catalog` and `heartbeats` directly, and may bend what is answered:
`is_reachable` False is a lost quorum, `order` replaces the (generation, applied index) of
query replies, `soft` is what the leader heard of nodes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from osscore.errors import NotFound, PeerUnreachable, StoreError
from ossd.clock import Clock
from ossd.disk import Bytes
from ossd.envelope import error_body
from ossd.rpc import Reply
from raftmeta.catalog.catalog import Catalog
from raftmeta.catalog.soft import SoftState
from raftmeta.commands import Command, Done, FormCluster, OpenSession
from raftmeta.entries import Batch, Entry
from raftmeta.wire import (
    FRONTEND_HEARTBEAT,
    HEARTBEAT,
    PROPOSE,
    QUERY,
    FrontendHeartbeat,
    Heartbeat,
    ProposeReply,
    ProposeRequest,
    QueryReply,
    QueryRequest,
)

CLUSTER_ID = b"cluster-id-16-by"
URLS = ("http://meta-1:9101", "http://meta-2:9101", "http://meta-3:9101")


class CatalogRpc:
    """Rpc whose every peer is a metanode that leads."""

    def __init__(self, folder: Path, clock: Clock, *, cluster_id: bytes = CLUSTER_ID) -> None:
        self.catalog = Catalog(folder / "catalog.sqlite")
        self.heartbeats: list[Heartbeat] = []
        self.frontend_heartbeats: list[FrontendHeartbeat] = []
        self.is_reachable = True
        self.order: tuple[int, int] | None = None
        self.soft = SoftState()
        self._clock = clock
        self._session = self._seq = 0
        if not self.catalog.applied_index:
            self.apply(
                FormCluster(
                    cluster_id=cluster_id,
                    catalog_key_wrapped=b"wrapped",
                    root_access_key="root",
                    root_secret_sealed=b"sealed",
                    system_token_digest=bytes(32),
                )
            )

    def apply(self, *commands: Command) -> list[Any]:
        """Apply commands outside of any session; answers their results."""
        return self._apply(tuple(Entry(session=0, seq=0, command=each) for each in commands))

    def do(self, *commands: Command) -> list[Any]:
        """Apply commands one by one as some other client; answers their results."""
        if not self._session:
            self._session = self.apply(OpenSession())[0].session
        results = []
        for command in commands:
            self._seq += 1
            results += self._apply((Entry(self._session, self._seq, command),))
        return results

    async def call(
        self,
        method: str,
        url: str,
        *,
        body: Bytes | Sequence[Bytes] = b"",
        headers: Mapping[str, str] | None = None,
        deadline_s: float,
        idempotent: bool = False,
    ) -> Reply:
        """See Rpc."""
        if not self.is_reachable:
            raise PeerUnreachable(f"{url} is cut off by the test.")
        assert isinstance(body, bytes)
        try:
            return Reply(200, {}, msgspec.msgpack.encode(self.answer(urlsplit(url).path, body)))
        except StoreError as error:
            return Reply(error.http_status, {}, error_body(error, "test"))

    async def close(self) -> None:
        """See Rpc."""

    def answer(self, path: str, body: bytes) -> msgspec.Struct:
        """What a leading metanode answers on that path. Raises StoreError."""
        if path == PROPOSE:
            return self._propose(msgspec.msgpack.decode(body, type=ProposeRequest))
        if path == QUERY:
            return self._query(msgspec.msgpack.decode(body, type=QueryRequest))
        if path == HEARTBEAT:
            self.heartbeats.append(msgspec.msgpack.decode(body, type=Heartbeat))
            return Done()
        if path == FRONTEND_HEARTBEAT:
            self.frontend_heartbeats.append(msgspec.msgpack.decode(body, type=FrontendHeartbeat))
            return Done()
        raise NotFound(path)

    def _propose(self, request: ProposeRequest) -> ProposeReply:
        results = self._apply(request.entries)
        head = self.catalog.head
        return ProposeReply(
            applied_index=head.applied_index,
            catalog_time_ms=head.catalog_time_ms,
            results=tuple(results),
        )

    def _apply(self, entries: tuple[Entry, ...]) -> list[Any]:
        batch = Batch(time_ms=self._clock.now_ms(), entries=entries)
        index = self.catalog.applied_index + 1
        return self.catalog.apply(index, msgspec.msgpack.encode(batch))

    def _query(self, request: QueryRequest) -> QueryReply:
        head, answers = self.catalog.answer_with_head(request.queries, soft=self.soft)
        generation, applied_index = self.order or (head.generation, head.applied_index)
        return QueryReply(
            generation=generation,
            applied_index=applied_index,
            catalog_time_ms=head.catalog_time_ms,
            keys_epoch=head.keys_epoch,
            answers=tuple(answers),
        )
