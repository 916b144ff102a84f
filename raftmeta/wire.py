"""The metanode's HTTP, as paths and bodies. Bodies are msgpack unless said otherwise.

Every request but the health paths carries the internal signature (`ossd.signing`).

| path | in | out |
|---|---|---|
| POST /v1/propose | ProposeRequest | ProposeReply, or an error body |
| POST /v1/query | QueryRequest | QueryReply, or an error body |
| POST /v1/heartbeat | Heartbeat | Heard, by every metanode, leader or not |
| POST /v1/heartbeat/frontend | FrontendHeartbeat | the same |
| POST /v1/bootstrap | Bootstrap | BootstrapReply; forms the cluster once |
| POST /v1/form | Form | Done; from the bootstrapping metanode to each member |
| GET /v1/snapshot?joining=ID | | the catalog as a file, header X-Oss-Snapshot: SnapshotHead |
| ... &lagging=1 | | the same for a voter that kept its state and is only behind the log |
| GET /v1/backup | | a backup of the catalog (docs/formats/backup.md), leader only |
| POST /v1/restore/piece | RestorePiece | Done; a part of a backup, to an empty metanode |
| POST /v1/restore | Restore | RestoreReply; forms a cluster of that backup, once |
| GET /v1/restored | | the prepared catalog as a file, X-Oss-Snapshot, to the other members |
| GET /v1/status | | JSON Status |
| POST /v1/members | ChangeMembers | Done; by the leader, once the change is applied |
| POST /v1/members/show | | MembersShown, by the leader |
| POST /v1/members/join | Join | Done: the leader sends its log to a metanode that does not count |
| POST /v1/members/lead | GiveAway | Done, once the leader leads no more |
| GET /livez /readyz /healthz /metrics | | text; no signature |

Errors are `ossd.envelope` bodies. 421 NotLeader names the leader's URL if known. A 503
OutcomeUnknown, a lost connection or a timeout means: send the same entries again, to
whoever leads. Every other refusal of a single command is a `Refused` in `results`.
"""

import msgspec

from osscore.errors import InvalidArgument
from raftmeta.credentials import AuditNote
from raftmeta.entries import AnyResult, Entry
from raftmeta.members import Member
from raftmeta.questions import AnyAnswer, AnyQuery
from raftmeta.upkeep import DiskCensus, DiskScrub

PROPOSE = "/v1/propose"
QUERY = "/v1/query"
HEARTBEAT = "/v1/heartbeat"
FRONTEND_HEARTBEAT = "/v1/heartbeat/frontend"
BOOTSTRAP = "/v1/bootstrap"
FORM = "/v1/form"
SNAPSHOT = "/v1/snapshot"
BACKUP = "/v1/backup"
RESTORE_PIECE = "/v1/restore/piece"
RESTORE = "/v1/restore"
RESTORED = "/v1/restored"
STATUS = "/v1/status"
CHANGE_MEMBERS = "/v1/members"
SHOW_MEMBERS = "/v1/members/show"
JOIN = "/v1/members/join"
GIVE_AWAY = "/v1/members/lead"

ENTRIES_MAX = 512
QUERIES_MAX = 512
REQUEST_BYTES_MAX = 8 * 1024 * 1024


class ProposeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Up to ENTRIES_MAX commands; they are applied in order, not atomically together."""

    entries: tuple[Entry, ...]


class ProposeReply(msgspec.Struct, frozen=True, kw_only=True):
    """`results[i]` belongs to `entries[i]`; all were applied at or before `applied_index`."""

    applied_index: int
    catalog_time_ms: int
    results: tuple[AnyResult, ...]


class QueryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Up to QUERIES_MAX questions answered from one confirmed state."""

    queries: tuple[AnyQuery, ...]


class QueryReply(msgspec.Struct, frozen=True, kw_only=True):
    """`answers[i]` belongs to `queries[i]`. `generation` and `applied_index` order delete
    orders (SAFETY rule 16)."""

    generation: int
    applied_index: int
    catalog_time_ms: int
    keys_epoch: int
    answers: tuple[AnyAnswer, ...]


class DiskHeartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """One disk's present state. `writable` False with `problem` saying why. `census`: None
    before the first whole one of this process. `readable` False: it is gone, though its daemon
    lives."""

    uuid: bytes
    capacity_bytes: int
    free_bytes: int
    writable: bool
    problem: str = ""
    census: DiskCensus | None = None
    readable: bool = True
    scrub: DiskScrub | None = None


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Sent to every metanode each `heartbeat_s`. `url` as registered."""

    node: str
    url: str
    zone: str
    disks: tuple[DiskHeartbeat, ...]


class FrontendHeartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Sent to every metanode each `heartbeat_s`. `url`: HTTP base, as others reach it."""

    frontend: str
    url: str


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to a heartbeat: the members as far as that metanode has applied the log. Of two
    answers the one of the higher `members_index` is newer; -1: it knows none."""

    members_index: int = -1
    members: tuple[Member, ...] = ()


class Join(msgspec.Struct, frozen=True, kw_only=True):
    """A metanode that does not count wants to follow; again each second while it does not.
    `counted_since`: the log entry since which it believed to count, if it did."""

    member: Member
    cluster_id: bytes = b""
    counted_since: int | None = None


class ChangeMembers(msgspec.Struct, frozen=True, kw_only=True):
    """Count the metanode of that id from now on, or no more; one of both."""

    add: str = ""
    remove: str = ""
    audit: AuditNote | None = None


class GiveAway(msgspec.Struct, frozen=True, kw_only=True):
    """Let another metanode lead; "": whichever is best placed. Nothing is done if the leader of
    `term` leads no more."""

    to: str = ""
    term: int = 0


class Follower(msgspec.Struct, frozen=True, kw_only=True):
    """A metanode as its leader sees it: `match_index` entries are surely there; `silent_ms`
    since it answered. `counts` False: a learner."""

    member: Member
    counts: bool
    match_index: int
    silent_ms: int = 0


class MembersShown(msgspec.Struct, frozen=True, kw_only=True):
    """All of them by id, the leader included."""

    leader: str
    term: int
    applied_index: int
    members_index: int
    followers: tuple[Follower, ...]


def parse_members(texts: tuple[str, ...]) -> tuple[Member, ...]:
    """Members written ID=RAFT=URL. Raises InvalidArgument."""
    members = []
    for text in texts:
        fields = text.split("=", 2)
        if len(fields) != 3 or not all(fields):
            raise InvalidArgument(f"A member is written ID=HOST:PORT=URL, not {text!r}.")
        members.append(Member(id=fields[0], raft=fields[1], url=fields[2].rstrip("/")))
    return tuple(members)


class Bootstrap(msgspec.Struct, frozen=True, kw_only=True):
    """Form a cluster of these members (the receiver is one). All must be reachable and empty.

    Secrets given are used, empty ones generated and returned once.
    """

    members: tuple[Member, ...]
    root_access_key: str = ""
    root_secret_key: str = ""
    system_token: str = ""


class BootstrapReply(msgspec.Struct, frozen=True, kw_only=True):
    """What was formed."""

    cluster_id: bytes
    root_access_key: str
    root_secret_key: str
    system_token: str


class SnapshotHead(msgspec.Struct, frozen=True, kw_only=True):
    """Describes the file that follows: SQLite, complete at `applied_index`.

    `entry_term` is the term of log entry `applied_index`; `term` and `leader` what the
    joining node adopts (it votes for nobody else in `term`). `blake3` covers the file.
    """

    cluster_id: bytes
    members: tuple[Member, ...]
    applied_index: int
    entry_term: int
    term: int
    leader: str
    size_bytes: int
    blake3: bytes


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """The catalog a restored cluster begins with: described by `head`, given at `url` while
    the cluster is being restored. `backup_blake3`: of the backup it was made of."""

    url: str
    head: SnapshotHead
    generation: int
    backup_blake3: bytes


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """Become a voter of this cluster; refused AlreadyFormed unless empty or the same.

    `restored`: begin with that catalog instead of an empty one.
    """

    cluster_id: bytes
    members: tuple[Member, ...]
    restored: Restored | None = None


RESTORE_PIECE_BYTES_MAX = 4 * 1024 * 1024


class RestorePiece(msgspec.Struct, frozen=True, kw_only=True):
    """At most RESTORE_PIECE_BYTES_MAX of a backup's file from `offset` on, which is where the
    piece before ended; 0 begins anew. Refused AlreadyFormed unless empty, InvalidArgument."""

    offset: int
    data: bytes


class Restore(msgspec.Struct, frozen=True, kw_only=True):
    """Form a cluster of these members (the receiver is one) that goes on from the backup sent
    before. All must be reachable and empty. `blake3`: that of the backup's manifest.

    Sent again after a failure it goes on where it stopped.
    """

    members: tuple[Member, ...]
    blake3: bytes


class RestoreReply(msgspec.Struct, frozen=True, kw_only=True):
    """What was restored."""

    cluster_id: bytes
    generation: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/status, JSON. `state`: leader, follower, candidate, joining, empty, removed.

    `members`: as far as it has applied the log, which set them in entry `members_index`.
    """

    id: str
    role: str
    version: str
    pid: int
    state: str
    leader: str | None
    term: int
    applied_index: int
    commit_index: int
    cluster_id: str
    members: tuple[Member, ...]
    free_bytes: int
    clock_ms: int = 0
    has_room: bool = True
    leader_url: str = ""
    members_index: int = 0
