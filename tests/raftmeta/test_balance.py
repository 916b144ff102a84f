"""Evening out how full disks are: it ends, moves no more than it must, and keeps shards apart."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osscore.model import Profile
from raftmeta.moving import REBALANCE, StripesOfDisk
from raftmeta.stewards import fleet
from raftmeta.stewards.relocating import FUTILE_REST_S
from tests.raftmeta.healing_stage import GIB, Stage

TWO_ONE = Profile(2, 1)
SHARD = 1 << 20


def loads(stage: Stage) -> dict[int, int]:
    """Bytes by disk."""
    return {disk.disk: disk.slot_bytes for node in stage.described().nodes for disk in node.disks}


def shares(stage: Stage) -> dict[int, float]:
    """What each disk should hold."""
    capacity = {disk: soft.capacity_bytes for disk, soft in stage.soft.items()}
    total, whole = sum(loads(stage).values()), sum(capacity.values())
    return {disk: total * capacity[disk] / whole for disk in capacity}


def is_even(stage: Stage, percent: float = 5.0) -> bool:
    """Whether every disk is within so much of its share, or a shard of it."""
    held = loads(stage)
    return all(
        abs(held[disk] - fair) <= max(fair * percent / 100, SHARD)
        for disk, fair in shares(stage).items()
    )


def stage_of(folder: Path, *capacities: int) -> Stage:
    stage = Stage(folder)
    for capacity in capacities:
        stage.add_node(capacity * GIB)
    return stage


def test_new_nodes_get_their_share_and_then_it_is_quiet(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, 100, 100, 100)
    for _ in range(80):
        stage.put([1, 2, 3], profile=TWO_ONE, shard_bytes=SHARD)
    stage.plan(2)
    assert stage.tasks() == []
    for _ in range(3):
        stage.add_node(100 * GIB)
    stage.plan()
    assert {task.reason for task in stage.tasks()} == {REBALANCE}
    assert stage.steward.state.rebalance_bytes == 240 * SHARD // 2
    moved = stage.heal()
    assert is_even(stage) and moved <= 120
    assert all(len({each.disk for each in s.slots}) == 3 for s in stage.stripes())
    before = stage.driver.index
    stage.plan(3)
    stage.clock.advance(FUTILE_REST_S)
    stage.plan(3)
    assert stage.driver.index == before and stage.steward.state.rebalance_bytes == 0
    assert stage.driver.catalog.contradictions() == []


def test_no_stripe_is_read_while_the_new_disks_have_enough_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader would go over pages of stripes twice a second, and all who ask it would wait."""
    monkeypatch.setattr(fleet, "TASKS_PER_TARGET", 8)
    stage = stage_of(tmp_path, 100, 100, 100)
    for _ in range(80):
        stage.put([1, 2, 3], profile=TWO_ONE, shard_bytes=SHARD)
    stage.add_node(100 * GIB)
    stage.plan()
    assert len(stage.tasks()) == 2  # a quarter of its part
    asked: list[object] = []
    answer = stage._answer
    monkeypatch.setattr(
        stage, "_answer", lambda query, kind: (asked.append(query), answer(query, kind))[1]
    )
    stage.plan()
    assert not [query for query in asked if isinstance(query, StripesOfDisk)]
    assert stage.heal() and is_even(stage)


def test_a_larger_disk_gets_more(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, 100, 100, 100)
    for _ in range(80):
        stage.put([1, 2, 3], profile=TWO_ONE, shard_bytes=SHARD)
    stage.add_node(100 * GIB)
    stage.add_node(200 * GIB)
    stage.heal()
    assert is_even(stage)
    held = loads(stage)
    assert held[5] / held[4] == pytest.approx(2, rel=0.1)


def test_small_differences_are_left_alone(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, 100, 100, 100, 100)
    for number in range(100):
        stage.put(
            [1 + (number + step) % 4 for step in range(3)], profile=TWO_ONE, shard_bytes=SHARD
        )
    for _ in range(2):
        stage.put([1, 2, 3], profile=TWO_ONE, shard_bytes=SHARD)
    assert not is_even(stage, 0.1) or len(set(loads(stage).values())) > 1
    before = stage.driver.index
    stage.plan(3)
    assert stage.driver.index == before


def test_zones_are_kept_apart(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    for zone in ("a", "b", "c"):
        stage.add_node(100 * GIB, zone=zone)
    for _ in range(60):
        stage.put([1, 2, 3], profile=TWO_ONE, shard_bytes=SHARD)
    for zone in ("a", "b", "c"):
        stage.add_node(100 * GIB, zone=zone)
    stage.heal()
    assert is_even(stage)
    zone_of = {disk.disk: node.zone for node in stage.described().nodes for disk in node.disks}
    assert all(len({zone_of[slot.disk] for slot in each.slots}) == 3 for each in stage.stripes())


def test_what_cannot_be_evened_out_is_not_tried_for_ever(tmp_path: Path) -> None:
    """Three nodes at 2+1 hold one shard of each stripe, whatever their disks can take."""
    stage = stage_of(tmp_path, 100, 100, 400)
    for _ in range(30):
        stage.put([1, 2, 3], profile=TWO_ONE, shard_bytes=SHARD)
    before = stage.driver.index
    reads: list[object] = []
    answer = stage._answer

    async def counted(query, kind):  # type: ignore[no-untyped-def]
        reads.append(query)
        return await answer(query, kind)

    stage._answer = counted  # type: ignore[method-assign]
    stage.plan(2)
    walked = [each for each in reads if type(each).__name__ == "StripesOfDisk"]
    assert stage.driver.index == before and len(walked) <= 4


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_it_ends_moves_what_it_must_and_stops(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any cluster, any placement that keeps shards on nodes of their own."""
    stage = Stage(tmp_path_factory.mktemp("stage"))
    for _ in range(data.draw(st.integers(3, 8), label="nodes")):
        sizes = data.draw(
            st.lists(st.sampled_from([50, 100, 200]), min_size=1, max_size=2), label="disks"
        )
        zone = data.draw(st.sampled_from(["", "a", "b", "c"]), label="zone")
        stage.add_node(*(size * GIB for size in sizes), zone=zone)
    names = sorted(stage.nodes)
    zone_of = {node.node: node.zone for node in stage.described().nodes}
    owner = {disk: name for name, disks in stage.nodes.items() for disk in disks}
    skew = data.draw(st.integers(3, len(names)), label="used")
    for number in range(data.draw(st.integers(5, 60), label="stripes")):
        chosen = [names[(number + step) % skew] for step in range(3)]
        stage.put(
            [stage.nodes[name][number % len(stage.nodes[name])] for name in chosen],
            profile=TWO_ONE,
            shard_bytes=SHARD * data.draw(st.sampled_from([1, 1, 2, 8])),
        )
    spread = {
        each.row: Counter(zone_of[owner[slot.disk]] for slot in each.slots).most_common(1)[0][1]
        for each in stage.stripes()
    }
    held = loads(stage)
    needed = sum(max(0.0, held[disk] - fair) for disk, fair in shares(stage).items())
    largest = max(each.shard_bytes for each in stage.stripes())
    stage.heal()
    counted = stage.counted()
    assert counted.moved_bytes <= needed + len(owner) * largest
    for each in stage.stripes():
        nodes = [owner[slot.disk] for slot in each.slots]
        assert len(set(nodes)) == 3
        assert Counter(zone_of[node] for node in nodes).most_common(1)[0][1] <= spread[each.row]
    before = stage.driver.index
    stage.plan(3)
    stage.new_leader()
    stage.plan(5)
    assert stage.driver.index == before
    assert stage.driver.catalog.contradictions() == []
    stage.driver.catalog.close()
