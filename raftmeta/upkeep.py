"""What a blob daemon tells of the upkeep of a disk: carried by heartbeats, kept by nobody for long.

A node that knows less of these structs skips what it does not know, and what it does not send
has a default: nodes of both kinds understand each other.
"""

import msgspec


class DiskCensus(msgspec.Struct, frozen=True, kw_only=True):
    """The last whole walk through a disk: the catalog's slots against the disk's inventory.

    Of `expected` slots of living stripes, whatever their state, the disk held `present` as the
    catalog knows them and lacked `missing`; each as of the moment its page was read. `surplus`:
    shards held that are no slot and belong to no open task, which the sweep or the trash
    removes; `young`: such that may still be named, being within the grace. `generation`: that
    of the catalog. Times are ms of the daemon's own clock; `finished_ms_ago` is measured by a
    steady one and compares across nodes.
    """

    generation: int
    begun_at_ms: int
    finished_at_ms: int
    expected: int
    present: int
    missing: int
    surplus: int = 0
    young: int = 0
    finished_ms_ago: int = 0


class DiskScrub(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rereading of a disk stands.

    `began_at_ms` of the pass under way, 0: it rests. `done_bytes` of it were reread, about
    `left_bytes` are left, `bytes_per_s` is how fast, `bad` how many bad records were found.
    `last_*`: the last whole pass. `unreported`: bad shards that the catalog was not told of
    yet; `bad_temps`: records of temps found bad since the daemon started. Of `volumes` files
    `unverified_volumes` were never reread to their end; `oldest_verified_ms_ago`: since the
    rereading of the others began, the longest, -1 without any. Times are ms of the daemon's
    own clock, 0 for never.
    """

    is_paused: bool = False
    began_at_ms: int = 0
    done_bytes: int = 0
    left_bytes: int = 0
    bytes_per_s: int = 0
    bad: int = 0
    last_began_at_ms: int = 0
    last_finished_at_ms: int = 0
    last_bytes: int = 0
    last_bad: int = 0
    unreported: int = 0
    bad_temps: int = 0
    volumes: int = 0
    unverified_volumes: int = 0
    oldest_verified_ms_ago: int = -1
