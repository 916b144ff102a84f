"""The two digests of the store: CRC32C against damage, BLAKE3-256 to know content.

Large buffers of any kind go to ISA-L's `crc32_iscsi` (crc.h) where there is one: twice as fast,
in place and without the interpreter lock; google-crc32c reads nothing but `bytes`.
"""

import ctypes
from collections.abc import Callable
from functools import cache

from blake3 import blake3
from google_crc32c import extend

from osscore.buffers import Bytes, address
from osscore.isal import library

__all__ = ["Bytes", "blake3_256", "crc32c", "crc32c_blocks"]

_PIECE_BYTES = 256 * 1024
# Below this the way through ctypes costs more than it saves.
_ISAL_BYTES_MIN = 16 * 1024
_CALL_BYTES_MAX = 1 << 30
_ONES = 0xFFFF_FFFF
_CHECK_BYTES, _CHECK_CRC = b"123456789", 0xE306_9283


def crc32c(data: Bytes, seed: int = 0) -> int:
    """CRC32C (Castagnoli, RFC 3720) of `data`; `seed` is the CRC of the bytes before it."""
    if len(data) >= _ISAL_BYTES_MIN and (fast := _isal()) is not None:
        return _by_isal(fast, data, seed)
    if isinstance(data, bytes):
        return int(extend(seed, data))
    # Copies of a cache's size cost a third of the speed; one large copy would cost fresh memory
    # pages as well.
    view = memoryview(data).cast("B")
    crc = seed
    for start in range(0, len(view), _PIECE_BYTES):
        crc = extend(crc, bytes(view[start : start + _PIECE_BYTES]))
    return int(crc)


def crc32c_blocks(data: Bytes, block_bytes: int) -> list[int]:
    """CRC32C of each `block_bytes` of `data`; the last block may be short."""
    if block_bytes >= _ISAL_BYTES_MIN and (fast := _isal()) is not None:
        return _blocks_by_isal(fast, data, block_bytes)
    view = memoryview(data)
    return [crc32c(view[at : at + block_bytes]) for at in range(0, len(view), block_bytes)]


def blake3_256(data: Bytes) -> bytes:
    """The 32 bytes of BLAKE3 of `data`."""
    return blake3(data).digest()


# Where the bytes lie, how many (a C int), the register before them: the register behind them.
_Crc = Callable[[int, int, int], int]


@cache
def _isal() -> _Crc | None:
    try:
        found = library()
        function = found.crc32_iscsi if found is not None else None
    except AttributeError:
        return None
    if function is None:
        return None
    function.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint)
    function.restype = ctypes.c_uint
    return function if _by_isal(function, _CHECK_BYTES, 0) == _CHECK_CRC else None


def _by_isal(function: _Crc, data: Bytes, seed: int) -> int:
    # Its register is not inverted at either end, as the CRC's definition wants.
    with address(data) as start:
        crc = seed ^ _ONES
        for at in range(0, len(data), _CALL_BYTES_MAX):
            crc = function(start + at, min(len(data) - at, _CALL_BYTES_MAX), crc)
        return crc ^ _ONES


def _blocks_by_isal(function: _Crc, data: Bytes, block_bytes: int) -> list[int]:
    size_bytes = len(data)
    with address(data) as start:
        return [
            function(start + at, min(size_bytes - at, block_bytes), _ONES) ^ _ONES
            for at in range(0, size_bytes, block_bytes)
        ]
