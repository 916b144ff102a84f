"""A catalog, its log and packed snapshots of it, as archiving meets them."""

import asyncio
from contextlib import closing
from pathlib import Path

from ossd.clock import SystemClock
from ossd.disk import SystemDisk
from raftmeta.archive.chains import HeldPiece
from raftmeta.archive.pieces import (
    ArchivedEntry,
    LogName,
    SnapshotName,
    pack_header,
    pack_piece,
    scan_log,
)
from raftmeta.backup.container import Manifest
from raftmeta.catalog.catalog import Catalog
from raftmeta.identity import Identity, MemberState
from raftmeta.snapshots import SnapshotDesk
from tests.raftmeta.test_joining import PretendedReplica

CLUSTER = b"c" * 16
OWN = Identity(id="meta-1", raft="h:1", url="http://meta-1:9101")


def desk_of(catalog: Catalog, folder: Path) -> SnapshotDesk:
    """Where copies of that catalog are made, in that folder."""

    async def copy_to(path: Path) -> int:
        return await asyncio.to_thread(catalog.copy_to, path)

    return SnapshotDesk(
        identity=OWN.with_cluster(MemberState.VOTER, CLUSTER, (OWN.me,)),
        directory=folder,
        replica=PretendedReplica(),
        copy_to=copy_to,
        members=lambda: (OWN.me,),
        disk=SystemDisk(),
        clock=SystemClock(),
        program="0.1.0",
    )


def packed_snapshot(catalog: Catalog, folder: Path) -> tuple[Path, SnapshotName, Manifest]:
    """A snapshot as a file of its name."""

    async def pack() -> tuple[bytes, SnapshotName, Manifest]:
        async with desk_of(catalog, folder).packed() as packed:
            data = packed.file.pread(packed.size_bytes, 0)
            manifest = packed.manifest
            name = SnapshotName(manifest.generation, manifest.applied_index, packed.blake3)
            return data, name, manifest

    data, name, manifest = asyncio.run(pack())
    path = folder / str(name)
    path.write_bytes(data)
    return path, name, manifest


def held_log(
    folder: Path, parts: list[list[ArchivedEntry]], *, source: str = "blob-1"
) -> list[HeldPiece]:
    """A log file of these pieces, as it was fetched from a daemon."""
    name = LogName(1, parts[0][0].index, parts[0][0].index)
    path = folder / f"{source}-{name}"
    pieces = b"".join(map(pack_piece, parts))
    path.write_bytes(pack_header(CLUSTER, name) + pieces)
    with closing(SystemDisk().open(path, write=False)) as file:
        found = scan_log(file, CLUSTER, name)
    assert not found.damage
    return [HeldPiece(source, path, piece.offset, piece.head) for piece in found.pieces]
