"""The metanode's HTTP (raftmeta.wire): thin verbs over a `Metanode`."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from osscore.errors import InvalidArgument, MalformedBody
from ossd.http import InternalHandler
from raftmeta.admitting import Admitting
from raftmeta.commands import Done
from raftmeta.entries import Entry
from raftmeta.forming import Forming
from raftmeta.questions import AnyQuery
from raftmeta.restoring import RestoreDesk
from raftmeta.snapshots import HEAD_HEADER, SnapshotDesk, head_to_header
from raftmeta.wire import (
    BACKUP,
    BOOTSTRAP,
    CHANGE_MEMBERS,
    ENTRIES_MAX,
    FORM,
    FRONTEND_HEARTBEAT,
    GIVE_AWAY,
    HEARTBEAT,
    JOIN,
    PROPOSE,
    QUERIES_MAX,
    QUERY,
    REQUEST_BYTES_MAX,
    RESTORE,
    RESTORE_PIECE,
    RESTORED,
    SHOW_MEMBERS,
    SNAPSHOT,
    STATUS,
    Bootstrap,
    ChangeMembers,
    Form,
    FrontendHeartbeat,
    GiveAway,
    Heard,
    Heartbeat,
    Join,
    ProposeReply,
    ProposeRequest,
    QueryReply,
    QueryRequest,
    Restore,
    RestorePiece,
    Status,
)


class Metanode(Protocol):
    """What the verbs ask of the metanode behind them (`raftmeta.service`)."""

    forming: Forming
    restoring: RestoreDesk

    async def propose(self, entries: Sequence[Entry]) -> ProposeReply:
        """Have commands applied; a result for each."""

    async def query(self, queries: Sequence[AnyQuery]) -> QueryReply:
        """Linearizable answers."""

    def hear(self, heartbeat: Heartbeat | FrontendHeartbeat) -> Heard:
        """A blob daemon or a frontend lives; answers who the metanodes are."""

    def admitting(self) -> Admitting:
        """Where the metanodes are changed."""

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
        (FRONTEND_HEARTBEAT, FrontendBeat, shared),
        (BOOTSTRAP, BootstrapCluster, shared),
        (FORM, BecomeVoter, shared),
        (SNAPSHOT, GiveSnapshot, shared),
        (BACKUP, GiveBackup, shared),
        (RESTORE_PIECE, TakePiece, shared),
        (RESTORE, RestoreCluster, shared),
        (RESTORED, GiveRestored, shared),
        (STATUS, TellStatus, shared),
        (CHANGE_MEMBERS, ChangeMetanodes, shared),
        (SHOW_MEMBERS, ShowMetanodes, shared),
        (JOIN, LetFollow, shared),
        (GIVE_AWAY, GiveLeadAway, shared),
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
        self.reply(self.metanode.hear(self.decode(Heartbeat)))


class FrontendBeat(MetanodeHandler):
    """POST /v1/heartbeat/frontend: a frontend lives."""

    def post(self) -> None:
        """Noted, by leader and followers alike."""
        self.reply(self.metanode.hear(self.decode(FrontendHeartbeat)))


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


class GiveBackup(MetanodeHandler):
    """GET /v1/backup: the catalog as a file for people; leader only."""

    async def get(self) -> None:
        """The file, packed while it is sent."""
        async with self.metanode.snapshots().backup() as backup:
            self.set_header("Content-Type", "application/zstd")
            async for piece in backup.pieces():
                await self.send(piece)


class TakePiece(MetanodeHandler):
    """POST /v1/restore/piece: a part of a backup that is to be restored."""

    body_bytes_max: ClassVar[int] = REQUEST_BYTES_MAX

    async def post(self) -> None:
        """Done once it is written."""
        await self.metanode.restoring.take(self.decode(RestorePiece))
        self.reply(Done())


class RestoreCluster(MetanodeHandler):
    """POST /v1/restore: form a cluster that goes on from a backup, once."""

    async def post(self) -> None:
        """What was restored."""
        request = self.decode(Restore)
        self.reply(await self.metanode.forming.restore(request, self.metanode.restoring))


class GiveRestored(MetanodeHandler):
    """GET /v1/restored: the prepared catalog, to the other members of a restored cluster."""

    async def get(self) -> None:
        """The head as a header, the file as the body."""
        copy = self.metanode.restoring.open_prepared()
        try:
            self.set_header(HEAD_HEADER, head_to_header(copy.head))
            self.set_header("Content-Length", copy.head.size_bytes)
            async for piece in copy.pieces():
                await self.send(piece)
        finally:
            copy.file.close()


class TellStatus(MetanodeHandler):
    """GET /v1/status."""

    def get(self) -> None:
        """Who this is and how it stands."""
        self.reply_json(self.metanode.status())


class ChangeMetanodes(MetanodeHandler):
    """POST /v1/members: count a metanode, or count it no more; leader only."""

    async def post(self) -> None:
        """Done once it is applied."""
        request = self.decode(ChangeMembers)
        if bool(request.add) == bool(request.remove):
            raise InvalidArgument("One metanode is added or removed at a time.")
        await self.metanode.admitting().change(request)
        self.reply(Done())


class ShowMetanodes(MetanodeHandler):
    """POST /v1/members/show: who counts and who follows; leader only."""

    async def post(self) -> None:
        """All of them."""
        self.reply(await self.metanode.admitting().show())


class LetFollow(MetanodeHandler):
    """POST /v1/members/join: from a metanode that does not count; leader only."""

    async def post(self) -> None:
        """Done: the log is on its way."""
        await self.metanode.admitting().join(self.decode(Join))
        self.reply(Done())


class GiveLeadAway(MetanodeHandler):
    """POST /v1/members/lead: let another metanode lead; leader only."""

    async def post(self) -> None:
        """Done once this one leads no more."""
        await self.metanode.admitting().give_away(self.decode(GiveAway))
        self.reply(Done())
