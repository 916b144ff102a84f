"""A volume: one append-only file of records, read, scanned and sealed here.

Its name is `NUMBER-SALT.volume` (8 and 16 hex digits). Numbers only grow on a disk. A
sealed volume ends with a seal record, which lists all records, and a trailer that says
where the seal starts. Start cuts nothing (SAFETY rule 12): whatever follows damage is
found again by searching the marker, on 8-byte borders.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blobd.record import (
    ALIGN_BYTES,
    HEAD_BYTES,
    LIVE_TYPES,
    MAGIC,
    SALT_BYTES,
    TRAILER_BYTES,
    Entry,
    Header,
    RecordType,
    align,
    block_digests,
    encode,
    encode_trailer,
    entry_of,
    has_known_version,
    head_bytes,
    parse_head,
    parse_trailer,
    record_bytes,
    seal,
    table_end,
    unpack_entries,
)
from ossd.disk import Bytes, DiskFile

WINDOW_BYTES = 1024 * 1024
_NAME = re.compile(r"([0-9a-f]{8})-([0-9a-f]{16})\.volume")
_KNOWN_TYPES = LIVE_TYPES | {RecordType.TOMBSTONE, RecordType.SEAL}


@dataclass(frozen=True, slots=True)
class VolumeName:
    """What a volume's file name says."""

    number: int
    salt: bytes

    def path(self, directory: Path) -> Path:
        """The file of that name in `directory`."""
        return directory / f"{self.number:08x}-{self.salt.hex()}.volume"

    @classmethod
    def parse(cls, name: str) -> "VolumeName | None":
        """Inverse of path; None for files that are no volumes."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        return cls(int(found[1], 16), bytes.fromhex(found[2]))


@dataclass(frozen=True, slots=True)
class Found:
    """A record a scan came across. `intact`: its body was read and meets its CRCs."""

    header: Header
    offset: int
    intact: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes [offset, end) that are no readable record.

    `foreign`: a record of a later format version starts here, so the volume must be kept.
    """

    offset: int
    end: int
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Contents:
    """All records of a volume in order of offset, and what lies between them."""

    entries: tuple[Entry, ...]
    gaps: tuple[Gap, ...]
    sealed: bool

    @property
    def foreign(self) -> bool:
        """Whether it holds anything this version cannot rewrite."""
        unknown = any(entry.type not in _KNOWN_TYPES for entry in self.entries)
        return unknown or any(gap.foreign for gap in self.gaps)


class Window:
    """Reads a file through one buffer, so that small records cost no call each."""

    def __init__(self, file: DiskFile) -> None:
        self._file = file
        self._start = 0
        self._data = b""

    def read(self, size_bytes: int, offset: int) -> bytes:
        """Up to that many bytes from `offset`; fewer only at the end of the file."""
        at = offset - self._start
        if at < 0 or at + size_bytes > len(self._data):
            self._data = self._file.pread(max(size_bytes, WINDOW_BYTES), offset)
            self._start, at = offset, 0
        return self._data[at : at + size_bytes]


def read_header(source: DiskFile | Window, offset: int, salt: bytes) -> Header | None:
    """The verified header of the record at `offset`; None if there is none or it is damaged."""
    # parse_head reads no more than the header: enough for a body of up to 256 KiB at once.
    read = source.read if isinstance(source, Window) else source.pread
    guess = read(HEAD_BYTES + 24, offset)
    end = table_end(guess, salt)
    if end is not None and end > len(guess):
        guess = read(end, offset)
    return parse_head(guess, salt)


def body_intact(header: Header, body: Bytes) -> bool:
    """Whether a body is what its header says."""
    return len(body) == header.body_bytes and block_digests(body) == header.block_crcs


def scan(file: DiskFile, salt: bytes, *, verify_from: int = 0) -> Iterator[Found | Gap]:
    """Walk all of a volume, over damage too, and yield what is there in order of offset.

    Bodies of records below `verify_from` (known to be synced) are skipped unread. Raises
    OSError. A record with a bad body is yielded as not intact, and the search goes on
    behind its header: a torn write may have been followed by others inside that room.
    """
    size_bytes = file.size_bytes()
    window = Window(file)
    offset = 0
    while offset < size_bytes:
        header = read_header(window, offset, salt)
        if header is None:
            end = _next_marker(window, offset + ALIGN_BYTES, size_bytes, salt)
            yield Gap(offset, end, foreign=_is_foreign(window, offset, salt))
            offset = end
            continue
        intact = offset < verify_from or _body_read_intact(window, offset, header)
        yield Found(header, offset, intact)
        if header.type == RecordType.SEAL and intact:
            offset += record_bytes(header.body_bytes) + TRAILER_BYTES
        else:
            offset += record_bytes(header.body_bytes) if intact else head_bytes(header.body_bytes)


def _body_read_intact(window: Window, offset: int, header: Header) -> bool:
    body_at = offset + head_bytes(header.body_bytes)
    return body_intact(header, window.read(header.body_bytes, body_at))


def _is_foreign(window: Window, offset: int, salt: bytes) -> bool:
    head = window.read(HEAD_BYTES, offset)
    return head.startswith(MAGIC + salt) and not has_known_version(head)


def _next_marker(window: Window, offset: int, size_bytes: int, salt: bytes) -> int:
    """The first border at or behind `offset` that a marker stands on, else the file's end."""
    marker = MAGIC + salt
    while offset < size_bytes:
        data = window.read(min(WINDOW_BYTES, size_bytes - offset), offset)
        at = data.find(marker)
        while at >= 0 and (offset + at) % ALIGN_BYTES:
            at = data.find(marker, at + 1)
        if at >= 0:
            return offset + at
        if len(data) < WINDOW_BYTES:
            break
        # A marker may begin in the last bytes of this window.
        offset += len(data) - align(len(marker))
    return size_bytes


def read_contents(file: DiskFile, salt: bytes, *, verify_from: int = 0) -> Contents:
    """What a volume holds: from its seal if it has a sound one, else by a scan."""
    listed = read_seal(file, salt)
    if listed is not None:
        return Contents(tuple(listed), (), sealed=True)
    entries: list[Entry] = []
    gaps: list[Gap] = []
    for found in scan(file, salt, verify_from=verify_from):
        if isinstance(found, Gap):
            gaps.append(found)
        elif found.header.type != RecordType.SEAL:
            entries.append(entry_of(found.header, found.offset, damaged=not found.intact))
    return Contents(tuple(entries), tuple(gaps), sealed=False)


def read_seal(file: DiskFile, salt: bytes) -> list[Entry] | None:
    """The entries of the seal, or None if the volume has no sound one at its very end."""
    size_bytes = file.size_bytes()
    if size_bytes < TRAILER_BYTES:
        return None
    trailer = file.pread(TRAILER_BYTES, size_bytes - TRAILER_BYTES)
    seal_offset = parse_trailer(trailer, salt)
    if seal_offset is None:
        return None
    header = read_header(file, seal_offset, salt)
    if header is None or header.type != RecordType.SEAL:
        return None
    table = file.pread(header.body_bytes, seal_offset + head_bytes(header.body_bytes))
    return list(unpack_entries(table)) if body_intact(header, table) else None


def lists(file: DiskFile, salt: bytes, key: bytes, offset: int) -> bool:
    """Whether the volume's own seal has a record of `key` there; True if it has no seal."""
    listed = read_seal(file, salt)
    return listed is None or any(e.key == key and e.offset == offset for e in listed)


def encode_seal(table: bytes, *, salt: bytes, offset: int, written_at_ms: int) -> list[Bytes]:
    """The pieces that seal a volume when written at `offset`: seal record and trailer."""
    header = seal(table, written_at_ms=written_at_ms)
    return [*encode(header, table, salt), encode_trailer(salt, offset)]


def new_name(number: int, entropy: bytes) -> VolumeName:
    """Name of a new volume; `entropy`: 8 random bytes."""
    assert len(entropy) == SALT_BYTES
    return VolumeName(number, entropy)
