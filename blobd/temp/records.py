"""The records of a temp: head, pieces, and what became of it (docs/formats/temp.md).

Their key is that of a shard whose stripe is the temp's id, which no stripe can have:
(id, kind, number). Data before name: pieces are durable before the head is written, and the
head goes before they do, so a temp either exists whole or not at all.
"""

from enum import IntEnum
from typing import NewType

import msgspec

from blobd.record import TEMP_MARK, RecordType, identity_key
from osscore.model import ShardIdentity
from osscore.names import STRIPE_ID_BYTES, StripeId

TempId = NewType("TempId", bytes)
"""16 bytes: 6 that mark it and 10 random ones."""

PIECE_BYTES_MAX = 4 * 1024 * 1024
RANDOM_BYTES = STRIPE_ID_BYTES - len(TEMP_MARK)
_NUMBER_MAX = 2**64 - 1
_KIND_MAX = 255


class Kind(IntEnum):
    """What a record of a temp is; in this order they lie in the index."""

    HEAD = 0
    DONE = 1
    PIECE = 2


TYPES = {
    Kind.HEAD: RecordType.TEMP_HEAD,
    Kind.DONE: RecordType.TEMP_DONE,
    Kind.PIECE: RecordType.TEMP_PIECE,
}


class TempHead(msgspec.Struct, frozen=True, kw_only=True):
    """The temp is here whole: `piece_count` pieces of together `size_bytes`.

    `access_key` is whose upload it is. `content`, `user` and `profile` go with the object as
    they would have with a PUT.
    """

    name: str
    access_key: str
    size_bytes: int
    sha256: bytes
    piece_count: int
    created_at_ms: int
    expires_at_ms: int
    content: dict[str, str] = {}
    user: dict[str, str] = {}
    profile: str = ""


class TempDone(msgspec.Struct, frozen=True, kw_only=True):
    """The temp became version `number` of its object; remembered until `expires_at_ms`."""

    name: str
    number: int
    version_id: str
    size_bytes: int
    sha256: bytes
    expires_at_ms: int


def temp_id(entropy: bytes) -> TempId:
    """An id from 10 random bytes."""
    assert len(entropy) == RANDOM_BYTES
    return TempId(TEMP_MARK + entropy)


def parse_temp_id(text: str) -> TempId | None:
    """The id that 32 hex digits spell; None if they spell none."""
    try:
        found = bytes.fromhex(text) if len(text) == 2 * STRIPE_ID_BYTES else b""
    except ValueError:
        return None
    return TempId(found) if found.startswith(TEMP_MARK) else None


def identity_of(temp: TempId, kind: Kind, number: int = 0) -> ShardIdentity:
    """Under what the store keeps a record of a temp."""
    return ShardIdentity(StripeId(temp), kind, number)


def end_of(temp: TempId, kind: int = _KIND_MAX) -> bytes:
    """A key behind every record of that temp up to `kind`, and before those that follow."""
    return identity_key(ShardIdentity(StripeId(temp), kind, _NUMBER_MAX))
