"""The metanode's folder: one owner, one pointer, nothing mistaken for empty."""

from pathlib import Path

import pytest

from osscore.errors import AlreadyFormed, CorruptCatalog, InvalidArgument
from ossd.disk import SystemDisk
from raftmeta.identity import Identity, MemberState, MetadataFolder
from raftmeta.members import Member

FRESH = Identity(id="meta-1", raft="h:1", url="http://h:2")
MEMBERS = (Member(id="meta-1", raft="h:1", url="http://h:2"),)


def open_folder(path: Path, fresh: Identity = FRESH) -> MetadataFolder:
    return MetadataFolder.open(path, disk=SystemDisk(), fresh=fresh)


def test_a_new_folder_is_empty_and_has_no_state(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "meta")
    assert folder.identity == FRESH
    assert folder.current() is None


def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    first = open_folder(tmp_path)
    with pytest.raises(BlockingIOError):
        open_folder(tmp_path)
    first.close()
    open_folder(tmp_path).close()


def test_identity_survives(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    voter = folder.identity.with_cluster(MemberState.VOTER, b"c" * 16, MEMBERS)
    folder.write_identity(voter)
    folder.close()
    assert open_folder(tmp_path).identity == voter


def test_an_unreadable_identity_refuses_to_start(tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_bytes(b'{"id": "meta-1", "ra')
    with pytest.raises(CorruptCatalog):
        open_folder(tmp_path)


def test_a_missing_identity_beside_state_refuses_to_start(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_text("state-1\n")
    with pytest.raises(CorruptCatalog):
        open_folder(tmp_path)


def test_a_folder_of_another_metanode_is_refused(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    folder.write_identity(FRESH.with_cluster(MemberState.VOTER, b"c" * 16, MEMBERS))
    folder.close()
    with pytest.raises(InvalidArgument, match="meta-1"):
        open_folder(tmp_path, Identity(id="meta-2", raft="h:3", url="http://h:4"))


def test_a_member_never_changes_its_cluster() -> None:
    voter = FRESH.with_cluster(MemberState.VOTER, b"c" * 16, MEMBERS)
    with pytest.raises(AlreadyFormed):
        voter.with_cluster(MemberState.JOINING, b"d" * 16, MEMBERS)


def test_state_counts_only_once_switched_and_leftovers_go(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    first = folder.begin_state()
    assert folder.current() is None
    folder.switch(first)
    assert folder.current() == first
    abandoned = folder.begin_state()
    second = folder.begin_state()
    assert not abandoned.exists() or abandoned == second
    folder.switch(second)
    folder.remove_leftovers()
    assert folder.current() == second and not first.exists()
    folder.forget_state()
    assert folder.current() is None and not second.exists()


@pytest.mark.parametrize("text", ["", "../../etc\n", "state-9\n", "\xff"])
def test_a_pointer_to_nothing_is_corruption(tmp_path: Path, text: str) -> None:
    folder = open_folder(tmp_path)
    (tmp_path / "CURRENT").write_text(text, encoding="latin-1")
    with pytest.raises(CorruptCatalog):
        folder.current()
