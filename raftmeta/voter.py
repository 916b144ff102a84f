"""A metanode that has state: its catalog, its replica and what both answer together."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from osscore.digests import blake3_256
from osscore.errors import CorruptCatalog, NotLeader, NotReady, StoreError
from ossd.clock import Clock
from ossd.disk import Disk
from ossd.signing import ClusterSecrets
from raftmeta.admission import refusal, refused
from raftmeta.catalog.catalog import Catalog
from raftmeta.catalog.soft import SoftState
from raftmeta.commands import FormCluster
from raftmeta.credentials import ListAccessKeys, ListAudit
from raftmeta.entries import AnyResult, Entry
from raftmeta.generations import BeginGeneration
from raftmeta.groupcommit import GroupCommit
from raftmeta.identity import CATALOG_NAME, JOURNAL_NAME, Identity
from raftmeta.membership import Configuration
from raftmeta.moving import (
    CodingsOn,
    CountDamagedObjects,
    CountUnderSpread,
    DamagedStripes,
    ListTasks,
    ReadTasks,
    StripesAt,
    StripesOfDisk,
)
from raftmeta.queries import (
    CatalogCounted,
    ClusterDescribed,
    CountCatalog,
    ExpectedSlots,
    FindPrunable,
    FindUnwanted,
    GetCluster,
    ListObjects,
    ListStripes,
    ListVersions,
)
from raftmeta.questions import AnyAnswer, AnyQuery
from raftmeta.reencoding import FindReencodable, ListReencodes, ReadReencodes
from raftmeta.replica import Replica
from raftmeta.scanning import ListInline
from raftmeta.settings import RaftIdentity, RaftSettings
from raftmeta.wire import ProposeReply, QueryReply

T = TypeVar("T")

SCANS = (
    ListObjects,
    ListVersions,
    FindUnwanted,
    ExpectedSlots,
    FindPrunable,
    ListStripes,
    ListInline,
    ListAccessKeys,
    ListAudit,
    ReadTasks,
    ListTasks,
    StripesOfDisk,
    DamagedStripes,
    StripesAt,
    CodingsOn,
    CountDamagedObjects,
    CountUnderSpread,
    ReadReencodes,
    ListReencodes,
    FindReencodable,
)
"""Queries that may visit thousands of rows: answered off the event loop."""
FIRST_COMMANDS = (FormCluster, BeginGeneration)
POINTS_ON_LOOP_MAX = 64
"""More point queries than this in one request leave the loop, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoterSeams:
    """What a voter needs from outside. `on_lag` and `on_fatal` are called from any thread."""

    secrets: ClusterSecrets
    clock: Clock
    disk: Disk
    settings: RaftSettings
    bind: str
    on_fatal: Callable[[BaseException], None]
    on_lag: Callable[[], None]


class Voter:
    """Open, use from one event loop, close. Another one may be opened afterwards."""

    def __init__(self, *, identity: Identity, state: Path, seams: VoterSeams) -> None:
        """Blocks. Raises CorruptCatalog, CorruptJournal, OSError."""
        catalog_path = state / CATALOG_NAME
        if not seams.disk.exists(catalog_path):
            # Never made anew here: an empty catalog under an old log is loss, not a start.
            raise CorruptCatalog(f"{catalog_path} is missing.")
        self.identity = identity
        self.state = state
        self.catalog = Catalog(catalog_path, disk=seams.disk)
        self.replica = Replica(
            identity=RaftIdentity(
                member_id=identity.id,
                bind=seams.bind or identity.raft,
                cluster_id=link_id(identity.cluster_id, self.catalog.head.generation),
            ),
            configuration=self.recorded_members(),
            directory=state / JOURNAL_NAME,
            machine=self.catalog,
            secrets=seams.secrets,
            clock=seams.clock,
            disk=seams.disk,
            settings=seams.settings,
            on_fatal=seams.on_fatal,
            on_lag=seams.on_lag,
        )
        self._commits = GroupCommit(self.replica, seams.clock)
        # Of its own, so that `close` can wait for all that still uses the catalog. Enough
        # for a copy, a checkpoint, a listing and a census page at the same time.
        self._workers = ThreadPoolExecutor(4, thread_name_prefix="catalog")
        self._is_formed = False

    def start(self) -> None:
        """Take part in the cluster. Blocks. Raises CorruptJournal, OSError; nothing is left
        open then."""
        try:
            self.replica.start()
        except BaseException:
            self._workers.shutdown()
            self.catalog.close()
            raise

    @property
    def journal_bytes(self) -> int:
        """Bytes of the log on disk."""
        return self.replica.journal_bytes

    async def close(self) -> None:
        """Leave it, in order; afterwards the files are free."""
        await asyncio.to_thread(self.replica.stop)
        await asyncio.to_thread(self._workers.shutdown)
        self.catalog.close()

    async def checkpoint(self) -> int:
        """Make the catalog durable; the applied index it then holds for sure."""
        return await self._beside(self.catalog.checkpoint)

    async def copy_to(self, path: Path) -> int:
        """Write a copy of the catalog; the applied index it holds."""
        return await self._beside(lambda: self.catalog.copy_to(path))

    async def _beside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work)

    # --- who counts --------------------------------------------------------------------

    def recorded_members(self) -> Configuration:
        """The members as the applied log has them: committed, but perhaps not the latest."""
        index, members = self.catalog.members()
        # Before the first change they are those who formed or restored the cluster: all know.
        return Configuration(index, members or self.identity.members)

    @property
    def counts(self) -> bool:
        """Whether it does, by its own log, committed or not."""
        return self.replica.state.configuration.member(self.identity.id) is not None

    # --- who leads ---------------------------------------------------------------------

    @property
    def leader_url(self) -> str | None:
        """Where the leader serves, as far as known here."""
        leader = self.replica.leader_id
        latest = self.replica.state.configuration
        member = None if leader is None else latest.member(leader)
        return None if member is None else member.url

    @property
    def role(self) -> str:
        """leader, follower or candidate; joining as long as it does not count."""
        if self.replica.is_leader:
            return "leader"
        if not self.counts:
            return "joining"
        return "follower" if self.replica.leader_id is not None else "candidate"

    @property
    def is_formed(self) -> bool:
        """Whether the cluster's first command is applied here."""
        if not self._is_formed:
            self._is_formed = bool(self.describe(SoftState()).cluster_id)
        return self._is_formed

    # --- commands and queries ----------------------------------------------------------

    async def propose(self, entries: Sequence[Entry], *, admits_writes: bool) -> ProposeReply:
        """Have commands applied; a result for each. Raises NotLeader with the leader's URL,
        OutcomeUnknown, NotReady before the cluster is formed."""
        self.require_leader()
        if not self.is_formed and not all(type(e.command) in FIRST_COMMANDS for e in entries):
            raise NotReady("The cluster is still being formed.")
        refusals = [refusal(entry.command, admits_writes=admits_writes) for entry in entries]
        admitted = [entry for entry, error in zip(entries, refusals, strict=True) if error is None]
        applied_index = 0
        applied: list[AnyResult] = []
        if admitted:
            try:
                applied_index, applied = await self._commits.submit(admitted)
            except NotLeader as error:
                raise self._not_leader() from error
        return ProposeReply(
            applied_index=applied_index or self.catalog.applied_index,
            catalog_time_ms=self.catalog.head.catalog_time_ms,
            results=_merge(refusals, applied),
        )

    async def query(self, queries: Sequence[AnyQuery], *, soft: SoftState) -> QueryReply:
        """Linearizable answers. Raises NotLeader with the leader's URL."""
        self.require_leader()
        try:
            await self.replica.confirm_read()
        except NotLeader as error:
            raise self._not_leader() from error
        if not self.is_formed:
            raise NotReady("The cluster is still being formed.")
        if len(queries) > POINTS_ON_LOOP_MAX or any(isinstance(each, SCANS) for each in queries):
            head, answers = await self._beside(
                lambda: self.catalog.answer_with_head(queries, soft=soft)
            )
        else:
            head, answers = self.catalog.answer_with_head(queries, soft=soft)
        return QueryReply(
            generation=head.generation,
            applied_index=head.applied_index,
            catalog_time_ms=head.catalog_time_ms,
            keys_epoch=head.keys_epoch,
            answers=tuple(answers),
        )

    async def ask(self, query: AnyQuery) -> AnyAnswer:
        """An answer of this replica's catalog as it is now; not linearizable."""
        return await self._beside(lambda: self.catalog.answer([query], soft=SoftState())[0])

    def describe(self, soft: SoftState) -> ClusterDescribed:
        """The cluster as this replica's catalog has it now; not linearizable."""
        answer = self.catalog.answer([GetCluster()], soft=soft)[0]
        assert isinstance(answer, ClusterDescribed)
        return answer

    def count(self) -> CatalogCounted:
        """Totals as this replica's catalog has them now; not linearizable."""
        answer = self.catalog.answer([CountCatalog()], soft=SoftState())[0]
        assert isinstance(answer, CatalogCounted)
        return answer

    def require_leader(self) -> None:
        """Raises NotLeader unless this one believes to lead."""
        if not self.replica.is_leader:
            raise self._not_leader()

    def _not_leader(self) -> NotLeader:
        return NotLeader(leader_url=None if self.replica.is_leader else self.leader_url)


def link_id(cluster_id: bytes, generation: int) -> bytes:
    """What members must share to talk Raft: the cluster, and the generation of its catalog.

    A metanode of the lost cluster that comes back after a restore has a log of its own, maybe
    in a higher term: it must neither vote nor lead among those that were restored.
    """
    if generation == 1:
        return cluster_id
    return blake3_256(cluster_id + generation.to_bytes(8, "big"))[: len(cluster_id)]


def _merge(
    refusals: Sequence[StoreError | None], applied: Sequence[AnyResult]
) -> tuple[AnyResult, ...]:
    """Results in the order of the entries: refusals where there were any, else the applied."""
    rest = iter(applied)
    return tuple(next(rest) if error is None else refused(error) for error in refusals)
