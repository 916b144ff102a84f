"""Promises of the whole cluster under every misfortune (simulated_cluster.py judges)."""

import os

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.raftmeta.misfortunes import chaos
from tests.raftmeta.simulated_cluster import Cluster

SEEDS = int(os.environ.get("OSS_TEST_SIMULATED_SEEDS", "12"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_three_members_lose_no_acknowledged_write(seed):
    cluster = Cluster(seed)
    chaos(cluster, 120)
    cluster.settle()
    assert cluster.acknowledged and cluster.reads


@pytest.mark.parametrize("seed", range(SEEDS // 2))
def test_five_members_survive_wiped_disks_one_at_a_time(seed):
    cluster = Cluster(seed, 5)
    chaos(cluster, 100, wipes=True)
    cluster.settle()
    assert cluster.acknowledged


@given(seed=st.integers(100, 1 << 32), wipes=st.booleans())
@hypothesis_settings(max_examples=10, deadline=None)
def test_three_members_under_seeds_nobody_chose(seed, wipes):
    cluster = Cluster(seed)
    chaos(cluster, 80, wipes=wipes)
    cluster.settle()


def test_power_cut_of_all_members_at_once_loses_nothing_acknowledged():
    cluster = Cluster(1)
    for _ in range(12):
        cluster.run(2.5)
        for _ in range(20):
            cluster.write()
            cluster.run(0.03)
        for name in cluster.members:
            cluster.cut_power(name)
        for name in cluster.members:
            cluster.start(name)
    cluster.settle()
    assert len(cluster.acknowledged) > 50


def test_member_that_was_cut_off_does_not_depose_the_leader_when_it_returns():
    cluster = Cluster(2)
    cluster.run(5)
    (term, leader) = max(cluster.leaders.items())
    away = next(name for name in cluster.members if name != leader)
    for other in cluster.members:
        cluster.network.cut |= {(away, other), (other, away)}
    cluster.run(30)
    cluster.network.cut.clear()
    cluster.run(10)
    assert max(cluster.leaders.items()) == (term, leader)
    assert all(member.engine.core.term == term for member in cluster.members.values())


def test_leader_cut_off_from_the_majority_steps_down_and_serves_no_reads():
    cluster = Cluster(3)
    cluster.run(5)
    leader = max(cluster.leaders.items())[1]
    for other in cluster.members:
        cluster.network.cut |= {(leader, other), (other, leader)}
    indexes: list[int | None] = []
    cluster.members[leader].engine.confirm_read(indexes.append)
    cluster.run(5)
    assert indexes == [None]
    assert not cluster.members[leader].engine.core.is_leader
    assert len(cluster.leaders) > 1
    cluster.settle()


def test_follower_behind_the_cut_log_is_brought_back_by_a_copy():
    cluster = Cluster(4)
    cluster.run(5)
    leader = max(cluster.leaders.items())[1]
    away = next(name for name in cluster.members if name != leader)
    cluster.kill(away)
    for _ in range(60):
        cluster.write()
        cluster.run(0.05)
        cluster.cut_logs()
    cluster.settle()
    assert cluster.installs >= 1


def test_follower_briefly_away_needs_no_copy():
    cluster = Cluster(5)
    cluster.run(5)
    leader = max(cluster.leaders.items())[1]
    away = next(name for name in cluster.members if name != leader)
    cluster.kill(away)
    for _ in range(3):
        cluster.write()
        cluster.run(0.1)
        cluster.cut_logs()
    cluster.settle()
    assert cluster.installs == 0


def test_wiped_member_never_brings_back_a_leader_without_the_acknowledged_writes():
    for seed in range(6):
        cluster = Cluster(seed)
        cluster.run(5)
        leader = max(cluster.leaders.items())[1]
        behind, wiped = (name for name in cluster.members if name != leader)
        cluster.kill(behind)
        for _ in range(5):
            cluster.write()
            cluster.run(0.2)
        cluster.wipe(wiped)
        cluster.start(behind)
        cluster.run(0.3)
        cluster.kill(leader)
        cluster.run(10)
        cluster.settle()
        assert len(cluster.acknowledged) >= 5
