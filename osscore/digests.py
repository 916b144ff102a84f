"""The two digests of the store: CRC32C against damage, BLAKE3-256 to know content."""

from blake3 import blake3
from google_crc32c import extend

Bytes = bytes | bytearray | memoryview
"""What is read and never kept: any contiguous buffer of bytes."""

_PIECE_BYTES = 256 * 1024


def crc32c(data: Bytes, seed: int = 0) -> int:
    """CRC32C (Castagnoli, RFC 3720) of `data`; `seed` is the CRC of the bytes before it."""
    if isinstance(data, bytes):
        return int(extend(seed, data))
    # The library reads nothing but `bytes`. Copies of a cache's size cost a third of the speed;
    # one large copy would cost fresh memory pages as well.
    view = memoryview(data).cast("B")
    crc = seed
    for start in range(0, len(view), _PIECE_BYTES):
        crc = extend(crc, bytes(view[start : start + _PIECE_BYTES]))
    return int(crc)


def blake3_256(data: Bytes) -> bytes:
    """The 32 bytes of BLAKE3 of `data`."""
    return blake3(data).digest()
