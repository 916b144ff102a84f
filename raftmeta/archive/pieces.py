"""The bytes of an archived log, and the names of archived files (docs/formats/archive.md).

A log file is a header and pieces; a piece holds entries that follow each other. Whoever reads a
piece checks every byte of it first. Calls on files block.
"""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import zstandard

from osscore.digests import Bytes, crc32c
from osscore.errors import CorruptCatalog
from ossd.disk import DiskFile

PLAIN_BYTES_MAX = 16 * 1024 * 1024
"""Of the entries in one piece; one entry alone has at most about half of it."""
PIECE_BYTES_MAX = PLAIN_BYTES_MAX + 64 * 1024
"""A piece as it travels and lies; zstd adds little to what it cannot shrink."""

_HEADER = struct.Struct("<8s16sQQQ")
_HEADER_MAGIC = b"OSSARLG1"
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size
_HEAD = struct.Struct("<4sQIIII")  # magic, first, count, plain bytes, packed bytes, CRC of these
_HEAD_MAGIC = b"\xa5AP\x01"
HEAD_BYTES = _HEAD.size + _CRC.size
_ENTRY = struct.Struct("<QI")  # term, bytes of the body that follows
_LEVEL = 1

_LOG_NAME = re.compile(r"log-([0-9a-f]{16})-([0-9a-f]{16})-([0-9a-f]{16})")
_SNAPSHOT_NAME = re.compile(r"snapshot-([0-9a-f]{16})-([0-9a-f]{16})-([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, order=True)
class LogName:
    """A file of the log. `run`: the first entry of the run it belongs to: files of one run
    continue each other without a gap; `first`: its own first entry."""

    generation: int
    run: int
    first: int

    def __str__(self) -> str:
        return f"log-{self.generation:016x}-{self.run:016x}-{self.first:016x}"


@dataclass(frozen=True, slots=True, order=True)
class SnapshotName:
    """A backup of the catalog as of log entry `index`; `blake3` (hex) covers the whole file."""

    generation: int
    index: int
    blake3: str

    def __str__(self) -> str:
        return f"snapshot-{self.generation:016x}-{self.index:016x}-{self.blake3}"


def parse_name(text: str) -> LogName | SnapshotName | None:
    """What a file's name says; None for any other file."""
    if found := _LOG_NAME.fullmatch(text):
        return LogName(*(int(number, 16) for number in found.groups()))
    if found := _SNAPSHOT_NAME.fullmatch(text):
        return SnapshotName(int(found[1], 16), int(found[2], 16), found[3])
    return None


@dataclass(frozen=True, slots=True)
class ArchivedEntry:
    """One entry of the replicated log; `body` as in the journal (docs/formats/journal.md)."""

    index: int
    term: int
    body: bytes


@dataclass(frozen=True, slots=True)
class PieceHead:
    """What a piece says of itself: entries `first` to `last`."""

    first: int
    count: int
    plain_bytes: int
    packed_bytes: int
    crc: int

    @property
    def last(self) -> int:
        """Index of its last entry."""
        return self.first + self.count - 1

    @property
    def size_bytes(self) -> int:
        """Of the whole piece."""
        return HEAD_BYTES + self.packed_bytes


def pack_header(cluster_id: bytes, name: LogName) -> bytes:
    """The first bytes of a log file."""
    fields = _HEADER.pack(_HEADER_MAGIC, cluster_id, name.generation, name.run, name.first)
    return fields + _CRC.pack(crc32c(fields))


def pack_piece(entries: Sequence[ArchivedEntry]) -> bytes:
    """Entries that follow each other, at most PLAIN_BYTES_MAX of them, as one piece."""
    first = entries[0].index
    assert [entry.index for entry in entries] == list(range(first, first + len(entries)))
    plain = b"".join(_ENTRY.pack(each.term, len(each.body)) + each.body for each in entries)
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(plain)
    fields = _HEAD.pack(_HEAD_MAGIC, first, len(entries), len(plain), len(packed), crc32c(packed))
    return fields + _CRC.pack(crc32c(fields)) + packed


def parse_head(data: Bytes) -> PieceHead:
    """The head at the beginning of `data`. Raises CorruptCatalog."""
    if len(data) < HEAD_BYTES:
        raise CorruptCatalog("A piece of the archived log is cut short.")
    fields = bytes(data[: _HEAD.size])
    magic, first, count, plain_bytes, packed_bytes, crc = _HEAD.unpack(fields)
    (found,) = _CRC.unpack(data[_HEAD.size : HEAD_BYTES])
    if magic != _HEAD_MAGIC or found != crc32c(fields):
        raise CorruptCatalog("The head of a piece of the archived log is damaged.")
    if not first or not count or max(plain_bytes, packed_bytes) > PIECE_BYTES_MAX:
        raise CorruptCatalog("The head of a piece of the archived log makes no sense.")
    return PieceHead(first, count, plain_bytes, packed_bytes, crc)


def check_piece(piece: Bytes) -> PieceHead:
    """The head of a whole piece, once all of it was compared. Raises CorruptCatalog."""
    head = parse_head(piece)
    packed = memoryview(piece)[HEAD_BYTES:]
    if len(packed) != head.packed_bytes or crc32c(packed) != head.crc:
        raise CorruptCatalog(f"The archived entries from {head.first} on are damaged.")
    return head


def unpack_piece(piece: Bytes) -> list[ArchivedEntry]:
    """Inverse of pack_piece. Raises CorruptCatalog."""
    head = check_piece(piece)
    try:
        plain = zstandard.ZstdDecompressor().decompress(
            bytes(piece[HEAD_BYTES:]), max_output_size=head.plain_bytes
        )
    except zstandard.ZstdError as error:
        raise CorruptCatalog(f"Archived entries cannot be unpacked: {error}") from error
    entries, at = [], 0
    try:
        for index in range(head.first, head.last + 1):
            term, size_bytes = _ENTRY.unpack_from(plain, at)
            at += _ENTRY.size + size_bytes
            entries.append(ArchivedEntry(index, term, plain[at - size_bytes : at]))
    except struct.error as error:
        raise CorruptCatalog("Archived entries end before the last one.") from error
    if at != len(plain):
        raise CorruptCatalog("There are bytes behind the last archived entry.")
    return entries


@dataclass(frozen=True, slots=True)
class FoundPiece:
    """A good piece and where in its file it lies."""

    offset: int
    head: PieceHead


@dataclass(frozen=True, slots=True)
class FoundLog:
    """What a log file holds. `damage`: what of it cannot be read, in words: at its end that may
    be no more than a write that a crash cut short. `good_bytes`: up to the end of the last good
    piece; what lies behind is not believed."""

    pieces: tuple[FoundPiece, ...]
    good_bytes: int
    size_bytes: int
    damage: tuple[str, ...]


def scan_log(file: DiskFile, cluster_id: bytes, name: LogName) -> FoundLog:
    """Look through a log file, holding one piece at a time.

    A damaged piece whose head is good is stepped over; nothing is searched for behind a bad
    head: users choose bytes of entries, and could have made some look like a piece.
    """
    size_bytes, at, expected = file.size_bytes(), HEADER_BYTES, name.first
    pieces: list[FoundPiece] = []
    damage: list[str] = []
    good_bytes = 0
    if file.pread(HEADER_BYTES, 0) != pack_header(cluster_id, name):
        return FoundLog((), 0, size_bytes, (f"{name}: its header is damaged, or of another file",))
    while at < size_bytes:
        try:
            head = parse_head(file.pread(HEAD_BYTES, at))
            if head.first != expected:
                raise CorruptCatalog(f"Entry {head.first} follows {expected - 1}.")
        except CorruptCatalog as error:
            damage.append(f"{name} from byte {at} on: {error.message}")
            break
        try:
            check_piece(file.pread(head.size_bytes, at))
        except CorruptCatalog as error:
            damage.append(f"{name} at byte {at}: {error.message}")
        else:
            pieces.append(FoundPiece(at, head))
            good_bytes = at + head.size_bytes
        at += head.size_bytes
        expected = head.last + 1
    return FoundLog(
        tuple(pieces), good_bytes or min(HEADER_BYTES, size_bytes), size_bytes, tuple(damage)
    )
