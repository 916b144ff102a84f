"""The metanode's HTTP, as paths and bodies. Bodies are msgpack unless said otherwise.

Every request but the health paths carries the internal signature (`ossd.signing`).

| path | in | out |
|---|---|---|
| POST /v1/propose | ProposeRequest | ProposeReply, or an error body |
| POST /v1/query | QueryRequest | QueryReply, or an error body |
| POST /v1/heartbeat | Heartbeat | Done, by every metanode, leader or not |
| POST /v1/bootstrap | Bootstrap | BootstrapReply; forms the cluster once |
| POST /v1/form | Form | Done; from the bootstrapping metanode to each member |
| GET /v1/snapshot?joining=ID | | the catalog as a file, header X-Oss-Snapshot: SnapshotHead |
| ... &lagging=1 | | the same for a voter that kept its state and is only behind the log |
| GET /v1/status | | JSON Status |
| GET /livez /readyz /healthz /metrics | | text; no signature |

Errors are `ossd.envelope` bodies. 421 NotLeader names the leader's URL if known. A 503
OutcomeUnknown, a lost connection or a timeout means: send the same entries again, to
whoever leads. Every other refusal of a single command is a `Refused` in `results`.
"""

import msgspec

from raftmeta.commands import AnyResult, Entry
from raftmeta.queries import AnyAnswer, AnyQuery

PROPOSE = "/v1/propose"
QUERY = "/v1/query"
HEARTBEAT = "/v1/heartbeat"
BOOTSTRAP = "/v1/bootstrap"
FORM = "/v1/form"
SNAPSHOT = "/v1/snapshot"
STATUS = "/v1/status"

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
    """One disk's present state. `writable` False with `problem` saying why."""

    uuid: bytes
    capacity_bytes: int
    free_bytes: int
    writable: bool
    problem: str = ""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Sent to every metanode each `heartbeat_s`. `url` as registered."""

    node: str
    url: str
    zone: str
    disks: tuple[DiskHeartbeat, ...]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A metanode: `raft` is host:port of its Raft link, `url` its HTTP base."""

    id: str
    raft: str
    url: str


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


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """Become a voter of this cluster; refused AlreadyFormed unless empty or the same."""

    cluster_id: bytes
    members: tuple[Member, ...]


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


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/status, JSON. `state`: leader, follower, candidate, joining, empty."""

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
