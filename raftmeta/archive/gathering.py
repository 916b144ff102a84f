"""What blob daemons hold of a lost catalog, brought to this machine and checked (ADR 20)."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from osscore.errors import (
    CorruptCatalog,
    InvalidArgument,
    PeerUnreachable,
    RequestError,
    StoreError,
)
from ossd.disk import Disk
from raftmeta.archive.chains import Chain, HeldPiece, best_chains, newest_seen
from raftmeta.archive.pieces import LogName, SnapshotName, parse_name, scan_log
from raftmeta.archive.wire import ArchivedFile, ArchiveHeld, DiskArchive


class Reading(Protocol):
    """The part of `ArchiveClient` that only reads."""

    async def held(self, url: str, *, deadline_s: float = 5.0) -> ArchiveHeld:
        """What a daemon's disks keep."""

    async def read(self, url: str, disk: bytes, name: str, offset: int) -> bytes:
        """Bytes of a file."""


@dataclass(frozen=True, slots=True)
class Source:
    """A disk whose daemon answered."""

    url: str
    archive: DiskArchive

    def __str__(self) -> str:
        return f"{self.url} disk {self.archive.disk.hex()}"

    def names(self, generation: int) -> list[tuple[LogName | SnapshotName, ArchivedFile]]:
        """Its files of that generation."""
        found = [(parse_name(file.name), file) for file in self.archive.files]
        return [(n, file) for n, file in found if n is not None and n.generation == generation]


@dataclass(slots=True)
class Found:
    """What there is of one generation of one cluster. `silent`: daemons that did not answer, and
    why; `damage`: what was not believed, in words. `other_generations`: of which there are
    snapshots, too."""

    cluster_id: bytes
    generation: int
    sources: list[Source]
    silent: dict[str, str]
    other_generations: list[int] = field(default_factory=list)
    pieces: list[HeldPiece] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    @property
    def snapshots(self) -> dict[SnapshotName, list[Source]]:
        """Whole ones, and where."""
        found: dict[SnapshotName, list[Source]] = {}
        for source in self.sources:
            for name, _ in source.names(self.generation):
                if isinstance(name, SnapshotName):
                    found.setdefault(name, []).append(source)
        return found

    @property
    def newest_seen(self) -> int:
        """The last entry that any file speaks of."""
        return newest_seen(list(self.snapshots), self.pieces)

    def chains(self) -> list[Chain]:
        """The best first."""
        return best_chains(list(self.snapshots), self.pieces)


async def find(client: Reading, urls: Sequence[str], generation: int | None) -> Found:
    """Ask daemons what they hold; `generation` None: the newest of which there is a snapshot.

    Raises PeerUnreachable: no daemon answered, or the refusal if they refused to (Unauthenticated:
    it is another cluster's secret), InvalidArgument: there is no archive, or there are
    those of several clusters.
    """
    answers = await asyncio.gather(*(_held(client, url) for url in urls))
    silent = {
        url: answer.message
        for url, answer in zip(urls, answers, strict=True)
        if isinstance(answer, StoreError)
    }
    sources = [
        Source(url, disk)
        for url, answer in zip(urls, answers, strict=True)
        if not isinstance(answer, StoreError)
        for disk in answer.disks
    ]
    if len(silent) == len(urls):
        refusals = [answer for answer in answers if isinstance(answer, RequestError)]
        if refusals:
            raise refusals[0]
        raise PeerUnreachable("No blob daemon answered: " + "; ".join(silent.values()))
    having = [source for source in sources if source.archive.files]
    clusters = {source.archive.cluster_id for source in having}
    if len(clusters) > 1:
        named = "; ".join(f"{s} of cluster {s.archive.cluster_id.hex()}" for s in having)
        raise InvalidArgument(f"These are archives of different clusters: {named}.")
    generations = {
        name.generation
        for source in having
        for name in map(parse_name, (file.name for file in source.archive.files))
        if isinstance(name, SnapshotName)
    }
    chosen = max(generations, default=0) if generation is None else generation
    if chosen not in generations:
        raise InvalidArgument("No blob daemon that answered keeps a snapshot of the catalog.")
    return Found(
        cluster_id=clusters.pop(),
        generation=chosen,
        sources=having,
        silent=silent,
        other_generations=sorted(generations - {chosen}),
    )


async def _held(client: Reading, url: str) -> ArchiveHeld | StoreError:
    try:
        return await client.held(url)
    except StoreError as error:
        return error


class Gathering:
    """Fetches files into `work`, an empty folder."""

    def __init__(self, client: Reading, found: Found, *, work: Path, disk: Disk) -> None:
        self._client = client
        self._found = found
        self._work = work
        self._disk = disk

    async def fetch_logs(self) -> None:
        """All copies of the log: `found.pieces` and `found.damage` tell what is good of them."""
        for source in self._found.sources:
            for name, file in source.names(self._found.generation):
                if isinstance(name, LogName):
                    await self._fetch_log(source, name, file)

    async def _fetch_log(self, source: Source, name: LogName, file: ArchivedFile) -> None:
        path = self._work / f"{source.archive.disk.hex()}-{name}"
        try:
            await self._fetch(source, file, path)
        except StoreError as error:
            self._found.damage.append(f"{source}: {name} could not be read: {error.message}")
            return
        with closing(self._disk.open(path, write=False)) as opened:
            scanned = await asyncio.to_thread(scan_log, opened, self._found.cluster_id, name)
        self._found.damage += [f"{source}: {words}" for words in scanned.damage]
        self._found.pieces += [
            HeldPiece(str(source), path, piece.offset, piece.head) for piece in scanned.pieces
        ]

    async def fetch_snapshot(self, name: SnapshotName) -> Path:
        """The first copy that is whole. Raises CorruptCatalog: none is."""
        for source in self._found.snapshots[name]:
            path = self._work / f"{source.archive.disk.hex()}-{name}"
            file = next(file for found, file in source.names(name.generation) if found == name)
            try:
                digest = await self._fetch(source, file, path)
            except StoreError as error:
                self._found.damage.append(f"{source}: {name} could not be read: {error.message}")
                continue
            if digest == name.blake3:
                return path
            self._found.damage.append(f"{source}: {name} is damaged")
            self._disk.unlink(path)
        raise CorruptCatalog(f"No copy of the snapshot as of entry {name.index} is whole.")

    async def _fetch(self, source: Source, file: ArchivedFile, path: Path) -> str:
        """The whole file as it is; its BLAKE3 in hex."""
        hasher, offset = blake3(), 0
        with closing(self._disk.open(path, create=True)) as target:
            while offset < file.size_bytes:
                data = await self._client.read(source.url, source.archive.disk, file.name, offset)
                if not data:
                    break
                await asyncio.to_thread(target.pwrite, [data], offset)
                hasher.update(data)
                offset += len(data)
        return hasher.hexdigest()


async def best_whole(gathering: Gathering, found: Found) -> tuple[Chain, Path]:
    """The chain that reaches furthest of those whose snapshot has a whole copy, and that copy.
    Raises CorruptCatalog."""
    chains = found.chains()
    for chain in chains:
        try:
            return chain, await gathering.fetch_snapshot(chain.snapshot)
        except CorruptCatalog as error:
            found.damage.append(error.message)
    raise CorruptCatalog("No copy of any snapshot is whole: " + "; ".join(found.damage))
