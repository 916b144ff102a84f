"""Blob daemons as the archive meets them: real shelves on simulated disks, without a network."""

from collections.abc import Iterable
from pathlib import Path

from blobd.archive.shelf import Shelf
from osscore.errors import DiskFull, PeerUnreachable
from ossd.disk import Bytes
from raftmeta.archive.pieces import SnapshotName
from raftmeta.archive.wire import ArchiveHeld, Forget
from tests.fakes.disk import SimulatedDisk

CLUSTER = b"c" * 16
FOLDER = Path("/data/archive")


def uuid_of(url: str) -> bytes:
    return url.encode().ljust(16, b"-")


class Daemons:
    """Implements archiving.Keeping and gathering.Reading; a disk a daemon.

    `down`: do not answer. `full`: take nothing. `calls`: what was asked, and of whom.
    """

    def __init__(self, urls: Iterable[str], *, cluster_id: bytes = CLUSTER) -> None:
        self.disks = {url: SimulatedDisk() for url in urls}
        self.cluster_id = cluster_id
        self.uuids: dict[str, bytes] = {}
        self.down: set[str] = set()
        self.full: set[str] = set()
        self.refuses_to_finish: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.largest_bytes = 0
        self._shelves: dict[str, Shelf] = {}

    def shelf(self, url: str) -> Shelf:
        """Opened anew after `restart`."""
        if url not in self._shelves:
            self._shelves[url] = Shelf(
                FOLDER, cluster_id=self.cluster_id, disk=self.disks[url], log_bytes=4096
            )
        return self._shelves[url]

    def restart(self, *urls: str) -> None:
        """What is in memory there is lost."""
        for url in urls:
            self._shelves.pop(url, None)

    def wipe(self, url: str) -> None:
        """All files there are lost, and it does not know."""
        self.disks[url] = SimulatedDisk()
        self.restart(url)

    def move(self, url: str, to: str) -> None:
        """The daemon comes back at another address, with its disk."""
        self.restart(url)
        self.disks[to] = self.disks.pop(url)
        self.uuids[to] = uuid_of(url)
        self.down.discard(url)

    def names(self, url: str) -> list[str]:
        """Of the files there."""
        return [file.name for file in self.shelf(url).show(uuid_of(url)).files]

    def keeping(self) -> list[str]:
        """Who keeps any."""
        return [url for url in self.disks if self.names(url)]

    def path(self, url: str, beginning: str) -> Path:
        """The newest file there whose name begins so."""
        found = [name for name in self.disks[url].names(FOLDER) if name.startswith(beginning)]
        return FOLDER / max(found)

    def _called(self, what: str, url: str, data: Bytes = b"") -> Shelf:
        self.calls.append((what, url))
        self.largest_bytes = max(self.largest_bytes, len(data))
        if url in self.down:
            raise PeerUnreachable(f"{url} is down")
        if url in self.full and data:
            raise DiskFull()
        return self.shelf(url)

    async def held(self, url: str, *, deadline_s: float = 5.0) -> ArchiveHeld:
        """See Keeping."""
        return ArchiveHeld(
            disks=(self._called("held", url).show(self.uuids.get(url, uuid_of(url))),)
        )

    async def append(
        self, url: str, disk: bytes, generation: int, piece: Bytes, *, begins: bool
    ) -> int:
        """See Keeping."""
        return self._called("append", url, piece).append(generation, piece, begins=begins)

    async def send_snapshot(
        self, url: str, disk: bytes, name: SnapshotName, offset: int, data: Bytes
    ) -> int:
        """See Keeping."""
        return self._called("snapshot", url, data).take_snapshot_piece(str(name), offset, data)

    async def finish_snapshot(self, url: str, disk: bytes, name: SnapshotName) -> None:
        """See Keeping."""
        shelf = self._called("finish", url)
        if url in self.refuses_to_finish:
            raise PeerUnreachable("just now")
        shelf.finish_snapshot(str(name))

    async def forget(self, url: str, disk: bytes, order: Forget) -> None:
        """See Keeping."""
        self._called("forget", url).forget(order)

    async def read(self, url: str, disk: bytes, name: str, offset: int) -> bytes:
        """See Reading."""
        return self._called("read", url).read(name, offset)
