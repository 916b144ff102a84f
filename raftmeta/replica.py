"""One member of the replicated catalog, for code that lives on an asyncio loop.

The engine ticks in a thread of its own; proposals and reads are handed over through a
queue and a socket that wakes it, answers come back by `call_soon_threadsafe`. Whatever the
tick raises is final: the member stops and `on_fatal` decides about the process.
"""

import asyncio
import contextlib
import logging
import random as _random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from osscore.errors import (
    CommandTooLarge,
    CorruptJournal,
    NotLeader,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    StoreError,
)
from ossd.clock import Clock, RandomBytes, system_random
from ossd.disk import Disk
from raftmeta.changing import Progress, Wrap
from raftmeta.engine import Applied, Engine, StateMachine
from raftmeta.entries import AnyResult
from raftmeta.journal import Journal, LogEntry
from raftmeta.link_session import KeySource
from raftmeta.members import Member
from raftmeta.membership import Change, Configuration, Membership
from raftmeta.settings import RaftIdentity, RaftSettings
from raftmeta.tcp_links import TcpLinks
from raftmeta.transport import Links, Waker

log = logging.getLogger(__name__)

T = TypeVar("T")

UNHEARD_ELECTIONS = 2
"""A leader silent for so many election times is not merely being elected anew."""


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What the last tick left behind; read from any thread."""

    is_leader: bool = False
    leader_id: str | None = None
    term: int = 0
    applied_index: int = 0
    commit_index: int = 0
    configuration: Configuration = field(default_factory=lambda: Configuration(0, ()))
    is_heard: bool = True
    """Whether a leader spoke of late, or this is one."""


class Replica:
    """Start it, propose, confirm reads, stop it. Public methods are safe from any thread;
    `propose` and `confirm_read` belong to a running asyncio loop."""

    def __init__(
        self,
        *,
        identity: RaftIdentity,
        configuration: Configuration,
        directory: Path,
        machine: StateMachine,
        secrets: KeySource,
        clock: Clock,
        disk: Disk,
        settings: RaftSettings | None = None,
        on_fatal: Callable[[BaseException], None],
        on_lag: Callable[[], None] = lambda: None,
        random: RandomBytes = system_random,
        links: Links | None = None,
    ) -> None:
        self._settings = settings or RaftSettings()
        self._membership = Membership(identity.member_id, configuration)
        self._directory = directory
        self._machine = machine
        self._clock = clock
        self._disk = disk
        self._random = random
        self._on_fatal = on_fatal
        self._on_lag = on_lag
        self._links = links or TcpLinks(
            identity=identity,
            membership=self._membership,
            secrets=secrets,
            settings=self._settings,
            monotonic_s=clock.monotonic_s,
            random=random,
        )
        self._state = ReplicaState(configuration=configuration)
        self._orders: deque[Callable[[Engine], None]] = deque()
        self._queued_bytes = 0
        self._lock = threading.Lock()
        self._running = False
        self._stopping = threading.Event()
        self._ticks = 0
        self._cut_due_bytes = self._settings.journal.cut_bytes
        self._thread: threading.Thread | None = None
        self._watch: threading.Thread | None = None

    # --- life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Open the journal, listen and begin to tick.

        Raises CorruptJournal if this member must not take part, OSError if the disk fails
        or the address is taken. The caller holds the lock on the folder.
        """
        self._journal = Journal.open(
            self._directory, disk=self._disk, settings=self._settings.journal, random=self._random
        )
        try:
            self._engine = Engine(
                membership=self._membership,
                journal=self._journal,
                machine=self._machine,
                links=self._links,
                settings=self._settings,
                monotonic_s=self._clock.monotonic_s,
                jitter=_random.Random(self._random(16)).random,
                on_lag=self._on_lag,
            )
        except BaseException:
            self._links.close()
            self._journal.abandon()
            raise
        self._waker = Waker(self._engine.core.poller)
        self._publish()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="raft-tick", daemon=True)
        self._watch = threading.Thread(target=self._watch_ticks, name="raft-watch", daemon=True)
        self._thread.start()
        self._watch.start()

    def stop(self) -> None:
        """Stop ticking and close the journal; blocks for at most about a tick. Calls that
        wait end with NotLeader, or OutcomeUnknown if theirs is in the log."""
        self._stopping.set()
        if self._running:
            self._waker.wake()
        for thread in (self._thread, self._watch):
            if thread is not None and thread is not threading.current_thread():
                thread.join()

    # --- what it knows --------------------------------------------------------------------

    @property
    def state(self) -> ReplicaState:
        """One consistent look at everything below."""
        return self._state

    @property
    def is_leader(self) -> bool:
        """Believes to lead; only `confirm_read` knows."""
        return self._state.is_leader

    @property
    def leader_id(self) -> str | None:
        """The last leader heard of."""
        return self._state.leader_id

    @property
    def term(self) -> int:
        """The current term."""
        return self._state.term

    @property
    def applied_index(self) -> int:
        """Highest log entry applied; entries without a batch count."""
        return self._state.applied_index

    @property
    def commit_index(self) -> int:
        """Highest log entry known committed."""
        return self._state.commit_index

    def term_at(self, index: int) -> int | None:
        """Term of a log entry; None if it is not, or no longer, in the log."""
        return self._journal.term_at(index)

    # --- what it does ---------------------------------------------------------------------

    async def propose(self, blob: bytes) -> list[AnyResult]:
        """Replicate and apply one batch; answers its results.

        Raises NotLeader, NotReady, Overloaded, CommandTooLarge: surely not applied.
        OutcomeUnknown: it may be, now or later; the same request ids may be sent again.
        """
        return (await self.propose_entry(blob)).results

    async def propose_entry(self, blob: bytes) -> Applied:
        """Like `propose`, with the log index."""
        if len(blob) > self._settings.entry_bytes_max:
            raise CommandTooLarge(f"A batch of {len(blob)} bytes does not fit into the log.")
        if not self._state.is_leader:
            raise NotLeader()
        with self._lock:
            if self._queued_bytes + len(blob) > self._settings.queue_bytes_max:
                raise Overloaded("Too many changes wait to be logged.")
            self._queued_bytes += len(blob)
        answer: _Answer[Applied] = _Answer()

        def order(engine: Engine) -> None:
            with self._lock:
                self._queued_bytes -= len(blob)
            engine.propose(blob, answer.set)

        self._give(order)
        return await answer.wait(self._settings.propose_deadline_s, OutcomeUnknown())

    async def confirm_read(self, *, excluding: str | None = None) -> int:
        """Be sure to lead, and have applied everything acknowledged before this call.

        Answers the index that is safe to read at. `excluding`: that member's word does not
        count, and what it acknowledged before is forgotten; that takes 1.5 election times,
        in which votes it may not remember lapse. Raises NotLeader, NotReady.
        """
        if not self._state.is_leader:
            raise NotLeader()
        answer: _Answer[int] = _Answer()

        def done(index: int | None) -> None:
            answer.set(NotLeader() if index is None else index)

        self._give(lambda engine: engine.confirm_read(done, excluding=excluding))
        late = NotLeader("No majority confirmed the leader in time.")
        return await answer.wait(self._settings.read_deadline_s, late)

    def forget_match(self, member_id: str) -> None:
        """As the leader: believe nothing that member acknowledged, it may have lost it."""
        self._give(lambda engine: engine.forget_match(member_id))

    async def change_members(self, change: Change, wrap: Wrap) -> Applied:
        """As the leader: add or remove one member; answers once that is applied.

        `wrap` makes the batch that records the members. Raises what refuses it (`Changing`,
        `Membership.after`): surely not done; OutcomeUnknown: it may be, now or later.
        """
        answer: _Answer[Applied] = _Answer()
        self._give(lambda engine: engine.propose_change(change, wrap, answer.set))
        return await answer.wait(self._settings.propose_deadline_s, OutcomeUnknown())

    async def give_away(self, to: str) -> None:
        """As the leader: have that member lead, or with "" whichever is best placed.

        Raises as `Changing.give_away`.
        """
        answer: _Answer[bool] = _Answer()

        def done(error: StoreError | None) -> None:
            answer.set(True if error is None else error)

        self._give(lambda engine: engine.changing.give_away(to, done))
        await answer.wait(self._settings.propose_deadline_s, OutcomeUnknown())

    async def admit_learner(self, member: Member, *, counted_since: int | None) -> None:
        """As the leader: send that metanode the log; it does not count. Raises as
        `Changing.admit`."""
        answer: _Answer[bool] = _Answer()

        def order(engine: Engine) -> None:
            try:
                engine.changing.admit(member, counted_since=counted_since)
            except StoreError as error:
                answer.set(error)
            else:
                answer.set(True)

        self._give(order)
        await answer.wait(self._settings.read_deadline_s, NotReady("No answer in time."))

    async def progress(self) -> list[Progress]:
        """How closely the others follow; empty unless this member leads."""
        answer: _Answer[list[Progress]] = _Answer()
        self._give(lambda engine: answer.set(engine.changing.progress()))
        late = NotReady("The log did not answer in time.")
        return await answer.wait(self._settings.read_deadline_s, late)

    async def applied_entries(self, first: int, *, bytes_max: int) -> list[LogEntry] | None:
        """Applied entries of the log from `first` on; None: it does not hold that any more.

        Raises CorruptJournal if one read back from the disk is damaged, NotReady.
        """
        answer: _Answer[list[LogEntry] | None] = _Answer()

        def order(engine: Engine) -> None:
            try:
                answer.set(engine.applied_entries(first, bytes_max=bytes_max))
            except CorruptJournal as error:
                answer.set(error)  # this member may go on; who needs the entry may not

        self._give(order)
        late = NotReady("The log did not answer in time.")
        return await answer.wait(self._settings.read_deadline_s, late)

    async def entry_term(self, index: int) -> int | None:
        """Like `term_at`, asked in the tick thread: exact while the log is being cut."""
        answer: _Answer[tuple[int | None]] = _Answer()
        self._give(lambda _engine: answer.set((self._journal.term_at(index),)))
        late = NotReady("The log did not answer in time.")
        return (await answer.wait(self._settings.read_deadline_s, late))[0]

    @property
    def journal_bytes(self) -> int:
        """Size of the log on disk; 0 while it is closed."""
        return self._journal.size_bytes if self._running else 0

    @property
    def cut_due(self) -> bool:
        """Whether the log should be cut: checkpoint the catalog, then call `cut_log`."""
        return self._running and self._journal.size_bytes > self._cut_due_bytes

    def cut_log(self, applied_index_durable: int) -> None:
        """Drop log segments that a durable catalog of that index makes needless; the tail
        that followers briefly away need stays."""

        def order(engine: Engine) -> None:
            engine.cut_log(applied_index_durable)
            # What could not go now is not worth another try before a segment's growth.
            settings = self._settings.journal
            growth = self._journal.size_bytes + settings.segment_bytes
            self._cut_due_bytes = max(settings.cut_bytes, growth)

        self._give(order)

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        fatal: BaseException | None = None
        try:
            while not self._stopping.is_set():
                self.tick(self._settings.tick_s)
        except BaseException as error:  # noqa: BLE001 - boundary: the member stops, on_fatal decides
            fatal = error
        self._running = False
        self._state = ReplicaState(term=self._state.term, configuration=self._state.configuration)
        self._shut(fatal)
        if fatal is not None:
            log.error("raft_stopped", extra={"reason": repr(fatal)}, exc_info=fatal)
            self._on_fatal(fatal)

    def tick(self, wait_s: float) -> None:
        """One round in the calling thread; for simulations, which do not start the thread."""
        for _ in range(len(self._orders)):
            self._orders.popleft()(self._engine)
        self._engine.tick(wait_s)
        self._publish()
        self._ticks += 1

    def _publish(self) -> None:
        core = self._engine.core
        state = ReplicaState(
            core.is_leader,
            core.leader_id,
            core.term,
            core.applied_index,
            core.commit_index,
            self._membership.latest,
            self._engine.silence_s <= UNHEARD_ELECTIONS * self._settings.election_max_s,
        )
        if state != self._state:
            self._state = state

    def _shut(self, fatal: BaseException | None) -> None:
        self._engine.stop()
        while self._orders:
            with contextlib.suppress(OSError):  # an order to cut a journal that has failed
                self._orders.popleft()(self._engine)
        self._engine.stop()
        try:
            if fatal is None:
                self._journal.close()
            else:
                self._journal.abandon()
        except OSError as error:
            log.error("raft_journal_close_failed", extra={"reason": str(error)})
        self._waker.close()

    def _watch_ticks(self) -> None:
        # Counts its own looks instead of comparing times: after SIGSTOP or a suspend all
        # of the process was away, and nothing is stuck.
        last, looks = -1, 0
        while not self._stopping.wait(1.0) and self._running:
            looks = looks + 1 if self._ticks == last else 0
            last = self._ticks
            if looks >= self._settings.stall_limit_s:
                log.error("raft_stalled", extra={"limit_s": self._settings.stall_limit_s})
                self._on_fatal(TimeoutError(f"no Raft tick ended in {looks} s"))
                return

    # --- handing over ---------------------------------------------------------------------

    def _give(self, order: Callable[[Engine], None]) -> None:
        if not self._running:
            raise NotReady("This member does not take part in the cluster now.")
        self._orders.append(order)
        self._waker.wake()


class _Answer(Generic[T]):
    """Carries one outcome from the tick thread to the loop that waits for it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[T | StoreError] = self._loop.create_future()

    def set(self, outcome: T | StoreError) -> None:
        """Called in the tick thread; never raises."""
        # The loop may be closed by now: then nobody waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._arrive, outcome)

    def _arrive(self, outcome: T | StoreError) -> None:
        if not self._future.done():  # cancelled, or too late
            self._future.set_result(outcome)

    async def wait(self, deadline_s: float, late: StoreError) -> T:
        try:
            outcome = await asyncio.wait_for(self._future, deadline_s)
        except TimeoutError:
            raise late from None
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome
