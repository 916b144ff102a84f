"""Who this metanode is, and the folder that says so (docs/formats/metadata-folder.md).

The catalog and the journal belong together: a catalog without the log behind it, or a log
that continues another catalog, loses acknowledged writes. So both live in one numbered
state folder, and one atomic pointer, CURRENT, says which folder counts.
"""

import re
from enum import StrEnum
from pathlib import Path

import msgspec

from osscore.errors import AlreadyFormed, CorruptCatalog, InvalidArgument
from ossd.disk import Disk, DiskFile, read_file, write_file_atomically
from raftmeta.members import Member

LOCK_NAME = "lock"
IDENTITY_NAME = "identity.json"
CURRENT_NAME = "CURRENT"
CATALOG_NAME = "catalog.db"
JOURNAL_NAME = "journal"
FORMAT = 1

_STATE_FOLDER = re.compile(r"state-(\d{1,12})")


class MemberState(StrEnum):
    """How far a metanode is on its way into a cluster (SAFETY rule 21)."""

    EMPTY = "empty"
    """Knows no cluster."""
    JOINING = "joining"
    """Is listed as a member but has no state: no votes until a full copy is installed."""
    VOTER = "voter"
    """Has state. Whether it counts is in its log (raftmeta.membership); it votes for who counts
    on it."""
    REMOVED = "removed"
    """Counts no more, for good: only with an empty folder may it join again."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What `identity.json` holds. `members` and `cluster_id` are empty while EMPTY."""

    id: str
    raft: str
    url: str
    state: MemberState = MemberState.EMPTY
    cluster_id: bytes = b""
    members: tuple[Member, ...] = ()
    format: int = FORMAT

    def with_cluster(
        self, state: MemberState, cluster_id: bytes, members: tuple[Member, ...]
    ) -> "Identity":
        """The same metanode, now of this cluster. Raises AlreadyFormed if of another."""
        if self.cluster_id not in (b"", cluster_id):
            raise AlreadyFormed(f"Metanode {self.id} belongs to cluster {self.cluster_id.hex()}.")
        return msgspec.structs.replace(self, state=state, cluster_id=cluster_id, members=members)

    @property
    def me(self) -> Member:
        """This metanode as a member."""
        return Member(id=self.id, raft=self.raft, url=self.url)

    def member(self, member_id: str) -> Member | None:
        """The member of that id, if there is one."""
        return next((member for member in self.members if member.id == member_id), None)


class MetadataFolder:
    """The data folder of one metanode. All calls block; one process at a time.

    `open` takes the lock: BlockingIOError if another process has it, CorruptCatalog if what
    it finds cannot be read. An unreadable identity is never taken for an empty one: a
    member that forgot its votes could elect a second leader.
    """

    def __init__(self, path: Path, disk: Disk, lock: DiskFile, identity: Identity) -> None:
        self.path = path
        self._disk = disk
        self._lock = lock
        self._identity = identity

    @classmethod
    def open(cls, path: Path, *, disk: Disk, fresh: Identity) -> "MetadataFolder":
        """Lock the folder and read it; `fresh` is who this is if the folder is new.

        Raises InvalidArgument if it belongs to a metanode of another id.
        """
        missing = [each for each in (path, *path.parents) if not disk.exists(each)]
        disk.make_directory(path)
        for folder in missing:
            # Else a power cut may take the folder away with all that is synced inside it.
            disk.sync_directory(folder.parent)
        lock = disk.lock(path / LOCK_NAME)
        try:
            identity = _load_identity(path, disk, fresh)
        except BaseException:
            lock.close()
            raise
        return cls(path, disk, lock, identity)

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.close()

    @property
    def identity(self) -> Identity:
        """Who this is, as last written."""
        return self._identity

    def write_identity(self, identity: Identity) -> None:
        """Durable on return."""
        data = msgspec.json.format(msgspec.json.encode(identity))
        write_file_atomically(self._disk, self.path / IDENTITY_NAME, data)
        self._identity = identity

    def current(self) -> Path | None:
        """The state folder that counts; None before there is any. CorruptCatalog if the
        pointer is unreadable or points to nothing."""
        pointer = self.path / CURRENT_NAME
        if not self._disk.exists(pointer):
            return None
        name = read_file(self._disk, pointer).decode("ascii", "replace").strip()
        folder = self.path / name
        if not _STATE_FOLDER.fullmatch(name) or not self._disk.exists(folder):
            raise CorruptCatalog(f"{pointer} names no state folder: {name[:40]!r}.")
        return folder

    def begin_state(self) -> Path:
        """Make a new, empty state folder that does not count yet.

        Whatever earlier attempts left half-finished is removed first.
        """
        self.remove_leftovers()
        numbers = [
            int(found[1]) for name in self._names() if (found := _STATE_FOLDER.fullmatch(name))
        ]
        folder = self.path / f"state-{max(numbers, default=0) + 1}"
        self._disk.make_directory(folder)
        self._disk.sync_directory(self.path)
        return folder

    def switch(self, folder: Path) -> None:
        """Make a state folder count. Its files must be synced; its names are synced here."""
        self._disk.sync_directory(folder)
        write_file_atomically(self._disk, self.path / CURRENT_NAME, f"{folder.name}\n".encode())

    def forget_state(self) -> None:
        """Drop the pointer and all state: only for a member that does not vote yet."""
        pointer = self.path / CURRENT_NAME
        if self._disk.exists(pointer):
            self._disk.unlink(pointer)
            self._disk.sync_directory(self.path)
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Remove every state folder that does not count."""
        current = self.current()
        for name in self._names():
            folder = self.path / name
            if _STATE_FOLDER.fullmatch(name) and folder != current:
                _remove_state(folder, self._disk)

    def _names(self) -> list[str]:
        return self._disk.names(self.path)


def _remove_state(folder: Path, disk: Disk) -> None:
    journal = folder / JOURNAL_NAME
    for directory in (journal, folder):
        for name in disk.names(directory) if disk.exists(directory) else ():
            if directory / name != journal:
                disk.unlink(directory / name)
        if disk.exists(directory):
            disk.remove_directory(directory)


def _load_identity(path: Path, disk: Disk, fresh: Identity) -> Identity:
    file = path / IDENTITY_NAME
    if not disk.exists(file):
        if disk.exists(path / CURRENT_NAME):
            raise CorruptCatalog(f"{path} holds state but no {IDENTITY_NAME}.")
        return fresh
    try:
        identity = msgspec.json.decode(read_file(disk, file), type=Identity)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptCatalog(f"{file} cannot be read: {error}") from error
    if identity.format != FORMAT:
        raise CorruptCatalog(f"{file} has format {identity.format}, known is {FORMAT}.")
    if identity.id != fresh.id:
        raise InvalidArgument(f"{path} belongs to metanode {identity.id!r}, not {fresh.id!r}.")
    if identity.state is MemberState.EMPTY:
        return fresh  # addresses may change freely before there is a cluster
    return identity
