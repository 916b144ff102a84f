"""How everyone else reaches the metadata: propose a command, ask a question, be heard.

Concurrent calls share requests, whoever leads is found, commands are applied exactly once
however often they had to be sent (SAFETY rule 19).
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from osscore.errors import (
    CommandTooLarge,
    Corrupt,
    NoLeader,
    OutcomeUnknown,
    SessionExpired,
    StoreError,
    Unavailable,
)
from ossd.clock import Clock, RandomBytes
from ossd.rpc import Rpc, check
from ossd.signing import ClusterSecrets, seal, unseal
from raftmeta.coalescer import Lane, LaneBounds
from raftmeta.commands import OpenSession, Refused, SessionOpened
from raftmeta.credentials import AuditNote, ListAccessKeys, ListAudit
from raftmeta.entries import AnyCommand, Entry
from raftmeta.leaderseek import PAUSE_S_MIN, LeaderSeeker, is_permanent, is_surely_unprocessed
from raftmeta.queries import (
    CountCatalog,
    CountDisk,
    ExpectedSlots,
    FindPrunable,
    FindStrays,
    FindUnwanted,
    ListObjects,
    ListStripes,
    ListVersions,
)
from raftmeta.questions import AnyQuery
from raftmeta.scanning import ListInline
from raftmeta.session import Session
from raftmeta.wire import (
    BOOTSTRAP,
    ENTRIES_MAX,
    FRONTEND_HEARTBEAT,
    HEARTBEAT,
    PROPOSE,
    QUERIES_MAX,
    QUERY,
    REQUEST_BYTES_MAX,
    STATUS,
    Bootstrap,
    BootstrapReply,
    FrontendHeartbeat,
    Heard,
    Heartbeat,
    ProposeReply,
    ProposeRequest,
    QueryReply,
    Status,
)

R = TypeVar("R")
A = TypeVar("A")

CATALOG_KEY_PURPOSE = "catalog-key"
BATCH_BYTES_MAX = 4 * 1024 * 1024
ENTRY_OVERHEAD_BYTES = 64
"""Bound on what a request adds around one encoded command."""
SESSION_IDLE_S = 240.0
"""An idle session is left behind after this; the catalog expires it after 600 s."""
HEARTBEAT_DEADLINE_S = 2.0
SCANS_MAX = 8
"""Listings in one request: their answers are large, and point queries must not wait."""
_SCANS = (
    ListObjects,
    ListVersions,
    FindUnwanted,
    FindStrays,
    ExpectedSlots,
    FindPrunable,
    ListStripes,
    ListInline,
    CountCatalog,
    CountDisk,
    ListAccessKeys,
    ListAudit,
)


@dataclass(frozen=True, slots=True)
class QueryHead:
    """The state an answer was read from. (`generation`, `applied_index`) order deletions."""

    generation: int
    applied_index: int
    catalog_time_ms: int
    keys_epoch: int


@dataclass(slots=True, eq=False)
class _Wish:
    """One caller's encoded command or query and where its answer goes."""

    encoded: msgspec.Raw
    size_bytes: int
    future: asyncio.Future[Any]
    audit: AuditNote | None = None
    session: Session | None = None
    seq: int = 0
    maybe_applied: bool = False
    """An attempt was sent whose outcome is not known (yet)."""

    @property
    def is_settled(self) -> bool:
        """See Waiting."""
        return self.future.done()

    def settle(self, answer: object) -> None:
        """Give the caller its answer; no change once settled."""
        if not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: Exception) -> None:
        """See Waiting."""
        if not self.future.done():
            self.future.set_exception(error)


class MetaClient:
    """One process's connection to the metadata. Use from one event loop; close it."""

    def __init__(self, rpc: Rpc, urls: Sequence[str], *, clock: Clock, random: RandomBytes) -> None:
        self._rpc = rpc
        self._clock = clock
        self._leader = LeaderSeeker(rpc, urls, clock=clock, random=random)
        self._encoder = msgspec.msgpack.Encoder()
        self._results = msgspec.msgpack.Decoder(ProposeReply)
        self._answers = msgspec.msgpack.Decoder(QueryReply)
        self._session: Session | None = None
        self._opening: asyncio.Task[Session] | None = None
        self._catalog_time_ms = 0
        self._keys_epoch = 0
        self._generation = 0
        self._commands = Lane(
            self._carry_commands,
            bounds=LaneBounds(count_max=ENTRIES_MAX, bytes_max=BATCH_BYTES_MAX),
        )
        self._points = Lane(
            self._carry_queries,
            bounds=LaneBounds(count_max=QUERIES_MAX, bytes_max=BATCH_BYTES_MAX),
        )
        self._scans = Lane(
            self._carry_queries, bounds=LaneBounds(count_max=SCANS_MAX, bytes_max=BATCH_BYTES_MAX)
        )

    @property
    def catalog_time_ms(self) -> int:
        """Latest catalog time seen in any reply, ms; 0 before the first."""
        return self._catalog_time_ms

    @property
    def keys_epoch(self) -> int:
        """Latest epoch of the access keys seen in any reply; 0 before the first."""
        return self._keys_epoch

    @property
    def generation(self) -> int:
        """The catalog's generation in the latest answer; 0 before the first."""
        return self._generation

    async def propose(
        self,
        command: AnyCommand,
        result: type[R],
        *,
        deadline_s: float = 30,
        audit: AuditNote | None = None,
    ) -> R:
        """Have `command` applied exactly once and answer its result; `audit` is recorded with
        it, refused or not.

        Raises the error of a refusal; NoLeader when it was surely not applied by the
        deadline; OutcomeUnknown when that cannot be known; CommandTooLarge. Cancelling
        leaves the outcome unknown to the caller and disturbs nobody else.
        """
        wish = self._wish(command, audit)
        self._commands.put(wish)
        try:
            return self._expect(result, await self._answer_of(wish, deadline_s=deadline_s))
        finally:
            if wish.session is not None:
                wish.session.close_seq(wish.seq)

    async def query(self, query: AnyQuery, answer: type[A], *, deadline_s: float = 10) -> A:
        """Ask about a state that holds every write acknowledged before this call.

        Raises the error of a refusal, or NoLeader at the deadline.
        """
        return (await self.query_with_head(query, answer, deadline_s=deadline_s))[1]

    async def query_with_head(
        self, query: AnyQuery, answer: type[A], *, deadline_s: float = 10
    ) -> tuple[QueryHead, A]:
        """Like `query`, with the state the answer was read from."""
        wish = self._wish(query)
        lane = self._scans if isinstance(query, _SCANS) else self._points
        lane.put(wish)
        head, found = await self._answer_of(wish, deadline_s=deadline_s)
        return head, self._expect(answer, found)

    @property
    def urls(self) -> tuple[str, ...]:
        """HTTP bases of the metanodes: as configured, then as heartbeats are answered."""
        return self._leader.urls

    async def heartbeat(self, heartbeat: Heartbeat | FrontendHeartbeat) -> None:
        """Tell every metanode, leader or not; they answer who the metanodes are by now, whom the
        next heartbeat tells. Best effort: failures are not reported."""
        body = self._encoder.encode(heartbeat)
        path = HEARTBEAT if isinstance(heartbeat, Heartbeat) else FRONTEND_HEARTBEAT
        await asyncio.gather(*(self._tell(url + path, body) for url in self._leader.urls))

    async def close(self) -> None:
        """Stop; whoever still waits gets NotReady. The Rpc is not closed."""
        await asyncio.gather(self._commands.close(), self._points.close(), self._scans.close())
        if self._opening is not None:
            self._opening.cancel()

    # --- one caller ----------------------------------------------------------------------

    def _wish(self, struct: AnyCommand | AnyQuery, audit: AuditNote | None = None) -> _Wish:
        encoded, note = self._encoder.encode(struct), self._encoder.encode(audit)
        size_bytes = len(encoded) + len(note) + ENTRY_OVERHEAD_BYTES
        if size_bytes + ENTRY_OVERHEAD_BYTES > REQUEST_BYTES_MAX:
            raise CommandTooLarge(f"{type(struct).__name__} has {len(encoded)} bytes.")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        return _Wish(msgspec.Raw(encoded), size_bytes, future, audit=audit)

    async def _answer_of(self, wish: _Wish, *, deadline_s: float) -> Any:
        """The wish's answer. A caller that is cancelled settles it: it travels no more."""
        expiry = asyncio.get_running_loop().call_later(deadline_s, self._expire, wish, deadline_s)
        try:
            return await wish.future
        finally:
            expiry.cancel()

    def _expire(self, wish: _Wish, deadline_s: float) -> None:
        if wish.maybe_applied:
            wish.fail(OutcomeUnknown(f"No answer within {deadline_s:g} s."))
        else:
            wish.fail(NoLeader(f"No metadata leader was reached within {deadline_s:g} s."))

    def _expect(self, kind: type[R], answer: object) -> R:
        if isinstance(answer, kind):
            return answer
        if isinstance(answer, Refused):
            raise answer.error()
        raise StoreError(f"Expected {kind.__name__}, got {type(answer).__name__}.")

    async def _tell(self, url: str, body: bytes) -> None:
        try:
            reply = await self._rpc.call("POST", url, body=body, deadline_s=HEARTBEAT_DEADLINE_S)
            heard = msgspec.msgpack.decode(check(reply).body, type=Heard)
        except (StoreError, msgspec.MsgspecError):
            return  # the next heartbeat says the same again, and silence is what is judged
        self._leader.follow(heard.members_index, [member.url for member in heard.members])

    # --- commands --------------------------------------------------------------------------

    async def _carry_commands(self, batch: list[_Wish]) -> list[_Wish]:
        """One attempt at a batch; answers what must be sent again."""
        try:
            session = await self._current_session()
        except StoreError as error:
            return self._after_failure(batch, error, maybe_before=())
        maybe_before = [wish.maybe_applied for wish in batch]
        body = self._encode_commands(batch, session)
        try:
            reply = self._results.decode(await self._leader.post(PROPOSE, body))
        except StoreError as error:
            return self._after_failure(batch, error, maybe_before=maybe_before)
        self._note_time(reply.catalog_time_ms)
        again = self._settle_results(batch, reply.results, maybe_before)
        if again:
            await self._clock.sleep(PAUSE_S_MIN)
        return again

    def _encode_commands(self, batch: Iterable[_Wish], session: Session) -> bytes:
        session.used_at_s = self._clock.monotonic_s()
        entries = []
        for wish in batch:
            if wish.session is None:
                wish.session, wish.seq = session, session.take_seq()
            wish.maybe_applied = True
            number, acked_below = wish.session.number, wish.session.acked_below
            entries.append((number, wish.seq, wish.encoded, acked_below, wish.audit))
        # The form of a ProposeRequest, around commands that were encoded once when proposed.
        return self._encoder.encode({"entries": entries})

    def _settle_results(
        self, batch: list[_Wish], results: Sequence[object], maybe_before: Sequence[bool]
    ) -> list[_Wish]:
        if len(results) != len(batch):
            raise StoreError(f"{len(results)} results for {len(batch)} commands.")
        again = []
        for wish, result, maybe in zip(batch, results, maybe_before, strict=True):
            if isinstance(result, Refused):
                error = result.error()
                if isinstance(error, SessionExpired):
                    again += self._after_expiry(wish, maybe=maybe)
                    continue
                if maybe and isinstance(error, Unavailable):
                    # Not admitted this time, but an earlier attempt may have been: only a
                    # remembered result can tell, so it must be asked for again.
                    again.append(wish)
                    continue
            wish.settle(result)
        return again

    def _after_expiry(self, wish: _Wish, *, maybe: bool) -> list[_Wish]:
        if self._session is wish.session:
            self._session = None
        if maybe:
            wish.fail(OutcomeUnknown("The session expired while the outcome was unknown."))
            return []
        # Refused unapplied, and sent only this once: a fresh request id cannot double it.
        wish.session, wish.seq, wish.maybe_applied = None, 0, False
        return [wish]

    def _after_failure(
        self, batch: list[_Wish], error: StoreError, *, maybe_before: Sequence[bool]
    ) -> list[_Wish]:
        if is_surely_unprocessed(error):
            for wish, maybe in zip(batch, maybe_before, strict=False):
                wish.maybe_applied = maybe
        if not is_permanent(error):
            return batch
        for wish in batch:
            wish.fail(OutcomeUnknown(error.message) if wish.maybe_applied else error)
        return []

    async def _current_session(self) -> Session:
        """The session new commands belong to, opened if there is none or it idled."""
        session = self._session
        now_s = self._clock.monotonic_s()
        if session is not None and (
            session.open_count or now_s - session.used_at_s < SESSION_IDLE_S
        ):
            return session
        if self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._open_session())
        # Shielded: both flights wait for the same opening, and one may be cancelled.
        return await asyncio.shield(self._opening)

    async def _open_session(self) -> Session:
        request = ProposeRequest(entries=(Entry(session=0, seq=0, command=OpenSession()),))
        reply = self._results.decode(
            await self._leader.post(PROPOSE, self._encoder.encode(request))
        )
        self._note_time(reply.catalog_time_ms)
        opened = self._expect(SessionOpened, reply.results[0])
        self._session = Session(opened.session, now_s=self._clock.monotonic_s())
        return self._session

    # --- queries ---------------------------------------------------------------------------

    async def _carry_queries(self, batch: list[_Wish]) -> list[_Wish]:
        body = self._encoder.encode({"queries": [wish.encoded for wish in batch]})
        try:
            reply = self._answers.decode(await self._leader.post(QUERY, body))
        except StoreError as error:
            return self._after_failure(batch, error, maybe_before=())
        if len(reply.answers) != len(batch):
            raise StoreError(f"{len(reply.answers)} answers for {len(batch)} queries.")
        self._note_time(reply.catalog_time_ms)
        self._keys_epoch = max(self._keys_epoch, reply.keys_epoch)
        self._generation = reply.generation
        head = QueryHead(
            reply.generation, reply.applied_index, reply.catalog_time_ms, reply.keys_epoch
        )
        for wish, answer in zip(batch, reply.answers, strict=True):
            wish.settle((head, answer))
        return []

    def _note_time(self, catalog_time_ms: int) -> None:
        self._catalog_time_ms = max(self._catalog_time_ms, catalog_time_ms)


async def bootstrap(
    rpc: Rpc, url: str, request: Bootstrap, *, deadline_s: float = 60
) -> BootstrapReply:
    """Form a cluster through the metanode at `url`, one of its members.

    Raises AlreadyFormed, NotReady (a member is unreachable or not empty); after a failure
    on the way the same request continues where it stopped.
    """
    body = msgspec.msgpack.encode(request)
    reply = check(await rpc.call("POST", url + BOOTSTRAP, body=body, deadline_s=deadline_s))
    return msgspec.msgpack.decode(reply.body, type=BootstrapReply)


async def read_status(rpc: Rpc, url: str, *, deadline_s: float = 2) -> Status:
    """What the metanode at `url` says of itself. StoreError if no metanode answers there."""
    reply = check(await rpc.call("GET", url + STATUS, deadline_s=deadline_s))
    try:
        return msgspec.json.decode(reply.body, type=Status)
    except msgspec.MsgspecError as error:
        raise StoreError(f"{url} does not answer as a metanode: {error}") from error


def wrap_catalog_key(secrets: ClusterSecrets, key: bytes, random: RandomBytes) -> bytes:
    """Seal the catalog key for the catalog, under the current cluster secret."""
    return seal(secrets.derive(CATALOG_KEY_PURPOSE), key, random)


def unwrap_catalog_key(secrets: ClusterSecrets, wrapped: bytes) -> bytes:
    """The key that opens user secrets, from `ClusterDescribed.catalog_key_wrapped`.

    Either cluster secret opens it (SAFETY rule 28). Raises Corrupt if neither does.
    """
    *previous, last = reversed(secrets.derive_all(CATALOG_KEY_PURPOSE))
    for key in previous:
        try:
            return unseal(key, wrapped)
        except Corrupt:
            continue  # sealed under the other secret
    return unseal(last, wrapped)
