"""Full copies: given only by a confirmed leader, installed whole or not at all."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osscore.digests import blake3_256
from osscore.errors import CorruptCatalog, InvalidArgument, NotLeader, Overloaded, StoreError
from ossd.clock import SystemClock
from ossd.disk import SystemDisk
from ossd.rpc import Reply
from raftmeta.changing import Progress
from raftmeta.identity import CATALOG_NAME, JOURNAL_NAME, Identity, MemberState, MetadataFolder
from raftmeta.joining import Installer, Vote, is_of_use, keep_tail, lists_me, vote_after
from raftmeta.journal import Journal
from raftmeta.members import Member
from raftmeta.snapshots import (
    HEAD_HEADER,
    SnapshotDesk,
    head_from_header,
    head_to_header,
)
from raftmeta.wire import SnapshotHead, Status
from tests.fakes.disk import SimulatedDisk, crash_points

DATA = Path("/data")
CLUSTER = b"c" * 16
MEMBERS = tuple(Member(id=f"meta-{n}", raft=f"h:{n}", url=f"http://meta-{n}") for n in (1, 2, 3))
FRESH = Identity(id="meta-3", raft="h:3", url="http://meta-3")
COPY = b"SQLite format 3\x00" + bytes(range(256)) * 40


def head(**changes: object) -> SnapshotHead:
    fields: dict[str, object] = {
        "cluster_id": CLUSTER,
        "members": MEMBERS,
        "applied_index": 50,
        "entry_term": 4,
        "term": 6,
        "leader": "meta-1",
        "size_bytes": len(COPY),
        "blake3": blake3_256(COPY),
        **changes,
    }
    return SnapshotHead(**fields)  # type: ignore[arg-type]


class PretendedLeader:
    """Answers any download with one copy."""

    def __init__(self, given: SnapshotHead, body: bytes = COPY) -> None:
        self.head, self.body = given, body
        self.urls: list[str] = []

    async def download(
        self,
        url: str,
        sink: Callable[[bytes], Awaitable[None]],
        *,
        headers: Mapping[str, str] | None = None,
        deadline_s: float,
    ) -> Reply:
        """See AioRpc."""
        self.urls.append(url)
        for first in range(0, len(self.body), 3000):
            await sink(self.body[first : first + 3000])
        return Reply(200, {HEAD_HEADER: head_to_header(self.head)}, b"")


def join(disk: SimulatedDisk, leader: PretendedLeader) -> None:
    """What a member without state does."""
    folder = MetadataFolder.open(DATA / "meta", disk=disk, fresh=FRESH)
    folder.forget_state()
    folder.write_identity(folder.identity.with_cluster(MemberState.JOINING, CLUSTER, MEMBERS))
    installer = Installer(folder=folder, rpc=leader, disk=disk)
    state, found = asyncio.run(installer.fetch("http://meta-1", forgets=True))
    installer.install(state, found, own=None)


def test_a_joined_member_is_a_voter_behind_the_copy_with_the_leaders_term() -> None:
    disk, leader = SimulatedDisk(), PretendedLeader(head())
    join(disk, leader)
    disk.release_locks()
    folder = MetadataFolder.open(DATA / "meta", disk=disk, fresh=FRESH)
    state = folder.current()
    assert state is not None and folder.identity.state is MemberState.VOTER
    assert disk.content(state / CATALOG_NAME) == COPY
    journal = Journal.open(state / JOURNAL_NAME, disk=disk)
    assert (journal.base_index, journal.base_term) == (50, 4)
    assert (journal.term, journal.voted_for) == (6, "meta-1")
    assert leader.urls == ["http://meta-1/v1/snapshot?joining=meta-3"]


def test_a_crash_anywhere_in_joining_leaves_it_joining_or_whole() -> None:
    states = set()
    for _, disk in crash_points(lambda disk: join(disk, PretendedLeader(head()))):
        folder = MetadataFolder.open(DATA / "meta", disk=disk, fresh=FRESH)
        states.add(folder.identity.state)
        if folder.identity.state is not MemberState.VOTER:
            folder.close()
            join(disk, PretendedLeader(head()))  # begun again, it succeeds
            disk.release_locks()
            folder = MetadataFolder.open(DATA / "meta", disk=disk, fresh=FRESH)
        state = folder.current()
        assert state is not None
        assert disk.content(state / CATALOG_NAME) == COPY
        assert Journal.open(state / JOURNAL_NAME, disk=disk).base_index == 50
    assert states == {MemberState.EMPTY, MemberState.JOINING, MemberState.VOTER}


def lag(disk: SimulatedDisk) -> None:
    """A voter in term 9, which voted for meta-2, exchanges its state for a copy."""
    folder = MetadataFolder.open(DATA / "meta", disk=disk, fresh=FRESH)
    old = folder.current()
    assert old is not None
    installer = Installer(folder=folder, rpc=PretendedLeader(head()), disk=disk)
    state, found = asyncio.run(installer.fetch("http://meta-1", forgets=False))
    own = Journal.open(old / JOURNAL_NAME, disk=disk)
    try:
        installer.install(state, found, own=own)
    finally:
        own.close()


def lagging_voter() -> SimulatedDisk:
    disk = SimulatedDisk()
    folder = MetadataFolder.open(DATA / "meta", disk=disk, fresh=FRESH)
    state = folder.begin_state()
    file = disk.open(state / CATALOG_NAME, create=True)
    file.pwrite([b"old catalog"], 0)
    file.sync()
    Journal.create(state / JOURNAL_NAME, disk=disk, term=9, voted_for="meta-2").close()
    folder.switch(state)
    folder.write_identity(folder.identity.with_cluster(MemberState.VOTER, CLUSTER, MEMBERS))
    disk.release_locks()
    return disk


def test_a_crash_anywhere_in_catching_up_leaves_the_old_state_or_the_new_and_the_vote() -> None:
    found = set()
    for _, disk in crash_points(lag, make=lagging_voter):
        folder = MetadataFolder.open(DATA / "meta", disk=disk, fresh=FRESH)
        assert folder.identity.state is MemberState.VOTER
        state = folder.current()
        assert state is not None
        journal = Journal.open(state / JOURNAL_NAME, disk=disk)
        assert (journal.term, journal.voted_for) == (9, "meta-2")
        found.add((journal.base_index, disk.content(state / CATALOG_NAME)))
    assert found == {(0, b"old catalog"), (50, COPY)}


@pytest.mark.parametrize("body", [COPY[:-1], COPY + b"x", COPY[:99] + b"!" + COPY[100:], b""])
def test_a_copy_that_is_not_what_was_described_is_refused(body: bytes) -> None:
    with pytest.raises(CorruptCatalog):
        join(SimulatedDisk(), PretendedLeader(head(), body))


def test_a_copy_of_another_cluster_is_refused() -> None:
    with pytest.raises(CorruptCatalog):
        join(SimulatedDisk(), PretendedLeader(head(cluster_id=b"d" * 16)))


# --- votes and logs ------------------------------------------------------------------------


def test_a_member_without_a_vote_adopts_the_leaders_term_and_votes_for_it() -> None:
    assert vote_after(None, head(term=6)) == Vote(6, "meta-1")
    assert vote_after(Vote(6, None), head(term=6)) == Vote(6, "meta-1")


@given(st.integers(0, 9), st.sampled_from([None, "meta-1", "meta-2", "meta-3"]), st.integers(0, 9))
def test_no_vote_is_forgotten_and_no_term_falls(term: int, voted: str | None, leads: int) -> None:
    after = vote_after(Vote(term, voted), head(term=leads))
    assert after.term == max(term, leads)
    if after.term == term and voted is not None:
        assert after.voted_for == voted


def journal_of(directory: Path, terms: list[int], *, base_index: int = 0) -> Journal:
    journal = Journal.create(directory, disk=SystemDisk(), base_index=base_index, term=9)
    for at, term in enumerate(terms, start=base_index + 1):
        journal.append(at, term, b"entry %d" % at)
    journal.sync()
    return journal


def test_a_copy_is_of_use_only_if_the_log_does_not_lead_there(tmp_path: Path) -> None:
    reaches = journal_of(tmp_path / "a", [1] * 60)
    found = head(applied_index=50, entry_term=1)
    assert not is_of_use(found, journal=reaches, applied_index=50)
    assert not is_of_use(found, journal=reaches, applied_index=10)
    short = journal_of(tmp_path / "b", [1] * 10)
    assert is_of_use(found, journal=short, applied_index=10)
    differs = journal_of(tmp_path / "c", [1] * 40 + [2] * 20)
    assert is_of_use(found, journal=differs, applied_index=10)
    orphaned = journal_of(tmp_path / "d", [1] * 40, base_index=20)
    assert is_of_use(found, journal=orphaned, applied_index=10)


def test_what_follows_the_copy_in_an_agreeing_log_is_kept(tmp_path: Path) -> None:
    own = journal_of(tmp_path / "own", [1] * 60)
    fresh = Journal.create(
        tmp_path / "fresh", disk=SystemDisk(), base_index=50, base_term=1, term=9
    )
    keep_tail(own, fresh, head(applied_index=50, entry_term=1))
    kept = fresh.entries(51, bytes_max=1 << 20)
    assert [(entry.index, entry.body) for entry in kept] == [
        (index, b"entry %d" % index) for index in range(51, 61)
    ]
    assert fresh.synced_index == 60


def test_what_follows_the_copy_in_a_differing_log_goes(tmp_path: Path) -> None:
    own = journal_of(tmp_path / "own", [1] * 60)
    fresh = Journal.create(
        tmp_path / "fresh", disk=SystemDisk(), base_index=50, base_term=2, term=9
    )
    keep_tail(own, fresh, head(applied_index=50, entry_term=2))
    assert fresh.last_index == 50


def status(**changes: object) -> Status:
    fields: dict[str, object] = {
        "id": "meta-1",
        "role": "raftmeta",
        "version": "0",
        "pid": 1,
        "state": "leader",
        "leader": "meta-1",
        "term": 1,
        "applied_index": 1,
        "commit_index": 1,
        "cluster_id": CLUSTER.hex(),
        "members": MEMBERS,
        "free_bytes": 1,
        **changes,
    }
    return Status(**fields)  # type: ignore[arg-type]


def test_only_a_formed_cluster_that_lists_this_member_is_joined() -> None:
    assert lists_me(status(), FRESH)
    assert not lists_me(status(cluster_id=""), FRESH)
    assert not lists_me(status(cluster_id="no hex"), FRESH)
    assert not lists_me(status(members=MEMBERS[:2]), FRESH)
    assert not lists_me(status(), Identity(id="meta-3", raft="h:99", url=""))


# --- giving copies ---------------------------------------------------------------------------


class PretendedReplica:
    """A leader of term 6 unless told otherwise."""

    def __init__(self) -> None:
        self.is_leader, self.term = True, 6
        self.did: list[str] = []

    async def confirm_read(self, *, excluding: str | None = None) -> int:
        """See Source."""
        self.did.append(f"confirmed without {excluding}")
        if not self.is_leader:
            raise NotLeader()
        return 50

    async def progress(self) -> list[Progress]:
        """See Source."""
        learner = Member(id="meta-4", raft="h:4", url="http://meta-4")
        return [
            Progress(member, member.id != "meta-4", 50, 0.0) for member in (*MEMBERS[1:], learner)
        ]

    def forget_match(self, member_id: str) -> None:
        """See Source."""
        self.did.append(f"forgot {member_id}")

    async def entry_term(self, index: int) -> int | None:
        """See Source."""
        return 4 if index == 50 else None


def desk(replica: PretendedReplica, directory: Path) -> SnapshotDesk:
    async def copy_to(path: Path) -> int:
        replica.did.append("copied")
        await asyncio.to_thread(path.write_bytes, COPY)
        return 50

    identity = Identity(id="meta-1", raft="h:1", url="http://meta-1").with_cluster(
        MemberState.VOTER, CLUSTER, MEMBERS
    )
    return SnapshotDesk(
        identity=identity,
        directory=directory,
        replica=replica,
        copy_to=copy_to,
        members=lambda: MEMBERS,
        disk=SystemDisk(),
        clock=SystemClock(),
        program="test",
    )


def test_a_copy_is_made_after_a_confirmation_without_the_joining_member(tmp_path: Path) -> None:
    replica = PretendedReplica()

    async def story() -> None:
        async with desk(replica, tmp_path).copy_for("meta-3", forgets=True) as copy:
            assert replica.did == ["forgot meta-3", "confirmed without meta-3", "copied"]
            assert copy.head == head()
            assert b"".join([piece async for piece in copy.pieces()]) == COPY
            assert head_from_header(head_to_header(copy.head)) == copy.head

    asyncio.run(story())
    assert list(tmp_path.iterdir()) == []


def test_only_one_copy_at_a_time(tmp_path: Path) -> None:
    async def story() -> None:
        snapshots = desk(PretendedReplica(), tmp_path)
        async with snapshots.copy_for("meta-3", forgets=True):
            with pytest.raises(Overloaded):
                async with snapshots.copy_for("meta-2", forgets=True):
                    pass
        async with snapshots.copy_for("meta-2", forgets=True):
            pass

    asyncio.run(story())


@pytest.mark.parametrize(
    ("member", "error"), [("meta-9", InvalidArgument), ("meta-1", InvalidArgument)]
)
def test_only_other_members_get_a_copy(
    tmp_path: Path, member: str, error: type[StoreError]
) -> None:
    async def story() -> None:
        with pytest.raises(error):
            async with desk(PretendedReplica(), tmp_path).copy_for(member, forgets=True):
                pass

    asyncio.run(story())


def test_a_voter_that_only_lags_waits_for_no_confirmation(tmp_path: Path) -> None:
    # A new leader that can commit nothing before this very voter follows would wait for ever.
    replica = PretendedReplica()

    async def story() -> None:
        async with desk(replica, tmp_path).copy_for("meta-3", forgets=False):
            assert replica.did == ["copied"]

    asyncio.run(story())


def test_a_leader_deposed_meanwhile_gives_no_copy(tmp_path: Path) -> None:
    class Deposed(PretendedReplica):
        async def entry_term(self, index: int) -> int | None:
            self.term += 1
            return 4

    async def story() -> None:
        with pytest.raises(NotLeader):
            async with desk(Deposed(), tmp_path).copy_for("meta-3", forgets=True):
                pass

    asyncio.run(story())
    assert list(tmp_path.iterdir()) == []


def test_a_header_that_is_none_is_refused() -> None:
    for text in ("", "!!", Random(1).randbytes(60).hex()):
        with pytest.raises(ValueError):
            head_from_header(text)
