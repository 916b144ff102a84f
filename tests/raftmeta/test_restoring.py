"""Backups as the leader makes them, and clusters that are formed of them."""

import asyncio
import shutil
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from osscore.errors import (
    AlreadyFormed,
    CorruptCatalog,
    InvalidArgument,
    MetadataLowSpace,
    NotFound,
    NotLeader,
    NotReady,
    Overloaded,
    StoreError,
)
from ossd.clock import SystemClock, system_random
from ossd.disk import Space, SystemDisk
from ossd.signing import ClusterSecrets
from raftmeta.backup.container import pack_head, pack_piece
from raftmeta.backup.verification import Verified, verify
from raftmeta.catalog.catalog import Catalog
from raftmeta.catalog.soft import SoftState
from raftmeta.client import wrap_catalog_key
from raftmeta.commands import FormCluster
from raftmeta.entries import Batch, Entry
from raftmeta.forming import check_generation
from raftmeta.generations import BeginGeneration
from raftmeta.identity import Identity, MemberState
from raftmeta.queries import ClusterDescribed, GetCluster
from raftmeta.restoring import RestoreDesk
from raftmeta.snapshots import SnapshotDesk
from raftmeta.voter import link_id
from raftmeta.wire import Restore, RestorePiece
from tests.raftmeta.test_forming import (
    MEMBERS,
    REQUEST,
    SECRETS,
    Crash,
    PretendedMembers,
)
from tests.raftmeta.test_joining import PretendedReplica

CLUSTER = b"c" * 16
OWN = Identity(id="meta-1", raft="h:1", url="http://meta-1:9101")


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a catalog, in which a backup of it lies."""
    folder = tmp_path_factory.mktemp("lost")
    catalog = Catalog(folder / "catalog.db")
    form = FormCluster(
        cluster_id=CLUSTER,
        catalog_key_wrapped=wrap_catalog_key(SECRETS, bytes(32), system_random),
        root_access_key="ROOT",
        root_secret_sealed=b"sealed",
        system_token_digest=bytes(32),
    )
    entries = (Entry(0, 0, form),)
    catalog.apply(7, msgspec.msgpack.encode(Batch(time_ms=1_800_000_000_000, entries=entries)))
    asyncio.run(write_backup(catalog, folder))
    catalog.close()
    return folder


def desk_of(catalog: Catalog, folder: Path, replica: PretendedReplica) -> SnapshotDesk:
    async def copy_to(path: Path) -> int:
        return await asyncio.to_thread(catalog.copy_to, path)

    return SnapshotDesk(
        identity=OWN.with_cluster(MemberState.VOTER, CLUSTER, MEMBERS),
        directory=folder,
        replica=replica,
        copy_to=copy_to,
        members=lambda: MEMBERS,
        disk=SystemDisk(),
        clock=SystemClock(),
        program="0.1.0",
    )


async def write_backup(catalog: Catalog, folder: Path) -> None:
    async with desk_of(catalog, folder, PretendedReplica()).backup() as backup:
        data = b"".join([piece async for piece in backup.pieces()])
    await asyncio.to_thread((folder / "backup").write_bytes, data)


def look_through(file: Path, tmp_path: Path) -> Verified:
    work = tmp_path / "work"
    work.mkdir()
    return verify(file, work, disk=SystemDisk())


class Restoring:
    """The desk of meta-1 and the members that it forms a cluster of."""

    def __init__(self, lost: Path, tmp_path: Path) -> None:
        self.members = PretendedMembers(tmp_path)
        self.folder = tmp_path
        self.backup = lost / "backup"
        blake3 = look_through(self.backup, tmp_path).manifest.blake3
        self.request = Restore(members=MEMBERS, blake3=bytes.fromhex(blake3))
        self.secrets = SECRETS
        self.disk = SystemDisk()

    def desk(self) -> RestoreDesk:
        """As after a start of meta-1."""
        return RestoreDesk(
            directory=self.folder,
            identity=lambda: self.members.identities["meta-1"],
            disk=self.disk,
            clock=SystemClock(),
            secrets=self.secrets,
        )

    def send(self, data: bytes | None = None) -> None:
        whole = self.backup.read_bytes() if data is None else data
        for offset in range(0, len(whole), 1000):
            piece = RestorePiece(offset=offset, data=whole[offset : offset + 1000])
            asyncio.run(self.desk().take(piece))

    def restore(self) -> int:
        desk = self.desk()
        return asyncio.run(self.members.forming().restore(self.request, desk)).generation

    def left(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"work"}


@pytest.fixture
def restoring(lost: Path, tmp_path: Path) -> Restoring:
    return Restoring(lost, tmp_path)


# --- backing up ---------------------------------------------------------------------------------


def test_a_backup_tells_what_it_holds_and_holds_it(lost: Path, tmp_path: Path) -> None:
    found = look_through(lost / "backup", tmp_path)
    manifest = found.manifest
    assert (manifest.cluster_id, manifest.applied_index) == (CLUSTER.hex(), 7)
    assert (manifest.generation, manifest.catalog_time_ms) == (1, 1_800_000_000_000)
    assert manifest.counts["access_keys"] == 1 and found.faults == []
    assert {path.name for path in lost.iterdir()} >= {"backup", "catalog.db"}
    assert not (lost / "copy.db").exists()


def test_a_backup_waits_for_a_confirmed_leader_and_for_no_other_copy(
    lost: Path, tmp_path: Path
) -> None:
    shutil.copytree(lost, tmp_path / "own")
    catalog = Catalog(tmp_path / "own" / "catalog.db")

    async def story() -> None:
        class Deposed(PretendedReplica):
            async def confirm_read(self, *, excluding: str | None = None) -> int:
                raise NotLeader()

        desk = desk_of(catalog, tmp_path, Deposed())
        with pytest.raises(NotLeader):
            async with desk.backup():
                pass
        replica = PretendedReplica()
        desk = desk_of(catalog, tmp_path, replica)
        async with desk.backup():
            assert [word for word in replica.did if "confirmed" in word]
            for other in (desk.backup(), desk.copy_for("meta-3", forgets=True)):
                with pytest.raises(Overloaded):
                    async with other:
                        pass
        assert not (tmp_path / "copy.db").exists()

    asyncio.run(story())
    catalog.close()


@pytest.mark.parametrize(
    "change",
    [
        {"applied_index": 8},
        {"generation": 2},
        {"cluster_id": "00" * 16},
        {"counts": {"access_keys": 2}},
    ],
)
def test_a_manifest_that_tells_of_another_catalog_is_refused(
    lost: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    manifest = look_through(lost / "backup", tmp_path).manifest
    counts = manifest.counts | change.get("counts", {})  # type: ignore[operator]
    told = msgspec.structs.replace(manifest, **(change | {"counts": counts}))
    plain = (tmp_path / "work" / "catalog.db").read_bytes()
    (tmp_path / "other").write_bytes(pack_head(told) + pack_piece(plain))
    shutil.rmtree(tmp_path / "work")
    with pytest.raises(CorruptCatalog, match="another than its manifest"):
        look_through(tmp_path / "other", tmp_path)


# --- restoring ----------------------------------------------------------------------------------


def test_all_members_begin_with_one_prepared_catalog(restoring: Restoring) -> None:
    restoring.send()
    generation = restoring.restore()
    forms = [form for _, form in restoring.members.forms]
    assert len(forms) == 2 and len(set(map(msgspec.msgpack.encode, forms))) == 1
    restored = forms[0].restored
    assert restored is not None and restored.url == "http://meta-1:9101"
    assert (forms[0].cluster_id, restored.generation) == (CLUSTER, generation)
    assert restoring.members.commands == [BeginGeneration(generation=generation)]
    identities = restoring.members.identities.values()
    assert {each.cluster_id for each in identities} == {CLUSTER}
    assert restoring.left() == set()


@pytest.mark.parametrize("step", ["form meta-2", "form meta-3", "self", "propose"])
def test_a_crash_at_any_step_goes_on_with_the_same_generation(
    restoring: Restoring, step: str
) -> None:
    restoring.send()
    restoring.members.crash_at = step
    with pytest.raises(Crash):
        restoring.restore()
    begun = restoring.members.intents.read()
    assert begun is not None and begun.restored is not None
    restoring.members.crash_at = None
    with pytest.raises(AlreadyFormed):  # a start with --bootstrap in between
        asyncio.run(restoring.members.forming().bootstrap(REQUEST))
    assert restoring.restore() == begun.restored.generation
    assert {form.restored for _, form in restoring.members.forms} == {begun.restored}
    assert restoring.left() == set()


def test_the_prepared_catalog_is_given_only_while_the_cluster_is_restored(
    restoring: Restoring,
) -> None:
    restoring.send()
    desk = restoring.desk()
    with pytest.raises(NotFound):
        desk.open_prepared()
    restored = asyncio.run(desk.prepare(restoring.request))
    desk.give(restored)
    copy = desk.open_prepared()
    try:
        given = asyncio.run(_joined(copy.pieces()))
    finally:
        copy.file.close()
    (restoring.folder / "given.db").write_bytes(given)
    catalog = Catalog(restoring.folder / "given.db")
    assert catalog.head.applied_index == restored.head.applied_index > 7
    assert catalog.head.generation == restored.generation
    described = catalog.answer([GetCluster()], soft=SoftState())[0]
    assert isinstance(described, ClusterDescribed) and described.deletion.frozen
    catalog.close()


async def _joined(pieces: object) -> bytes:
    return b"".join([piece async for piece in pieces])  # type: ignore[attr-defined]


def refused(restoring: Restoring, error: type[StoreError], why: str) -> None:
    with pytest.raises(error, match=why):
        restoring.restore()
    assert restoring.members.intents.read() is None and not restoring.members.forms
    assert restoring.left() <= {"restore.backup"}


def test_a_backup_is_not_restored_by_another_clusters_secret(restoring: Restoring) -> None:
    restoring.send()
    restoring.secrets = ClusterSecrets(current="another-secret-for-tests")
    refused(restoring, InvalidArgument, "cluster secret does not open")
    restoring.secrets = ClusterSecrets(
        current="another-secret-for-tests", previous="a-secret-only-for-tests"
    )
    assert restoring.restore()


def test_a_damaged_other_or_missing_backup_is_not_restored(restoring: Restoring) -> None:
    refused(restoring, InvalidArgument, "No backup was sent")
    whole = restoring.backup.read_bytes()
    restoring.send(whole[:-20])
    refused(restoring, CorruptCatalog, "cut short|damaged")
    restoring.send()
    restoring.request = Restore(members=MEMBERS, blake3=bytes(32))
    refused(restoring, InvalidArgument, "another one")


def test_members_must_be_there_and_empty(restoring: Restoring) -> None:
    restoring.send()
    restoring.members.dead.add("meta-3")
    refused(restoring, NotReady, "meta-3")
    restoring.members.dead.clear()
    identity = restoring.members.identities["meta-2"]
    restoring.members.identities["meta-2"] = identity.with_cluster(
        MemberState.VOTER, CLUSTER, MEMBERS
    )
    refused(restoring, AlreadyFormed, "meta-2")


def test_a_member_of_a_cluster_takes_no_backup(restoring: Restoring) -> None:
    identity = restoring.members.identities["meta-1"]
    restoring.members.identities["meta-1"] = identity.with_cluster(
        MemberState.VOTER, CLUSTER, MEMBERS
    )
    with pytest.raises(AlreadyFormed):
        restoring.send()
    refused(restoring, AlreadyFormed, "empty folders")


def test_pieces_follow_each_other_and_the_first_begins_anew(restoring: Restoring) -> None:
    restoring.send(b"a part of an earlier try, longer than the backup" * 1000)
    restoring.send()
    with pytest.raises(InvalidArgument, match="next piece begins"):
        asyncio.run(restoring.desk().take(RestorePiece(offset=5, data=b"x")))
    with pytest.raises(InvalidArgument, match="at most"):
        asyncio.run(restoring.desk().take(RestorePiece(offset=0, data=bytes(5 << 20))))
    assert restoring.restore()


def test_a_disk_without_room_for_it_is_told_before_anything_is_unpacked(
    restoring: Restoring,
) -> None:
    class Full(SystemDisk):
        def space(self, path: Path) -> Space:
            return Space(total_bytes=10**12, free_bytes=1000)

    restoring.send()
    restoring.disk = Full()
    refused(restoring, MetadataLowSpace, "needs")


def test_another_restore_does_not_take_over_one_that_has_begun(restoring: Restoring) -> None:
    restoring.send()
    restoring.members.crash_at = "form meta-3"
    with pytest.raises(Crash):
        restoring.restore()
    restoring.members.crash_at = None
    restoring.request = Restore(members=MEMBERS, blake3=bytes(32))
    with pytest.raises(AlreadyFormed, match="another backup"):
        restoring.restore()


def test_a_metanode_of_the_lost_cluster_is_not_taken_for_one_that_was_told(
    restoring: Restoring,
) -> None:
    """Its id, cluster and members are the same."""
    restoring.send()
    generation = restoring.restore()
    form = restoring.members.forms[0][1]
    check_generation(generation, form)
    check_generation(1, msgspec.structs.replace(form, restored=None))
    for other in (1, generation - 1, generation + 1):
        with pytest.raises(AlreadyFormed, match="generation"):
            check_generation(other, form)


def test_generations_of_one_cluster_share_no_raft_links() -> None:
    ids = [link_id(CLUSTER, generation) for generation in (1, 2, 3)]
    assert ids[0] == CLUSTER and len(set(ids)) == 3 and {len(each) for each in ids} == {16}


def test_a_copy_for_the_archive_is_packed_and_others_wait_for_it(
    lost: Path, tmp_path: Path
) -> None:
    """They were asked for, it comes by itself; once it is packed nobody waits any more."""

    async def story() -> bytes:
        catalog = Catalog(lost / "catalog.db")
        made = desk_of(catalog, tmp_path, PretendedReplica())
        waiting: list[asyncio.Task[None]] = []
        copy_to = made._copy_to

        async def asked_for_meanwhile(path: Path) -> int:
            if not waiting:
                waiting.append(asyncio.create_task(one_backup(made)))
                await asyncio.sleep(0)
            return await copy_to(path)

        made._copy_to = asked_for_meanwhile
        async with asyncio.timeout(30), made.packed() as packed:
            data = packed.file.pread(packed.size_bytes + 1, 0)
            assert blake3(data).hexdigest() == packed.blake3
            await waiting[0]
            async with made.backup() as other:
                assert other.manifest.applied_index == packed.manifest.applied_index
                with pytest.raises(Overloaded):
                    async with made.packed():
                        pass
        catalog.close()
        return data

    data = asyncio.run(story())
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "packed").write_bytes(data)
    assert not look_through(tmp_path / "packed", tmp_path).faults


async def one_backup(made: SnapshotDesk) -> None:
    async with made.backup() as backup:
        assert backup.manifest.size_bytes
