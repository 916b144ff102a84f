"""The archive's HTTP: who may keep what, and what is told without metanodes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from blake3 import blake3

from blobd.archive.rereading import Rereading
from blobd.disks import DataDisk
from osscore.errors import (
    BadDigest,
    Conflict,
    DiskFull,
    EntityTooLarge,
    InvalidArgument,
    NoSuchNode,
    NotFound,
    NotReady,
    StaleOrder,
)
from ossd.clock import SystemClock
from ossd.rpc import AioRpc
from raftmeta.archive.client import ArchiveClient
from raftmeta.archive.pieces import ArchivedEntry, SnapshotName, pack_piece
from raftmeta.archive.wire import ARCHIVE, SNAPSHOT_PIECE_BYTES, Forget
from tests.blobd.parts import run
from tests.blobd.served import Service, refused, service

DATA = b"a catalog " * 100
NAME = SnapshotName(1, 9, blake3(DATA).hexdigest())


@dataclass
class Served:
    """A served node, and a client of its archive."""

    it: Service

    @property
    def url(self) -> str:
        return self.it.url

    @property
    def disk(self) -> DataDisk:
        return self.it.disk

    @property
    def client(self) -> ArchiveClient:
        return ArchiveClient(self.it.rpc)

    async def append(self, first: int, *, begins: bool = False, generation: int = 1) -> int:
        piece = pack_piece([ArchivedEntry(first, 1, b"\x00body")])
        return await self.client.append(self.url, self.disk.uuid, generation, piece, begins=begins)


@asynccontextmanager
async def served(folder: Path, *, registered: bool = True) -> AsyncIterator[Served]:
    async with service(folder, registered=registered) as it:
        yield Served(it)


def test_what_is_sent_is_kept_and_given_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with served(tmp_path) as it:
            url, disk = it.url, it.disk.uuid
            assert await it.append(8, begins=True) == 8 and await it.append(9) == 9
            assert await it.client.send_snapshot(url, disk, NAME, 0, DATA[:500]) == 500
            await it.client.send_snapshot(url, disk, NAME, 500, DATA[500:])
            await it.client.finish_snapshot(url, disk, NAME)
            (held,) = (await it.client.held(url)).disks
            assert held.ends == {"1": 9} and held.cluster_id == it.disk.label.cluster_id  # type: ignore[union-attr]
            assert [file.size_bytes for file in held.files if file.name == str(NAME)] == [1000]
            assert await it.client.read(url, disk, str(NAME), 990) == DATA[990:]
            assert await it.client.read(url, disk, str(NAME), 1000) == b""
            await it.client.forget(url, disk, Forget(generation=1, index=10, spares_earlier=False))
            assert (await it.client.held(url)).disks[0].files == ()
            assert it.it.budget.used_bytes == 0

    run(story)


def test_what_a_disk_keeps_is_told_without_metanodes(tmp_path: Path) -> None:
    """That is when it is needed."""

    async def story() -> None:
        async with served(tmp_path) as it:
            await it.append(8, begins=True)
        async with served(tmp_path, registered=False) as it:
            (held,) = (await it.client.held(it.url)).disks
            assert held.ends == {"1": 8} and not held.problem
            assert await it.client.read(it.url, held.disk, held.files[0].name, 0)
            await refused(it.append(9), NotReady)

    run(story)


def test_an_earlier_generation_than_the_disk_obeys_keeps_and_removes_nothing(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with served(tmp_path) as it:
            await it.append(8, begins=True)
            await it.disk.obey(5)
            url, disk = it.url, it.disk.uuid
            await refused(it.append(9), StaleOrder)
            await refused(it.client.send_snapshot(url, disk, NAME, 0, DATA), StaleOrder)
            order = Forget(generation=4, index=99, spares_earlier=False)
            await refused(it.client.forget(url, disk, order), StaleOrder)
            assert await it.append(1 << 33, begins=True, generation=5) == 1 << 33

    run(story)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with served(tmp_path) as it:
            url, disk, client = it.url, it.disk.uuid, it.client
            await refused(client.append(url, b"x" * 16, 1, b"", begins=True), NoSuchNode)
            await refused(client.append(url, disk, 1, b"no piece", begins=True), BadDigest)
            await refused(client.finish_snapshot(url, disk, NAME), Conflict)
            await refused(client.read(url, disk, "disk", 0), NotFound)
            too_much = bytes(SNAPSHOT_PIECE_BYTES + 1)
            await refused(client.send_snapshot(url, disk, NAME, 0, too_much), EntityTooLarge)
            for query in ("generation=x&begins=1", "begins=1", "generation=-1&begins=1"):
                path = f"{url}/v1/disks/{disk.hex()}/archive/log?{query}"
                reply = await it.it.rpc.call("POST", path, body=b"", deadline_s=5)
                assert reply.status == InvalidArgument().http_status
            unsigned = AioRpc(signer=None)
            try:
                reply = await unsigned.call("GET", url + ARCHIVE, deadline_s=5)
                assert reply.status == 401
            finally:
                await unsigned.close()

    run(story)


def test_the_reserve_of_a_disk_is_not_for_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAFETY rule 14: else deletes and compaction have no room to turn."""

    async def story() -> None:
        async with served(tmp_path) as it:
            await it.append(8, begins=True)
            monkeypatch.setattr(it.disk.store._room, "writable_bytes", lambda: 10)
            await refused(it.append(9), DiskFull)
            order = Forget(generation=1, index=99, spares_earlier=False)
            await it.client.forget(it.url, it.disk.uuid, order)
            assert (await it.client.held(it.url)).disks[0].files == ()

    run(story)


def test_a_snapshot_that_finds_no_room_leaves_none_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with served(tmp_path) as it:
            url, disk = it.url, it.disk.uuid
            await it.client.send_snapshot(url, disk, NAME, 0, DATA[:500])
            assert await asyncio.to_thread(unfinished, it.disk) == [f"{NAME}.part"]
            monkeypatch.setattr(it.disk.store._room, "writable_bytes", lambda: 10)
            await refused(it.client.send_snapshot(url, disk, NAME, 500, DATA[500:]), DiskFull)
            assert await asyncio.to_thread(unfinished, it.disk) == []

    run(story)


def unfinished(disk: DataDisk) -> list[str]:
    return [path.name for path in (disk.folder / "archive").iterdir()]


def test_what_rots_is_found_by_rereading(tmp_path: Path) -> None:
    async def story() -> None:
        async with served(tmp_path) as it:
            url, disk = it.url, it.disk.uuid
            for index in (8, 9, 10):
                await it.append(index, begins=index == 8)
            await it.client.send_snapshot(url, disk, NAME, 0, DATA)
            await it.client.finish_snapshot(url, disk, NAME)
            rereading = Rereading(
                it.it.node.disks, it.it.shelves, clock=SystemClock(), bytes_per_s=10**12, rest_s=1
            )
            await rereading.reread(it.disk)
            assert (await it.client.held(url)).disks[0].damaged == ()
            folder = it.disk.folder / "archive"
            names = await asyncio.to_thread(flip_a_bit_in_each, folder)
            await rereading.reread(it.disk)
            assert sorted((await it.client.held(url)).disks[0].damaged) == names

    run(story)


def flip_a_bit_in_each(folder: Path) -> list[str]:
    for path in folder.iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    return sorted(path.name for path in folder.iterdir())
