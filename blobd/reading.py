"""Reading records back: every block that leaves here meets its CRC. Blocking calls."""

from dataclasses import dataclass

from blobd.index import Location
from blobd.record import (
    Header,
    block_count,
    block_digests,
    head_bytes,
    parse_head,
    record_bytes,
)
from osscore.digests import crc32c
from osscore.errors import CorruptShard, InvalidRange
from osscore.model import BLOCK_BYTES
from ossd.disk import DiskFile


@dataclass(frozen=True, slots=True)
class ShardRead:
    """Bytes [first, first + len(body)) of a shard of `size_bytes`, whose CRC32C is `crc`.

    `block_crcs[i]` is the CRC32C of 64 KiB block i of `body`; the last may be short.
    """

    size_bytes: int
    crc: int
    first: int
    body: bytes
    block_crcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """The asked bytes [first, last) of a shard, and the end of the last block they touch."""

    first: int
    last: int
    blocks_end: int


def span(size_bytes: int, first: int, length: int | None) -> Span:
    """Which bytes a read covers; `length` None or too large: to the shard's end.

    Raises InvalidRange unless `first` lies on a block border inside the shard.
    """
    empty = size_bytes == 0 and first == 0
    if first < 0 or first % BLOCK_BYTES or (first >= size_bytes and not empty):
        raise InvalidRange(
            f"A shard of {size_bytes} bytes is not read from byte {first}; "
            f"reads start on a border of {BLOCK_BYTES} bytes.",
            size_bytes=size_bytes,
        )
    if length is not None and length <= 0 and not empty:
        raise InvalidRange("A range covers at least one byte.", size_bytes=size_bytes)
    last = size_bytes if length is None else min(first + length, size_bytes)
    return Span(first, last, min(block_count(last) * BLOCK_BYTES, size_bytes))


def read_span(
    file: DiskFile, salt: bytes, *, key: bytes, location: Location, wanted: Span
) -> ShardRead:
    """The wanted bytes, verified. Raises CorruptShard, OSError."""
    in_front = head_bytes(location.size_bytes)
    if wanted.first == 0 and wanted.blocks_end <= BLOCK_BYTES:
        data = file.pread(in_front + wanted.blocks_end, location.offset)
        head, body = data[:in_front], data[in_front:]
    else:
        # A second read costs less than cutting a large body off its header.
        head = file.pread(in_front, location.offset)
        body_at = location.offset + in_front + wanted.first
        body = file.pread(wanted.blocks_end - wanted.first, body_at)
    header = parse_head(head, salt)
    if header is None or not describes(header, key, location):
        raise CorruptShard("The header of a stored shard is damaged.")
    first_block = wanted.first // BLOCK_BYTES
    crcs = header.block_crcs[first_block : block_count(wanted.blocks_end)]
    if len(body) != wanted.blocks_end - wanted.first or block_digests(body) != crcs:
        raise CorruptShard("A stored shard fails its checksum.")
    if wanted.last < wanted.blocks_end:  # the last block was read whole only to verify it
        body = body[: wanted.last - wanted.first]
        crcs = (*crcs[:-1], crc32c(body[(len(crcs) - 1) * BLOCK_BYTES :]))
    return ShardRead(location.size_bytes, location.crc, wanted.first, body, crcs)


def read_record(
    file: DiskFile, salt: bytes, *, key: bytes, location: Location
) -> tuple[Header, bytes] | None:
    """Header and body as they lie there, the body not verified. Raises OSError.

    None if the header is unreadable or not that of `key`.
    """
    in_front = head_bytes(location.size_bytes)
    data = file.pread(in_front + location.size_bytes, location.offset)
    header = parse_head(data, salt)
    if header is None or not describes(header, key, location):
        return None
    if len(data) < record_bytes(0) or len(data) != in_front + location.size_bytes:
        return None
    return header, data[in_front:]


def describes(header: Header, key: bytes, location: Location) -> bool:
    """Whether the record found is the one the index speaks of."""
    return (
        header.key == key
        and header.body_bytes == location.size_bytes
        and header.body_crc == location.crc
    )
