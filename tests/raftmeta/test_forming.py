"""Forming a cluster (SAFETY rule 21), with members that are pretended over the Rpc seam."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from osscore.digests import blake3_256
from osscore.errors import AlreadyFormed, InvalidArgument, NotReady, PeerUnreachable, StoreError
from ossd.clock import SystemClock, system_random
from ossd.disk import Bytes, SystemDisk
from ossd.envelope import error_body
from ossd.rpc import Reply
from ossd.signing import ClusterSecrets, unseal
from raftmeta.client import unwrap_catalog_key
from raftmeta.commands import Done, FormCluster
from raftmeta.forming import Forming, IntentFile, Phase, bootstrap_when_possible
from raftmeta.generations import BeginGeneration
from raftmeta.identity import Identity, MemberState
from raftmeta.members import Member
from raftmeta.wire import (
    FORM,
    PROPOSE,
    STATUS,
    Bootstrap,
    Form,
    ProposeReply,
    ProposeRequest,
    Status,
)
from tests.fakes.clock import ManualClock
from tests.raftmeta.waiting import until

SECRETS = ClusterSecrets(current="a-secret-only-for-tests")
MEMBERS = tuple(
    Member(id=f"meta-{n}", raft=f"h:{n}", url=f"http://meta-{n}:9101") for n in (1, 2, 3)
)
REQUEST = Bootstrap(members=MEMBERS, root_access_key="ROOT", root_secret_key="root-secret")


class Crash(Exception):
    """The bootstrapping process dies here."""


class PretendedMembers:
    """All three as HTTP sees them; `meta-1` is the one that bootstraps."""

    def __init__(self, tmp_path: Path) -> None:
        self.identities = {m.id: Identity(id=m.id, raft=m.raft, url=m.url) for m in MEMBERS}
        self.intents = IntentFile(tmp_path, SystemDisk())
        self.forms: list[tuple[str, Form]] = []
        self.commands: list[FormCluster | BeginGeneration] = []
        self.dead: set[str] = set()
        self.crash_at: str | None = None

    def forming(self) -> Forming:
        """As after a start of meta-1."""
        return Forming(
            intents=self.intents,
            identity=lambda: self.identities["meta-1"],
            become_voter=self._become_voter,
            rpc=self,
            secrets=SECRETS,
            clock=SystemClock(),
            random=system_random,
            gc_grace_ms=1234,
        )

    async def _become_voter(self, form: Form) -> None:
        self._crash("self")
        self._form("meta-1", form)

    def _form(self, member: str, form: Form) -> None:
        identity = self.identities[member]
        if identity.state is MemberState.EMPTY:
            self.identities[member] = identity.with_cluster(
                MemberState.VOTER, form.cluster_id, form.members
            )
        elif identity.cluster_id != form.cluster_id:
            raise AlreadyFormed()

    def _crash(self, step: str) -> None:
        if self.crash_at == step:
            raise Crash(step)

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
        member, path = url.removeprefix("http://").split(":9101")
        if member in self.dead:
            raise PeerUnreachable(member)
        try:
            return Reply(200, {}, self._serve(member, path, bytes(body)))  # type: ignore[arg-type]
        except StoreError as error:
            return Reply(error.http_status, {}, error_body(error, "r"))

    async def close(self) -> None:
        """See Rpc."""

    def _serve(self, member: str, path: str, body: bytes) -> bytes:
        if path == STATUS:
            return msgspec.json.encode(self._status(self.identities[member]))
        if path == FORM:
            self._crash(f"form {member}")
            form = msgspec.msgpack.decode(body, type=Form)
            self.forms.append((member, form))
            self._form(member, form)
            return msgspec.msgpack.encode(Done())
        assert path == PROPOSE
        self._crash("propose")
        [entry] = msgspec.msgpack.decode(body, type=ProposeRequest).entries
        assert isinstance(entry.command, FormCluster | BeginGeneration)
        self.commands.append(entry.command)
        reply = ProposeReply(applied_index=2, catalog_time_ms=1, results=(Done(),))
        return msgspec.msgpack.encode(reply)

    def _status(self, identity: Identity) -> Status:
        return Status(
            id=identity.id,
            role="raftmeta",
            version="0",
            pid=1,
            state="empty" if identity.state is MemberState.EMPTY else "follower",
            leader=None,
            term=0,
            applied_index=0,
            commit_index=0,
            cluster_id="",
            members=identity.members,
            free_bytes=0,
        )


def test_all_members_become_voters_of_one_cluster(tmp_path: Path) -> None:
    members = PretendedMembers(tmp_path)
    reply = asyncio.run(members.forming().bootstrap(REQUEST))
    assert {each.cluster_id for each in members.identities.values()} == {reply.cluster_id}
    assert {each.state for each in members.identities.values()} == {MemberState.VOTER}
    assert members.intents.read() is None
    assert reply.root_secret_key == "root-secret" and len(reply.system_token) >= 30


def test_the_first_command_holds_the_secrets_sealed(tmp_path: Path) -> None:
    members = PretendedMembers(tmp_path)
    reply = asyncio.run(members.forming().bootstrap(REQUEST))
    [command] = members.commands
    assert isinstance(command, FormCluster)
    key = unwrap_catalog_key(SECRETS, command.catalog_key_wrapped)
    assert unseal(key, command.root_secret_sealed) == b"root-secret"
    assert command.system_token_digest == blake3_256(reply.system_token.encode())
    assert command.gc_grace_ms == 1234
    assert b"root-secret" not in msgspec.msgpack.encode(command)


@pytest.mark.parametrize("lost", ["meta-2", "meta-3"])
def test_nothing_is_written_unless_every_member_answers(tmp_path: Path, lost: str) -> None:
    members = PretendedMembers(tmp_path)
    members.dead.add(lost)
    with pytest.raises(NotReady, match=lost):
        asyncio.run(members.forming().bootstrap(REQUEST))
    assert members.intents.read() is None and not members.forms


def test_a_member_that_is_not_empty_stops_it(tmp_path: Path) -> None:
    members = PretendedMembers(tmp_path)
    members._form("meta-3", Form(cluster_id=b"x" * 16, members=MEMBERS))
    with pytest.raises(AlreadyFormed, match="meta-3"):
        asyncio.run(members.forming().bootstrap(REQUEST))
    assert members.intents.read() is None and not members.forms


def test_a_second_bootstrap_is_refused(tmp_path: Path) -> None:
    members = PretendedMembers(tmp_path)
    asyncio.run(members.forming().bootstrap(REQUEST))
    with pytest.raises(AlreadyFormed):
        asyncio.run(members.forming().bootstrap(REQUEST))


@pytest.mark.parametrize("step", ["form meta-2", "form meta-3", "self", "propose"])
def test_a_crash_at_any_step_is_resumed_with_the_same_cluster(tmp_path: Path, step: str) -> None:
    members = PretendedMembers(tmp_path)
    members.crash_at = step
    with pytest.raises(Crash):
        asyncio.run(members.forming().bootstrap(REQUEST))
    begun = members.intents.read()
    assert begun is not None
    members.crash_at = None
    reply = asyncio.run(members.forming().bootstrap(REQUEST))
    assert reply.cluster_id == begun.cluster_id
    assert reply.system_token == begun.system_token
    assert {each.cluster_id for each in members.identities.values()} == {begun.cluster_id}


def test_once_all_are_told_a_wiped_member_is_never_told_again(tmp_path: Path) -> None:
    members = PretendedMembers(tmp_path)
    members.crash_at = "propose"
    with pytest.raises(Crash):
        asyncio.run(members.forming().bootstrap(REQUEST))
    members.crash_at = None
    members.identities["meta-3"] = Identity(id="meta-3", raft="h:3", url=MEMBERS[2].url)
    told_count = len(members.forms)
    asyncio.run(members.forming().bootstrap(REQUEST))
    assert len(members.forms) == told_count
    assert members.identities["meta-3"].state is MemberState.EMPTY


def test_two_bootstraps_at_once_do_not_form_two_clusters(tmp_path: Path) -> None:
    members = PretendedMembers(tmp_path)
    forming = members.forming()

    async def other_forms_meanwhile() -> None:
        intents = IntentFile(tmp_path, SystemDisk())
        members.crash_at = "form meta-2"
        with pytest.raises(Crash):
            await forming.bootstrap(REQUEST)
        assert intents.read() is not None
        with pytest.raises(AlreadyFormed):
            await forming.accept(Form(cluster_id=b"o" * 16, members=MEMBERS))

    asyncio.run(other_forms_meanwhile())


def test_it_gives_way_when_the_first_member_told_follows_another(tmp_path: Path) -> None:
    members = PretendedMembers(tmp_path)
    members.crash_at = "form meta-2"
    with pytest.raises(Crash):
        asyncio.run(members.forming().bootstrap(REQUEST))
    members.crash_at = None
    members._form("meta-2", Form(cluster_id=b"o" * 16, members=MEMBERS))
    with pytest.raises(AlreadyFormed):
        asyncio.run(members.forming().bootstrap(REQUEST))
    assert members.intents.read() is None


def test_accepting_a_form_again_changes_nothing(tmp_path: Path) -> None:
    members = PretendedMembers(tmp_path)
    form = Form(cluster_id=b"c" * 16, members=MEMBERS)
    asyncio.run(members.forming().accept(form))
    asyncio.run(members.forming().accept(form))
    with pytest.raises(AlreadyFormed):
        asyncio.run(members.forming().accept(Form(cluster_id=b"d" * 16, members=MEMBERS)))


def test_a_joining_member_accepts_no_form(tmp_path: Path) -> None:
    members = PretendedMembers(tmp_path)
    form = Form(cluster_id=b"c" * 16, members=MEMBERS)
    identity = members.identities["meta-1"]
    members.identities["meta-1"] = identity.with_cluster(
        MemberState.JOINING, form.cluster_id, MEMBERS
    )
    with pytest.raises(AlreadyFormed):
        asyncio.run(members.forming().accept(form))


@pytest.mark.parametrize(
    "wrong",
    [
        MEMBERS[1:],
        (*MEMBERS, Member(id="meta-4", raft="h:1", url="http://x")),
        (Member(id="meta-1", raft="h:9", url=MEMBERS[0].url), *MEMBERS[1:]),
        (Member(id="meta-1", raft="h:1", url=""), *MEMBERS[1:]),
    ],
)
def test_a_list_of_members_that_cannot_be_right_is_refused(
    tmp_path: Path, wrong: tuple[Member, ...]
) -> None:
    members = PretendedMembers(tmp_path)
    with pytest.raises(InvalidArgument):
        asyncio.run(members.forming().bootstrap(Bootstrap(members=wrong)))
    assert members.intents.read() is None


def test_the_intent_holds_the_phase_it_has_reached(tmp_path: Path) -> None:
    members = PretendedMembers(tmp_path)
    for step, phase in (("form meta-3", Phase.TELLING), ("self", Phase.TOLD)):
        members.crash_at = step
        with pytest.raises(Crash):
            asyncio.run(members.forming().bootstrap(REQUEST))
        intent = members.intents.read()
        assert intent is not None and intent.phase is phase


def test_a_member_told_the_list_waits_for_all_and_stops_once_there_is_a_cluster(
    tmp_path: Path,
) -> None:
    members = PretendedMembers(tmp_path)
    members.dead.add("meta-3")

    async def story() -> None:
        clock = ManualClock()
        waiting = asyncio.ensure_future(
            bootstrap_when_possible(members.forming(), REQUEST, clock=clock)
        )
        await until(lambda: clock.sleeper_count)
        members.dead.clear()
        clock.advance(1)
        formed = await waiting
        assert formed is not None
        # As at every later start:
        assert await bootstrap_when_possible(members.forming(), REQUEST, clock=clock) is None

    asyncio.run(story())
