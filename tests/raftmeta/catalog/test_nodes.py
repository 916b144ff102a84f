"""Forming, registering, disk states, keys, and what GetCluster answers (SAFETY 15, 24)."""

import msgspec
import pytest

from raftmeta.catalog import query_cluster
from raftmeta.catalog.soft import DiskSoft, NodeSoft, SoftState
from raftmeta.commands import (
    DiskGrant,
    DiskReport,
    Done,
    NodeRegistered,
    PutAccessKey,
    RegisterNode,
    RevokeAccessKey,
    SetDiskState,
)
from raftmeta.queries import AccessKeyFound, ClusterDescribed, FindAccessKey, GetCluster
from tests.raftmeta.catalog.harness import (
    CLUSTER,
    MINUTE_MS,
    Driver,
    disk_uuid,
    form_command,
    refusal,
    register_command,
)


def cluster(driver: Driver, soft: SoftState | None = None) -> ClusterDescribed:
    answer = driver.ask(GetCluster(), soft)
    assert isinstance(answer, ClusterDescribed)
    return answer


def register(driver: Driver, number: int, *, epoch: int, node: str = "") -> NodeRegistered:
    result = driver.run(register_command(number, epoch=epoch, node=node))
    assert isinstance(result, NodeRegistered), result
    return result


def test_a_cluster_forms_once(driver: Driver) -> None:
    described = cluster(driver)
    assert driver.run(form_command()) == Done()
    assert cluster(driver) == described
    other = msgspec.structs.replace(form_command(), cluster_id=b"other")
    assert refusal(driver.run(other)) == "AlreadyFormed"


def test_nobody_registers_before_the_cluster_is_formed(empty: Driver) -> None:
    assert refusal(empty.run(register_command(1))) == "NotReady"
    assert cluster(empty).cluster_id == b""


def test_each_registration_bumps_the_epoch(driver: Driver) -> None:
    granted = register(driver, 1, epoch=1).granted
    assert granted == (DiskGrant(uuid=disk_uuid(1), disk=1, epoch=2),)
    assert register(driver, 9, epoch=0).granted[0].disk == 4


def test_a_rolled_back_disk_is_refused(driver: Driver) -> None:
    register(driver, 1, epoch=1)
    result = register(driver, 1, epoch=1)
    assert result.granted == () and "older copy" in result.refused[disk_uuid(1).hex()]


def test_a_disk_ahead_of_the_catalog_is_accepted(driver: Driver) -> None:
    assert register(driver, 1, epoch=7).granted[0].epoch == 8
    assert register(driver, 50, epoch=3).granted[0].epoch == 4


def test_a_clone_beside_its_original_is_refused(driver: Driver) -> None:
    report = DiskReport(uuid=disk_uuid(1), epoch=1, capacity_bytes=1)
    both = msgspec.structs.replace(register_command(1), disks=(report, report))
    result = driver.run(both)
    assert isinstance(result, NodeRegistered)
    assert (result.granted, len(result.refused)) == ((), 1)


def test_a_disk_of_another_cluster_is_refused(driver: Driver) -> None:
    foreign = msgspec.structs.replace(register_command(8), cluster_id=b"x" * 16)
    result = driver.run(foreign)
    assert isinstance(result, NodeRegistered)
    assert (result.granted, list(result.refused)) == ((), [disk_uuid(8).hex()])
    assert [node.node for node in cluster(driver).nodes] == ["blob-1", "blob-2", "blob-3"]


def test_a_disk_moves_with_the_node_that_registers_it(driver: Driver) -> None:
    assert register(driver, 1, epoch=1, node="blob-2").granted[0].disk == 1
    by_node = {node.node: [disk.disk for disk in node.disks] for node in cluster(driver).nodes}
    assert by_node == {"blob-1": [], "blob-2": [1, 2], "blob-3": [3]}


def test_a_disk_is_removed_only_without_slots_and_for_good(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    assert refusal(driver.run(SetDiskState(disk=1, state="removed"))) == "Conflict"
    register(driver, 9, epoch=0)
    assert driver.run(SetDiskState(disk=4, state="removed")) == Done()
    assert refusal(driver.run(SetDiskState(disk=4, state="in"))) == "Conflict"
    assert register(driver, 9, epoch=1).granted == ()


@pytest.mark.parametrize(
    ("disk", "state", "code"), [(99, "in", "NoSuchNode"), (1, "gone", "InvalidArgument")]
)
def test_disk_state_refusals(driver: Driver, disk: int, state: str, code: str) -> None:
    assert refusal(driver.run(SetDiskState(disk=disk, state=state))) == code


def test_heartbeats_are_merged_into_the_description(driver: Driver) -> None:
    disk = DiskSoft(capacity_bytes=5, free_bytes=4, writable=False, problem="full")
    soft = SoftState(
        nodes={"blob-2": NodeSoft("http://new", "suspect", 700, {disk_uuid(2): disk})},
        admits_writes=False,
    )
    described = cluster(driver, soft)
    silent, heard, _ = described.nodes
    assert (silent.health, silent.url) == ("unknown", "http://blob-1:9201")
    assert (silent.disks[0].writable, silent.disks[0].free_bytes) == (False, 0)
    assert (heard.health, heard.url, heard.last_heartbeat_ms_ago) == ("suspect", "http://new", 700)
    assert (heard.disks[0].free_bytes, heard.disks[0].problem) == (4, "full")
    assert (described.admits_writes, described.cluster_id) == (False, CLUSTER)


def test_the_inline_limit_falls_once_inline_bodies_are_many(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_cluster, "INLINE_TOTAL_LARGE_BYTES", 10)
    driver.put_inline("a", b"x" * 10)
    assert cluster(driver).inline_bytes_max == 4096
    driver.put_inline("b", b"x")
    assert cluster(driver).inline_bytes_max == 512


def test_keys_are_stored_replaced_expired_and_revoked(driver: Driver) -> None:
    root = driver.ask(FindAccessKey(access_key="ROOT"))
    assert isinstance(root, AccessKeyFound) and "admin" in root.scopes
    epoch = cluster(driver).keys_epoch
    expires_at_ms = driver.catalog.head.catalog_time_ms + 5 * MINUTE_MS
    key = PutAccessKey(
        access_key="A",
        secret_sealed=b"s",
        scopes=("download",),
        buckets=("bucket",),
        expires_at_ms=expires_at_ms,
    )
    driver.run(key)
    found = driver.ask(FindAccessKey(access_key="A"))
    assert isinstance(found, AccessKeyFound)
    assert (found.scopes, found.buckets) == (("download",), ("bucket",))
    driver.pass_time(6 * MINUTE_MS)
    assert refusal(driver.ask(FindAccessKey(access_key="A"))) == "NoSuchAccessKey"
    assert driver.run(RevokeAccessKey(access_key="A")) == Done()
    assert refusal(driver.run(RevokeAccessKey(access_key="A"))) == "NoSuchAccessKey"
    assert cluster(driver).keys_epoch == epoch + 2 == driver.catalog.head.keys_epoch
    wrong = msgspec.structs.replace(key, scopes=("fly",))
    assert refusal(driver.run(wrong)) == "InvalidArgument"


def test_a_node_needs_a_name(driver: Driver) -> None:
    nameless = RegisterNode(node="", url="u", zone="", cluster_id=CLUSTER, disks=())
    assert refusal(driver.run(nameless)) == "InvalidArgument"
