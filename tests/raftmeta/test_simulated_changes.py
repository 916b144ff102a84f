"""Members change while everything goes wrong (simulated_cluster.py judges)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from osscore.errors import Conflict, NotReady, QuorumAtRisk
from raftmeta.engine import Applied
from raftmeta.members import Member
from raftmeta.membership import Addition, Removal
from tests.raftmeta.misfortunes import chaos
from tests.raftmeta.simulated_cluster import Broken, Cluster, wrapped
from tests.raftmeta.test_simulated_cluster import SEEDS


def member(name: str) -> Member:
    return Member(id=name, raft=f"{name}:1", url=f"http://{name}")


def change_until_done(cluster: Cluster, change: Addition | Removal, within_s: float = 60) -> None:
    """What an operator does: again until it is done or was done."""
    until_s = cluster.network.now_s + within_s
    wanted = isinstance(change, Addition)
    name = change.member.id if isinstance(change, Addition) else change.member_id
    while cluster.network.now_s < until_s:
        cluster.leader()
        cluster.change(change)
        cluster.write()
        cluster.run(0.3)
        if any(each.id == name for each in cluster.committed_configuration().members) == wanted:
            return
    raise Broken(f"{change} did not come about")


def let_learners_follow(cluster: Cluster) -> Any:
    """A leader under which every learner has a copy and the log; answers it."""
    cluster.leader()
    cluster.write()
    cluster.run(8)
    leader = cluster.leader()
    assert set(leader.membership.learners) == {
        name for name, each in cluster.members.items() if each.is_learner
    }
    return leader


@pytest.mark.parametrize("seed", range(SEEDS * 2))
def test_members_come_and_go_under_every_misfortune(seed):
    cluster = Cluster(seed, 3, 3)
    chaos(cluster, 150, members_change=True)
    cluster.settle()
    assert cluster.acknowledged and cluster.reads


@given(seed=st.integers(1000, 1 << 32), founders=st.integers(1, 4))
@hypothesis_settings(max_examples=10, deadline=None)
def test_members_come_and_go_under_seeds_nobody_chose(seed, founders):
    cluster = Cluster(seed, founders, 5 - founders)
    chaos(cluster, 100, members_change=True)
    cluster.settle()


@pytest.mark.parametrize("seed", range(3))
def test_three_grow_to_five_and_shrink_to_three_others_while_leaders_die(seed):
    cluster = Cluster(seed, 3, 2)
    steps = [Addition(member("m4")), Addition(member("m5")), Removal("m1"), Removal("m2")]
    for change in steps:
        name = change.member.id if isinstance(change, Addition) else change.member_id
        if cluster.leader().id == name:
            cluster.give_away()
            cluster.run(3)
        change_until_done(cluster, change)
        for _ in range(5):
            cluster.write()
            cluster.run(0.05)
        dead = cluster.leader().id
        cluster.kill(dead)
        cluster.run(3)
        cluster.start(dead)
    cluster.settle()
    assert [each.id for each in cluster.committed_configuration().members] == ["m3", "m4", "m5"]
    cluster.run(10)
    assert cluster.members["m1"].removed and cluster.members["m2"].removed
    assert len(cluster.acknowledged) >= 15


def test_dead_member_is_replaced_by_an_empty_one():
    cluster = Cluster(7, 3, 1)
    dead = next(name for name in ("m1", "m2", "m3") if name != cluster.leader().id)
    cluster.kill(dead)
    for _ in range(40):
        cluster.write()
        cluster.run(0.05)
        cluster.cut_logs()
    change_until_done(cluster, Addition(member("m4")))
    change_until_done(cluster, Removal(dead))
    other = next(n for n in ("m1", "m2", "m3") if n not in (dead, cluster.leader().id))
    cluster.kill(other)  # the new one has to be of use now
    before = len(cluster.acknowledged)
    for _ in range(10):
        cluster.write()
        cluster.run(0.3)
    assert len(cluster.acknowledged) > before


def test_removed_member_that_returns_disturbs_nobody_and_stays_quiet():
    cluster = Cluster(8, 4)
    leader = cluster.leader().id
    away = next(name for name in cluster.members if name != leader)
    cluster.kill(away)
    change_until_done(cluster, Removal(away))
    term = cluster.leader().engine.core.term
    cluster.start(away)
    cluster.run(1.5)  # it stands, as far as it may
    cluster.run(10)
    assert cluster.members[away].removed
    assert cluster.leader().engine.core.term == term
    assert max(cluster.leaders) == term


def test_removed_member_wiped_and_added_again_is_a_member_like_any_other():
    cluster = Cluster(9, 3)
    away = next(name for name in cluster.members if name != cluster.leader().id)
    change_until_done(cluster, Removal(away))
    cluster.run(10)
    assert cluster.members[away].removed
    cluster.wipe(away)
    change_until_done(cluster, Addition(member(away)))
    cluster.settle()
    assert cluster.members[away].machine.applied


def test_lead_is_given_away_without_a_lost_write_and_within_an_election():
    cluster = Cluster(10)
    leader = cluster.leader()
    to = next(name for name in cluster.members if name != leader.id)
    term = leader.engine.core.term
    cluster.write()
    cluster.give_away(to)
    cluster.run(1.0)
    assert cluster.given_away == 1
    assert cluster.leaders[term + 1] == to and cluster.leader().id == to
    cluster.settle()


def test_lead_stays_where_it_is_if_the_chosen_one_is_cut_off():
    cluster = Cluster(11)
    leader = cluster.leader()
    to = next(name for name in cluster.members if name != leader.id)
    cluster.network.cut |= {(leader.id, to)}
    cluster.give_away(to)
    for _ in range(20):
        cluster.write()
        cluster.run(0.3)
    assert cluster.leader().id == leader.id
    cluster.settle()


def test_change_that_only_the_cut_off_leader_has_is_rolled_back():
    cluster = Cluster(12, 3, 1)
    old = let_learners_follow(cluster)
    for other in ("m1", "m2", "m3"):
        if other != old.id:
            cluster.network.cut |= {(old.id, other), (other, old.id)}
    old.engine.propose_change(Addition(member("m4")), wrapped, lambda outcome: None)
    cluster.run(0.3)
    assert old.membership.latest.member("m4")
    assert cluster.members["m4"].membership.latest.member("m4")
    cluster.run(5)
    assert cluster.leader().id != old.id
    cluster.network.cut.clear()
    cluster.settle()
    cluster.run(8)
    assert cluster.committed_configuration().index == 0
    assert all(each.membership.latest.member("m4") is None for each in cluster.members.values())


def test_learner_counts_for_nothing():
    cluster = Cluster(13, 3, 1)
    leader = let_learners_follow(cluster)
    assert cluster.members["m4"].machine.applied_index == leader.machine.applied_index
    for name in ("m1", "m2", "m3"):
        if name != leader.id:
            cluster.kill(name)
    acknowledged, reads = len(cluster.acknowledged), cluster.reads
    cluster.write()
    cluster.read()
    cluster.run(10)
    assert (len(cluster.acknowledged), cluster.reads) == (acknowledged, reads)
    assert not leader.engine.core.is_leader
    assert cluster.members["m4"].engine.core.is_leader is False


def test_second_change_waits_for_the_first():
    cluster = Cluster(14, 3, 2)
    let_learners_follow(cluster)
    first = cluster.change(Addition(member("m4")))
    second = cluster.change(Addition(member("m5")))
    cluster.run(2)
    assert isinstance(first[0], Applied)
    assert isinstance(second[0], Conflict)


def test_change_that_would_leave_no_majority_is_refused():
    cluster = Cluster(15, 3)
    leader = cluster.leader().id
    dead, living = (name for name in cluster.members if name != leader)
    cluster.kill(dead)
    cluster.run(3)
    found = cluster.change(Removal(living))
    cluster.run(1)
    assert isinstance(found[0], QuorumAtRisk)
    assert isinstance(cluster.change(Removal(dead)), list)
    cluster.run(1)
    assert [each.id for each in cluster.committed_configuration().members] == sorted(
        (leader, living)
    )


def test_newcomer_that_does_not_follow_is_refused():
    cluster = Cluster(16, 3, 1)
    let_learners_follow(cluster)
    cluster.kill("m4")
    cluster.run(2)
    found = cluster.change(Addition(member("m4")))
    cluster.run(1)
    assert isinstance(found[0], NotReady)
    assert cluster.committed_configuration().index == 0
