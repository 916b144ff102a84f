"""The bytes of a backup: a manifest, then the catalog in zstd frames (docs/formats/backup.md).

The manifest lies in a skippable frame, which every zstd program steps over: `zstd -d` makes
the plain SQLite file of it. Calls block.
"""

import struct
from dataclasses import dataclass
from typing import IO, cast

import msgspec
import zstandard
from blake3 import blake3

from osscore.digests import Bytes, crc32c
from osscore.errors import CorruptCatalog
from ossd.disk import DiskFile

PIECE_BYTES = 4 * 1024 * 1024
"""Of the catalog in one frame."""
MANIFEST_BYTES_MAX = 64 * 1024
_SKIPPABLE = struct.Struct("<II")  # magic, length of what follows
_SKIPPABLE_MAGIC = 0x184D2A5B
_WORDS = "raftoss-backup"
_FORMAT = "1"
_LEVEL = 3
_READ_BYTES = 1024 * 1024


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says of itself. `size_bytes` and `blake3` (hex): of the SQLite file.

    `made_at_ms`: by the clock of the metanode that made it. `counts`: of the catalog, by name.
    """

    cluster_id: str
    generation: int
    applied_index: int
    catalog_time_ms: int
    made_at_ms: int
    schema: int
    size_bytes: int
    blake3: str
    program: str
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Head:
    """A manifest and where the frames of the catalog begin."""

    manifest: Manifest
    size_bytes: int


def pack_head(manifest: Manifest) -> bytes:
    """The first bytes of a backup."""
    line = msgspec.json.encode(manifest)
    payload = f"{_WORDS} {_FORMAT} {crc32c(line):08x}\n".encode() + line + b"\n"
    return _SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(payload)) + payload


def pack_piece(piece: Bytes) -> bytes:
    """At most PIECE_BYTES of the catalog as one frame with its own checksum."""
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(piece)


def read_head(file: DiskFile) -> Head:
    """What a backup says of itself. Raises CorruptCatalog: no backup, of a newer format, or
    its manifest is damaged."""
    first = file.pread(_SKIPPABLE.size, 0)
    magic, length = _SKIPPABLE.unpack(first) if len(first) == _SKIPPABLE.size else (0, 0)
    if magic != _SKIPPABLE_MAGIC or length > MANIFEST_BYTES_MAX:
        raise CorruptCatalog("The file is no backup of a catalog.")
    title, _, rest = file.pread(length, _SKIPPABLE.size).partition(b"\n")
    line = rest.removesuffix(b"\n")
    words = title.decode("ascii", "replace").split(" ")
    if words[:1] != [_WORDS]:
        raise CorruptCatalog("The file is no backup of a catalog.")
    if words[1:2] != [_FORMAT]:
        raise CorruptCatalog(f"The backup has format {words[1:2]}; this program reads {_FORMAT}.")
    if words[2:] != [f"{crc32c(line):08x}"]:
        raise CorruptCatalog("The backup's manifest is damaged.")
    try:
        manifest = msgspec.json.decode(line, type=Manifest)
    except msgspec.MsgspecError as error:
        raise CorruptCatalog(f"The backup's manifest is not understood: {error}") from error
    return Head(manifest, _SKIPPABLE.size + length)


def check(source: DiskFile) -> Manifest:
    """Compare every byte of a backup with its manifest. Raises as `unpack`."""
    return unpack(source, None)


def unpack(source: DiskFile, target: DiskFile | None) -> Manifest:
    """Write the catalog of a backup to an empty file, not synced; answers the manifest.

    Raises CorruptCatalog unless every byte is the one that was backed up. Never writes more
    than the manifest tells.
    """
    head = read_head(source)
    manifest, hasher, size_bytes = head.manifest, blake3(), 0
    frames = zstandard.ZstdDecompressor().stream_reader(
        cast(IO[bytes], _From(source, head.size_bytes)), read_across_frames=True
    )
    try:
        while piece := frames.read(_READ_BYTES):
            size_bytes += len(piece)
            if size_bytes > manifest.size_bytes:
                raise CorruptCatalog("The backup holds more than its manifest tells.")
            hasher.update(piece)
            if target is not None:
                target.pwrite([piece], size_bytes - len(piece))
    except zstandard.ZstdError as error:
        raise CorruptCatalog(f"The backup is damaged behind {size_bytes} bytes: {error}") from error
    if size_bytes < manifest.size_bytes:
        raise CorruptCatalog(
            f"The backup is cut short: {size_bytes} of {manifest.size_bytes} bytes are there."
        )
    if hasher.hexdigest() != manifest.blake3:
        raise CorruptCatalog("The backup's bytes are not those that were backed up.")
    return manifest


class _From:
    """A file from an offset on, as zstandard reads."""

    def __init__(self, file: DiskFile, offset: int) -> None:
        self._file = file
        self._offset = offset

    def read(self, size_bytes: int) -> bytes:
        piece = self._file.pread(size_bytes, self._offset)
        self._offset += len(piece)
        return piece
