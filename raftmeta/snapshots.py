"""Full copies of the catalog, as the leader gives them (SAFETY rules 20 and 21), to members
and, packed as a backup, to people.

One at a time: a copy costs as much disk as the catalog, and reads all of it.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
from blake3 import blake3

from osscore.errors import InvalidArgument, NotLeader, Overloaded
from ossd.clock import Clock
from ossd.disk import Disk, DiskFile
from raftmeta.backup.container import PIECE_BYTES as BACKUP_PIECE_BYTES
from raftmeta.backup.container import Manifest, pack_head, pack_piece
from raftmeta.backup.verification import manifest_of
from raftmeta.catalog import copies
from raftmeta.changing import Progress
from raftmeta.identity import Identity
from raftmeta.members import Member
from raftmeta.wire import SnapshotHead

HEAD_HEADER = "X-Oss-Snapshot"
COPY_NAME = "copy.db"
ARCHIVE_NAME = "archive.backup"
ARCHIVING_PATIENCE_S = 60.0
"""So long others wait while a copy is made for the archive: they asked for theirs, that one comes
by itself."""
PIECE_BYTES = 1024 * 1024


class Source(Protocol):
    """The part of a replica that giving copies needs."""

    @property
    def is_leader(self) -> bool:
        """Whether this member believes to lead."""

    @property
    def term(self) -> int:
        """The present term."""

    async def confirm_read(self, *, excluding: str | None = None) -> int:
        """An index by which all acknowledged before is applied here; NotLeader."""

    async def progress(self) -> Sequence[Progress]:
        """Who follows this leader, members and learners; nobody elsewhere."""

    def forget_match(self, member_id: str) -> None:
        """What that member acknowledged before counts no longer."""

    async def entry_term(self, index: int) -> int | None:
        """Term of a log entry; None if it is not in the log."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A finished copy: what to tell about it, and its open file."""

    head: SnapshotHead
    file: DiskFile

    async def pieces(self) -> AsyncIterator[bytes]:
        """The file from first byte to last."""
        offset = 0
        while offset < self.head.size_bytes:
            piece = await asyncio.to_thread(self.file.pread, PIECE_BYTES, offset)
            if not piece:
                raise OSError("the copy became shorter while it was sent")
            offset += len(piece)
            yield piece


@dataclass(frozen=True, slots=True)
class PackedBackup:
    """A backup as a file of its own, open; `blake3` (hex) covers the whole file."""

    manifest: Manifest
    file: DiskFile
    size_bytes: int
    blake3: str


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished copy for people: what it says of itself, and its open file."""

    manifest: Manifest
    file: DiskFile

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes of a backup (docs/formats/backup.md)."""
        yield pack_head(self.manifest)
        for offset in range(0, self.manifest.size_bytes, BACKUP_PIECE_BYTES):
            yield await asyncio.to_thread(self._packed, offset)

    def _packed(self, offset: int) -> bytes:
        size_bytes = min(BACKUP_PIECE_BYTES, self.manifest.size_bytes - offset)
        piece = self.file.pread(size_bytes, offset)
        if len(piece) != size_bytes:
            raise OSError("the copy became shorter while it was sent")
        return pack_piece(piece)


class SnapshotDesk:
    """Makes copies for members that join or lag, and backups. `copy_to` writes the catalog to
    a path and answers the applied index it holds; `members` tells them as applied. `program`:
    its version, for people."""

    def __init__(
        self,
        *,
        identity: Identity,
        directory: Path,
        replica: Source,
        copy_to: Callable[[Path], Awaitable[int]],
        members: Callable[[], tuple[Member, ...]],
        disk: Disk,
        clock: Clock,
        program: str,
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._program = program
        self._members = members
        self._path = directory / COPY_NAME
        self._replica = replica
        self._copy_to = copy_to
        self._disk = disk
        self._busy = False
        self._archived = asyncio.Event()
        self._archived.set()

    @asynccontextmanager
    async def copy_for(self, member_id: str, *, forgets: bool) -> AsyncIterator[Snapshot]:
        """A copy for that member; its file is gone afterwards.

        `forgets`: the member lost its state, so what it acknowledged counts no longer.
        Raises NotLeader, Overloaded (another copy is under way), InvalidArgument.
        """
        if not self._replica.is_leader:
            raise NotLeader()
        followers = {each.member.id for each in await self._replica.progress()}
        if member_id not in followers:
            raise InvalidArgument(f"{member_id!r} does not follow this leader.")
        await self._wait_for_archive()
        async with self._turn():
            head = await self._make(member_id, forgets=forgets)
            with closing(self._disk.open(self._path, write=False)) as file:
                yield Snapshot(head, file)

    @asynccontextmanager
    async def backup(self) -> AsyncIterator[Backup]:
        """A copy for people, of one index, with all that was acknowledged before this call;
        its file is gone afterwards. Raises NotLeader, Overloaded (another copy is under way).
        """
        await self._wait_for_archive()
        async with self._backup() as backup:
            yield backup

    @asynccontextmanager
    async def _backup(self) -> AsyncIterator[Backup]:
        async with self._turn():
            await self._replica.confirm_read()
            await asyncio.to_thread(self._remove)
            await self._copy_to(self._path)
            manifest = await asyncio.to_thread(self._describe)
            with closing(self._disk.open(self._path, write=False)) as file:
                yield Backup(manifest, file)

    @asynccontextmanager
    async def packed(self) -> AsyncIterator[PackedBackup]:
        """A backup for the archive, packed into a file that is gone afterwards: other copies may
        be made meanwhile. Raises NotLeader, Overloaded (another copy is under way), OSError."""
        path = self._path.with_name(ARCHIVE_NAME)
        await asyncio.to_thread(self._remove_packed)
        try:
            file = self._disk.open(path, create=True)
            with closing(file):
                self._archived.clear()
                try:
                    async with self._backup() as backup:
                        size_bytes = 0
                        async for piece in backup.pieces():
                            await asyncio.to_thread(file.pwrite, [piece], size_bytes)
                            size_bytes += len(piece)
                finally:
                    self._archived.set()
                _, digest = await asyncio.to_thread(digest_of, file)
                yield PackedBackup(backup.manifest, file, size_bytes, digest.hex())
        finally:
            await asyncio.to_thread(self._remove_packed)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._busy:
            raise Overloaded("Another copy of the catalog is under way.")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            await asyncio.to_thread(self._remove)

    async def _wait_for_archive(self) -> None:
        """Until no copy is made for the archive, or patience ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ARCHIVING_PATIENCE_S):
                await self._archived.wait()

    def _describe(self) -> Manifest:
        copies.settle(self._path)
        facts = copies.read_facts(self._path)
        size_bytes, digest = self._digest()
        return manifest_of(
            facts,
            made_at_ms=self._clock.now_ms(),
            size_bytes=size_bytes,
            blake3=digest,
            program=self._program,
        )

    async def _make(self, member_id: str, *, forgets: bool) -> SnapshotHead:
        term = self._replica.term
        if not self._replica.is_leader:
            raise NotLeader()
        if forgets:
            # Before the confirmation: from here on no commit rests on what it has lost.
            self._replica.forget_match(member_id)
            # Without the member itself: it may have lost the very vote that made this
            # leader, or the promise that deposed it. From then on all that was acknowledged
            # is applied here, and so in the copy.
            await self._replica.confirm_read(excluding=member_id)
        # A voter that only lags keeps its term, vote and log: what is applied anywhere is
        # committed, and that is all it needs. To wait for a confirmation would be a
        # deadlock where a new leader can commit nothing before this very voter follows.
        await asyncio.to_thread(self._remove)
        applied_index = await self._copy_to(self._path)
        entry_term = await self._replica.entry_term(applied_index)
        if entry_term is None:
            raise NotLeader("The log was cut while the copy was made.")
        size_bytes, digest = await asyncio.to_thread(self._digest)
        if self._replica.term != term or not self._replica.is_leader:
            raise NotLeader()
        return SnapshotHead(
            cluster_id=self._identity.cluster_id,
            members=self._members(),
            applied_index=applied_index,
            entry_term=entry_term,
            term=term,
            leader=self._identity.id,
            size_bytes=size_bytes,
            blake3=digest,
        )

    def _digest(self) -> tuple[int, bytes]:
        file = self._disk.open(self._path, write=False)
        try:
            return digest_of(file)
        finally:
            file.close()

    def _remove_packed(self) -> None:
        path = self._path.with_name(ARCHIVE_NAME)
        if self._disk.exists(path):
            self._disk.unlink(path)

    def _remove(self) -> None:
        for suffix in ("", "-journal", "-wal", "-shm"):
            path = self._path.with_name(COPY_NAME + suffix)
            if self._disk.exists(path):
                self._disk.unlink(path)


def digest_of(file: DiskFile) -> tuple[int, bytes]:
    """Size and BLAKE3-256 of a file. Blocks."""
    hasher, offset = blake3(), 0
    while piece := file.pread(PIECE_BYTES, offset):
        hasher.update(piece)
        offset += len(piece)
    return offset, hasher.digest()


def head_to_header(head: SnapshotHead) -> str:
    """A head as the value of HEAD_HEADER."""
    return base64.b64encode(msgspec.msgpack.encode(head)).decode()


def head_from_header(text: str) -> SnapshotHead:
    """Inverse of head_to_header. Raises ValueError."""
    try:
        return msgspec.msgpack.decode(base64.b64decode(text, validate=True), type=SnapshotHead)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
