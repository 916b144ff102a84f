"""What the Raft layer needs to know: who this member is, and its times and bounds."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RaftIdentity:
    """Who this member is; who counts is in `raftmeta.membership`.

    `bind`: the address to listen on, never a wildcard unless asked for.
    `cluster_id`: peers of another cluster are turned away even if they know the secret.
    """

    member_id: str
    bind: str
    cluster_id: bytes


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Sizes of the journal on disk and of its cache."""

    segment_bytes: int = 8 * MIB  # a segment is closed once it is longer
    cut_bytes: int = 64 * MIB  # a cut is due once the journal is longer
    keep_bytes: int = 16 * MIB  # a cut keeps at least this tail, for followers briefly away
    cache_bytes: int = 16 * MIB  # younger entries stay in memory, older are read back


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """Times and bounds. The defaults fail over in about a second on a local network."""

    election_min_s: float = 0.5  # silence after which a follower may doubt its leader
    election_max_s: float = 1.0  # and by when it does
    append_period_s: float = 0.1  # heartbeats of an idle leader
    leader_fallback_s: float = 1.5  # a leader without answers from a majority steps down
    tick_s: float = 0.05  # longest wait for the network in one tick
    keep_alive_s: float = 0.5  # between members that have nothing to say
    link_timeout_s: float = 3.5  # a link that brought nothing for so long is dropped
    connect_timeout_s: float = 2.0  # also for the handshake
    reconnect_s: float = 0.5
    propose_deadline_s: float = 10.0  # then the outcome is unknown
    read_deadline_s: float = 5.0
    stall_limit_s: float = 30.0  # no tick for so long: the process is of no use, stop it
    apply_slice_s: float = 0.1  # apply at most so long before heartbeats get their turn
    dial_anyway_s: float = 2.0  # without a link for so long, the member meant to listen connects
    able_within_s: float = 1.0  # who follows closely answered within this,
    able_entries: int = 256  # and lacks at most so many entries
    append_bytes_max: int = 4 * MIB  # entries in one message, unless one alone is larger
    entry_bytes_max: int = 16 * MIB  # a larger proposal is refused
    link_pending_bytes_max: int = 8 * MIB  # a slow follower gets no more until it has read
    queue_bytes_max: int = 64 * MIB  # proposals that wait for the tick
    journal: JournalSettings = JournalSettings()
