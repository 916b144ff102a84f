"""The archive's HTTP (`raftmeta.archive.wire`): parse, bound, hand to the shelf, answer."""

from typing import Any, Final

from blobd.archive.shelves import Shelves
from blobd.handlers import BoundedHandler, Shared
from osscore.errors import DiskFull, InvalidArgument
from raftmeta.archive.pieces import PIECE_BYTES_MAX, SnapshotName, parse_name
from raftmeta.archive.wire import (
    ARCHIVE,
    READ_BYTES,
    SNAPSHOT_PIECE_BYTES,
    ArchiveHeld,
    Forget,
    LogKept,
    SnapshotKept,
)

_DISK: Final = r"/v1/disks/([0-9a-f]{32})/archive"


def archive_routes(shelves: Shelves, shared: Shared) -> list[Any]:
    """For `ossd.http.serve`."""
    given = {"shared": shared, "shelves": shelves}
    return [
        (ARCHIVE, HeldHandler, given),
        (_DISK + "/log", LogHandler, given),
        (_DISK + "/snapshot", SnapshotHandler, given),
        (_DISK + "/finish", FinishHandler, given),
        (_DISK + "/forget", ForgetHandler, given),
        (_DISK + r"/files/([0-9a-z-]{1,128})", FileHandler, given),
    ]


class ArchiveHandler(BoundedHandler):
    """What all of them share."""

    api = "archive"

    def initialize(self, shared: Shared, shelves: Shelves) -> None:  # type: ignore[override]
        """Tornado's call with the route's arguments."""
        super().initialize(shared)
        self.shelves = shelves

    def number(self, name: str) -> int:
        """An argument. Raises InvalidArgument."""
        text = self.get_query_argument(name, "")
        if not text.isdecimal() or len(text) > 19:
            raise InvalidArgument(f"`{name}` is a number.")
        return int(text)

    def snapshot_name(self) -> SnapshotName:
        """The argument `name`. Raises InvalidArgument."""
        found = parse_name(self.get_query_argument("name", ""))
        if not isinstance(found, SnapshotName):
            raise InvalidArgument("`name` is the name of a snapshot.")
        return found


class HeldHandler(ArchiveHandler):
    """What this daemon keeps."""

    async def get(self) -> None:
        """Of all its disks."""
        self.reply(await self.shelves.show())


class LogHandler(ArchiveHandler):
    """The log on one disk."""

    body_bytes_max = PIECE_BYTES_MAX

    async def post(self, disk: str) -> None:
        """Keep a piece, durable when answered."""
        generation, begins = self.number("generation"), self.number("begins") == 1
        piece = self.body
        with self.working():
            end = await self.shelves.keep(
                bytes.fromhex(disk),
                generation,
                len(piece),
                lambda shelf: shelf.append(generation, piece, begins=begins),
            )
        self.reply(LogKept(end=end))


class SnapshotHandler(ArchiveHandler):
    """A snapshot that is being sent."""

    body_bytes_max = SNAPSHOT_PIECE_BYTES

    async def post(self, disk: str) -> None:
        """Take the next bytes."""
        name, offset, data = self.snapshot_name(), self.number("offset"), self.body
        uuid = bytes.fromhex(disk)
        with self.working():
            try:
                size_bytes = await self.shelves.keep(
                    uuid,
                    name.generation,
                    len(data),
                    lambda shelf: shelf.take_snapshot_piece(str(name), offset, data),
                )
            except DiskFull:
                await self.shelves.use(uuid, lambda shelf: shelf.drop_unfinished())
                raise
        self.reply(SnapshotKept(size_bytes=size_bytes))


class FinishHandler(ArchiveHandler):
    """A snapshot that was sent."""

    async def post(self, disk: str) -> None:
        """Verify it and let it count."""
        name = self.snapshot_name()
        size_bytes = await self.shelves.keep(
            bytes.fromhex(disk),
            name.generation,
            0,
            lambda shelf: shelf.finish_snapshot(str(name)),
        )
        self.reply(SnapshotKept(size_bytes=size_bytes))


class ForgetHandler(ArchiveHandler):
    """What is not needed any more."""

    async def post(self, disk: str) -> None:
        """Remove it; answers what is left."""
        order, uuid = self.decode(Forget), bytes.fromhex(disk)
        await self.shelves.keep(uuid, order.generation, 0, lambda shelf: shelf.forget(order))
        left = await self.shelves.use(uuid, lambda shelf: shelf.show(uuid))
        self.reply(ArchiveHeld(disks=(left,)))


class FileHandler(ArchiveHandler):
    """The bytes of one file, for whoever rebuilds a catalog."""

    async def get(self, disk: str, name: str) -> None:
        """At most READ_BYTES, as they are."""
        offset = self.number("offset")
        await self.take(READ_BYTES)
        with self.working():
            data = await self.shelves.use(
                bytes.fromhex(disk), lambda shelf: shelf.read(name, offset)
            )
            self.set_header("Content-Type", "application/octet-stream")
            await self.reply_body(data)
