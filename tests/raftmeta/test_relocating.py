"""Draining disks and spreading stripes: what moves, what waits, and that it ends."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osscore.model import Profile, replicas
from raftmeta.commands import Collected, DeleteVersion, Done, SetDiskState
from raftmeta.healing import DrainDisk, JudgeDisk, PauseWork
from raftmeta.moving import DRAIN, SPREAD
from raftmeta.stewards import fleet
from tests.raftmeta.catalog.harness import GRACE_MS, MINUTE_MS, refusal
from tests.raftmeta.healing_stage import GIB, Stage

FOUR_TWO, TWO_ONE = Profile(4, 2), Profile(2, 1)


def stage_of(folder: Path, nodes: int) -> Stage:
    """Nodes of a disk each, numbered alike."""
    stage = Stage(folder)
    for _ in range(nodes):
        stage.add_node(100 * GIB)
    return stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return stage_of(tmp_path, 7)


def drain(stage: Stage, disk: int, *, drains: bool = True) -> None:
    assert stage.driver.run(DrainDisk(disk=disk, drains=drains)) == Done()


def slots_on(stage: Stage, disk: int) -> int:
    (info,) = [d for n in stage.described().nodes for d in n.disks if d.disk == disk]
    return info.slot_count


def test_a_draining_disk_ends_with_no_slots_and_can_be_removed(stage: Stage) -> None:
    rows = [stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO) for _ in range(20)]
    drain(stage, 3)
    remove = SetDiskState(disk=3, state="removed")
    refused = stage.driver.run(remove)
    assert refusal(refused) == "Conflict" and "20 shards of 10000 bytes" in refused.message  # type: ignore[union-attr]
    stage.plan()
    assert {(t.reason, t.disk, t.target) for t in stage.tasks()} == {(DRAIN, 3, 7)}
    assert stage.heal() == 20
    assert slots_on(stage, 3) == 0 and slots_on(stage, 7) == 20
    assert all(stage.disks_of(row) == [1, 2, 7, 4, 5, 6] for row in rows)
    assert stage.driver.run(remove) == Done()
    stage.silent.add(3)
    assert "blob-3" not in {node.node for node in stage.described().nodes}


def test_a_cancelled_drain_stops_at_once_and_can_go_on(stage: Stage) -> None:
    for _ in range(10):
        stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    drain(stage, 3)
    stage.plan()
    assert len(stage.tasks()) == 10
    drain(stage, 3, drains=False)
    stage.plan(3)
    assert stage.tasks() == [] and slots_on(stage, 3) == 10
    drain(stage, 3)
    assert stage.heal() == 10


def test_a_drain_survives_a_lost_disk_and_a_new_leader(stage: Stage) -> None:
    stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    stage.driver.run(JudgeDisk(disk=3, is_lost=True))
    drain(stage, 3)
    assert stage.described().nodes[2].disks[0].state == "lost"
    stage.driver.run(JudgeDisk(disk=3, is_lost=False))
    stage.new_leader()
    assert stage.heal() == 1 and slots_on(stage, 3) == 0


def test_draining_waits_rather_than_bring_shards_together(stage: Stage) -> None:
    row = stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    drain(stage, 3)
    stage.silent.add(7)
    stage.plan(3)
    assert stage.tasks() == []
    stage.silent.clear()
    assert stage.heal() == 1 and len(set(stage.disks_of(row))) == 6


def test_a_disk_drains_onto_the_other_disk_of_its_node(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    for _ in range(3):
        stage.add_node(100 * GIB, 100 * GIB)
    rows = [stage.put([1, 3, 5], profile=TWO_ONE) for _ in range(5)]
    drain(stage, 1)
    assert stage.heal() == 5
    assert {tuple(stage.disks_of(row)) for row in rows} == {(2, 3, 5)}


def test_repair_finds_room_beside_a_drain(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "TASKS_PER_TARGET", 4)
    for _ in range(10):
        stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    drain(stage, 3)
    stage.plan()
    assert Counter(task.reason for task in stage.tasks()) == {DRAIN: 2}
    stage.silent.add(1)
    stage.driver.run(JudgeDisk(disk=1, is_lost=True))
    stage.plan()
    assert Counter(task.reason for task in stage.tasks())["repair"] == 2
    stage.heal()
    assert (slots_on(stage, 1), slots_on(stage, 3)) == (0, 8)  # five nodes are left for six shards
    stage.add_node(100 * GIB)
    stage.heal()
    assert slots_on(stage, 3) == 0


def test_paused_rebalancing_stops_drains_and_not_repair(stage: Stage) -> None:
    stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    drain(stage, 3)
    stage.plan()
    assert len(stage.tasks()) == 1
    stage.driver.run(PauseWork(work="rebalance", paused=True))
    stage.silent.add(1)
    stage.driver.run(JudgeDisk(disk=1, is_lost=True))
    stage.plan(2)
    assert [task.reason for task in stage.tasks()] == ["repair"]
    assert stage.described().paused == ("rebalance",)
    assert refusal(stage.driver.run(PauseWork(work="sleep", paused=True))) == "InvalidArgument"


def test_shards_of_deleted_objects_keep_a_disk_until_they_are_collected(stage: Stage) -> None:
    stage.put([1, 2, 3, 4, 5, 6], profile=FOUR_TWO)
    stage.driver.run(DeleteVersion(bucket="bucket", key="k1", number=1))
    drain(stage, 3)
    stage.plan(2)
    assert stage.tasks() == [] and slots_on(stage, 3) == 1
    stage.driver.pass_time(GRACE_MS + MINUTE_MS)
    while stage.driver.collect() != Collected():
        pass
    assert slots_on(stage, 3) == 0
    assert stage.driver.run(SetDiskState(disk=3, state="removed")) == Done()


def test_crowded_shards_go_apart_when_nodes_come(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, 4)
    rows = [stage.put([1, 1, 2, 2, 3, 4], profile=FOUR_TWO) for _ in range(8)]
    stage.plan(3)
    assert stage.tasks() == []
    stage.add_node(100 * GIB)
    stage.plan()
    assert {(task.reason, task.target) for task in stage.tasks()} == {(SPREAD, 5)}
    stage.heal()
    assert all(len(set(stage.disks_of(row))) == 5 for row in rows)
    stage.add_node(100 * GIB)
    assert stage.heal() == 8
    assert all(len(set(stage.disks_of(row))) == 6 for row in rows)
    before = stage.driver.index
    stage.plan(3)
    assert stage.driver.index == before
    assert stage.driver.catalog.contradictions() == []


def test_replicas_are_not_spread_but_recoded_by_others(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, 5)
    stage.put([1, 2], profile=FOUR_TWO, coding=replicas(2))
    stage.plan(2)
    assert stage.tasks() == []


@settings(max_examples=20, deadline=None)
@given(data=st.data(), nodes=st.integers(4, 9))
def test_any_drain_ends_and_never_brings_shards_together(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, nodes: int
) -> None:
    stage = Stage(tmp_path_factory.mktemp("stage"))
    for _ in range(nodes):
        capacities = data.draw(st.lists(st.just(100 * GIB), min_size=1, max_size=2))
        stage.add_node(*capacities)
    owner = {disk: node for node, disks in stage.nodes.items() for disk in disks}
    rows = []
    for _ in range(data.draw(st.integers(1, 10))):
        chosen = data.draw(st.permutations(sorted(stage.nodes)))[:3]
        disks = [data.draw(st.sampled_from(stage.nodes[node])) for node in chosen]
        rows.append(stage.put(disks, profile=TWO_ONE))
    drained = data.draw(st.sampled_from(sorted(owner)))
    drain(stage, drained)
    stage.heal()
    assert slots_on(stage, drained) == 0
    for row in rows:
        assert len({owner[disk] for disk in stage.disks_of(row)}) == 3
    assert stage.driver.catalog.contradictions() == []
    stage.driver.catalog.close()
