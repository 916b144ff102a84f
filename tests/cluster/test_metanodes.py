"""Three real metanodes: forming, losing the leader, losing power, losing a folder, noise."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from osscore.errors import AlreadyFormed, BucketAlreadyExists, MetadataLowSpace
from ossd.rpc import AioRpc
from ossd.run import EXIT_FATAL, EXIT_REFUSED
from raftmeta.catalog.catalog import Catalog
from raftmeta.client import MetaClient, bootstrap
from raftmeta.commands import CreateBucket, Done
from raftmeta.identity import CATALOG_NAME
from raftmeta.queries import BucketsListed, ClusterDescribed, GetCluster, ListBuckets
from raftmeta.wire import Bootstrap
from tests.cluster.harness import (
    Cluster,
    Metanode,
    mounted,
    remount,
    start_all,
    wait_until,
)

pytestmark = pytest.mark.cluster


async def create(client: MetaClient, *names: str) -> None:
    await asyncio.gather(*(client.propose(CreateBucket(bucket=name), Done) for name in names))


async def names(client: MetaClient) -> set[str]:
    listed = await client.query(ListBuckets(), BucketsListed)
    return {bucket.name for bucket in listed.buckets}


def fingerprint(metanode: Metanode, copy: Path) -> tuple[int, bytes]:
    """The last entry applied to a stopped metanode's catalog, and its content, looked at in a
    copy."""
    state = metanode.data / (metanode.data / "CURRENT").read_text().strip()
    copy.mkdir()
    for file in state.glob(f"{CATALOG_NAME}*"):
        (copy / file.name).write_bytes(file.read_bytes())
    catalog = Catalog(copy / CATALOG_NAME)
    try:
        return catalog.applied_index, catalog.fingerprint()
    finally:
        catalog.close()


def same_applied(cluster: Cluster) -> bool:
    statuses = cluster.statuses()
    return len(statuses) == len(cluster.metanodes) and len({s.applied_index for s in statuses}) == 1


def test_formed_once_and_serves_the_formed_cluster(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.form_metanodes(3)
        assert cluster.formed is not None and cluster.formed.root_secret_key

        async def story(client: MetaClient) -> None:
            described = await client.query(GetCluster(), ClusterDescribed)
            assert cluster.formed is not None
            assert described.cluster_id == cluster.formed.cluster_id
            await create(client, "photos")
            with pytest.raises(BucketAlreadyExists):
                await client.propose(CreateBucket(bucket="photos"), Done)
            assert await names(client) == {"photos"}

        cluster.run(story)

        async def again(rpc: AioRpc) -> None:
            members = tuple(each.member for each in cluster.metanodes)
            with pytest.raises(AlreadyFormed):
                await bootstrap(rpc, cluster.metanodes[1].url, Bootstrap(members=members))

        cluster.run_rpc(again)
        assert [metanode.stop() for metanode in cluster.metanodes] == [0, 0, 0]
        for metanode in cluster.metanodes:
            assert "Traceback" not in metanode.log.read_text()


def test_first_member_bootstraps_by_itself_when_told_the_members(tmp_path: Path) -> None:
    environment = {"OSS_ROOT_ACCESS_KEY": "ROOT", "OSS_ROOT_SECRET_KEY": "root-secret-key"}
    with Cluster(tmp_path, environment=environment) as cluster:
        cluster.add_metanodes(3, bootstrap_first=True)
        for metanode in cluster.metanodes:
            metanode.wait_ready()
        cluster.run(lambda client: create(client, "photos"))
        log = cluster.metanodes[0].log.read_text()
        assert "OSS_SYSTEM_TOKEN=" in log  # generated: shown once
        assert "root-secret-key" not in log


def test_killing_the_leader_loses_nothing_and_the_next_write_succeeds(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.form_metanodes(3)
        expected: set[str] = set()

        async def story(client: MetaClient) -> float:
            acknowledged = [f"before-{number}" for number in range(100)]
            await create(client, *acknowledged)
            expected.update(acknowledged)
            leader = await asyncio.to_thread(cluster.leader)
            leader.kill()
            began_s = time.monotonic()
            await create(client, "after")
            outage_s = time.monotonic() - began_s
            expected.add("after")
            assert await names(client) == expected
            return outage_s

        assert cluster.run(story) < 10
        dead = next(each for each in cluster.metanodes if not each.is_running)
        dead.start()
        wait_until(lambda: same_applied(cluster), what="the killed one to catch up")


def test_nothing_grows_while_a_majority_of_metanodes_is_low_on_space(tmp_path: Path) -> None:
    """SAFETY rule 14: a metanode whose disk is full stops, and two would take the store along."""
    low = {"OSS_LOW_SPACE_BYTES": str(1 << 60), "OSS_LOW_SPACE_PERCENT": "99.99"}
    with Cluster(tmp_path) as cluster:
        cluster.form_metanodes(3)
        leader = cluster.leader()
        followers = [each for each in cluster.metanodes if each is not leader]
        numbers = iter(range(1000))

        async def grows(client: MetaClient) -> bool:
            try:
                await create(client, f"bucket-{next(numbers)}")
            except MetadataLowSpace:
                return False
            return True

        for follower, may_grow in zip(followers, (True, False), strict=True):
            follower.stop()
            follower.environment = {**follower.environment, **low}
            follower.start()
            follower.wait_ready()
            wait_until(lambda e=may_grow: cluster.run(grows) is e, what=f"growth {may_grow}")
            assert cluster.leader() is leader


def test_a_metanode_whose_disk_is_full_stops_and_says_so_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    """SAFETY rule 13: after a failed write of the journal the process stops."""
    with ExitStack() as held:
        for number in (1, 2, 3):
            disk = tmp_path / f"meta-{number}"
            held.enter_context(mounted(disk, "-t", "tmpfs", "-o", "size=16m", "tmpfs"))
        # Else the leader would refuse growth before its disk is full, as the test above shows.
        no_reserve = {"OSS_LOW_SPACE_BYTES": "0"}
        cluster = held.enter_context(Cluster(tmp_path, environment=no_reserve))
        cluster.form_metanodes(3)
        expected = {"before"}
        cluster.run(lambda client: create(client, "before"))
        leader = cluster.leader()
        follower = next(each for each in cluster.metanodes if each is not leader)
        for number, victim in enumerate((follower, leader)):
            filler = fill(victim.data)
            name = f"while-{number}-is-full"
            cluster.run(lambda client, name=name: create(client, name))
            expected.add(name)
            assert victim.wait_exit() == EXIT_FATAL
            # The catalog says it in SQLite's words; which of both fails first is chance.
            assert re.search("No space left on device|disk is full", victim.log.read_text())
            cluster.run(lambda client, name=name: create(client, f"{name}-still"))
            expected.add(f"{name}-still")
            filler.unlink()
            victim.start()
            victim.wait_ready()
            wait_until(lambda: same_applied(cluster), what=f"{victim.name} to catch up")
        assert cluster.run(names) == expected
        check_identical(cluster, tmp_path)


def fill(folder: Path) -> Path:
    """Take all that is left of a file system, as another program might."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size_bytes in (65536, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size_bytes)) == size_bytes:
                    pass
    return filler


def check_identical(cluster: Cluster, folder: Path) -> None:
    """Kill all metanodes; their catalogs have the same content.

    The leader may just have proposed something of its own: then they are looked at again.
    """
    for attempt in range(5):
        for metanode in cluster.metanodes:
            metanode.send(signal.SIGKILL)  # at once: an ordinary stop is an election
        for metanode in cluster.metanodes:
            metanode.kill()
        prints = {
            fingerprint(each, folder / f"look-{attempt}-{each.name}") for each in cluster.metanodes
        }
        assert len(prints) == len({index for index, _ in prints}), "one index, two contents"
        if len(prints) == 1:
            return
        for metanode in cluster.metanodes:
            metanode.start()
        for metanode in cluster.metanodes:
            metanode.wait_ready()
        wait_until(lambda: same_applied(cluster), what="the catalogs to be level")
    raise AssertionError("they never stood at the same entry")


def test_a_metanode_on_a_read_only_disk_refuses_to_start_and_returns_once_it_is_repaired(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "meta-3"
    with mounted(disk, "--bind", str(disk)), Cluster(tmp_path) as cluster:
        cluster.form_metanodes(3)
        cluster.run(lambda client: create(client, "before"))
        victim = cluster.metanodes[2]
        assert victim.stop() == 0
        remount(disk, "ro")
        victim.launch()
        assert victim.wait_exit() == EXIT_REFUSED
        assert "Read-only file system" in victim.log.read_text()
        assert "Traceback" not in victim.log.read_text()
        cluster.run(lambda client: create(client, "meanwhile"))
        remount(disk, "rw")
        victim.start()
        victim.wait_ready()
        wait_until(lambda: same_applied(cluster), what="the repaired one to catch up")
        assert cluster.run(names) == {"before", "meanwhile"}
        check_identical(cluster, tmp_path)


def test_kill_of_all_three_loses_no_acknowledged_write(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.form_metanodes(3)
        acknowledged: set[str] = set()

        async def write(client: MetaClient) -> None:
            async def one(name: str) -> None:
                await create(client, name)
                acknowledged.add(name)

            writers = [asyncio.ensure_future(one(f"bucket-{n}")) for n in range(600)]
            await asyncio.wait(writers[:100])
            for metanode in cluster.metanodes:
                metanode.kill()
            for writer in writers:
                writer.cancel()
            await asyncio.wait(writers)

        cluster.run(write)
        assert len(acknowledged) >= 100
        start_all(cluster.metanodes)
        assert acknowledged <= cluster.run(names)


def test_a_wiped_metanode_joins_by_itself_and_becomes_identical(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.form_metanodes(3)
        cluster.run(lambda client: create(client, *(f"bucket-{n}" for n in range(50))))
        leader = cluster.leader()
        wiped = next(each for each in cluster.metanodes if each is not leader)
        wiped.kill()
        wiped.wipe()
        cluster.run(lambda client: create(client, "while-away"))
        wiped.start()
        wiped.wait_ready()
        cluster.run(lambda client: create(client, "back-again"))
        wait_until(lambda: same_applied(cluster), what="the wiped one to catch up")
        check_identical(cluster, tmp_path)


def test_a_follower_behind_the_log_catches_up_by_a_copy(tmp_path: Path) -> None:
    environment = {"OSS_JOURNAL_BYTES": "64KiB"}
    with Cluster(tmp_path, environment=environment) as cluster:
        cluster.form_metanodes(3)
        leader = cluster.leader()
        away = next(each for each in cluster.metanodes if each is not leader)
        away.kill()

        async def fill(client: MetaClient) -> None:
            for block in range(15):
                await create(client, *(f"b-{block}-{number}-{'x' * 40}" for number in range(200)))

        cluster.run(fill)
        wait_until(lambda: "log_cut" in leader.log.read_text(), what="the leader to cut its log")
        away.start()
        wait_until(lambda: same_applied(cluster), what="the late one to catch up", deadline_s=30)
        assert "caught_up" in away.log.read_text()
        check_identical(cluster, tmp_path)


def test_garbage_on_both_ports_harms_nothing(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.form_metanodes(3)
        for metanode in cluster.metanodes:
            for address in (metanode.member.raft, metanode.url.removeprefix("http://")):
                host, port = address.split(":")
                for noise in (os.urandom(5000), b"GET / HTTP/1.1\r\n\r\n", b"\x80\x04" * 50):
                    with socket.create_connection((host, int(port)), timeout=5) as peer:
                        peer.sendall(noise)
        cluster.run(lambda client: create(client, "photos"))
        assert cluster.run(names) == {"photos"}
        assert all(metanode.is_running for metanode in cluster.metanodes)
