"""Which disks get the shards of a stripe: weighted rendezvous, spread over nodes and zones.

Every disk draws a number from (stripe, disk); the smallest numbers win. A draw does not depend
on the other disks, so one disk more moves only what it wins itself, and it is exponential with
the disk's weight as its rate, so a disk wins in proportion to its weight and a node in
proportion to the sum of its disks (Schindelhauer and Schomaker, "Weighted Distributed Hash
Tables", 2005).
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from osscore.errors import DiskFailing, DiskFull, TooFewNodes, Unavailable
from osscore.model import Coding, CodingKind, Profile, reed_solomon, replicas
from osscore.quorum import node_share_max

_NODES_MIN = 2
_NODES_FOR_WIDE_DEFAULT = 6


class Obstacle(Enum):
    """Why a disk takes no new shards; the value is the word for people."""

    NONE = "writable"
    FULL = "full"
    READ_ONLY = "read-only"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Target:
    """A disk that may get shards: its catalog number, its node and zone, and its share.

    `weight` 0: none. `obstacle`: why so.
    """

    disk: int
    node: str
    zone: str
    weight: float
    obstacle: Obstacle = Obstacle.NONE


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a new stripe goes: `disks[i]` takes shard i.

    `under_spread`: written as replicas, or with several shards on one node; to be written anew
    when nodes return (SAFETY rule 8).
    """

    coding: Coding
    disks: tuple[int, ...]
    under_spread: bool


def default_profile(node_count: int) -> Profile:
    """The profile of a write that asks for none: 4+2 from six living nodes on, else 2+1."""
    return Profile(4, 2) if node_count >= _NODES_FOR_WIDE_DEFAULT else Profile(2, 1)


def place(stripe: bytes, profile: Profile, targets: Sequence[Target]) -> Placement:
    """Choose a disk for every shard of a new stripe.

    `targets` are the disks; those of no weight get nothing. Shards go to distinct nodes, then
    distinct zones. With fewer nodes than shards they are spread as evenly as possible, as long
    as the loss of any one node costs at most m shards; else the stripe is written as replicas
    on distinct nodes. The same arguments give the same answer, in whatever order the targets
    come. Below two nodes it raises what hinders it: DiskFull, DiskFailing, TooFewNodes.
    """
    usable = [target for target in targets if target.weight > 0]
    nodes = {target.node for target in usable}
    if len(nodes) < _NODES_MIN:
        raise _refusal(profile, targets)
    coding = reed_solomon(profile)
    if -(-coding.shard_count // len(nodes)) > profile.parity_count:
        coding = replicas(max(_NODES_MIN, min(len(nodes), profile.parity_count + 1)))
    chosen: list[Target] = []
    draws = {target.disk: _draw(stripe, target) for target in usable}
    for _ in range(coding.shard_count):
        chosen.append(_next(usable, chosen, draws))
    return Placement(
        coding=coding,
        disks=tuple(target.disk for target in chosen),
        under_spread=coding.kind is CodingKind.REPLICA or len(nodes) < coding.shard_count,
    )


def replacement(
    stripe: bytes,
    index: int,
    coding: Coding,
    taken: Sequence[Target],
    targets: Sequence[Target],
) -> Target | None:
    """Where to try shard `index` after its first target failed, or None if nowhere.

    `taken` are the targets of the stripe's other shards. `targets` are the disks worth a try:
    the caller leaves out those that failed. No node gets more than m shards of a stripe, nor
    two replicas. Different indexes prefer different disks, so that the shards of a failed node
    do not all go to one other.
    """
    node_max = node_share_max(coding)
    per_node = Counter(target.node for target in taken)
    usable = [
        target for target in targets if target.weight > 0 and per_node[target.node] < node_max
    ]
    if not usable:
        return None
    # One byte behind the stripe's id makes another draw for each index.
    seed = stripe + bytes([index])
    draws = {target.disk: _draw(seed, target) for target in usable}
    return _next(usable, taken, draws)


def _next(usable: Iterable[Target], chosen: Sequence[Target], draws: dict[int, float]) -> Target:
    """The best disk for one more shard besides those chosen.

    Least loaded node first, then least loaded zone, then least loaded disk of the node, then
    the smallest draw.
    """
    per_node = Counter(target.node for target in chosen)
    per_zone = Counter(target.zone for target in chosen)
    per_disk = Counter(target.disk for target in chosen)

    def rank(target: Target) -> tuple[int, int, int, float, int]:
        return (
            per_node[target.node],
            per_zone[target.zone],
            per_disk[target.disk],
            draws[target.disk],
            target.disk,
        )

    return min(usable, key=rank)


def _draw(seed: bytes, target: Target) -> float:
    """An exponentially distributed number with rate `weight`, fixed by seed and disk."""
    digest = hashlib.blake2b(seed + target.disk.to_bytes(8, "big"), digest_size=8).digest()
    # Shifted by a half into the open interval (0, 1): the logarithm of 0 does not exist.
    uniform = ((int.from_bytes(digest, "big") >> 11) + 0.5) / (1 << 53)
    return -math.log(uniform) / target.weight


def _refusal(profile: Profile, targets: Sequence[Target]) -> Unavailable:
    """The error of the easiest remedy that would suffice: room, then working disks, then
    living nodes."""
    nodes = _nodes_by_obstacle(targets)
    message = _what_is_missing(profile, nodes)
    at_hand = len(nodes[Obstacle.NONE]) + len(nodes[Obstacle.FULL])
    if at_hand >= _NODES_MIN:
        return DiskFull(message)
    if at_hand + len(nodes[Obstacle.READ_ONLY]) >= _NODES_MIN:
        return DiskFailing(message)
    return TooFewNodes(message)


def _nodes_by_obstacle(targets: Sequence[Target]) -> dict[Obstacle, list[str]]:
    """Each node once, by what hinders its best disk."""
    found: dict[Obstacle, list[str]] = {obstacle: [] for obstacle in Obstacle}
    seen: set[str] = set()
    for obstacle, nodes in found.items():  # from the least hindrance to the greatest
        nodes += sorted({target.node for target in targets if target.obstacle is obstacle} - seen)
        seen.update(nodes)
    return found


def _what_is_missing(profile: Profile, nodes: dict[Obstacle, list[str]]) -> str:
    rest = [
        f"; {obstacle.value}: {', '.join(names)}"
        for obstacle, names in nodes.items()
        if names and obstacle is not Obstacle.NONE
    ]
    return (
        f"Storing with profile {profile} needs at least {_NODES_MIN} living blob daemons "
        f"with a writable disk (all {profile.shard_count} for full protection); "
        f"writable now: {', '.join(nodes[Obstacle.NONE]) or 'none'}{''.join(rest)}."
    )
