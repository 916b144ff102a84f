"""The blob daemon's HTTP, as paths, headers and bodies.

Every request but the health paths carries the internal signature (`ossd.signing`).
`DISK` is 32 hex digits of the disk's uuid, `STRIPE` 32 hex digits, INDEX and GEN decimal.

PUT /v1/disks/DISK/shards/STRIPE/INDEX/GEN
    in: the shard; headers X-Oss-Crc32c (8 hex), X-Oss-Coding.
    out: 201 stored, 200 the same was there; durable either way.
GET (Range) the same path
    first byte on a 64 KiB border; out: 200/206 the bytes, verified; X-Oss-Crc32c of the
    whole shard, X-Oss-Block-Crcs: 8 hex a block sent.
HEAD the same path
    length and CRC, not verified.
POST /v1/shards
    in: a frame of `pack_batch`; out: msgpack BatchReply; one fdatasync per disk.
GET /v1/disks/DISK/inventory?after=CURSOR&limit=N
    out: msgpack InventoryPage.
GET /v1/status
    out: JSON Status.
GET /livez /readyz /healthz /metrics
    text; no signature.

There is no delete request: daemons pull their own deletions from the catalog
(`collect`, SAFETY rule 3). Errors: NoSuchShard 404, ShardConflict 409, DiskFull 507,
DiskFailing 503, CorruptShard 500, BadDigest 400.
"""

import struct
from collections.abc import Sequence

import msgspec

from osscore.digests import Bytes
from osscore.errors import MalformedBody
from osscore.model import Coding, CodingKind, ShardIdentity

BATCH = "/v1/shards"
STATUS = "/v1/status"
CRC_HEADER = "X-Oss-Crc32c"
BLOCK_CRCS_HEADER = "X-Oss-Block-Crcs"
CODING_HEADER = "X-Oss-Coding"
SHARD_BYTES_MAX = 8 * 1024 * 1024
BATCH_BYTES_MAX = 8 * 1024 * 1024


def shard_path(disk: bytes, identity: ShardIdentity) -> str:
    """The path of one shard on one disk."""
    return f"/v1/disks/{disk.hex()}/shards/{identity.stripe.hex()}/{identity.index}/{identity.gen}"


def coding_text(coding: Coding) -> str:
    """Header form of a coding: 'rs-4-2' or 'replica-1-2'."""
    kind = "rs" if coding.kind is CodingKind.REED_SOLOMON else "replica"
    return f"{kind}-{coding.data_count}-{coding.parity_count}"


def parse_coding(text: str) -> Coding:
    """Inverse of coding_text. Raises MalformedBody."""
    kind, _, counts = text.partition("-")
    data, _, parity = counts.partition("-")
    if kind not in ("rs", "replica") or not (data.isdecimal() and parity.isdecimal()):
        raise MalformedBody(f"{CODING_HEADER} is not understood: {text[:40]!r}")
    code = CodingKind.REED_SOLOMON if kind == "rs" else CodingKind.REPLICA
    return Coding(code, int(data), int(parity))


class ShardPut(msgspec.Struct, frozen=True, kw_only=True):
    """Head of one shard in a batch; its `size_bytes` bytes follow in order."""

    disk: bytes
    identity: ShardIdentity
    coding: Coding
    crc: int
    size_bytes: int


class ShardOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`error` empty: durable. Else the name of an osscore.errors class, and its message."""

    error: str = ""
    message: str = ""


class BatchReply(msgspec.Struct, frozen=True, kw_only=True):
    """`outcomes[i]` belongs to shard i of the batch."""

    outcomes: tuple[ShardOutcome, ...]


_HEAD = struct.Struct(">I")
_heads = msgspec.msgpack.Decoder(tuple[ShardPut, ...])


def pack_batch(puts: Sequence[ShardPut], bodies: Sequence[bytes]) -> bytes:
    """Frame of POST /v1/shards: u32 length of the msgpack heads, the heads, the bodies."""
    head = msgspec.msgpack.encode(tuple(puts))
    return b"".join([_HEAD.pack(len(head)), head, *bodies])


def unpack_batch(frame: Bytes) -> list[tuple[ShardPut, memoryview]]:
    """Inverse of pack_batch, without copying bodies. Raises MalformedBody."""
    view = memoryview(frame)
    try:
        (head_bytes,) = _HEAD.unpack_from(frame)
        puts = _heads.decode(view[4 : 4 + head_bytes])
    except (struct.error, msgspec.MsgspecError) as error:
        raise MalformedBody("The shard batch has no readable head.") from error
    found, at = [], 4 + head_bytes
    for put in puts:
        if put.size_bytes < 0 or at + put.size_bytes > len(frame):
            raise MalformedBody("The shard batch ends before its last shard.")
        found.append((put, view[at : at + put.size_bytes]))
        at += put.size_bytes
    if at != len(frame):
        raise MalformedBody("The shard batch has bytes after its last shard.")
    return found


class InventoryRow(msgspec.Struct, frozen=True, array_like=True):
    """A shard this disk holds."""

    identity: ShardIdentity
    size_bytes: int
    crc: int


class InventoryPage(msgspec.Struct, frozen=True, kw_only=True):
    """`next` empty: that was all. Ordered by (stripe, index, gen)."""

    rows: tuple[InventoryRow, ...]
    next: str = ""


class DiskStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One data folder. `disk` is the catalog's number, 0 until registered."""

    uuid: str
    path: str
    disk: int
    capacity_bytes: int
    free_bytes: int
    used_bytes: int
    live_bytes: int
    shards: int
    volumes: int
    writable: bool
    problem: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/status, JSON."""

    id: str
    role: str
    version: str
    pid: int
    state: str
    disks: tuple[DiskStatus, ...]
