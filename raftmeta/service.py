"""One metanode's life: empty, joining or voter, and the way between them.

A `Metanode` owns the data folder, the running voter if there is one, and every background
task. All of it belongs to one event loop.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from osscore.errors import NotReady, StoreError
from ossd.clock import Clock, RandomBytes
from ossd.disk import Disk
from ossd.rpc import AioRpc
from ossd.run import Stopper
from ossd.signing import ClusterSecrets
from raftmeta.admitting import Admitting
from raftmeta.archived import ArchiveState
from raftmeta.catalog.catalog import Catalog
from raftmeta.catalog.soft import SoftState
from raftmeta.config import MetaConfig, raft_settings
from raftmeta.entering import Entering
from raftmeta.entries import Entry
from raftmeta.forming import Forming, IntentFile, check_form, check_generation
from raftmeta.gauges import RaftMetrics
from raftmeta.healing import HealingState
from raftmeta.identity import (
    CATALOG_NAME,
    JOURNAL_NAME,
    Identity,
    MemberState,
    MetadataFolder,
)
from raftmeta.joining import Installer, is_of_use
from raftmeta.journal import Journal
from raftmeta.leading import Leading, end_task
from raftmeta.membership import Configuration
from raftmeta.nodes import NodeWatch
from raftmeta.queries import CatalogCounted
from raftmeta.questions import AnyQuery
from raftmeta.restoring import RestoreDesk
from raftmeta.room import MetadataRoom
from raftmeta.snapshots import SnapshotDesk
from raftmeta.standing import Standing, find_leader
from raftmeta.stewards.logcutting import cut_for_ever
from raftmeta.voter import Voter, VoterSeams
from raftmeta.wire import (
    Form,
    FrontendHeartbeat,
    Heard,
    Heartbeat,
    ProposeReply,
    QueryReply,
    SnapshotHead,
    Status,
)

TICK_S = 0.5
JOIN_PAUSE_S = 0.5
PAUSE_DOUBLINGS_MAX = 5
EXPECT_EVERY_TICKS = 10
CONFIRM_S = 2.0
ROLE = "raftmeta"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """What a metanode needs from outside."""

    config: MetaConfig
    clock: Clock
    random: RandomBytes
    disk: Disk
    rpc: AioRpc
    secrets: ClusterSecrets
    metrics: RaftMetrics
    stopper: Stopper
    version: str
    pid: int


class Metanode:
    """`open` it, serve its handlers, `start` it, `close` it."""

    def __init__(self, folder: MetadataFolder, seams: Seams) -> None:
        self._folder = folder
        self._seams = seams
        self._clock = seams.clock
        self._config = seams.config
        self._voter: Voter | None = None
        self._desk: SnapshotDesk | None = None
        self._cutting: asyncio.Task[None] | None = None
        self._fetch_failure_count = 0
        self._changing = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._lagging = asyncio.Event()
        self._watch = NodeWatch(heartbeat_s=seams.config.heartbeat_s, tick_s=TICK_S)
        self._room = MetadataRoom(folder.path, seams.disk, seams.config)
        self._leading = Leading(
            rpc=seams.rpc,
            clock=seams.clock,
            stopper=seams.stopper,
            watch=self._watch,
            grace_ms=round(seams.config.gc_grace_s * 1000),
            repair_delay_s=seams.config.repair_delay_s,
            may_copy=self._may_copy,
        )
        self._installer = Installer(folder=folder, rpc=seams.rpc, disk=seams.disk)
        self.restoring = RestoreDesk(
            directory=folder.path,
            identity=lambda: folder.identity,
            disk=seams.disk,
            clock=seams.clock,
            secrets=seams.secrets,
        )
        self._entering = Entering(
            folder=folder,
            peers=seams.config.peers,
            rpc=seams.rpc,
            changing=self._changing,
            join_from=self._join_from,
        )
        self.forming = Forming(
            intents=IntentFile(folder.path, seams.disk),
            identity=lambda: folder.identity,
            become_voter=self._become_voter,
            rpc=seams.rpc,
            secrets=seams.secrets,
            clock=seams.clock,
            random=seams.random,
            gc_grace_ms=round(seams.config.gc_grace_s * 1000),
        )

    async def start(self) -> None:
        """Take part in the cluster, or begin to look for one.

        Raises CorruptCatalog, CorruptJournal, OSError: this member must not take part.
        """
        await asyncio.to_thread(self._room.look)
        identity = self._folder.identity
        if identity.state is MemberState.VOTER:
            if identity.raft != self._config.raft:
                log.warning(
                    "raft_address_is_fixed",
                    extra={"used": identity.raft, "configured": self._config.raft},
                )
            await asyncio.to_thread(self._folder.remove_leftovers)
            await self._start_voter()
        elif identity.state is MemberState.REMOVED:
            log.warning("removed_from_the_cluster", extra={"id": identity.id})
        else:
            # It never voted: whatever state there is was not finished.
            await asyncio.to_thread(self._folder.forget_state)
            self._seams.stopper.tasks.spawn(self._join(), name="join")
        self._seams.stopper.tasks.spawn(self._tick_for_ever(), name="tick")
        self._seams.stopper.tasks.spawn(self._catch_up_for_ever(), name="catch-up")
        standing = Standing(
            voter=lambda: self._voter,
            peers=self._config.peers,
            on_removed=self._become_removed,
            rpc=self._seams.rpc,
            clock=self._clock,
        )
        self._seams.stopper.tasks.spawn(standing.run(), name="standing")

    async def close(self) -> None:
        """Stop taking part. The stopper's tasks must have ended."""
        await self._leading.end()
        async with self._changing:
            await self._stop_voter()
        self._folder.close()

    # --- what the handlers ask -----------------------------------------------------------

    async def propose(self, entries: Sequence[Entry]) -> ProposeReply:
        """See Voter.propose. Raises NotReady while this metanode has no state."""
        began_s = self._clock.monotonic_s()
        reply = await self._running().propose(entries, admits_writes=self._admits_writes)
        self._seams.metrics.commit_seconds.observe(self._clock.monotonic_s() - began_s)
        self._seams.metrics.request_commands.observe(len(entries))
        return reply

    async def query(self, queries: Sequence[AnyQuery]) -> QueryReply:
        """See Voter.query. Raises NotReady while this metanode has no state."""
        return await self._running().query(queries, soft=self._soft_state())

    def hear(self, heartbeat: Heartbeat | FrontendHeartbeat) -> Heard:
        """A blob daemon or a frontend lives; answers who the metanodes are, by what is applied
        here."""
        self._watch.hear(heartbeat, now_s=self._clock.monotonic_s())
        if self._voter is None or not self._voter.is_formed:
            return Heard()
        recorded = self._voter.recorded_members()
        return Heard(members_index=recorded.index, members=recorded.members)

    def admitting(self) -> Admitting:
        """Where the metanodes are changed. Raises NotReady."""
        return Admitting(self._running(), self._clock)

    def snapshots(self) -> SnapshotDesk:
        """Where full copies are made. Raises NotReady."""
        if not self._running().is_formed or self._desk is None:
            raise NotReady("The cluster is still being formed.")
        return self._desk

    def status(self) -> Status:
        """Who this is and how it stands."""
        identity, voter = self._folder.identity, self._voter
        formed = voter is not None and voter.is_formed
        recorded = Configuration(0, identity.members)
        if voter is not None:
            recorded = voter.recorded_members()
        return Status(
            id=identity.id,
            role=ROLE,
            version=self._seams.version,
            pid=self._seams.pid,
            state=self._state_word(voter),
            leader=None if voter is None else voter.replica.leader_id,
            term=0 if voter is None else voter.replica.term,
            applied_index=0 if voter is None else voter.replica.applied_index,
            commit_index=0 if voter is None else voter.replica.commit_index,
            # Told only once the first command is applied: see joining.lists_me.
            cluster_id=identity.cluster_id.hex() if formed else "",
            members=recorded.members,
            members_index=recorded.index,
            leader_url="" if voter is None else voter.leader_url or "",
            free_bytes=self._room.free_bytes,
            clock_ms=self._clock.now_ms(),
            has_room=self._room.has_room,
        )

    def why_not_ready(self) -> str | None:
        """For /readyz: a reason, or None if this metanode can do its part."""
        voter = self._voter
        if voter is None:
            return f"this metanode is {self._folder.identity.state}"
        if voter.replica.leader_id is None:
            return "no leader is known"
        return None if voter.is_formed else "the cluster is still being formed"

    def count(self) -> CatalogCounted | None:
        """Totals of the local catalog; None without state."""
        return None if self._voter is None else self._voter.count()

    def healing(self) -> HealingState | None:
        """How healing stands; None unless this metanode leads."""
        return self._leading.healing

    def archive(self) -> ArchiveState | None:
        """How far the catalog is archived; None unless this metanode leads."""
        return self._leading.archive

    def journal_bytes(self) -> int:
        """Bytes of the local log."""
        return 0 if self._voter is None else self._voter.journal_bytes

    def _running(self) -> Voter:
        if self._voter is None:
            raise NotReady(f"This metanode is {self._folder.identity.state}.")
        return self._voter

    def _soft_state(self) -> SoftState:
        now_s = self._clock.monotonic_s()
        heard = self._watch.soft_state(now_s=now_s, admits_writes=self._admits_writes)
        return replace(
            heard,
            pruning=self._leading.pruning,
            lifecycle=self._leading.lifecycle,
            healing=self._leading.healing,
            archive=self._leading.archive,
        )

    @property
    def _admits_writes(self) -> bool:
        return self._room.has_room and self._leading.allows_growth

    def _state_word(self, voter: Voter | None) -> str:
        identity = self._folder.identity
        if voter is None:
            # A voter without its parts is exchanging them for a newer copy.
            return "joining" if identity.state is MemberState.VOTER else identity.state
        return voter.role

    # --- becoming and being a voter --------------------------------------------------------

    async def _become_voter(self, form: Form) -> None:
        """The end of forming: an empty member gets empty state and counts from now on."""
        async with self._changing:
            check_form(self._folder.identity, form)
            if self._voter is None:
                if self._folder.identity.state is not MemberState.VOTER:
                    await self._make_first_state(form)
                await self._start_voter()
            else:
                check_generation(self._voter.catalog.head.generation, form)

    async def _make_first_state(self, form: Form) -> None:
        if form.restored is None:
            await asyncio.to_thread(self._make_empty_state, form)
            return
        state = await self._installer.fetch_restored(form.restored)
        await asyncio.to_thread(self._installer.begin, state, form, form.restored.head)

    def _make_empty_state(self, form: Form) -> None:
        disk = self._seams.disk
        state = self._folder.begin_state()
        Catalog(state / CATALOG_NAME, disk=disk).close()
        Journal.create(state / JOURNAL_NAME, disk=disk).close()
        self._folder.switch(state)
        identity = self._folder.identity
        self._folder.write_identity(
            identity.with_cluster(MemberState.VOTER, form.cluster_id, form.members)
        )

    async def _start_voter(self) -> None:
        identity = self._folder.identity
        voter = await asyncio.to_thread(self._open_voter, identity)
        self._desk = SnapshotDesk(
            identity=identity,
            directory=self._folder.path,
            replica=voter.replica,
            copy_to=voter.copy_to,
            members=lambda: voter.recorded_members().members,
            disk=self._seams.disk,
            clock=self._clock,
            program=self._seams.version,
        )
        self._voter = voter
        cutting = cut_for_ever(voter.replica, voter.checkpoint, clock=self._clock)
        self._cutting = self._seams.stopper.tasks.spawn(cutting, name="log-cutting")
        log.info("voter_started", extra={"id": identity.id, "state": voter.state.name})

    def _open_voter(self, identity: Identity) -> Voter:
        state = self._folder.current()
        if state is None:
            raise NotReady(f"{self._folder.path} says voter but holds no state.")
        stopper = self._seams.stopper
        voter = Voter(
            identity=identity,
            state=state,
            seams=VoterSeams(
                secrets=self._seams.secrets,
                clock=self._clock,
                disk=self._seams.disk,
                settings=raft_settings(self._config),
                bind=self._config.raft_bind,
                on_fatal=stopper.fatal,
                on_lag=lambda: _wake(self._loop, self._lagging),
            ),
        )
        voter.start()
        return voter

    async def _stop_voter(self) -> Path | None:
        """Close the running parts; answers the state folder they used."""
        voter, self._voter, self._desk = self._voter, None, None
        if voter is None:
            return None
        await end_task(self._cutting)
        await voter.close()
        return voter.state

    # --- joining (SAFETY rule 21) ------------------------------------------------------------

    async def _join(self) -> None:
        """Until this metanode has state: look for a formed cluster, one that lists it or not."""
        while self._folder.identity.state is not MemberState.VOTER:
            await self._entering.attempt()
            await self._clock.sleep(self._pause_s())

    async def _become_removed(self, voter: Voter) -> None:
        """For good: this folder is of no use to any cluster any more."""
        async with self._changing:
            if self._voter is voter:
                identity = msgspec.structs.replace(self._folder.identity, state=MemberState.REMOVED)
                await asyncio.to_thread(self._folder.write_identity, identity)
                await self._stop_voter()

    async def _join_from(self, leader_url: str) -> None:
        # No lock while fetching: Form is refused by the state written above.
        state, head = await self._fetch(leader_url, forgets=True)
        async with self._changing:
            await asyncio.to_thread(self._installer.install, state, head, own=None)
            log.info("joined", extra={"applied_index": head.applied_index})
            await self._start_voter()

    # --- catching up ---------------------------------------------------------------------------

    async def _catch_up_for_ever(self) -> None:
        while True:
            await self._lagging.wait()
            try:
                await self._catch_up()
            except (StoreError, OSError) as error:
                log.info("catch_up_waits", extra={"reason": str(error)})
            await self._clock.sleep(self._pause_s())

    async def _fetch(self, leader_url: str, *, forgets: bool) -> tuple[Path, SnapshotHead]:
        self._fetch_failure_count += 1
        fetched = await self._installer.fetch(leader_url, forgets=forgets)
        self._fetch_failure_count = 0
        return fetched

    def _pause_s(self) -> float:
        """Longer after each failed copy: one costs the leader a reading of its catalog."""
        return JOIN_PAUSE_S * float(1 << min(self._fetch_failure_count, PAUSE_DOUBLINGS_MAX))

    async def _catch_up(self) -> None:
        """Exchange the state of a voter that lags for a copy of the leader's.

        The copy is fetched beside the running voter. Then all of it stops, is exchanged and
        started again in this process: nothing of the old state is in use by then.
        """
        voter = self._voter
        if voter is None or voter.replica.is_leader:
            self._lagging.clear()
            return
        leader_url = await find_leader(self._seams.rpc, voter, self._config.peers)
        if not leader_url:
            raise NotReady("No leader is known to catch up from.")
        state, head = await self._fetch(leader_url, forgets=False)
        if head.applied_index <= voter.catalog.applied_index:
            self._lagging.clear()  # caught up by the log meanwhile
            return
        async with self._changing:
            applied_index = voter.catalog.applied_index
            old_state = await self._stop_voter()
            assert old_state is not None
            try:
                own = await asyncio.to_thread(
                    Journal.open, old_state / JOURNAL_NAME, disk=self._seams.disk
                )
                try:
                    if is_of_use(head, journal=own, applied_index=applied_index):
                        await asyncio.to_thread(self._installer.install, state, head, own=own)
                        log.info("caught_up", extra={"applied_index": head.applied_index})
                finally:
                    await asyncio.to_thread(own.close)
                self._lagging.clear()
                await self._start_voter()
            except (StoreError, OSError) as error:
                # Stopped half-way: only a start of the process sorts that out.
                self._seams.stopper.fatal(error)
                raise

    # --- standing work -------------------------------------------------------------------------

    async def _tick_for_ever(self) -> None:
        ticks = 0
        while True:
            await self._tick(expect=ticks % EXPECT_EVERY_TICKS == 0)
            ticks += 1
            await self._clock.sleep(TICK_S)

    async def _tick(self, *, expect: bool) -> None:
        term = await self._confirmed_term()
        self._watch.tick(now_s=self._clock.monotonic_s(), term=term)
        voter = self._voter
        if expect and voter is not None and term is not None:
            nodes = voter.describe(SoftState()).nodes
            self._watch.expect(
                [node.node for node in nodes],
                [(node.node, disk.uuid) for node in nodes for disk in node.disks],
            )
        await asyncio.to_thread(self._room.look)
        if voter is not None and voter.replica.is_leader and voter.is_formed:
            self._leading.begin(voter, self.snapshots())
        else:
            await self._leading.end()

    async def _confirmed_term(self) -> int | None:
        """The term this metanode leads if a majority says so now."""
        voter = self._voter
        if voter is None or not voter.replica.is_leader:
            return None
        term = voter.replica.term
        try:
            async with asyncio.timeout(CONFIRM_S):
                await voter.replica.confirm_read()
        except (StoreError, TimeoutError):
            return None
        return term if voter.replica.term == term else None

    def _may_copy(self) -> bool:
        voter = self._voter
        return voter is not None and self._room.may_copy(voter.catalog.size_bytes)


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Set an event from any thread; a loop that has ended has nobody to wake."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(event.set)
