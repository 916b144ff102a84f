"""The metanode's HTTP (raftmeta.wire): thin verbs over a `Metanode`."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from osscore.errors import MalformedBody
from ossd.http import InternalHandler
from raftmeta.commands import Done, Entry
from raftmeta.forming import Forming
from raftmeta.queries import AnyQuery
from raftmeta.snapshots import HEAD_HEADER, SnapshotDesk, head_to_header
from raftmeta.wire import (
    BOOTSTRAP,
    ENTRIES_MAX,
    FORM,
    HEARTBEAT,
    PROPOSE,
    QUERIES_MAX,
    QUERY,
    REQUEST_BYTES_MAX,
    SNAPSHOT,
    STATUS,
    Bootstrap,
    Form,
    Heartbeat,
    ProposeReply,
    ProposeRequest,
    QueryReply,
    QueryRequest,
    Status,
)


class Metanode(Protocol):
    """What the verbs ask of the metanode behind them (`raftmeta.service`)."""

    forming: Forming

    async def propose(self, entries: Sequence[Entry]) -> ProposeReply:
        """Have commands applied; a result for each."""

    async def query(self, queries: Sequence[AnyQuery]) -> QueryReply:
        """Linearizable answers."""

    def hear(self, heartbeat: Heartbeat) -> None:
        """A blob daemon lives."""

    def snapshots(self) -> SnapshotDesk:
        """Where full copies are made."""

    def status(self) -> Status:
        """Who this is and how it stands."""


def routes(metanode: Metanode) -> list[Any]:
    """Routes for `ossd.http.serve`, health apart."""
    shared = {"metanode": metanode}
    return [
        (PROPOSE, Propose, shared),
        (QUERY, Ask, shared),
        (HEARTBEAT, Beat, shared),
        (BOOTSTRAP, BootstrapCluster, shared),
        (FORM, BecomeVoter, shared),
        (SNAPSHOT, GiveSnapshot, shared),
        (STATUS, TellStatus, shared),
    ]


class MetanodeHandler(InternalHandler):
    """What all of them share."""

    api = "raftmeta"

    def initialize(self, metanode: Metanode) -> None:
        """`metanode` does the work."""
        self.metanode = metanode


class Propose(MetanodeHandler):
    """POST /v1/propose: apply commands, leader only."""

    body_bytes_max: ClassVar[int] = REQUEST_BYTES_MAX

    async def post(self) -> None:
        """A result for each entry; 421 elsewhere."""
        request = self.decode(ProposeRequest)
        if not 0 < len(request.entries) <= ENTRIES_MAX:
            raise MalformedBody(f"A request holds 1 to {ENTRIES_MAX} commands.")
        self.reply(await self.metanode.propose(request.entries))


class Ask(MetanodeHandler):
    """POST /v1/query: linearizable answers, leader only."""

    body_bytes_max: ClassVar[int] = REQUEST_BYTES_MAX

    async def post(self) -> None:
        """An answer for each query; 421 elsewhere."""
        request = self.decode(QueryRequest)
        if not 0 < len(request.queries) <= QUERIES_MAX:
            raise MalformedBody(f"A request holds 1 to {QUERIES_MAX} queries.")
        self.reply(await self.metanode.query(request.queries))


class Beat(MetanodeHandler):
    """POST /v1/heartbeat: a blob daemon lives."""

    def post(self) -> None:
        """Noted, by leader and followers alike."""
        self.metanode.hear(self.decode(Heartbeat))
        self.reply(Done())


class BootstrapCluster(MetanodeHandler):
    """POST /v1/bootstrap: form the cluster, once."""

    async def post(self) -> None:
        """What was formed, with its secrets."""
        self.reply(await self.metanode.forming.bootstrap(self.decode(Bootstrap)))


class BecomeVoter(MetanodeHandler):
    """POST /v1/form: from the bootstrapping member to each other one."""

    async def post(self) -> None:
        """Done once this member's part is durable."""
        await self.metanode.forming.accept(self.decode(Form))
        self.reply(Done())


class GiveSnapshot(MetanodeHandler):
    """GET /v1/snapshot?joining=ID: the catalog as a file; `&lagging=1` for a voter that has
    its own state and only needs a newer one."""

    async def get(self) -> None:
        """The head as a header, the file as the body."""
        desk = self.metanode.snapshots()
        forgets = self.get_query_argument("lagging", "") != "1"
        async with desk.copy_for(self.get_query_argument("joining"), forgets=forgets) as copy:
            self.set_header(HEAD_HEADER, head_to_header(copy.head))
            self.set_header("Content-Type", "application/vnd.sqlite3")
            self.set_header("Content-Length", copy.head.size_bytes)
            async for piece in copy.pieces():
                await self.send(piece)


class TellStatus(MetanodeHandler):
    """GET /v1/status."""

    def get(self) -> None:
        """Who this is and how it stands."""
        self.reply_json(self.metanode.status())
