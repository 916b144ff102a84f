"""Real blob daemons: killed, drained, full, read-only, cut off from the metadata."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from blobd.client import BlobClient
from blobd.wire import STATUS, DiskStatus, Status
from osscore.digests import crc32c
from osscore.errors import (
    DiskFailing,
    DiskFull,
    DiskRefused,
    NoSuchShard,
    StoreError,
)
from osscore.model import Profile, ShardIdentity, reed_solomon
from osscore.names import stripe_id
from ossd.clock import SystemClock, system_random
from ossd.rpc import AioRpc, check
from raftmeta.client import MetaClient
from raftmeta.queries import ClusterDescribed, DiskInfo, GetCluster
from tests.cluster.harness import Cluster, Daemon, eventually, mounted, remount, wait_until

pytestmark = pytest.mark.cluster

CODING = reed_solomon(Profile(2, 1))
MIB = 1024 * 1024
SMALL_VOLUMES = {"OSS_VOLUME_BYTES": "2MiB"}


def fresh(gen: int = 0) -> ShardIdentity:
    return ShardIdentity(stripe_id(SystemClock().now_ms(), system_random(10)), 0, gen)


class Blob:
    """What a test does with one daemon."""

    def __init__(self, rpc: AioRpc, daemon: Daemon) -> None:
        self.url = daemon.url
        self.client = BlobClient(rpc)
        self._rpc = rpc

    async def status(self) -> Status:
        reply = check(await self._rpc.call("GET", self.url + STATUS, deadline_s=5))
        return msgspec.json.decode(reply.body, type=Status)

    async def disks(self) -> list[DiskStatus]:
        return list((await self.status()).disks)

    async def put(self, uuid: str, shard: ShardIdentity, body: bytes) -> None:
        await self.client.put_shard(
            self.url, bytes.fromhex(uuid), shard, CODING, body, crc32c(body), deadline_s=10
        )

    async def get(self, uuid: str, shard: ShardIdentity) -> bytes:
        return await self.client.get_shard(self.url, bytes.fromhex(uuid), shard, deadline_s=10)


def with_blob(cluster: Cluster, daemon: Daemon, story: Callable[[Blob], Awaitable[None]]) -> None:
    async def main(rpc: AioRpc) -> None:
        await story(Blob(rpc, daemon))

    cluster.run_rpc(main)


def readiness(daemon: Daemon) -> tuple[int, str]:
    """Status and text of /readyz."""
    try:
        with urllib.request.urlopen(f"{daemon.url}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def disks_in_catalog(cluster: Cluster) -> dict[str, DiskInfo]:
    """What the leader knows of the disks, by the hex of their uuid."""

    async def ask(meta: MetaClient) -> dict[str, DiskInfo]:
        described = await meta.query(GetCluster(), ClusterDescribed)
        return {disk.uuid.hex(): disk for node in described.nodes for disk in node.disks}

    return cluster.run(ask)


def test_shards_survive_a_drain_and_the_daemon_exits_with_0(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.form_metanodes(1)
        daemon = cluster.add_blobd("blob-1", disks=2)
        daemon.wait_ready()
        shards = [fresh() for _ in range(20)]

        async def fill(blob: Blob) -> None:
            for disk in await blob.disks():
                assert disk.writable and not disk.problem and disk.disk > 0
                for shard in shards:
                    await blob.put(disk.uuid, shard, shard.stripe * 100)

        async def look(blob: Blob) -> None:
            for disk in await blob.disks():
                assert disk.shards == len(shards)
                for shard in shards:
                    assert await blob.get(disk.uuid, shard) == shard.stripe * 100

        with_blob(cluster, daemon, fill)
        assert daemon.stop() == 0
        daemon.start()
        daemon.wait_ready()
        with_blob(cluster, daemon, look)
        assert "Traceback" not in daemon.log.read_text()


def test_every_acknowledged_shard_survives_kill_9(tmp_path: Path) -> None:
    with Cluster(tmp_path, environment=SMALL_VOLUMES) as cluster:
        cluster.form_metanodes(1)
        daemon = cluster.add_blobd("blob-1")
        daemon.wait_ready()
        acknowledged: dict[ShardIdentity, bytes] = {}

        async def write(blob: Blob, uuid: str, size_bytes: int) -> None:
            while True:
                shard, body = fresh(), system_random(size_bytes)
                try:
                    await blob.put(uuid, shard, body)
                except StoreError:
                    return  # the daemon is dead
                acknowledged[shard] = body

        async def load_and_kill(blob: Blob) -> None:
            before = len(acknowledged)
            (disk,) = await blob.disks()
            sizes = (100, 4096, 70_000, 300_000)
            writers = [asyncio.create_task(write(blob, disk.uuid, size)) for size in sizes]
            await eventually(lambda: grown(before + 40), what="acknowledged shards")
            daemon.send(signal.SIGKILL)
            await asyncio.gather(*writers)

        async def grown(count: int) -> bool:
            return len(acknowledged) >= count

        async def look(blob: Blob) -> None:
            (disk,) = await blob.disks()
            for shard, body in acknowledged.items():
                assert await blob.get(disk.uuid, shard) == body

        for _ in range(3):
            with_blob(cluster, daemon, load_and_kill)
            daemon.kill()
            daemon.start()
            daemon.wait_ready()
            with_blob(cluster, daemon, look)


def test_a_copied_folder_started_beside_its_original_leaves_one_writer(tmp_path: Path) -> None:
    """SAFETY rule 15: two daemons with one disk would acknowledge what only one of them holds."""
    with Cluster(tmp_path) as cluster:
        cluster.form_metanodes(1)
        original = cluster.add_blobd("blob-1")
        original.wait_ready()
        shard = fresh()

        async def fill(blob: Blob) -> None:
            (disk,) = await blob.disks()
            await blob.put(disk.uuid, shard, b"kept")

        async def wait_refused(blob: Blob) -> None:
            async def is_refused() -> bool:
                (disk,) = await blob.disks()
                return "later" in disk.problem or "older copy" in disk.problem

            await eventually(is_refused, what="the original to give way")

        async def look_refused(blob: Blob) -> None:
            (disk,) = await blob.disks()
            assert not disk.writable and disk.problem
            assert await blob.get(disk.uuid, shard) == b"kept"
            with pytest.raises(DiskRefused):
                await blob.put(disk.uuid, fresh(), b"new")

        async def look_granted(blob: Blob) -> None:
            (disk,) = await blob.disks()
            assert await blob.get(disk.uuid, shard) == b"kept"
            await blob.put(disk.uuid, fresh(), b"new")

        with_blob(cluster, original, fill)
        shutil.copytree(tmp_path / "blob-1", tmp_path / "blob-2")
        copy = cluster.add_blobd("blob-2")
        copy.wait_ready()
        for _ in range(4):
            with_blob(cluster, original, wait_refused)
            with_blob(cluster, original, look_refused)
            with_blob(cluster, copy, look_granted)
            original.stop()
            original.start()
        assert len(disks_in_catalog(cluster)) == 1


def test_a_disk_that_was_rolled_back_is_compared_and_then_takes_writes(tmp_path: Path) -> None:
    beats = {"OSS_HEARTBEAT_S": "0.2"}
    with Cluster(tmp_path, environment=beats) as cluster:
        cluster.form_metanodes(1)
        daemon = cluster.add_blobd("blob-1")
        daemon.wait_ready()
        shard = fresh()

        async def fill(blob: Blob) -> None:
            (disk,) = await blob.disks()
            await blob.put(disk.uuid, shard, b"kept")

        async def look(blob: Blob) -> None:
            async def is_judged() -> bool:
                try:
                    return any("older copy" in disk.problem for disk in await blob.disks())
                except StoreError:
                    return False  # it is starting

            await eventually(is_judged, what="the disk to be refused")
            (disk,) = await blob.disks()
            assert not disk.writable
            assert await blob.get(disk.uuid, shard) == b"kept"
            with pytest.raises(DiskRefused):
                await blob.put(disk.uuid, fresh(), b"new")

        async def wait_readmitted(blob: Blob) -> None:
            async def is_writable() -> bool:
                return (await blob.disks())[0].writable

            await eventually(is_writable, what="the disk to be readmitted")
            (disk,) = await blob.disks()
            assert not disk.problem
            assert await blob.get(disk.uuid, shard) == b"kept"
            await blob.put(disk.uuid, fresh(), b"new")

        with_blob(cluster, daemon, fill)
        daemon.stop()
        shutil.copytree(tmp_path / "blob-1", tmp_path / "snapshot")
        daemon.start()
        daemon.wait_ready()
        daemon.stop()
        shutil.rmtree(tmp_path / "blob-1")
        shutil.move(tmp_path / "snapshot", tmp_path / "blob-1")
        daemon.start()
        with_blob(cluster, daemon, look)
        with_blob(cluster, daemon, wait_readmitted)


def test_without_metadata_it_is_not_ready_and_serves_reads(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.form_metanodes(1)
        daemon = cluster.add_blobd("blob-1")
        daemon.wait_ready()
        shard = fresh()

        async def fill(blob: Blob) -> None:
            (disk,) = await blob.disks()
            await blob.put(disk.uuid, shard, b"kept")

        async def look(blob: Blob) -> None:
            (disk,) = await blob.disks()
            assert await blob.get(disk.uuid, shard) == b"kept"
            assert not disk.writable and "not registered" in disk.problem
            with pytest.raises(StoreError):
                await blob.put(disk.uuid, fresh(), b"new")

        with_blob(cluster, daemon, fill)
        daemon.stop()
        cluster.metanodes[0].kill()
        daemon.start()
        wait_until(lambda: readiness(daemon)[0] == 503, what="503 of /readyz")
        with_blob(cluster, daemon, look)
        cluster.metanodes[0].start()
        daemon.wait_ready()


def test_a_full_disk_says_so_and_the_other_goes_on(tmp_path: Path) -> None:
    small = tmp_path / "blob-1" / "disk-0"
    with (
        mounted(small, "-t", "tmpfs", "-o", "size=24m", "tmpfs"),
        Cluster(tmp_path, environment=SMALL_VOLUMES) as cluster,
    ):
        cluster.form_metanodes(1)
        daemon = cluster.add_blobd("blob-1", disks=2)
        daemon.wait_ready()
        stored: list[ShardIdentity] = []
        body = system_random(500_000)

        async def fill(blob: Blob) -> None:
            full, roomy = await blob.disks()
            with pytest.raises(DiskFull):
                for _ in range(100):
                    shard = fresh()
                    await blob.put(full.uuid, shard, body)
                    stored.append(shard)
            await blob.put(roomy.uuid, fresh(), body)
            full, roomy = await blob.disks()
            assert full.free_bytes < len(body) and roomy.writable
            assert 20 < len(stored) < 60

        async def look(blob: Blob) -> None:
            full, _ = await blob.disks()
            for shard in stored:
                assert await blob.get(full.uuid, shard) == body

        with_blob(cluster, daemon, fill)
        with_blob(cluster, daemon, look)
        uuid = _uuid_of(cluster, daemon, 0)
        wait_until(
            lambda: disks_in_catalog(cluster)[uuid].free_bytes < len(body),
            what="the leader to know that the disk is full",
        )
        assert daemon.stop() == 0
        daemon.start()
        daemon.wait_ready()
        with_blob(cluster, daemon, look)
        daemon.stop()


def test_a_full_disk_takes_shards_again_once_some_were_deleted(tmp_path: Path) -> None:
    small = tmp_path / "blob-1" / "disk-0"
    environment = {**SMALL_VOLUMES, "OSS_GC_GRACE_S": "2"}
    with (
        mounted(small, "-t", "tmpfs", "-o", "size=24m", "tmpfs"),
        Cluster(tmp_path, environment=environment) as cluster,
    ):
        cluster.form_metanodes(1)
        daemon = cluster.add_blobd("blob-1")
        daemon.wait_ready()
        body = system_random(500_000)

        async def story(blob: Blob) -> None:
            (disk,) = await blob.disks()
            with pytest.raises(DiskFull):
                for _ in range(100):
                    await blob.put(disk.uuid, fresh(), body)

            async def has_room() -> bool:
                # Nobody names them: past their grace the sweep deletes them.
                (now,) = await blob.disks()
                return now.shards == 0 and now.writable

            await eventually(has_room, what="the sweep and compaction", deadline_s=60)
            shard = fresh()
            await blob.put(disk.uuid, shard, body)
            assert await blob.get(disk.uuid, shard) == body

        with_blob(cluster, daemon, story)
        daemon.stop()


def test_a_read_only_disk_is_reported_the_rest_goes_on_and_repaired_it_takes_shards_again(
    tmp_path: Path,
) -> None:
    frozen = tmp_path / "blob-1" / "disk-0"
    with (
        mounted(frozen, "--bind", str(frozen)),
        Cluster(tmp_path, environment=SMALL_VOLUMES) as cluster,
    ):
        cluster.form_metanodes(1)
        daemon = cluster.add_blobd("blob-1", disks=2)
        daemon.wait_ready()
        shard = fresh()
        uuid = _uuid_of(cluster, daemon, 0)

        async def fill(blob: Blob) -> None:
            await blob.put(uuid, shard, b"before")

        async def look(blob: Blob) -> None:
            read_only, roomy = await blob.disks()
            assert not read_only.writable and "ead-only" in read_only.problem
            assert await blob.get(uuid, shard) == b"before"
            with pytest.raises((DiskFailing, DiskRefused)):
                await blob.put(uuid, fresh(), b"after")
            assert roomy.writable
            await blob.put(roomy.uuid, fresh(), b"after")

        with_blob(cluster, daemon, fill)
        assert daemon.stop() == 0
        remount(frozen, "ro")
        daemon.start()
        daemon.wait_ready()
        with_blob(cluster, daemon, look)
        wait_until(
            lambda: "ead-only" in disks_in_catalog(cluster)[uuid].problem,
            what="the leader to know that the disk is read-only",
        )

        async def look_repaired(blob: Blob) -> None:
            repaired, _ = await blob.disks()
            assert repaired.uuid == uuid and repaired.writable and not repaired.problem
            assert await blob.get(uuid, shard) == b"before"
            again = fresh()
            await blob.put(uuid, again, b"after")
            assert await blob.get(uuid, again) == b"after"

        assert daemon.stop() == 0
        remount(frozen, "rw")
        daemon.start()
        daemon.wait_ready()
        with_blob(cluster, daemon, look_repaired)
        wait_until(
            lambda: disks_in_catalog(cluster)[uuid].writable,
            what="the leader to know that the disk takes shards again",
        )
        daemon.stop()


def test_shards_nobody_names_are_swept_after_their_grace(tmp_path: Path) -> None:
    with Cluster(tmp_path, environment={"OSS_GC_GRACE_S": "2"}) as cluster:
        cluster.form_metanodes(1)
        daemon = cluster.add_blobd("blob-1")
        daemon.wait_ready()

        async def story(blob: Blob) -> None:
            (disk,) = await blob.disks()
            shard, born_s = fresh(), time.monotonic()
            await blob.put(disk.uuid, shard, b"orphan")

            async def is_gone() -> bool:
                try:
                    await blob.get(disk.uuid, shard)
                except NoSuchShard:
                    return True
                return False

            await eventually(is_gone, what="the sweep", deadline_s=30)
            assert time.monotonic() - born_s >= 2

        with_blob(cluster, daemon, story)


def test_an_idle_daemon_is_small(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.form_metanodes(1)
        daemon = cluster.add_blobd("blob-1", disks=2)
        daemon.wait_ready()
        assert daemon.process is not None
        assert pss_bytes(daemon.process.pid) < 45 * MIB


def test_it_refuses_to_start_without_what_it_needs(tmp_path: Path) -> None:
    good = {
        **os.environ,
        "OSS_CLUSTER_SECRET": "a secret long enough",
        "OSS_ID": "blob-1",
        "OSS_DATA": str(tmp_path / "data"),
        "OSS_METANODES": "http://127.0.0.1:1",
    }
    for missing, word in (
        ("OSS_CLUSTER_SECRET", "cluster_secret"),
        ("OSS_ID", "id"),
        ("OSS_DATA", "data"),
        ("OSS_METANODES", "metanodes"),
    ):
        environment = {name: value for name, value in good.items() if name != missing}
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "blobd"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert ended.returncode == 1 and word in ended.stderr, ended
        assert "Traceback" not in ended.stderr


def pss_bytes(pid: int) -> int:
    """Memory of a process, shared pages counted in parts."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss line")


def _uuid_of(cluster: Cluster, daemon: Daemon, number: int) -> str:
    found: list[str] = []

    async def ask(blob: Blob) -> None:
        found.append((await blob.disks())[number].uuid)

    with_blob(cluster, daemon, ask)
    return found[0]
