"""Forming a cluster: once, explicitly, with every first member present (SAFETY rule 21).

The steps, each of which a crash may interrupt and the same bootstrap resumes:

1. every member must answer and be empty; nothing is written before that holds;
2. the intent (cluster id, secrets) is written here: phase `telling`;
3. every other member is told, and writes that it is a voter;
4. phase `told`: from now on an empty member is one that lost its disk, and is never told
   again, for it may have voted and acknowledged;
5. this member becomes a voter; whoever leads applies FormCluster; the intent is removed.

Until FormCluster is applied no metanode admits any other command, so what members that
were told early may have lost by then is nothing a user wrote.

A cluster that goes on from a backup forms the same way, with all of its members empty
(SAFETY rule 16): they begin with one prepared catalog instead of an empty one, and its first
command is BeginGeneration.
"""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import msgspec

from osscore.digests import blake3_256
from osscore.errors import (
    AlreadyFormed,
    CorruptCatalog,
    InvalidArgument,
    NotReady,
    StoreError,
    Unavailable,
)
from ossd.clock import Clock, RandomBytes
from ossd.disk import Disk, read_file, write_file_atomically
from ossd.rpc import Rpc, check
from ossd.signing import ClusterSecrets, seal
from raftmeta.client import read_status, wrap_catalog_key
from raftmeta.commands import FormCluster, Refused
from raftmeta.credentials import AuditNote
from raftmeta.entries import Entry
from raftmeta.generations import BeginGeneration
from raftmeta.identity import Identity, MemberState
from raftmeta.leaderseek import LeaderSeeker, is_permanent
from raftmeta.members import Member
from raftmeta.restoring import RestoreDesk
from raftmeta.wire import (
    FORM,
    PROPOSE,
    Bootstrap,
    BootstrapReply,
    Form,
    ProposeReply,
    ProposeRequest,
    Restore,
    Restored,
    RestoreReply,
)

INTENT_NAME = "bootstrap.json"
EMPTY = "empty"
TELL_DEADLINE_S = 5.0
TELL_RESTORED_DEADLINE_S = 6 * 3600.0
"""The member first fetches the whole catalog."""
FORM_DEADLINE_S = 30.0

log = logging.getLogger(__name__)


class Phase(StrEnum):
    """How far a bootstrap has come."""

    TELLING = "telling"
    TOLD = "told"


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What `bootstrap.json` holds (docs/formats/metadata-folder.md)."""

    phase: Phase
    cluster_id: bytes
    members: tuple[Member, ...]
    root_access_key: str = ""
    root_secret_key: str = ""
    system_token: str = ""
    catalog_key: bytes = b""
    restored: Restored | None = None
    """The catalog to begin with; the secrets are those inside it then."""

    @property
    def form(self) -> Form:
        """What members are told."""
        return Form(cluster_id=self.cluster_id, members=self.members, restored=self.restored)


class IntentFile:
    """The intent on disk. Calls block."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._path = directory / INTENT_NAME
        self._disk = disk

    def read(self) -> Intent | None:
        """The intent of an unfinished bootstrap. Raises CorruptCatalog if unreadable."""
        if not self._disk.exists(self._path):
            return None
        try:
            return msgspec.json.decode(read_file(self._disk, self._path), type=Intent)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptCatalog(f"{self._path} cannot be read: {error}") from error

    def write(self, intent: Intent) -> None:
        """Durable on return."""
        write_file_atomically(self._disk, self._path, msgspec.json.encode(intent))

    def remove(self) -> None:
        """Durable on return; none is fine."""
        if self._disk.exists(self._path):
            self._disk.unlink(self._path)
            self._disk.sync_directory(self._path.parent)


class Forming:
    """Runs bootstraps on one metanode, one at a time.

    `identity` answers who this is now; `become_voter` makes this member a voter of a Form,
    durably, and starts it (again: no change).
    """

    def __init__(
        self,
        *,
        intents: IntentFile,
        identity: Callable[[], Identity],
        become_voter: Callable[[Form], Awaitable[None]],
        rpc: Rpc,
        secrets: ClusterSecrets,
        clock: Clock,
        random: RandomBytes,
        gc_grace_ms: int,
    ) -> None:
        self._intents = intents
        self._identity = identity
        self._become_voter = become_voter
        self._rpc = rpc
        self._secrets = secrets
        self._clock = clock
        self._random = random
        self._gc_grace_ms = gc_grace_ms
        self._running = False

    async def bootstrap(self, request: Bootstrap) -> BootstrapReply:
        """Form the cluster, or finish forming it.

        Raises AlreadyFormed, InvalidArgument, NotReady (a member does not answer, is not
        empty, or another bootstrap runs here) and Unavailable errors; after any of these the
        same request may be sent again.
        """
        with self._turn():
            return await self._bootstrap(request)

    async def restore(self, request: Restore, desk: RestoreDesk) -> RestoreReply:
        """Form a cluster that goes on from the backup at the desk, or finish forming it.

        Raises as `bootstrap`, and what the desk raises for a backup that cannot be restored;
        nothing has been changed then.
        """
        with self._turn():
            return await self._restore(request, desk)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._running:
            raise NotReady("A cluster is being formed here.")
        self._running = True
        try:
            yield
        finally:
            self._running = False

    async def accept(self, form: Form) -> None:
        """Another member forms a cluster with this one. Raises AlreadyFormed unless this
        one is empty or already a voter of exactly that cluster."""
        identity = self._identity()
        if self._running or await asyncio.to_thread(self._intents.read) is not None:
            raise AlreadyFormed(f"Metanode {identity.id} is forming a cluster itself.")
        check_form(identity, form)
        await self._become_voter(form)

    async def _bootstrap(self, request: Bootstrap) -> BootstrapReply:
        check_members(self._identity(), request.members)
        intent = await asyncio.to_thread(self._intents.read)
        if intent is None:
            if self._identity().state is not MemberState.EMPTY:
                raise AlreadyFormed()
            await self._check_all_empty(request.members)
            intent = self._new_intent(request)
            await asyncio.to_thread(self._intents.write, intent)
        elif set(intent.members) != set(request.members) or intent.restored is not None:
            raise AlreadyFormed("A restore, or a bootstrap with other members, has begun here.")
        await self._carry_out(intent)
        return BootstrapReply(
            cluster_id=intent.cluster_id,
            root_access_key=intent.root_access_key,
            root_secret_key=intent.root_secret_key,
            system_token=intent.system_token,
        )

    async def _restore(self, request: Restore, desk: RestoreDesk) -> RestoreReply:
        check_members(self._identity(), request.members)
        intent = await asyncio.to_thread(self._intents.read)
        if intent is None:
            if self._identity().state is not MemberState.EMPTY:
                raise AlreadyFormed(_NOT_EMPTY.format(self._identity().id))
            await self._check_all_empty(request.members)
            restored = await desk.prepare(request)
            intent = Intent(
                phase=Phase.TELLING,
                cluster_id=restored.head.cluster_id,
                members=request.members,
                restored=restored,
            )
            await asyncio.to_thread(self._intents.write, intent)
        restored = _same_restore(intent, request)
        desk.give(restored)
        await self._carry_out(intent)
        await desk.forget()
        return RestoreReply(cluster_id=intent.cluster_id, generation=restored.generation)

    async def _carry_out(self, intent: Intent) -> None:
        if intent.phase is Phase.TELLING:
            intent = await self._tell_all(intent)
        await self._become_voter(intent.form)
        await self._apply_form(intent)
        await asyncio.to_thread(self._intents.remove)

    async def _check_all_empty(self, members: Iterable[Member]) -> None:
        for member in members:
            if member.id == self._identity().id:
                continue
            try:
                status = await read_status(self._rpc, member.url)
            except StoreError as error:
                raise NotReady(f"Member {member.id} does not answer: {error.message}") from error
            if status.id != member.id:
                raise InvalidArgument(f"{member.url} is {status.id!r}, not {member.id!r}.")
            if status.state != EMPTY:
                raise AlreadyFormed(
                    f"Member {member.id} is not empty but {status.state}: of a cluster of its own?"
                )

    def _new_intent(self, request: Bootstrap) -> Intent:
        return Intent(
            phase=Phase.TELLING,
            cluster_id=self._random(16),
            members=request.members,
            root_access_key=request.root_access_key or _word(self._random(15)).upper(),
            root_secret_key=request.root_secret_key or _word(self._random(30)),
            system_token=request.system_token or _word(self._random(30)),
            catalog_key=self._random(32),
        )

    async def _tell_all(self, intent: Intent) -> Intent:
        told_count = 0
        body = msgspec.msgpack.encode(intent.form)
        deadline_s = TELL_DEADLINE_S if intent.restored is None else TELL_RESTORED_DEADLINE_S
        for member in sorted(intent.members, key=lambda each: each.id):
            if member.id == self._identity().id:
                continue
            try:
                check(
                    await self._rpc.call(
                        "POST", member.url + FORM, body=body, deadline_s=deadline_s
                    )
                )
            except AlreadyFormed:
                if not told_count:
                    # Nobody follows this intent yet (members are told in one order): give
                    # way to whoever else is forming a cluster with that member.
                    await asyncio.to_thread(self._intents.remove)
                raise
            told_count += 1
        told = msgspec.structs.replace(intent, phase=Phase.TOLD)
        await asyncio.to_thread(self._intents.write, told)
        return told

    async def _apply_form(self, intent: Intent) -> None:
        """Have the first command applied by whoever leads. Repeating it changes nothing."""
        entry = self._first_entry(intent)
        body = msgspec.msgpack.encode(ProposeRequest(entries=(entry,)))
        urls = [member.url for member in intent.members]
        seeker = LeaderSeeker(self._rpc, urls, clock=self._clock, random=self._random)
        last_s = self._clock.monotonic_s() + FORM_DEADLINE_S
        while True:
            try:
                reply = msgspec.msgpack.decode(await seeker.post(PROPOSE, body), type=ProposeReply)
                break
            except StoreError as error:
                if is_permanent(error) or self._clock.monotonic_s() > last_s:
                    raise
        result = reply.results[0]
        if isinstance(result, Refused):
            raise result.error()

    def _first_entry(self, intent: Intent) -> Entry:
        restored = intent.restored
        if restored is None:
            return Entry(session=0, seq=0, command=self._command(intent))
        note = AuditNote(
            actor="cluster secret",
            action="meta.restore",
            target=intent.cluster_id.hex(),
            detail=f"generation={restored.generation} backup={restored.backup_blake3.hex()}",
            source=self._identity().id,
        )
        begin = BeginGeneration(generation=restored.generation)
        return Entry(session=0, seq=0, command=begin, audit=note)

    def _command(self, intent: Intent) -> FormCluster:
        root_secret = intent.root_secret_key.encode()
        return FormCluster(
            cluster_id=intent.cluster_id,
            catalog_key_wrapped=wrap_catalog_key(self._secrets, intent.catalog_key, self._random),
            root_access_key=intent.root_access_key,
            root_secret_sealed=seal(intent.catalog_key, root_secret, self._random),
            system_token_digest=blake3_256(intent.system_token.encode()),
            gc_grace_ms=self._gc_grace_ms,
        )


_NOT_EMPTY = (
    "Metanode {} belongs to a cluster already. A backup is restored into metanodes with empty"
    " folders, started without --bootstrap."
)


def _same_restore(intent: Intent, request: Restore) -> Restored:
    """What the begun restore makes. Raises AlreadyFormed if this request asks for another."""
    begun = intent.restored
    same_members = set(intent.members) == set(request.members)
    if begun is None or begun.backup_blake3 != request.blake3 or not same_members:
        raise AlreadyFormed("A bootstrap, or the restore of another backup, has begun here.")
    return begun


def check_members(identity: Identity, members: tuple[Member, ...]) -> None:
    """Raises InvalidArgument unless ids, Raft addresses and URLs are there, all differ, and
    this metanode is one of them under its own addresses."""
    for name in ("id", "raft", "url"):
        values = [getattr(member, name) for member in members]
        if "" in values or len(set(values)) != len(values):
            raise InvalidArgument(f"The {name} of each member must be given and differ.")
    own = next((member for member in members if member.id == identity.id), None)
    if own is None:
        raise InvalidArgument(f"{identity.id} is not among the members.")
    if own.raft != identity.raft:
        raise InvalidArgument(f"{identity.id} has the Raft address {identity.raft}.")


def check_form(identity: Identity, form: Form) -> None:
    """Raises AlreadyFormed unless `identity` is empty or a voter of exactly this cluster."""
    if identity.state is MemberState.EMPTY:
        check_members(identity, form.members)
        return
    same = identity.cluster_id == form.cluster_id and set(identity.members) == set(form.members)
    if identity.state is not MemberState.VOTER or not same:
        raise AlreadyFormed(f"Metanode {identity.id} is {identity.state} already.")


def check_generation(generation: int, form: Form) -> None:
    """Raises AlreadyFormed unless a voter's catalog of that generation is the one of `form`: a
    cluster and the one restored of its backup share id and members."""
    expected = 1 if form.restored is None else form.restored.generation
    if generation != expected:
        raise AlreadyFormed(f"This metanode has generation {generation} of the catalog already.")


def _word(random: bytes) -> str:
    return base64.urlsafe_b64encode(random).decode().rstrip("=").replace("-", "x").replace("_", "y")


async def bootstrap_when_possible(
    forming: Forming, request: Bootstrap, *, clock: Clock, pause_s: float = 0.5
) -> BootstrapReply | None:
    """Bootstrap as soon as all members answer; None if there is a cluster already.

    For members that were started with the list of first members: safe to run at each
    start, for a formed cluster never answers as empty.
    """
    waited_for = ""
    while True:
        try:
            return await forming.bootstrap(request)
        except AlreadyFormed as error:
            log.info("bootstrap_not_needed", extra={"reason": error.message})
            return None
        except Unavailable as error:
            if error.message != waited_for:
                log.info("bootstrap_waits", extra={"reason": error.message})
            waited_for = error.message
            await clock.sleep(pause_s)
