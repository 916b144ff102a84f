"""What archiving the catalog needs from outside (`stewards.archiving`)."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from osscore.model import Profile
from ossd.disk import Bytes
from raftmeta.archive.pieces import SnapshotName
from raftmeta.archive.wire import ArchiveHeld, Forget
from raftmeta.queries import ClusterDescribed
from raftmeta.snapshots import PackedBackup


class Keeping(Protocol):
    """`raftmeta.archive.client.ArchiveClient`."""

    async def held(self, url: str, *, deadline_s: float = 5.0) -> ArchiveHeld:
        """What a daemon's disks keep."""

    async def append(
        self, url: str, disk: bytes, generation: int, piece: Bytes, *, begins: bool
    ) -> int:
        """Have a piece kept; the last entry that is there."""

    async def send_snapshot(
        self, url: str, disk: bytes, name: SnapshotName, offset: int, data: Bytes
    ) -> int:
        """Bytes of a snapshot."""

    async def finish_snapshot(self, url: str, disk: bytes, name: SnapshotName) -> None:
        """It is complete."""

    async def forget(self, url: str, disk: bytes, order: Forget) -> None:
        """What is not needed any more may go."""


class LoggedEntry(Protocol):
    """An entry of the journal."""

    @property
    def index(self) -> int:
        """Its place in the log."""

    @property
    def term(self) -> int:
        """Of the leader that logged it."""

    @property
    def body(self) -> bytes:
        """docs/formats/journal.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivingSeams:
    """What archiving needs of its metanode.

    `read_log`: applied entries from an index on, of about so many bytes; None: the log does not
    hold it any more. `packed`: a backup in a file, as of now. `may_copy`: whether there is room
    for it.
    """

    described: Callable[[], ClusterDescribed]
    profiles: Callable[[], Awaitable[Sequence[Profile | None]]]
    applied_index: Callable[[], int]
    read_log: Callable[[int, int], Awaitable[Sequence[LoggedEntry] | None]]
    packed: Callable[[], AbstractAsyncContextManager[PackedBackup]]
    may_copy: Callable[[], bool]
    client: Keeping
