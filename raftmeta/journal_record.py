"""The bytes of the Raft journal (docs/formats/journal.md); no files here.

A segment is a header and records. Every record carries `synced_bytes`, the length of the
segment known to be durable when the record was written: a bad record below any such mark
is damage, a bad record above all of them is only a write that a crash cut short.
"""

import struct
import zlib
from dataclasses import dataclass

from osscore.errors import CorruptJournal

SEGMENT_MAGIC = b"OSSJRNL1"
RECORD_MAGIC = b"\xa5JR\x01"
VOTE_MAGIC = b"OSSVOTE1"

ENTRY = 1  # the log entry `index` of `term`; body = its bytes
TRUNCATE = 2  # entries from `index` on are void; `term` is that of entry index - 1
MARK = 3  # says nothing but `synced_bytes`
KINDS = (ENTRY, TRUNCATE, MARK)

_SEGMENT = struct.Struct("<8sQQQQ")  # magic, sequence, base index, base term, salt
_CRC = struct.Struct("<I")
_RECORD = struct.Struct("<4sI")  # magic, crc of all that follows
_FIELDS = struct.Struct("<BQQQI")  # kind, index, term, synced bytes, body length
_VOTE = struct.Struct("<8sQH")  # magic, term, length of the name

SEGMENT_HEADER_BYTES = _SEGMENT.size + _CRC.size
RECORD_HEADER_BYTES = _RECORD.size + _FIELDS.size


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """`base_index`/`base_term`: the last log entry before this segment.

    `salt` seeds the records' checksums, so that bytes a user stored can never pass for a
    record when the journal is searched behind a bad one.
    """

    sequence: int
    base_index: int
    base_term: int
    salt: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `body` is empty but for ENTRY."""

    kind: int
    index: int
    term: int
    synced_bytes: int
    body: bytes = b""

    @property
    def size_bytes(self) -> int:
        """Length in the segment."""
        return RECORD_HEADER_BYTES + len(self.body)


def pack_header(header: SegmentHeader) -> bytes:
    """The first bytes of a segment."""
    fields = _SEGMENT.pack(
        SEGMENT_MAGIC, header.sequence, header.base_index, header.base_term, header.salt
    )
    return fields + _CRC.pack(zlib.crc32(fields))


def parse_header(data: bytes, name: str) -> SegmentHeader:
    """Inverse of pack_header. Raises CorruptJournal: headers are never written in place."""
    if len(data) < SEGMENT_HEADER_BYTES:
        raise CorruptJournal(f"{name}: {len(data)} bytes, too short for a segment header")
    magic, sequence, base_index, base_term, salt = _SEGMENT.unpack_from(data)
    (crc,) = _CRC.unpack_from(data, _SEGMENT.size)
    if magic != SEGMENT_MAGIC or zlib.crc32(data[: _SEGMENT.size]) != crc:
        raise CorruptJournal(f"{name}: the segment header at offset 0 is damaged")
    return SegmentHeader(sequence, base_index, base_term, salt)


def seed_of(salt: int) -> int:
    """Where the checksums of a segment's records start."""
    return zlib.crc32(struct.pack("<Q", salt))


def pack_record(record: Record, seed: int) -> tuple[bytes, bytes]:
    """Header and body of a record, to be written one behind the other."""
    fields = _FIELDS.pack(
        record.kind, record.index, record.term, record.synced_bytes, len(record.body)
    )
    crc = zlib.crc32(record.body, zlib.crc32(fields, seed))
    return _RECORD.pack(RECORD_MAGIC, crc) + fields, record.body


def parse_record(data: bytes | memoryview, offset: int, seed: int) -> Record | None:
    """The record that starts at `offset`, or None if there is no whole and good one."""
    start = offset + RECORD_HEADER_BYTES
    if start > len(data):
        return None
    magic, crc = _RECORD.unpack_from(data, offset)
    kind, index, term, synced_bytes, length = _FIELDS.unpack_from(data, offset + _RECORD.size)
    if magic != RECORD_MAGIC or kind not in KINDS or start + length > len(data):
        return None
    fields = data[offset + _RECORD.size : start]
    body = bytes(data[start : start + length])
    if zlib.crc32(body, zlib.crc32(fields, seed)) != crc:
        return None
    return Record(kind, index, term, synced_bytes, body)


def find_mark_above(data: bytes, bad_offset: int, seed: int) -> int | None:
    """Offset of a good record behind `bad_offset` that knows bytes past it to be synced."""
    at = data.find(RECORD_MAGIC, bad_offset + 1)
    while at != -1:
        record = parse_record(data, at, seed)
        if record is not None and bad_offset < record.synced_bytes <= at:
            return at
        at = data.find(RECORD_MAGIC, at + 1)
    return None


def pack_vote(term: int, voted_for: str | None) -> bytes:
    """The whole vote file."""
    name = (voted_for or "").encode()
    fields = _VOTE.pack(VOTE_MAGIC, term, len(name)) + name
    return fields + _CRC.pack(zlib.crc32(fields))


def parse_vote(data: bytes, name: str) -> tuple[int, str | None]:
    """Term and vote. Raises CorruptJournal: a guessed vote could elect two leaders."""
    if len(data) >= _VOTE.size + _CRC.size:
        magic, term, length = _VOTE.unpack_from(data)
        end = _VOTE.size + length
        if magic == VOTE_MAGIC and len(data) == end + _CRC.size:
            (crc,) = _CRC.unpack_from(data, end)
            if zlib.crc32(data[:end]) == crc:
                return term, data[_VOTE.size : end].decode() or None
    raise CorruptJournal(f"{name}: the term and vote cannot be read; this member must be re-joined")
