"""A rebuild as `ossctl` does it, of a real blob daemon's archive: what is refused, and why."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import pytest

from cli.progress import Tally
from cli.rebuilding import Daemons, Rebuilt, rebuild_to
from osscore.errors import CorruptCatalog, InvalidArgument, PeerUnreachable, Unauthenticated
from ossd.clock import SystemClock, system_random
from ossd.disk import SystemDisk
from ossd.rpc import AioRpc
from ossd.signing import ClusterSecrets, Signer
from raftmeta.archive.client import ArchiveClient
from raftmeta.archive.pieces import ArchivedEntry, SnapshotName, pack_piece
from raftmeta.backup.verification import verify
from tests.blobd.served import SECRETS, service
from tests.raftmeta.archive.stage import packed_snapshot
from tests.raftmeta.catalog.harness import Driver


@contextmanager
def blob_daemon(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Base URL and disk of a daemon that runs in a thread."""
    told: Queue[tuple[str, bytes]] = Queue()
    ended = threading.Event()

    async def serve() -> None:
        async with service(folder) as it:
            told.put((it.url, it.disk.uuid))
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield told.get(timeout=20)
    finally:
        ended.set()
        thread.join(20)


async def keep(
    url: str, disk: bytes, snapshot: tuple[Path, SnapshotName], parts: list[list[ArchivedEntry]]
) -> None:
    path, name = snapshot
    rpc = AioRpc(signer=Signer(SECRETS, SystemClock(), system_random))
    client = ArchiveClient(rpc)
    try:
        data = await asyncio.to_thread(path.read_bytes)
        await client.send_snapshot(url, disk, name, 0, data)
        await client.finish_snapshot(url, disk, name)
        for entries in parts:
            await client.append(url, disk, name.generation, pack_piece(entries), begins=True)
    finally:
        await rpc.close()


def rebuild(
    tmp_path: Path, url: str, *, accepts_gap: bool = False, secrets: ClusterSecrets = SECRETS
) -> Rebuilt:
    return rebuild_to(
        tmp_path / "rebuilt",
        Daemons((url,), secrets),
        generation=None,
        accepts_gap=accepts_gap,
        line=Tally(),
    )


def test_a_gap_is_refused_unless_it_is_accepted(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "live.sqlite")
    driver.form()
    snapshot = packed_snapshot(driver.catalog, tmp_path)[:2]
    first = driver.index + 1
    for _ in range(4):
        driver.collect()
    log = [ArchivedEntry(n, 1, b"\0" + driver.log[n - 1]) for n in range(first, first + 4)]
    with blob_daemon(tmp_path / "blob") as (url, disk):
        asyncio.run(keep(url, disk, snapshot, [log[:2], log[3:]]))
        with pytest.raises(CorruptCatalog, match=f"lead up to {first + 1}, .* {first + 3}, the"):
            rebuild(tmp_path, url)
        assert not (tmp_path / "rebuilt").exists()
        found = rebuild(tmp_path, url, accepts_gap=True)
        assert found.is_short and found.manifest.applied_index == first + 1
        (tmp_path / "look").mkdir()
        assert not verify(tmp_path / "rebuilt", tmp_path / "look", disk=SystemDisk()).faults
        with pytest.raises(FileExistsError):
            rebuild(tmp_path, url, accepts_gap=True)
        with pytest.raises(Unauthenticated):
            rebuild(tmp_path, url, secrets=ClusterSecrets(current="of another cluster"))
    with pytest.raises(PeerUnreachable, match="No blob daemon answered"):
        rebuild(tmp_path, url)
    driver.catalog.close()


def test_an_empty_archive_is_told(tmp_path: Path) -> None:
    with (
        blob_daemon(tmp_path / "blob") as (url, _),
        pytest.raises(InvalidArgument, match="keeps a snapshot"),
    ):
        rebuild(tmp_path, url)
    assert {path.name for path in tmp_path.iterdir()} == {"blob"}, "no folder of work is left"
