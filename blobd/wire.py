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
POST /v1/disks/DISK/recheck
    in: msgpack Recheck, a hint; out: msgpack Rechecked. The owner rereads its shards of
    these stripes and tells the catalog what it found (SAFETY rule 11).
POST /v1/disks/DISK/sweep?after=CURSOR&dry_run=1
    out: msgpack SweepPage: one page of the disk looked through for what nobody can name any
    more, which is deleted unless it is a dry run (SAFETY rule 1).
POST /v1/disks/DISK/verified
    in: msgpack WhenVerified; out: msgpack LastVerified: when shards were last reread.
POST /v1/disks/DISK/census
    out: msgpack CensusAsked: the disk's slots and shards are compared at once.
POST /v1/disks/DISK/scrub
    in: msgpack ScrubOrder; out: msgpack ScrubObeyed.
GET /v1/temps/ID/pieces/N
    out: piece N of a temp, verified, with X-Oss-Block-Crcs. `ID`: 32 hex digits.
GET /v1/status
    out: JSON Status.
GET /livez /readyz /healthz /metrics
    text; no signature.
POST /temp/NAME, PATCH HEAD DELETE /temp/ID
    for users, who name their access key: docs/native-api.md.

A daemon itself asks frontends: POST /v1/adopt, in: msgpack Adopt, out: msgpack Adopted.

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
from raftmeta.upkeep import DiskCensus, DiskScrub

BATCH = "/v1/shards"
STATUS = "/v1/status"
READY = "/readyz"
RECHECK_ROWS_MAX = 64
VERIFIED_ASKED_MAX = 1000
SCRUB_NOW, SCRUB_PAUSE, SCRUB_RESUME = "now", "pause", "resume"
SCRUB_ACTIONS = (SCRUB_NOW, SCRUB_PAUSE, SCRUB_RESUME)
ADOPT = "/v1/adopt"
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


class Adopt(msgspec.Struct, frozen=True, kw_only=True):
    """Take in temp `temp` (16 bytes) as object `name` of the default bucket.

    Its `piece_count` pieces are fetched from the daemon at `url`. However often it is asked,
    one version is made. `access_key` is whose upload it is; `expires_in_ms` how long it may
    still be asked again. `content`, `user`, `profile`: as of a PUT.
    """

    temp: bytes
    url: str
    name: str
    size_bytes: int
    sha256: bytes
    piece_count: int
    access_key: str
    expires_in_ms: int
    content: dict[str, str] = {}
    user: dict[str, str] = {}
    profile: str = ""


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    """The version that was made, by this request or an earlier one."""

    number: int
    version_id: str
    created_at_ms: int


class InventoryRow(msgspec.Struct, frozen=True, array_like=True):
    """A shard this disk holds."""

    identity: ShardIdentity
    size_bytes: int
    crc: int


class InventoryPage(msgspec.Struct, frozen=True, kw_only=True):
    """`next` empty: that was all. Ordered by (stripe, index, gen)."""

    rows: tuple[InventoryRow, ...]
    next: str = ""


class Recheck(msgspec.Struct, frozen=True, kw_only=True):
    """Stripes, by the catalog's rows, whose shards on a disk may not be what is believed."""

    rows: tuple[int, ...]


class RecheckedShard(msgspec.Struct, frozen=True, array_like=True):
    """`found`: good, missing, corrupt, other (bytes than the catalog knows), unreadable."""

    row: int
    identity: ShardIdentity
    found: str


class Rechecked(msgspec.Struct, frozen=True, kw_only=True):
    """Every slot of those stripes on the disk. What was found is in the catalog by now."""

    shards: tuple[RecheckedShard, ...]


class ShardCount(msgspec.Struct, frozen=True, array_like=True):
    """So many shards of so many bytes together."""

    shards: int = 0
    size_bytes: int = 0


class SweepPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a sweep. `next` empty: the disk's end.

    `young`: not judged, since they may still be named. `kept`: named; `shared` of these by more
    than one object or version. `removed`: named by nobody (in a dry run: still there).
    """

    examined: ShardCount
    young: ShardCount
    kept: ShardCount
    shared: ShardCount
    removed: ShardCount
    next: str = ""


class WhenVerified(msgspec.Struct, frozen=True, kw_only=True):
    """When were these shards of a disk last reread? At most VERIFIED_ASKED_MAX."""

    identities: tuple[ShardIdentity, ...]


class LastVerified(msgspec.Struct, frozen=True, kw_only=True):
    """`ms_ago[i]`: since shard i was last reread and good, at the latest: the time is that of its
    volume's rereading; -1: not since it was written, as far as is known, or it is not there."""

    ms_ago: tuple[int, ...]


class CensusAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The asked one is the first whose `begun_at_ms` is this, or later."""

    asked_at_ms: int


class ScrubOrder(msgspec.Struct, frozen=True, kw_only=True):
    """`action`: one of SCRUB_ACTIONS."""

    action: str


class ScrubObeyed(msgspec.Struct, frozen=True, kw_only=True):
    """Of `now`: the asked pass began then, by the daemon's clock; else 0."""

    began_at_ms: int = 0


class VolumeVerified(msgspec.Struct, frozen=True, kw_only=True):
    """A volume file, and since when all of it was reread; 0: never."""

    name: str
    size_bytes: int
    verified_at_ms: int


class DiskStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One data folder. `disk` is the catalog's number, 0 until registered. `census`: the last
    whole one of this process."""

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
    temp_bytes: int = 0
    census: DiskCensus | None = None
    is_counting: bool = False
    """Whether a census is under way."""
    scrub: DiskScrub | None = None
    verified: tuple[VolumeVerified, ...] = ()


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/status, JSON."""

    id: str
    role: str
    version: str
    pid: int
    state: str
    disks: tuple[DiskStatus, ...]
