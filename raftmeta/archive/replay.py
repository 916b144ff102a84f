"""A backup made of a snapshot and the entries behind it, by the code that applies entries in a
metanode. Calls block.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from blake3 import blake3

from osscore.errors import CorruptCatalog
from ossd.disk import Disk, DiskFile
from raftmeta.archive.chains import Chain, HeldPiece
from raftmeta.archive.pieces import ArchivedEntry, unpack_piece
from raftmeta.backup.container import PIECE_BYTES, Manifest, pack_head, pack_piece
from raftmeta.backup.verification import check_manifest, manifest_of, unpack_to
from raftmeta.catalog import copies
from raftmeta.catalog.catalog import Catalog
from raftmeta.entries import BATCH
from raftmeta.membership import MEMBERS

Progress = Callable[[int, int], None]
"""Told the entry that is applied, and the last one that will be."""


def replay(catalog_path: Path, chain: Chain, *, disk: Disk, progress: Progress) -> None:
    """Apply the entries of a chain to its snapshot's catalog, in place; what is in it already is
    passed over, and what a metanode applies nothing of changes nothing here.

    Raises CorruptCatalog: a piece is not what it was, copies of one entry differ, or an entry
    cannot be applied.
    """
    with closing(Catalog(catalog_path, disk=disk)) as catalog:
        for entry in _entries(chain, disk):
            if entry.body[:1] in (BATCH, MEMBERS) and entry.index > catalog.applied_index:
                catalog.apply(entry.index, entry.body[1:])
            progress(entry.index, chain.end)


def _entries(chain: Chain, disk: Disk) -> Iterator[ArchivedEntry]:
    end = chain.snapshot.index
    for best, *others in chain.links:
        entries = unpack_piece(_read(best, disk))
        for other in others:
            if (other.head.first, other.head.crc) != (best.head.first, best.head.crc):
                _compare(entries, best, other, disk)
        for entry in entries:
            if entry.index > end:
                assert entry.index == end + 1, "pieces of a chain leave no gap"
                end = entry.index
                yield entry


def _compare(entries: list[ArchivedEntry], best: HeldPiece, other: HeldPiece, disk: Disk) -> None:
    """An entry is the same wherever it lies, as it was committed: else there are two histories."""
    mine = {entry.index: entry for entry in entries}
    for entry in unpack_piece(_read(other, disk)):
        if mine.get(entry.index, entry) != entry:
            raise CorruptCatalog(
                f"Entry {entry.index} is another at {other.source} than at {best.source}:"
                " these are archives of different catalogs; name the daemons of one of them."
            )


def _read(piece: HeldPiece, disk: Disk) -> bytes:
    with closing(disk.open(piece.file, write=False)) as file:
        return file.pread(piece.head.size_bytes, piece.offset)


def make_backup(
    snapshot: Path,
    chain: Chain,
    target: Path,
    *,
    work: Path,
    disk: Disk,
    made_at_ms: int,
    program: str,
    progress: Progress,
) -> Manifest:
    """Write the catalog as of the chain's end to a new file `target`, durable on return.

    `work`: an empty folder with room for the catalog. Raises CorruptCatalog, FileExistsError,
    OSError.
    """
    catalog = work / "catalog.db"
    manifest = unpack_to(snapshot, catalog, disk=disk)
    check_manifest(manifest, copies.read_facts(catalog))
    copies.bring_up_to_date(catalog)
    replay(catalog, chain, disk=disk, progress=progress)
    copies.settle(catalog)
    facts = copies.read_facts(catalog)
    with closing(disk.open(catalog, write=False)) as file:
        size_bytes, digest = _digest(file)
        made = manifest_of(
            facts, made_at_ms=made_at_ms, size_bytes=size_bytes, blake3=digest, program=program
        )
        with closing(disk.open(target, create=True)) as out:
            at = out.pwrite([pack_head(made)], 0)
            for offset in range(0, size_bytes, PIECE_BYTES):
                at += out.pwrite([pack_piece(file.pread(PIECE_BYTES, offset))], at)
            out.sync()
    disk.sync_directory(target.parent)
    return made


def _digest(file: DiskFile) -> tuple[int, bytes]:
    hasher, offset = blake3(), 0
    while data := file.pread(PIECE_BYTES, offset):
        hasher.update(data)
        offset += len(data)
    return offset, hasher.digest()
