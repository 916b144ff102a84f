"""The desk of the metanode that restores a backup: takes its pieces, prepares the catalog that
the new cluster begins with, and gives that to the other members (docs/adr/0016).

What forms the cluster is `forming`, exactly as for a new one.
"""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from osscore.errors import (
    AlreadyFormed,
    Corrupt,
    InvalidArgument,
    MetadataLowSpace,
    NotFound,
)
from ossd.clock import Clock
from ossd.disk import Disk
from ossd.signing import ClusterSecrets
from raftmeta.backup.container import read_head
from raftmeta.backup.verification import check_manifest, unpack_to
from raftmeta.catalog import copies, restored
from raftmeta.client import unwrap_catalog_key
from raftmeta.identity import Identity, MemberState
from raftmeta.snapshots import Snapshot, digest_of
from raftmeta.wire import (
    RESTORE_PIECE_BYTES_MAX,
    Restore,
    Restored,
    RestorePiece,
    SnapshotHead,
)

BACKUP_NAME = "restore.backup"
PREPARED_NAME = "restore.db"
FIRST_TERM = 1
"""Term of the log that begins behind a restored catalog: its members hear nobody of an
earlier generation, whose terms may be higher (`Voter`)."""
COPIES = 2
"""Of the catalog that this metanode holds for a moment: the prepared one and its own state."""


class RestoreDesk:
    """Works in the metanode's own folder; `identity` answers who this is now."""

    def __init__(
        self,
        *,
        directory: Path,
        identity: Callable[[], Identity],
        disk: Disk,
        clock: Clock,
        secrets: ClusterSecrets,
    ) -> None:
        self._backup = directory / BACKUP_NAME
        self._prepared = directory / PREPARED_NAME
        self._identity = identity
        self._disk = disk
        self._clock = clock
        self._secrets = secrets
        self._turn = asyncio.Lock()
        self._given: Restored | None = None

    async def take(self, piece: RestorePiece) -> None:
        """Keep the next piece of a backup. Raises AlreadyFormed unless this metanode is empty,
        InvalidArgument for a piece that does not follow the one before, OSError."""
        if self._identity().state is not MemberState.EMPTY:
            raise AlreadyFormed(f"Metanode {self._identity().id} is {self._identity().state}.")
        if len(piece.data) > RESTORE_PIECE_BYTES_MAX:
            raise InvalidArgument(f"A piece has at most {RESTORE_PIECE_BYTES_MAX} bytes.")
        async with self._turn:
            await asyncio.to_thread(self._take, piece)

    async def prepare(self, request: Restore) -> Restored:
        """Make the catalog of the new generation; durable on return.

        Raises InvalidArgument (not the backup that was sent, a cluster secret that does not
        open it, or a series of numbers used up), CorruptCatalog, MetadataLowSpace, OSError.
        """
        async with self._turn:
            try:
                return await asyncio.to_thread(self._prepare, request)
            except BaseException:
                await asyncio.to_thread(self._remove_prepared)
                raise

    def give(self, prepared: Restored) -> None:
        """From now on members may fetch what `prepare` made, in this process or an earlier."""
        self._given = prepared

    def open_prepared(self) -> Snapshot:
        """The prepared catalog, for a member; close its file. Raises NotFound."""
        if self._given is None:
            raise NotFound("No cluster is being restored here.")
        return Snapshot(self._given.head, self._disk.open(self._prepared, write=False))

    async def forget(self) -> None:
        """The cluster is formed: nothing of the restore is needed any more."""
        self._given = None
        async with self._turn:
            await asyncio.to_thread(self._remove, self._backup)
            await asyncio.to_thread(self._remove_prepared)

    def _take(self, piece: RestorePiece) -> None:
        if not piece.offset:
            self._remove(self._backup)
        is_new = not self._disk.exists(self._backup)
        with closing(self._disk.open(self._backup, create=is_new)) as file:
            if file.size_bytes() != piece.offset:
                raise InvalidArgument(f"The next piece begins at {file.size_bytes()}.")
            file.pwrite([piece.data], piece.offset)

    def _unpack(self, request: Restore) -> bytes:
        if not self._disk.exists(self._backup):
            raise InvalidArgument("No backup was sent before.")
        with closing(self._disk.open(self._backup, write=False)) as file:
            manifest = read_head(file).manifest
        if bytes.fromhex(manifest.blake3) != request.blake3:
            raise InvalidArgument("The backup that was sent is another one.")
        if self._disk.space(self._backup.parent).free_bytes < COPIES * manifest.size_bytes:
            raise MetadataLowSpace(f"The catalog needs {COPIES} times {manifest.size_bytes} bytes.")
        self._remove_prepared()
        unpack_to(self._backup, self._prepared, disk=self._disk)
        facts = copies.read_facts(self._prepared)
        check_manifest(manifest, facts)
        try:
            unwrap_catalog_key(self._secrets, facts.catalog_key_wrapped)
        except Corrupt as error:
            raise InvalidArgument(
                "This cluster secret does not open the backup: start the metanodes with the"
                " secret of the cluster it was made of, or give that as the previous one."
            ) from error
        return facts.cluster_id

    def _prepare(self, request: Restore) -> Restored:
        cluster_id = self._unpack(request)
        begun = restored.prepare(self._prepared, now_ms=self._clock.now_ms())
        copies.sync(self._prepared, self._disk)
        self._disk.sync_directory(self._prepared.parent)
        with closing(self._disk.open(self._prepared, write=False)) as file:
            size_bytes, digest = digest_of(file)
        head = SnapshotHead(
            cluster_id=cluster_id,
            members=request.members,
            applied_index=begun.applied_index,
            entry_term=FIRST_TERM,
            term=FIRST_TERM,
            leader="",
            size_bytes=size_bytes,
            blake3=digest,
        )
        return Restored(
            url=self._identity().url,
            head=head,
            generation=begun.generation,
            backup_blake3=request.blake3,
        )

    def _remove_prepared(self) -> None:
        for suffix in ("", "-journal", "-wal", "-shm"):
            self._remove(self._prepared.with_name(PREPARED_NAME + suffix))

    def _remove(self, path: Path) -> None:
        if self._disk.exists(path):
            self._disk.unlink(path)
