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
    RegisterNode,
    SetDiskState,
)
from raftmeta.credentials import AccessKeyFound, FindAccessKey, PutAccessKey, RevokeAccessKey
from raftmeta.healing import JudgeDisk
from raftmeta.queries import ClusterDescribed, GetCluster
from raftmeta.upkeep import DiskCensus
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
    assert by_node == {"blob-2": [1, 2], "blob-3": [3]}


def test_a_disk_is_removed_only_without_slots_and_for_good(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    assert refusal(driver.run(SetDiskState(disk=1, state="removed"))) == "Conflict"
    register(driver, 9, epoch=0)
    assert driver.run(SetDiskState(disk=4, state="removed")) == Done()
    assert refusal(driver.run(SetDiskState(disk=4, state="in"))) == "Conflict"
    assert register(driver, 9, epoch=1).granted == ()


def state_of(driver: Driver, disk: int) -> str:
    heard = SoftState(nodes={"blob-1": NodeSoft("", "up", 0)})
    return next(d.state for n in cluster(driver, heard).nodes for d in n.disks if d.disk == disk)


def test_a_disk_that_was_lost_is_again_what_it_was(driver: Driver) -> None:
    for epoch, state in enumerate(("in", "draining"), 1):
        driver.run(SetDiskState(disk=1, state=state))
        for _ in range(2):
            assert driver.run(JudgeDisk(disk=1, is_lost=True)) == Done()
            assert state_of(driver, 1) == "lost"
        register(driver, 1, epoch=epoch)  # its daemon started: that alone is no judgement
        assert state_of(driver, 1) == "lost"
        for _ in range(2):
            assert driver.run(JudgeDisk(disk=1, is_lost=False)) == Done()
            assert state_of(driver, 1) == state


def test_a_disk_whose_drain_was_cancelled_does_not_drain_when_it_is_back(driver: Driver) -> None:
    for state in ("draining", "in"):
        driver.run(SetDiskState(disk=1, state=state))
    driver.run(JudgeDisk(disk=1, is_lost=True))
    driver.run(JudgeDisk(disk=1, is_lost=False))
    assert state_of(driver, 1) == "in"


def test_nothing_brings_a_removed_disk_back(driver: Driver) -> None:
    driver.run(SetDiskState(disk=1, state="removed"))
    for is_lost in (True, False):
        assert driver.run(JudgeDisk(disk=1, is_lost=is_lost)) == Done()
        assert state_of(driver, 1) == "removed"
    assert refusal(driver.run(JudgeDisk(disk=99, is_lost=True))) == "NoSuchNode"


@pytest.mark.parametrize(
    ("disk", "state", "code"), [(99, "in", "NoSuchNode"), (1, "gone", "InvalidArgument")]
)
def test_disk_state_refusals(driver: Driver, disk: int, state: str, code: str) -> None:
    assert refusal(driver.run(SetDiskState(disk=disk, state=state))) == code


def test_heartbeats_are_merged_into_the_description(driver: Driver) -> None:
    census = DiskCensus(
        generation=1, begun_at_ms=1, finished_at_ms=2, expected=5, present=4, missing=1
    )
    disk = DiskSoft(capacity_bytes=5, free_bytes=4, writable=False, problem="full", census=census)
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
    assert (silent.disks[0].census, heard.disks[0].census) == (None, census)
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
