"""From plain bytes to shards: pure computing, run off the loop for all but small stripes."""

from dataclasses import dataclass

from osscore.compression import compress
from osscore.digests import blake3_256, crc32c
from osscore.erasure import Codec, shard_bytes
from osscore.model import Coding, CodingKind, Profile, StripeDraft
from osscore.names import StripeId
from ossd.disk import Bytes


@dataclass(frozen=True, slots=True)
class Encoded:
    """A stripe ready to be sent; `shards[i]` may be a view of `stored`."""

    plain_bytes: int
    digest: bytes
    stored: Bytes
    stored_crc: int
    frames: tuple[int, ...]
    coding: Coding
    shard_bytes: int
    shards: list[Bytes]
    shard_crcs: tuple[int, ...]


def encode_stripe(codec: Codec, plain: Bytes, digest: bytes | None, coding: Coding) -> Encoded:
    """Compress where it pays, code, and take every checksum the catalog keeps.

    `digest`: BLAKE3-256 of `plain` where it is known already.
    """
    compressed = compress(plain)
    stored = compressed.stored
    shards = list(codec.encode(coding, stored))
    return Encoded(
        plain_bytes=len(plain),
        digest=digest or blake3_256(plain),
        stored=stored,
        stored_crc=crc32c(stored),
        frames=compressed.frames,
        coding=coding,
        shard_bytes=shard_bytes(len(stored), coding),
        shards=shards,
        shard_crcs=_shard_crcs(coding, shards),
    )


def _shard_crcs(coding: Coding, shards: list[Bytes]) -> tuple[int, ...]:
    if coding.kind is CodingKind.REPLICA:
        return (crc32c(shards[0]),) * len(shards)
    return tuple(crc32c(shard) for shard in shards)


def unplaced_draft(
    stripe: StripeId, encoded: Encoded, *, profile: Profile, domain: bytes
) -> StripeDraft:
    """What the catalog will know of the stripe, but for its slots."""
    return StripeDraft(
        stripe=stripe,
        profile=profile,
        domain=domain,
        digest=encoded.digest,
        plain_bytes=encoded.plain_bytes,
        stored_bytes=len(encoded.stored),
        stored_crc=encoded.stored_crc,
        frames=encoded.frames,
        coding=encoded.coding,
        shard_bytes=encoded.shard_bytes,
        shard_crcs=encoded.shard_crcs,
        slots=(),
    )
