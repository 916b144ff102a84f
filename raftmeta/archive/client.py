"""How the archives of blob daemons are reached: one method a request of `archive.wire`."""

from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from osscore.errors import OutcomeUnknown
from ossd.disk import Bytes
from ossd.rpc import Rpc, check
from raftmeta.archive.pieces import SnapshotName
from raftmeta.archive.wire import (
    ARCHIVE,
    ArchiveHeld,
    Forget,
    LogKept,
    SnapshotKept,
    disk_archive,
)

T = TypeVar("T")


class ArchiveClient:
    """Speaks to any number of daemons. `url` is a daemon's base. Every method raises what the
    daemon answers (`blobd.archive.shelf`) and the errors of the way there; repeating any of them
    is harmless."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def held(self, url: str, *, deadline_s: float = 5.0) -> ArchiveHeld:
        """What the daemon's disks keep."""
        reply = check(await self._rpc.call("GET", url + ARCHIVE, deadline_s=deadline_s))
        return _decoded(reply.body, ArchiveHeld)

    async def append(
        self, url: str, disk: bytes, generation: int, piece: Bytes, *, begins: bool
    ) -> int:
        """Have a piece of the log kept; answers the last entry that is there. `begins`: it need
        not continue what is there."""
        asked = urlencode({"generation": generation, "begins": int(begins)})
        target = f"{url}{disk_archive(disk)}/log?{asked}"
        return _decoded(await self._post(target, piece, 15.0), LogKept).end

    async def send_snapshot(
        self, url: str, disk: bytes, name: SnapshotName, offset: int, data: Bytes
    ) -> int:
        """Bytes of a snapshot from `offset` on; 0 begins it. Answers how many are there."""
        target = f"{url}{disk_archive(disk)}/snapshot?" + urlencode(
            {"name": str(name), "offset": offset}
        )
        return _decoded(await self._post(target, data, 30.0), SnapshotKept).size_bytes

    async def finish_snapshot(self, url: str, disk: bytes, name: SnapshotName) -> None:
        """It is complete: have it verified and counted."""
        target = f"{url}{disk_archive(disk)}/finish?" + urlencode({"name": str(name)})
        _decoded(await self._post(target, b"", 600.0), SnapshotKept)

    async def forget(self, url: str, disk: bytes, order: Forget) -> None:
        """Have what is not needed any more removed."""
        target = f"{url}{disk_archive(disk)}/forget"
        _decoded(await self._post(target, msgspec.msgpack.encode(order), 30.0), ArchiveHeld)

    async def read(self, url: str, disk: bytes, name: str, offset: int) -> bytes:
        """At most READ_BYTES of a file, not verified; nothing behind its end."""
        target = f"{url}{disk_archive(disk)}/files/{name}?" + urlencode({"offset": offset})
        return check(await self._rpc.call("GET", target, deadline_s=30.0)).body

    async def _post(self, target: str, body: Bytes, deadline_s: float) -> bytes:
        return check(
            await self._rpc.call("POST", target, body=body, deadline_s=deadline_s, idempotent=True)
        ).body


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise OutcomeUnknown("A daemon's answer about its archive is not readable.") from error
