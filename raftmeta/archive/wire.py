"""How a blob daemon is given parts of the archive and asked for them, as paths and bodies.

Every request carries the internal signature (`ossd.signing`). `DISK`: 32 hex digits of a disk's
uuid. Bodies are msgpack unless said otherwise.

| path | in | out |
|---|---|---|
| GET /v1/archive | | ArchiveHeld: all disks of this daemon, also without metanodes |
| POST /v1/disks/DISK/archive/log?generation=G&begins=0 | a piece (`pieces`) | LogKept |
| POST /v1/disks/DISK/archive/snapshot?name=NAME&offset=N | bytes of it | SnapshotKept |
| POST /v1/disks/DISK/archive/finish?name=NAME | | SnapshotKept: whole, verified, durable |
| POST /v1/disks/DISK/archive/forget | Forget | ArchiveHeld of that disk |
| GET /v1/disks/DISK/archive/files/NAME?offset=N | | at most READ_BYTES of the file as it is |

Pieces and snapshots are durable when they are answered. An earlier generation than the disk
obeys is refused StaleOrder (SAFETY rule 16).
"""

import msgspec

ARCHIVE = "/v1/archive"
READ_BYTES = 4 * 1024 * 1024
SNAPSHOT_PIECE_BYTES = 2 * 1024 * 1024


def disk_archive(disk: bytes) -> str:
    """The path of one disk's archive."""
    return f"/v1/disks/{disk.hex()}/archive"


class ArchivedFile(msgspec.Struct, frozen=True, array_like=True):
    """A file of an archive; its name says what it holds (`pieces.parse_name`)."""

    name: str
    size_bytes: int


class DiskArchive(msgspec.Struct, frozen=True, kw_only=True):
    """What one disk keeps. `ends`: by generation, as text, the last entry of the log of its
    newest run. `damaged`: files that were reread and are not what they were. `problem`: why it
    keeps no more, or nothing readable; empty: all is well."""

    disk: bytes
    cluster_id: bytes
    files: tuple[ArchivedFile, ...] = ()
    ends: dict[str, int] = {}
    damaged: tuple[str, ...] = ()
    problem: str = ""


class ArchiveHeld(msgspec.Struct, frozen=True, kw_only=True):
    """The archives of a daemon."""

    disks: tuple[DiskArchive, ...]


class LogKept(msgspec.Struct, frozen=True, kw_only=True):
    """`end`: the last entry that is durable there, 0: none. A piece that does not continue what
    is there, or lies in it, changes nothing."""

    end: int


class SnapshotKept(msgspec.Struct, frozen=True, kw_only=True):
    """So many bytes of that snapshot are there."""

    size_bytes: int


class Forget(msgspec.Struct, frozen=True, kw_only=True):
    """A whole snapshot of `generation` as of entry `index` is kept often enough: what is needed
    only for earlier ones may go, and others as of that entry than the one named `snapshot`.
    `spares_earlier`: but not what is of earlier generations."""

    generation: int
    index: int
    spares_earlier: bool
    snapshot: str = ""
