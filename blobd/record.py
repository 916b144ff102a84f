"""The bytes of a record: one shard, tombstone, seal or part of a temp inside a volume.

All integers are big endian. A record starts on an 8-byte border of its volume::

    record  = head table head_crc pad body pad     both pads: zeros up to 8 bytes
    head    = magic salt version type kind data_count parity_count key flags
              written_at_ms body_bytes body_crc since target              (72 bytes)
    key     = stripe(16) index(1) gen(8)           sorts as (stripe, index, gen)
    table   = CRC32C of each 64 KiB block of the body, 4 bytes each
    head_crc = CRC32C of head and table

`salt` is the volume's own random number and part of its file name. Magic and salt
together are what a scan looks for behind damage, so no bytes a user stores can pass for a
record: he does not know the salt. Page for people: docs/formats/volume.md.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from osscore.digests import crc32c, crc32c_blocks
from osscore.model import BLOCK_BYTES, Coding, CodingKind, ShardIdentity
from osscore.names import StripeId
from ossd.disk import Bytes

MAGIC = b"\x8aossrec\n"
SALT_BYTES = 8
FORMAT_VERSION = 1
ALIGN_BYTES = 8
BODY_BYTES_MAX = 2**32 - 1

_HEAD = struct.Struct(">8s8sBBBBB25sHQIIII")
_KEY = struct.Struct(">16sBQ")
_CRC = struct.Struct(">I")
HEAD_BYTES = _HEAD.size
KEY_BYTES = _KEY.size
_HEAD_BYTES_OF_ONE_BLOCK = (
    (HEAD_BYTES + 4 + _CRC.size + ALIGN_BYTES - 1) // ALIGN_BYTES * ALIGN_BYTES
)
_PADS = tuple(bytes(count) for count in range(ALIGN_BYTES))


class RecordType(IntEnum):
    """What a record is. A volume that holds a type unknown here is never rewritten."""

    SHARD = 1
    TOMBSTONE = 2
    SEAL = 3
    MANIFEST = 4
    """Reserved: a copy of a manifest, from which the catalog can be rebuilt."""
    INLINE = 5
    """Reserved: a copy of an inline object."""
    TEMP_HEAD = 6
    """Says that an upload of a user is here whole (`blobd.temp`)."""
    TEMP_PIECE = 7
    """A run of the bytes of such an upload."""
    TEMP_DONE = 8
    """Which version became of such an upload."""


LIVE_TYPES = frozenset(
    {RecordType.SHARD, RecordType.TEMP_HEAD, RecordType.TEMP_PIECE, RecordType.TEMP_DONE}
)
"""Records that stay until a tombstone says otherwise."""
TEMP_MARK = b"\xff" * 6
"""How the first field of the key of a temp's records begins: no stripe is born that late."""
KEYS_END = b"\xff" * 26
"""Behind every key."""


class Header(NamedTuple):
    """A record without its body. A tuple: one is made for each record written or read.

    `since` is the lowest number of a volume that may hold another record of this identity,
    `target`, of a tombstone only, the highest one (SAFETY rule 2): it stays while any
    volume in [since, target] does. `block_crcs[i]` is the CRC32C of 64 KiB block i.
    """

    type: int
    key: bytes
    coding: Coding
    body_bytes: int
    body_crc: int
    block_crcs: tuple[int, ...]
    written_at_ms: int
    since: int
    target: int = 0


def identity_key(identity: ShardIdentity) -> bytes:
    """25 bytes that sort as (stripe, index, gen)."""
    return _KEY.pack(identity.stripe, identity.index, identity.gen)


def key_identity(key: bytes) -> ShardIdentity:
    """Inverse of identity_key."""
    stripe, index, gen = _KEY.unpack(key)
    return ShardIdentity(stripe=StripeId(stripe), index=index, gen=gen)


def is_temp(key: bytes) -> bool:
    """Whether a record of that key is part of a temp, not a shard."""
    return key.startswith(TEMP_MARK)


def align(size_bytes: int) -> int:
    """The next record border at or behind `size_bytes`."""
    return (size_bytes + ALIGN_BYTES - 1) // ALIGN_BYTES * ALIGN_BYTES


def block_count(body_bytes: int) -> int:
    """How many 64 KiB blocks a body has; the last one may be short."""
    return (body_bytes + BLOCK_BYTES - 1) // BLOCK_BYTES


def head_bytes(body_bytes: int) -> int:
    """Bytes in front of a body of that size, pad included."""
    if 0 < body_bytes <= BLOCK_BYTES:
        return _HEAD_BYTES_OF_ONE_BLOCK
    return align(HEAD_BYTES + 4 * block_count(body_bytes) + _CRC.size)


def record_bytes(body_bytes: int) -> int:
    """Bytes a record with a body of that size takes in its volume."""
    if 0 < body_bytes <= BLOCK_BYTES:  # most are; several calls a record are worth a short cut
        return _HEAD_BYTES_OF_ONE_BLOCK + (body_bytes + 7) // ALIGN_BYTES * ALIGN_BYTES
    return head_bytes(body_bytes) + align(body_bytes)


def digest(body: Bytes) -> tuple[int, tuple[int, ...]]:
    """CRC32C of the whole body, and of each of its 64 KiB blocks."""
    if len(body) <= BLOCK_BYTES:
        whole = crc32c(body)
        return whole, (whole,) if len(body) else ()
    return crc32c(body), block_digests(body)


def block_digests(body: Bytes) -> tuple[int, ...]:
    """CRC32C of each 64 KiB block of `body`."""
    return tuple(crc32c_blocks(body, BLOCK_BYTES))


def encode_head(header: Header, salt: bytes) -> bytes:
    """Head, table, CRC and pad: everything in front of the body."""
    coding = header.coding
    head = _HEAD.pack(
        MAGIC,
        salt,
        FORMAT_VERSION,
        header.type,
        coding.kind,
        coding.data_count,
        coding.parity_count,
        header.key,
        0,
        header.written_at_ms,
        header.body_bytes,
        header.body_crc,
        header.since,
        header.target,
    )
    if len(header.block_crcs) == 1:
        head += _CRC.pack(header.block_crcs[0])
    else:
        head += struct.pack(f">{len(header.block_crcs)}I", *header.block_crcs)
    return head + _CRC.pack(crc32c(head)) + _PADS[-(len(head) + _CRC.size) % ALIGN_BYTES]


def encode(header: Header, body: Bytes, salt: bytes) -> list[Bytes]:
    """The pieces of a whole record, to be written one behind the other."""
    pieces = (encode_head(header, salt), body, _PADS[-header.body_bytes % ALIGN_BYTES])
    # Joining a small record costs less than writing three pieces of it.
    return [b"".join(pieces)] if header.body_bytes <= BLOCK_BYTES else list(pieces)


def has_known_version(data: Bytes) -> bool:
    """Whether the head at the start of `data` is of a version this code can read."""
    return len(data) > len(MAGIC) + SALT_BYTES and data[len(MAGIC) + SALT_BYTES] == FORMAT_VERSION


def table_end(data: Bytes, salt: bytes) -> int | None:
    """Size of head, table and CRC that the head at the start of `data` claims.

    None if that is no head of this volume. Nothing is verified yet but marker and version.
    """
    if len(data) < HEAD_BYTES or bytes(data[:16]) != MAGIC + salt or not has_known_version(data):
        return None
    body_bytes: int = _HEAD.unpack_from(data)[10]
    return HEAD_BYTES + 4 * block_count(body_bytes) + _CRC.size


def parse_head(data: Bytes, salt: bytes) -> Header | None:
    """The verified header at the start of `data`; None if it is not one, or damaged."""
    end = table_end(data, salt)
    if end is None or len(data) < end:
        return None
    (found_crc,) = _CRC.unpack_from(data, end - _CRC.size)
    if crc32c(bytes(data[: end - _CRC.size])) != found_crc:
        return None
    fields = _HEAD.unpack_from(data)
    _, _, _, type_, kind, data_count, parity_count, key, _, written_at_ms = fields[:10]
    body_bytes, body_crc, since, target = fields[10:]
    try:
        coding = Coding(CodingKind(kind), data_count, parity_count)
    except ValueError:  # a coding of a later version
        return None
    crcs = struct.unpack_from(f">{block_count(body_bytes)}I", data, HEAD_BYTES)
    return Header(
        type=type_,
        key=key,
        coding=coding,
        body_bytes=body_bytes,
        body_crc=body_crc,
        block_crcs=crcs,
        written_at_ms=written_at_ms,
        since=since,
        target=target,
    )


NO_CODING = Coding(CodingKind.REED_SOLOMON, 0, 0)


def tombstone(key: bytes, *, written_at_ms: int, since: int, target: int) -> Header:
    """The header of a record that says: this identity is deleted and never returns."""
    return Header(
        type=RecordType.TOMBSTONE,
        key=key,
        coding=NO_CODING,
        body_bytes=0,
        body_crc=0,
        block_crcs=(),
        written_at_ms=written_at_ms,
        since=since,
        target=target,
    )


def seal(table: Bytes, *, written_at_ms: int) -> Header:
    """The header of the record that ends a volume; its body lists the volume's records."""
    whole, crcs = digest(table)
    return Header(
        type=RecordType.SEAL,
        key=bytes(KEY_BYTES),
        coding=NO_CODING,
        body_bytes=len(table),
        body_crc=whole,
        block_crcs=crcs,
        written_at_ms=written_at_ms,
        since=0,
    )


def with_since(header: Header, since: int) -> Header:
    """The same record naming another oldest volume; for copies made by compaction."""
    return header._replace(since=since)


# --- the table of a sealed volume -------------------------------------------------------

_ENTRY = struct.Struct(">BB25sQIIII")
_TRAILER = struct.Struct(">8s8sQI4x")
TRAILER_MAGIC = b"\x8aossend\n"
ENTRY_BYTES = _ENTRY.size
TRAILER_BYTES = _TRAILER.size
_DAMAGED = 1


class Entry(NamedTuple):
    """One record of a volume as its seal lists it.

    `offset` is where the record starts. `damaged`: its body failed a CRC when it was listed.
    """

    type: int
    key: bytes
    offset: int
    size_bytes: int
    crc: int
    since: int
    target: int
    damaged: bool = False


def entry_of(header: Header, offset: int, *, damaged: bool = False) -> Entry:
    """How the seal lists a record."""
    return Entry(
        header.type,
        header.key,
        offset,
        header.body_bytes,
        header.body_crc,
        header.since,
        header.target,
        damaged,
    )


def pack_entry(entry: Entry) -> bytes:
    """51 bytes: type, flags, key, offset, size, CRC, since, target."""
    type_, key, offset, size_bytes, crc, since, target, damaged = entry
    flags = _DAMAGED if damaged else 0
    return _ENTRY.pack(type_, flags, key, offset, size_bytes, crc, since, target)


def unpack_entries(table: Bytes) -> Sequence[Entry]:
    """Inverse of joined pack_entry. The caller has verified the seal's CRC."""
    return [
        Entry(type_, key, offset, size, crc, since, target, bool(flags & _DAMAGED))
        for type_, flags, key, offset, size, crc, since, target in _ENTRY.iter_unpack(table)
    ]


def encode_trailer(salt: bytes, seal_offset: int) -> bytes:
    """The last 32 bytes of a sealed volume: where its seal record starts."""
    head = _TRAILER.pack(TRAILER_MAGIC, salt, seal_offset, 0)[:24]
    return _TRAILER.pack(TRAILER_MAGIC, salt, seal_offset, crc32c(head))


def parse_trailer(data: Bytes, salt: bytes) -> int | None:
    """Offset of the seal record, or None if this is no sound trailer of this volume."""
    if len(data) != TRAILER_BYTES:
        return None
    magic, found_salt, seal_offset, found_crc = _TRAILER.unpack(data)
    if magic != TRAILER_MAGIC or found_salt != salt or crc32c(bytes(data[:24])) != found_crc:
        return None
    return int(seal_offset)
