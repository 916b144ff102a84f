"""Three pretended metanodes behind the Rpc seam: exactly once, with scripted failures."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from osscore.errors import NotLeader, OutcomeUnknown, PeerUnreachable, StoreError
from ossd.disk import Bytes
from ossd.envelope import error_body
from ossd.rpc import Reply
from raftmeta.commands import Done, OpenSession, Refused, SessionOpened
from raftmeta.entries import AnyResult, Entry
from raftmeta.queries import BucketsListed
from raftmeta.questions import AnyAnswer, AnyQuery
from raftmeta.wire import (
    HEARTBEAT,
    PROPOSE,
    Heard,
    ProposeReply,
    ProposeRequest,
    QueryReply,
    QueryRequest,
)

URLS = ("http://a", "http://b", "http://c")
LOSE_BEFORE = "the request never arrives"
LOSE_AFTER = "the request is processed, its answer is lost"


@dataclass
class FakeMetanodes:
    """`leader` answers, the others say 421. `faults` are used up one per request."""

    leader: str | None = URLS[0]
    hint: bool = True
    dead: set[str] = field(default_factory=set)
    faults: list[str | StoreError] = field(default_factory=list)
    refuse: Callable[[Entry], Refused | None] = lambda entry: None
    answer: Callable[[AnyQuery], AnyAnswer] = lambda query: BucketsListed(buckets=())
    heard: Heard | Done = field(default_factory=Done)
    """The answer to a heartbeat."""
    held: asyncio.Event | None = None
    """While set and not fired, requests wait."""

    calls: list[tuple[str, str]] = field(default_factory=list)
    batches: list[tuple[Entry, ...]] = field(default_factory=list)
    query_batches: list[tuple[AnyQuery, ...]] = field(default_factory=list)
    body_sizes: list[int] = field(default_factory=list)
    applied: list[object] = field(default_factory=list)
    sessions: set[int] = field(default_factory=set)
    _results: dict[tuple[int, int], AnyResult] = field(default_factory=dict)
    in_flight: int = 0
    in_flight_most: int = 0

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
        base, _, path = url.partition("/v1")
        self.calls.append((base, "/v1" + path))
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight_most, self.in_flight)
        try:
            return await self._serve(base, "/v1" + path, bytes(body))  # type: ignore[arg-type]
        finally:
            self.in_flight -= 1

    async def close(self) -> None:
        """See Rpc."""

    async def _serve(self, base: str, path: str, body: bytes) -> Reply:
        await asyncio.sleep(0)
        if base in self.dead:
            raise PeerUnreachable(f"{base} is dead")
        if path == HEARTBEAT:
            return Reply(200, {}, msgspec.msgpack.encode(self.heard))
        if base != self.leader:
            error = NotLeader(leader_url=self.leader if self.hint else None)
            return Reply(421, {}, error_body(error, "r"))
        if self.held is not None:
            await self.held.wait()
        fault = self.faults.pop(0) if self.faults else None
        if fault == LOSE_BEFORE:
            raise OutcomeUnknown("cut")
        if isinstance(fault, StoreError):
            return Reply(fault.http_status, {}, error_body(fault, "r"))
        self.body_sizes.append(len(body))
        answer = self._propose(body) if path == PROPOSE else self._query(body)
        if fault == LOSE_AFTER:
            raise OutcomeUnknown("cut")
        return Reply(200, {}, answer)

    def _propose(self, body: bytes) -> bytes:
        entries = msgspec.msgpack.decode(body, type=ProposeRequest).entries
        self.batches.append(entries)
        results = tuple(self._apply(entry) for entry in entries)
        time_ms = 1_000 + len(self.batches)
        return msgspec.msgpack.encode(
            ProposeReply(applied_index=len(self.batches), catalog_time_ms=time_ms, results=results)
        )

    def _apply(self, entry: Entry) -> AnyResult:
        if isinstance(entry.command, OpenSession):
            session = len(self.sessions) + 100
            self.sessions.add(session)
            return SessionOpened(session=session)
        if entry.session not in self.sessions:
            return Refused(refusal="SessionExpired", message="expired")
        key = (entry.session, entry.seq)
        if key not in self._results:
            refused = self.refuse(entry)
            if refused is not None:
                return refused
            self.applied.append(entry.command)
            self._results[key] = Done()
        return self._results[key]

    def _query(self, body: bytes) -> bytes:
        queries = msgspec.msgpack.decode(body, type=QueryRequest).queries
        self.query_batches.append(queries)
        return msgspec.msgpack.encode(
            QueryReply(
                generation=3,
                applied_index=7,
                catalog_time_ms=5_000,
                keys_epoch=2,
                answers=tuple(self.answer(query) for query in queries),
            )
        )
