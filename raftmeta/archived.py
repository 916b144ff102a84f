"""How far the catalog is archived at blob daemons, as its leader tells it (ADR 20)."""

import msgspec


class Keeper(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that keeps an archive. `end`: the last log entry that is durable there.

    `is_whole`: together with a snapshot all up to `end` can be made anew from this disk alone.
    `problem`: what it answered last, if it did not keep what it was sent.
    """

    node: str
    disk: str
    end: int
    is_whole: bool
    problem: str = ""


class ArchiveState(msgspec.Struct, frozen=True, kw_only=True):
    """What would be left if every metanode were lost now.

    `copies_wanted` whole archives are kept where there are nodes for them; all entries up to
    `archived_index` lie in that many (or in one on each node there is), of `applied_index` there
    are. `lag_ms`: for how long the first that does not has been applied, at most; 0: none is.
    `copies`: whole archives up to `archived_index`. `snapshot_index`: of the newest whole
    snapshot, of `snapshot_bytes`; `log_bytes` of log lie behind it. `problem`: for people; empty:
    all is well.
    """

    archived_index: int
    applied_index: int
    lag_ms: int
    copies: int
    copies_wanted: int
    keepers: tuple[Keeper, ...] = ()
    snapshot_index: int = 0
    snapshot_bytes: int = 0
    log_bytes: int = 0
    problem: str = ""
