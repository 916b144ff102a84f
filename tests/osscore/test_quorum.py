"""SAFETY rule 7, compared with its own words."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from osscore.model import Profile, reed_solomon, replicas
from osscore.quorum import acknowledged, losses_survived

CODINGS = st.sampled_from(
    [reed_solomon(Profile.parse(p)) for p in ("1+1", "2+1", "3+2", "4+2", "6+3")]
    + [replicas(2), replicas(3), replicas(4)]
)
DURABLE = st.lists(st.tuples(st.integers(-1, 9), st.sampled_from("abcde")), max_size=14)


def by_the_words(coding, durable) -> bool:
    """k+1 distinct durable shards, and whichever node is lost, k are left."""
    real = [(index, node) for index, node in durable if 0 <= index < coding.shard_count]
    if len({index for index, _ in real}) < coding.data_count + 1:
        return False
    return all(
        len({index for index, node in real if node != lost}) >= coding.data_count
        for lost in {node for _, node in real}
    )


@given(coding=CODINGS, durable=DURABLE)
def test_acknowledged_is_the_rule(coding, durable):
    assert acknowledged(coding, durable) == by_the_words(coding, durable)


@given(coding=CODINGS, durable=DURABLE, extra=st.tuples(st.integers(0, 9), st.sampled_from("ab")))
def test_another_durable_shard_never_makes_it_worse(coding, durable, extra):
    if acknowledged(coding, durable):
        assert acknowledged(coding, [*durable, extra])


def test_k_shards_are_not_enough():
    coding = reed_solomon(Profile(4, 2))
    nodes = "abcdef"
    assert not acknowledged(coding, [(i, nodes[i]) for i in range(4)])
    assert acknowledged(coding, [(i, nodes[i]) for i in range(5)])


def test_two_shards_of_five_on_one_node_are_not_enough():
    coding = reed_solomon(Profile(4, 2))
    assert not acknowledged(coding, [(0, "a"), (1, "a"), (2, "b"), (3, "c"), (4, "d")])
    assert acknowledged(coding, [(0, "a"), (1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")])


def test_the_same_shard_twice_counts_once():
    coding = reed_solomon(Profile(2, 1))
    assert not acknowledged(coding, [(0, "a"), (0, "b"), (1, "c")])


def test_replicas_need_two_nodes():
    assert not acknowledged(replicas(2), [(0, "a"), (1, "a")])
    assert acknowledged(replicas(2), [(0, "a"), (1, "b")])


def survived_by_trial(coding, durable) -> int:
    real = {(index, place) for index, place in durable if 0 <= index < coding.shard_count}
    places = {place for _, place in real}
    survived = -1
    for count in range(len(places) + 1):
        for lost in combinations(places, count):
            left = {index for index, place in real if place not in lost}
            if len(left) < coding.data_count:
                return survived
        survived = count
    return survived


@given(coding=CODINGS, durable=DURABLE)
def test_losses_survived_is_never_too_high(coding, durable):
    assert losses_survived(coding, durable) <= survived_by_trial(coding, durable)
    once = list({index: (index, place) for index, place in durable}.values())
    assert losses_survived(coding, once) == survived_by_trial(coding, once)
