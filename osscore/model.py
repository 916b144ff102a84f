"""The words of the store as values: profile, coding, slot, stripe, segment.

Everything here crosses a wire or the log, so it is a frozen `msgspec.Struct`. Field order
and names are a format: change them only together with `docs/formats/` and golden bytes.
"""

import re
import struct
from collections.abc import Sequence
from enum import IntEnum

import msgspec

from osscore.errors import InvalidArgument
from osscore.names import StripeId

STRIPE_BYTES_MAX = 8 * 1024 * 1024
"""Most object bytes in one stripe."""
INLINE_BYTES_MAX = 4096
"""Bodies up to this size live in the catalog."""
INLINE_BYTES_MAX_WHEN_LARGE = 512
"""The same once the inline table has passed 4 GiB (SAFETY rule 24)."""
BLOCK_BYTES = 64 * 1024
"""Unit of the CRC32C table of a shard record."""
FRAME_BYTES = 256 * 1024
"""Plain bytes in one independent zstd frame (SAFETY rule 27)."""


_PROFILE = re.compile(r"([1-9][0-9]?)\+([1-9][0-9]?)")
"""One spelling of each; int() of thousands of digits raises."""


class Profile(msgspec.Struct, frozen=True, array_like=True):
    """How redundant a user wants an object: k data and m parity shards."""

    data_count: int
    parity_count: int

    @property
    def shard_count(self) -> int:
        """k + m."""
        return self.data_count + self.parity_count

    @property
    def nodes_min(self) -> int:
        """On fewer nodes, one would hold more than m shards."""
        return max(2, -(-self.shard_count // self.parity_count))

    def asks_more_than(self, other: "Profile") -> bool:
        """Whether it is the more durable one: more losses survived, then fewer shards to lose."""
        mine = (self.parity_count, -self.data_count)
        return mine > (other.parity_count, -other.data_count)

    def __str__(self) -> str:
        return f"{self.data_count}+{self.parity_count}"

    @classmethod
    def parse(cls, text: str) -> "Profile":
        """Read 'k+m'. Raises InvalidArgument unless 1 <= k <= 16 and 1 <= m <= 8."""
        match = _PROFILE.fullmatch(text)
        if match is None:
            raise InvalidArgument(f"A profile is written k+m, such as 4+2, not {text[:20]!r}.")
        profile = cls(int(match[1]), int(match[2]))
        if not (1 <= profile.data_count <= 16 and 1 <= profile.parity_count <= 8):
            raise InvalidArgument(f"A profile has 1 to 16 data and 1 to 8 parity shards: {text}.")
        return profile


class CodingKind(IntEnum):
    """How a stripe's stored bytes became shards."""

    REED_SOLOMON = 0
    REPLICA = 1


class Coding(msgspec.Struct, frozen=True, array_like=True):
    """The code a stripe is written with now.

    REED_SOLOMON: `data_count` shards rebuild it, `parity_count` more exist.
    REPLICA: `data_count` is 1 and every one of the `1 + parity_count` shards is a full copy.
    """

    kind: CodingKind
    data_count: int
    parity_count: int

    @property
    def shard_count(self) -> int:
        """How many shards exist when nothing is missing."""
        return self.data_count + self.parity_count


def reed_solomon(profile: Profile) -> Coding:
    """The coding a profile asks for."""
    return Coding(CodingKind.REED_SOLOMON, profile.data_count, profile.parity_count)


def replicas(copies: int) -> Coding:
    """The coding of `copies` full copies (SAFETY rule 8)."""
    return Coding(CodingKind.REPLICA, 1, copies - 1)


class SlotState(IntEnum):
    """What the catalog knows of a slot."""

    GOOD = 0
    MISSING = 1
    """Never became durable, or its disk is gone. `disk` is where it was meant to be."""
    BAD = 2
    """The owner reread it and it fails its checksum (SAFETY rule 11)."""


class Slot(msgspec.Struct, frozen=True, array_like=True):
    """Where one shard of a stripe lies: (index, gen, disk), and its state.

    `disk` is the catalog's small number for one data folder of one blob daemon.
    """

    index: int
    gen: int
    disk: int
    state: SlotState = SlotState.GOOD


_SLOT = struct.Struct("<BBQI")  # index, state, gen, disk


def pack_slots(slots: Sequence[Slot]) -> bytes:
    """The catalog's column form: 14 bytes a slot, in index order."""
    return b"".join(_SLOT.pack(s.index, s.state, s.gen, s.disk) for s in slots)


def unpack_slots(packed: bytes) -> tuple[Slot, ...]:
    """Inverse of pack_slots."""
    return tuple(
        Slot(index=index, gen=gen, disk=disk, state=SlotState(state))
        for index, state, gen, disk in _SLOT.iter_unpack(packed)
    )


class ShardIdentity(msgspec.Struct, frozen=True, array_like=True):
    """(stripe, index, gen): what a record on a blob disk is (SAFETY rule 2).

    gen 0 at first write, afterwards the unique number of the task that wrote it.
    """

    stripe: StripeId
    index: int
    gen: int


class StripeDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A stripe whose shards are stored but which no command has named yet.

    `digest` is BLAKE3-256 of the plain bytes; (profile, domain, digest) is the dedup key.
    `stored_bytes` is the size after compression, `stored_crc` the CRC32C of those bytes.
    `frames` holds the stored size of each zstd frame, empty when stored plain.
    `shard_crcs[i]` is the CRC32C of shard i (each `shard_bytes` long, the last data shard
    zero-padded). Slots not durable are MISSING.
    """

    stripe: StripeId
    profile: Profile
    domain: bytes
    digest: bytes
    plain_bytes: int
    stored_bytes: int
    stored_crc: int
    frames: tuple[int, ...]
    coding: Coding
    shard_bytes: int
    shard_crcs: tuple[int, ...]
    slots: tuple[Slot, ...]


class Stripe(msgspec.Struct, frozen=True, kw_only=True):
    """A named stripe as the catalog knows it now; what a reader needs to read it.

    `row` is the catalog's number for the stripe: it stays when the stripe is encoded anew,
    while `stripe`, `coding` and `slots` change.
    """

    row: int
    stripe: StripeId
    profile: Profile
    plain_bytes: int
    stored_bytes: int
    stored_crc: int
    frames: tuple[int, ...]
    coding: Coding
    shard_bytes: int
    shard_crcs: tuple[int, ...]
    slots: tuple[Slot, ...]


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Object bytes [start, start + length) are `length` bytes of a stripe from `offset`."""

    start: int
    length: int
    offset: int
    stripe: Stripe


class ObjectAttributes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a version keeps besides its bytes.

    `sha256` and `md5` are raw digests or empty. `content` holds content headers by their
    lower-case names ('content-type', ...), `user` the user's own metadata.
    """

    size_bytes: int
    sha256: bytes = b""
    md5: bytes = b""
    content: dict[str, str] = {}
    user: dict[str, str] = {}


class VersionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an object, or a delete marker, without its bytes."""

    bucket: str
    key: str
    number: int
    version_id: str
    is_marker: bool
    is_latest: bool
    created_at_ms: int
    attributes: ObjectAttributes
    manifest: int = 0
    """Catalog number of the manifest; 0 for inline bodies and markers."""

    @property
    def etag(self) -> str:
        """Hex SHA-256, or MD5 where no SHA-256 is kept, without quotes."""
        return (self.attributes.sha256 or self.attributes.md5).hex()
