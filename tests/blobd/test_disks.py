import errno
from pathlib import Path

import pytest

from blobd.labels import LABEL_NAME, Label, encode, read_label
from osscore.errors import DiskFailing, DiskRefused, NoSuchNode, NotReady, StaleOrder
from ossd.disk import SystemDisk
from tests.blobd.parts import identity, node, put, run
from tests.fakes.meta import CLUSTER_ID


def test_an_empty_folder_is_formatted_for_the_cluster_and_keeps_its_uuid(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as first:
            uuid = first.first.uuid
            assert first.first.label is not None and first.first.label.cluster_id == CLUSTER_ID
            await put(first.first, identity(1))
        first.rpc.catalog.close()
        async with node(tmp_path, clock=first.clock) as second:
            assert second.first.uuid == uuid
            assert second.first.store.head(identity(1)) is not None

    run(story)


def test_a_folder_is_not_formatted_before_the_cluster_is_known(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path, registered=False) as found:
            assert found.first.is_unformatted and "not formatted" in found.first.problem
            assert not (tmp_path / "disk-1" / LABEL_NAME).exists()
            with pytest.raises(DiskFailing):
                _ = found.first.store

    run(story)


def test_reads_are_served_before_registering_and_writes_are_not(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as first:
            await put(first.first, identity(1))
        async with node(tmp_path, rpc=first.rpc, clock=first.clock, registered=False) as second:
            assert (await second.first.store.get(identity(1))).body == b"body"
            assert not second.first.writable
            with pytest.raises(NotReady):
                _ = second.first.writable_store

    run(story)


def test_a_folder_with_strange_files_makes_that_disk_unusable_and_no_other(tmp_path: Path):
    (tmp_path / "disk-2").mkdir()
    (tmp_path / "disk-2" / "photo.jpg").write_bytes(b"mine")

    async def story() -> None:
        async with node(tmp_path, "disk-1", "disk-2") as found:
            good, bad = found.disks
            assert good.writable and not bad.writable
            assert "photo.jpg" in bad.problem
            with pytest.raises(DiskFailing):
                _ = bad.writable_store
        assert (tmp_path / "disk-2" / "photo.jpg").read_bytes() == b"mine"

    run(story)


def test_a_disk_of_another_cluster_is_refused(tmp_path: Path):
    folder = tmp_path / "disk-1"
    folder.mkdir()
    foreign = Label(uuid=b"f" * 16, cluster_id=b"another-cluster!")
    (folder / LABEL_NAME).write_bytes(encode(foreign))

    async def story() -> None:
        async with node(tmp_path) as found:
            with pytest.raises(DiskRefused, match="belongs to cluster"):
                _ = found.first.writable_store
        assert read_label(SystemDisk(), folder) == foreign

    run(story)


def test_two_processes_never_share_a_folder(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as first:
            rpc, clock = first.rpc, first.clock
            async with node(tmp_path, rpc=rpc, clock=clock, registered=False) as second:
                assert "another process" in second.first.problem
                with pytest.raises(DiskFailing):
                    _ = second.first.store
            assert first.first.writable

    run(story)


def test_a_copied_folder_beside_its_original_is_refused(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as first:
            pass
        (tmp_path / "disk-2").mkdir()
        (tmp_path / "disk-2" / LABEL_NAME).write_bytes(
            (tmp_path / "disk-1" / LABEL_NAME).read_bytes()
        )
        async with node(tmp_path, "disk-1", "disk-2", rpc=first.rpc, clock=first.clock) as found:
            original, copy = found.disks
            assert original.writable
            assert "same uuid" in copy.problem and not copy.writable

    run(story)


def test_a_damaged_label_makes_the_disk_unusable_and_is_kept(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as first:
            pass
        path = tmp_path / "disk-1" / LABEL_NAME
        damaged = bytearray(path.read_bytes())
        damaged[-5] ^= 1
        path.write_bytes(damaged)
        async with node(tmp_path, rpc=first.rpc, clock=first.clock) as found:
            assert "damaged" in found.first.problem and not found.first.writable
        assert path.read_bytes() == damaged

    run(story)


def test_a_delete_order_is_on_the_disk_before_it_is_obeyed_and_lower_ones_are_refused(
    tmp_path: Path,
):
    async def story() -> None:
        async with node(tmp_path) as found:
            await found.first.keep_order((1, 50))
            kept = read_label(SystemDisk(), tmp_path / "disk-1")
            assert kept is not None and kept.order == (1, 50)
            with pytest.raises(StaleOrder):
                await found.first.keep_order((1, 49))
        # A restart forgets nothing of it.
        async with node(tmp_path, rpc=found.rpc, clock=found.clock) as again:
            with pytest.raises(StaleOrder):
                await again.first.keep_order((0, 99))

    run(story)


def test_disks_are_found_by_uuid_once_all_are_open(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            assert found.disks.by_uuid(found.first.uuid) is found.first
            with pytest.raises(NoSuchNode):
                found.disks.by_uuid(b"x" * 16)
        with pytest.raises(NotReady):
            found.disks.by_uuid(b"x" * 16)

    run(story)


class LabelsFail(SystemDisk):
    """A file system on which no name can be replaced, as on one remounted read-only."""

    def replace(self, source: Path, target: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")


def test_a_disk_whose_label_cannot_be_written_is_refused_and_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def story() -> None:
        async with node(tmp_path) as first:
            await put(first.first, identity(1))
        monkeypatch.setattr("tests.blobd.parts.SystemDisk", LabelsFail)
        async with node(tmp_path, rpc=first.rpc, clock=first.clock) as found:
            assert "Read-only file system" in found.first.problem
            assert not found.first.number and not found.first.writable
            assert (await found.first.store.get(identity(1))).body == b"body"

    run(story)
