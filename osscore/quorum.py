"""When a write counts as durable (SAFETY rule 7)."""

from collections import Counter
from collections.abc import Sequence

from osscore.model import Coding


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
