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

from osscore.errors import TooFewNodes
from osscore.model import Coding, CodingKind, Profile, reed_solomon, replicas

_NODES_MIN = 2
_NODES_FOR_WIDE_DEFAULT = 6


@dataclass(frozen=True, slots=True)
class Target:
    """A living disk with room: its catalog number, its node and zone, and its share."""

    disk: int
    node: str
    zone: str
    weight: float


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

    `targets` are the living disks with room; those of no weight are left out. Shards go to
    distinct nodes, then distinct zones. With fewer nodes than shards they are spread as evenly
    as possible, as long as the loss of any one node costs at most m shards; else the stripe is
    written as replicas on distinct nodes. The same arguments give the same answer, in whatever
    order the targets come. Raises TooFewNodes below two nodes.
    """
    usable = [target for target in targets if target.weight > 0]
    nodes = {target.node for target in usable}
    if len(nodes) < _NODES_MIN:
        raise TooFewNodes(_what_is_missing(profile, nodes, len(targets) - len(usable)))
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
    node_max = 1 if coding.kind is CodingKind.REPLICA else coding.parity_count
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


def _what_is_missing(profile: Profile, nodes: set[str], full_disks: int) -> str:
    living = ", ".join(sorted(nodes)) or "none"
    message = (
        f"Storing with profile {profile} needs at least {_NODES_MIN} living blob daemons "
        f"with a writable disk (all {profile.shard_count} for full protection); "
        f"living now: {living}."
    )
    return f"{message} {full_disks} disks have no weight." if full_disks else message
