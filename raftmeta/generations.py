"""The language of catalog generations: what begins one, what it freezes, what lifts the freeze.

A catalog restored from a backup is a new generation (SAFETY rule 16): it may list shards that
are gone and not know shards that live, so no shard is deleted under it until each disk's
inventory has been compared with it (the census) and a person has adopted it. Commands and
queries like all others (`raftmeta.commands`, `raftmeta.queries`).
"""

import msgspec

from raftmeta.commands import Command


class BeginGeneration(Command, frozen=True, kw_only=True):
    """First command of a restored cluster, proposed by its first leader.

    Until it is applied the cluster counts as not formed yet. No stripe born before it is ever
    named again: a shard of one may have been deleted under an earlier generation. Repeating it
    changes nothing. Refused Conflict under another generation.
    """

    generation: int


class ConfirmCensus(Command, frozen=True, kw_only=True):
    """Every slot and every shard of this disk was compared under this generation, and the
    slots that differed were corrected before. Proposed by whoever finished that census.

    Repeating it is harmless. Refused NoSuchNode, Conflict (another generation by now: what was
    compared is not this catalog).
    """

    disk: int
    generation: int


class AdoptGeneration(Command, frozen=True, kw_only=True):
    """A person confirms that deletion may go on under this generation.

    Refused Conflict under another generation, and while disks that are in or draining have no
    confirmed census, unless `force`. Adopted before: no change.
    """

    generation: int
    force: bool = False


class DeletionState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether shards may be deleted. `restored_at_ms`: catalog time at which this generation
    began, 0 if no backup was ever restored. `unconfirmed`: the first disks (by number, at most
    100) that are in or draining and have no census under this generation; of `disk_count`
    such disks `confirmed_count` have one. The last three say nothing before a restore.
    """

    frozen: bool = False
    restored_at_ms: int = 0
    disk_count: int = 0
    confirmed_count: int = 0
    unconfirmed: tuple[int, ...] = ()
