"""When a write counts as durable (SAFETY rule 7)."""

from collections import Counter
from collections.abc import Sequence

from osscore.model import Coding, CodingKind


def acknowledged(coding: Coding, durable: Sequence[tuple[int, str]]) -> bool:
    """Whether these durable shards, as (shard index, node id), make the stripe safe.

    Safe is: at least k+1 distinct shards, and the loss of any one node leaves k of them. A
    shard that two nodes hold counts once, but survives the loss of either. The caller counts
    only shards of the coding's present generation.
    """
    pairs = {(index, node) for index, node in durable if 0 <= index < coding.shard_count}
    holders = Counter(index for index, _ in pairs)
    if len(holders) <= coding.data_count:
        return False
    only_here = Counter(node for index, node in pairs if holders[index] == 1)
    worst_loss = max(only_here.values(), default=0)
    return len(holders) - worst_loss >= coding.data_count


def node_share_max(coding: Coding) -> int:
    """Most shards of a stripe that one node may hold: its loss must cost no more than m, and a
    second replica on one node is worth nothing."""
    return 1 if coding.kind is CodingKind.REPLICA else coding.parity_count


def losses_survived(coding: Coding, durable: Sequence[tuple[int, str]]) -> int:
    """How many of the places of these shards, as (shard index, place), may be lost whatever
    they are, and k shards are left; -1: there are fewer than k now.

    A place is a node, a disk or a zone. Shards that lie in two places are counted in the one
    whose loss hurts more, so the answer may be too low, never too high.
    """
    pairs = {(index, place) for index, place in durable if 0 <= index < coding.shard_count}
    left = len({index for index, _ in pairs})
    if left < coding.data_count:
        return -1
    lost = 0
    for _, count in Counter(place for _, place in pairs).most_common():
        left -= count
        if left < coding.data_count:
            break
        lost += 1
    return lost
