"""Which of the archived pieces continue a snapshot, and how far. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raftmeta.archive.pieces import PieceHead, SnapshotName


@dataclass(frozen=True, slots=True)
class HeldPiece:
    """A good piece in a file on this machine. `source`: for people, whose copy it is."""

    source: str
    file: Path
    offset: int
    head: PieceHead


@dataclass(frozen=True, slots=True)
class Chain:
    """A snapshot and the pieces that continue it, each with what else holds the same entries.

    `end`: the entry as of which a catalog can be made of it.
    """

    snapshot: SnapshotName
    links: tuple[tuple[HeldPiece, ...], ...]
    end: int


def chain_behind(snapshot: SnapshotName, pieces: Sequence[HeldPiece]) -> Chain:
    """As far as the pieces follow each other without a gap; any copy of any daemon will do."""
    waiting = sorted(pieces, key=lambda each: (each.head.first, -each.head.last))
    links: list[tuple[HeldPiece, ...]] = []
    end, at = snapshot.index, 0
    while True:
        while at < len(waiting) and waiting[at].head.last <= end:
            at += 1
        reaching = [p for p in _up_to(waiting, at, end + 1) if p.head.last > end]
        if not reaching:
            return Chain(snapshot, tuple(links), end)
        best = max(reaching, key=lambda each: each.head.last)
        links.append((best, *(each for each in reaching if each is not best)))
        end = best.head.last


def _up_to(pieces: Sequence[HeldPiece], at: int, first_max: int) -> list[HeldPiece]:
    """Those from `at` on that begin at `first_max` or before."""
    found = []
    for piece in pieces[at:]:
        if piece.head.first > first_max:
            break
        found.append(piece)
    return found


def best_chains(snapshots: Sequence[SnapshotName], pieces: Sequence[HeldPiece]) -> list[Chain]:
    """All there are: those that reach furthest first, of these the ones with least to replay."""
    chains = [chain_behind(snapshot, pieces) for snapshot in snapshots]
    return sorted(chains, key=lambda c: (c.end, c.snapshot.index, c.snapshot.blake3), reverse=True)


def newest_seen(snapshots: Sequence[SnapshotName], pieces: Sequence[HeldPiece]) -> int:
    """The last entry that any file speaks of; more than a chain's end means a gap before it."""
    return max([0, *(each.index for each in snapshots), *(each.head.last for each in pieces)])
