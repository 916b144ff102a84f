"""Shards are spread, in proportion to weight, and a new disk moves only its share."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osscore.errors import DiskFailing, DiskFull, TooFewNodes
from osscore.model import CodingKind, Profile, reed_solomon, replicas
from osscore.placement import Obstacle, Target, default_profile, place, replacement
from osscore.quorum import acknowledged

PROFILES = st.sampled_from(
    [Profile.parse(p) for p in ("1+1", "2+1", "3+2", "4+2", "6+3", "8+4", "16+8", "8+1")]
)
STRIPES = st.binary(min_size=16, max_size=16)


def stripe_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def cluster(nodes: int, *, disks: int = 1, zones: int = 1, weight: float = 1.0) -> list[Target]:
    return [
        Target(
            disk=node * disks + disk + 1, node=f"n{node}", zone=f"z{node % zones}", weight=weight
        )
        for node in range(nodes)
        for disk in range(disks)
    ]


@st.composite
def clusters(draw, nodes_min: int = 2):
    """Nodes with one to three disks of various weights in a few zones."""
    targets = []
    for node in range(draw(st.integers(nodes_min, 14))):
        zone = f"z{draw(st.integers(0, 3))}"
        for _ in range(draw(st.integers(1, 3))):
            weight = draw(st.floats(0.1, 1_000))
            targets.append(Target(len(targets) + 1, f"n{node}", zone, weight))
    return targets


def by_disk(targets) -> dict[int, Target]:
    return {target.disk: target for target in targets}


@given(stripe=STRIPES, profile=PROFILES, targets=clusters())
@settings(deadline=None)
def test_every_shard_has_a_living_disk_and_one_node_may_die(stripe, profile, targets):
    placement = place(stripe, profile, targets)
    known = by_disk(targets)
    assert len(placement.disks) == placement.coding.shard_count
    holders = [(index, known[disk].node) for index, disk in enumerate(placement.disks)]
    assert acknowledged(placement.coding, holders)
    most = max(Counter(node for _, node in holders).values())
    assert most <= max(1, placement.coding.parity_count)


@given(stripe=STRIPES, profile=PROFILES, targets=clusters())
@settings(deadline=None)
def test_shards_lie_as_evenly_on_nodes_as_can_be(stripe, profile, targets):
    placement = place(stripe, profile, targets)
    nodes = {target.node for target in targets}
    known = by_disk(targets)
    per_node = Counter(known[disk].node for disk in placement.disks)
    counts = [per_node[node] for node in nodes]
    assert max(counts) - min(counts) <= 1
    is_spread = placement.coding.kind is CodingKind.REED_SOLOMON and max(counts) == 1
    assert placement.under_spread == (not is_spread)


@given(stripe=STRIPES, profile=PROFILES, targets=clusters())
@settings(deadline=None)
def test_replicas_only_where_the_code_cannot_bear_a_node(stripe, profile, targets):
    placement = place(stripe, profile, targets)
    nodes = {target.node for target in targets}
    needed = -(-profile.shard_count // profile.parity_count)
    if len(nodes) >= needed:
        assert placement.coding == reed_solomon(profile)
    else:
        assert placement.coding == replicas(min(len(nodes), profile.parity_count + 1))
        assert len({by_disk(targets)[disk].node for disk in placement.disks}) == len(
            placement.disks
        )


@given(stripe=STRIPES, profile=PROFILES, targets=clusters(), seed=st.randoms())
@settings(deadline=None)
def test_the_order_of_the_targets_does_not_matter(stripe, profile, targets, seed):
    shuffled = list(targets)
    seed.shuffle(shuffled)
    assert place(stripe, profile, shuffled) == place(stripe, profile, targets)


@given(stripe=STRIPES, zones=st.integers(1, 6))
def test_zones_share_evenly_where_their_nodes_allow(stripe, zones):
    targets = cluster(12 * zones, zones=zones)
    placement = place(stripe, Profile(4, 2), targets)
    per_zone = Counter(by_disk(targets)[disk].zone for disk in placement.disks)
    counts = [per_zone[f"z{zone}"] for zone in range(zones)]
    assert max(counts) - min(counts) <= 1


@given(stripe=STRIPES)
def test_several_shards_of_a_node_lie_on_its_different_disks(stripe):
    placement = place(stripe, Profile(4, 2), cluster(3, disks=2))
    assert placement.coding == reed_solomon(Profile(4, 2))
    assert len(set(placement.disks)) == 6


@given(stripe=STRIPES, profile=PROFILES)
@settings(deadline=None)
def test_a_new_disk_only_takes_shards_for_itself(stripe, profile):
    before = cluster(profile.shard_count + 2)
    new = Target(disk=999, node="new", zone="z0", weight=1.0)
    old_disks = set(place(stripe, profile, before).disks)
    new_disks = set(place(stripe, profile, [*before, new]).disks)
    assert new_disks - old_disks <= {999}
    assert len(old_disks - new_disks) <= 1


def test_a_new_disk_gets_its_fair_share():
    before = cluster(10)
    new = Target(disk=999, node="new", zone="z0", weight=1.0)
    stripes = [stripe_of(number) for number in range(2_000)]
    moved = sum(999 in place(stripe, Profile(4, 2), [*before, new]).disks for stripe in stripes)
    assert moved / len(stripes) == pytest.approx(6 / 11, abs=0.05)


def test_disks_of_a_node_share_by_weight():
    targets = [*cluster(4), Target(100, "big", "z0", 1.0), Target(101, "big", "z0", 3.0)]
    counts: Counter[int] = Counter()
    for number in range(3_000):
        counts.update(place(stripe_of(number), Profile(2, 1), targets).disks)
    assert counts[101] / counts[100] == pytest.approx(3, rel=0.2)


def test_nodes_share_by_weight():
    # Many nodes: with few of them no node can hold more than one shard of a stripe.
    targets = cluster(40) + [Target(100 + n, f"big{n}", "z0", 2.0) for n in range(10)]
    counts: Counter[int] = Counter()
    for number in range(2_000):
        counts.update(place(stripe_of(number), Profile(2, 1), targets).disks)
    small = sum(counts[disk] for disk in range(1, 41)) / 40
    big = sum(counts[disk] for disk in range(100, 110)) / 10
    assert big / small == pytest.approx(2, rel=0.12)


def test_disks_without_weight_get_nothing():
    targets = [*cluster(3), Target(50, "n9", "z0", 0.0)]
    for number in range(50):
        assert 50 not in place(stripe_of(number), Profile(2, 1), targets).disks


@pytest.mark.parametrize("targets", [[], cluster(1, disks=3), cluster(1) + cluster(1, weight=0)])
def test_below_two_nodes_the_error_says_what_is_missing(targets):
    with pytest.raises(TooFewNodes) as raised:
        place(stripe_of(1), Profile(4, 2), targets)
    assert "4+2" in raised.value.message
    assert "at least 2 living blob daemons" in raised.value.message
    assert ("n0" if targets else "none") in raised.value.message


def hindered(**obstacles: Obstacle) -> list[Target]:
    """A disk a node; `a_2` is the second disk of a."""
    return [
        Target(number, name[0], "z", float(obstacle is Obstacle.NONE), obstacle)
        for number, (name, obstacle) in enumerate(obstacles.items(), start=1)
    ]


NONE, FULL, READ_ONLY, SILENT = Obstacle


@pytest.mark.parametrize(
    ("targets", "kind", "told"),
    [
        (hindered(a=FULL, b=FULL), DiskFull, "writable now: none; full: a, b."),
        (hindered(a=NONE, b=FULL, c=SILENT), DiskFull, "now: a; full: b; silent: c."),
        (hindered(a=FULL, b=READ_ONLY), DiskFailing, "now: none; full: a; read-only: b."),
        (hindered(a=NONE, b=READ_ONLY, c=READ_ONLY), DiskFailing, "now: a; read-only: b, c."),
        (hindered(a=NONE, b=SILENT), TooFewNodes, "now: a; silent: b."),
        (hindered(a=FULL, b=SILENT, c=SILENT), TooFewNodes, "none; full: a; silent: b, c."),
        (hindered(a=FULL, a_2=NONE, b=READ_ONLY, b_2=FULL), DiskFull, "now: a; full: b."),
    ],
)
def test_the_error_is_of_the_easiest_remedy_and_names_every_cause(targets, kind, told):
    with pytest.raises(kind) as raised:
        place(stripe_of(1), Profile(2, 1), targets)
    assert type(raised.value) is kind
    assert told in raised.value.message


def test_writes_go_on_with_one_node_of_three_dead():
    # SAFETY rule 8: 2+1 on three nodes with one dead, and 4+2 likewise.
    for profile, copies in ((Profile(2, 1), 2), (Profile(4, 2), 2)):
        placement = place(stripe_of(3), profile, cluster(2))
        assert placement.coding == replicas(copies)
        assert placement.under_spread


def test_the_default_profile_follows_the_node_count():
    assert [str(default_profile(count)) for count in (2, 3, 5, 6, 40)] == [
        "2+1", "2+1", "2+1", "4+2", "4+2",
    ]  # fmt: skip


@given(stripe=STRIPES, profile=PROFILES, targets=clusters(), data=st.data())
@settings(deadline=None)
def test_a_replacement_keeps_the_spread(stripe, profile, targets, data):
    placement = place(stripe, profile, targets)
    coding = placement.coding
    known = by_disk(targets)
    index = data.draw(st.integers(0, coding.shard_count - 1))
    failed = known[placement.disks[index]]
    taken = [known[disk] for i, disk in enumerate(placement.disks) if i != index]
    others = [target for target in targets if target.node != failed.node]
    found = replacement(stripe, index, coding, taken, others)
    node_max = 1 if coding.kind is CodingKind.REPLICA else coding.parity_count
    per_node = Counter(target.node for target in taken)
    room = {target.node for target in others if per_node[target.node] < node_max}
    if found is None:
        assert not room
    else:
        assert found in others
        assert per_node[found.node] == min(per_node[node] for node in room)


def test_replacements_of_one_node_go_to_several():
    targets = cluster(30)
    taken = targets[:4]
    found = {replacement(stripe_of(1), i, reed_solomon(Profile(4, 2)), taken, targets[6:])
             for i in range(20)}  # fmt: skip
    assert len(found) > 5


def test_two_replicas_never_share_a_node():
    targets = cluster(3, disks=2)
    taken = [targets[0], targets[2]]
    for number in range(30):
        found = replacement(stripe_of(number), 2, replicas(3), taken, targets)
        assert found is not None
        assert found.node == "n2"
    assert replacement(stripe_of(1), 2, replicas(3), taken, targets[:4]) is None


def test_no_replacement_without_weight():
    targets = cluster(3, weight=0.0)
    assert replacement(stripe_of(1), 0, replicas(2), [], targets) is None


def test_draws_do_not_follow_the_stripe_order():
    firsts = [place(stripe_of(n), Profile(2, 1), cluster(8)).disks[0] for n in range(200)]
    repeats = sum(one == other for one, other in pairwise(firsts))
    assert repeats < 60
