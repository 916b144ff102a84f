"""Is a backup whole, and does the catalog in it hold together? Without a cluster."""

from dataclasses import dataclass
from pathlib import Path

from osscore.errors import CorruptCatalog
from ossd.disk import Disk
from raftmeta.backup.container import Manifest, unpack
from raftmeta.catalog import copies


@dataclass(frozen=True, slots=True)
class Verified:
    """A backup whose every byte is as it was made. `faults`: what its catalog contradicts
    itself in, in words; empty: nothing."""

    manifest: Manifest
    facts: copies.CopyFacts
    faults: list[str]


def verify(file: Path, work: Path, *, disk: Disk) -> Verified:
    """Look through a backup; `work`: an empty folder for the catalog, as large as that is.

    Raises CorruptCatalog for what is no backup, damaged, or of a newer schema; OSError. Blocks.
    """
    catalog = work / "catalog.db"
    manifest = unpack_to(file, catalog, disk=disk)
    found = copies.read_facts(catalog)
    check_manifest(manifest, found)
    copies.bring_up_to_date(catalog)
    return Verified(manifest, found, copies.faults(catalog))


def unpack_to(file: Path, catalog: Path, *, disk: Disk) -> Manifest:
    """Make the catalog file of a backup; it must not exist. Raises as `container.unpack`,
    OSError."""
    source = disk.open(file, write=False)
    try:
        target = disk.open(catalog, create=True)
        try:
            return unpack(source, target)
        finally:
            target.close()
    finally:
        source.close()


def manifest_of(
    facts: copies.CopyFacts, *, made_at_ms: int, size_bytes: int, blake3: bytes, program: str
) -> Manifest:
    """What a backup of that copy says of itself."""
    return Manifest(
        cluster_id=facts.cluster_id.hex(),
        generation=facts.generation,
        applied_index=facts.applied_index,
        catalog_time_ms=facts.catalog_time_ms,
        made_at_ms=made_at_ms,
        schema=facts.schema,
        size_bytes=size_bytes,
        blake3=blake3.hex(),
        program=program,
        counts=facts.counts,
    )


def check_manifest(manifest: Manifest, facts: copies.CopyFacts) -> None:
    """Raises CorruptCatalog where the catalog is another than its manifest tells."""
    made = manifest_of(
        facts,
        made_at_ms=manifest.made_at_ms,
        size_bytes=manifest.size_bytes,
        blake3=bytes.fromhex(manifest.blake3),
        program=manifest.program,
    )
    # A later version may tell more counts.
    known = {name: manifest.counts.get(name) for name in made.counts}
    named = ("cluster_id", "generation", "applied_index", "catalog_time_ms", "schema")
    same = all(getattr(made, name) == getattr(manifest, name) for name in named)
    if not same or known != made.counts:
        raise CorruptCatalog("The catalog in the backup is another than its manifest tells.")
