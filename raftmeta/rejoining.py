"""The language of a disk that comes back as an older state of itself, and is compared first.

Such a disk is read-only (SAFETY rule 15). Its daemon claims the comparison, tells page by page
which expected shards are not there, and only once all were compared is the disk granted an
epoch. Commands like all others (`raftmeta.commands`).
"""

from osscore.model import ShardIdentity
from raftmeta.commands import Command

ABSENT_AT_ONCE = 200
"""Bound on the shards of one CompareSlots."""


class BeginRejoin(Command, frozen=True, kw_only=True):
    """A daemon begins to compare its disk with the catalog. Answers Done.

    `epoch`: what the disk would report at registering. `claim`: 16 bytes of this attempt alone;
    a later attempt takes its place. From here to the end no slot there becomes good. Refused
    NoSuchNode; Conflict: another generation, the disk was removed, is no older state, or was
    granted to another daemon (node and URL) and is not lost.
    """

    uuid: bytes
    node: str
    url: str
    epoch: int
    claim: bytes
    generation: int


class CompareSlots(Command, frozen=True, kw_only=True):
    """Every slot there of the stripe rows behind `after_row` up to `through_row` was looked for;
    good ones of `absent` become bad. Answers Done.

    `slot_count`: how many were compared. Refused CommandTooLarge; Conflict: the claim no longer
    stands, or the last page ended elsewhere than at `after_row`.
    """

    disk: int
    claim: bytes
    generation: int
    after_row: int
    through_row: int
    slot_count: int
    absent: tuple[ShardIdentity, ...] = ()


class FinishRejoin(Command, frozen=True, kw_only=True):
    """All is compared: grant the disk an epoch above all that an original may report. Answers
    NodeRegistered.

    Refused Conflict: the claim no longer stands, or rows are left to compare.
    """

    disk: int
    claim: bytes
    generation: int
