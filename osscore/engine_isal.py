"""The fast engine: ISA-L's vector code, in the library that pyeclib's wheel brings along.

pyeclib's own calls put a header before every fragment, copy each of them twice and hold the
interpreter lock (measured: 500 MB/s in a worker thread). ISA-L's two C functions underneath,
`ec_init_tables` and `ec_encode_data` (erasure_code.h), take plain pointers and any matrix:
encoding, decoding and rebuilding become the same call at memory speed, and threads run beside
each other. Their polynomial is ours, 0x11d.
"""

import ctypes
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache

from osscore.buffers import Bytes, address, fresh_bytes
from osscore.gf256 import Matrix
from osscore.isal import library

_TABLE_BYTES_PER_FACTOR = 32
# A table of the largest profile has 4 KiB, so the cache stays below a megabyte.
_TABLES_MAX = 200


class IsalEngine:
    """ISA-L through its C interface. Threads may share one; calls run without the lock."""

    name = "isal"

    def __init__(self, library: ctypes.CDLL) -> None:
        self._init_tables = library.ec_init_tables
        self._init_tables.argtypes = (
            ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p,
        )  # fmt: skip
        self._init_tables.restype = None
        self._encode_data = library.ec_encode_data
        self._encode_data.argtypes = (
            ctypes.c_int, ctypes.c_int, ctypes.c_int,
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
        )  # fmt: skip
        self._encode_data.restype = None
        self._tables = lru_cache(maxsize=_TABLES_MAX)(self._make_tables)

    def combine(self, rows: Matrix, sources: Sequence[Bytes]) -> list[bytes]:
        """One output a row: the sum over columns of row[column] times sources[column]."""
        size_bytes = len(sources[0])
        # Fresh, unshared bytes objects are filled in place, as the C interface allows: a
        # bytearray would be zeroed first and copied afterwards.
        outputs: list[bytes] = [fresh_bytes(size_bytes) for _ in rows]
        with ExitStack() as pinned:
            inputs = [pinned.enter_context(address(source)) for source in sources]
            targets = [pinned.enter_context(address(output)) for output in outputs]
            self._encode_data(
                size_bytes,
                len(sources),
                len(rows),
                self._tables(rows),
                (ctypes.c_void_p * len(inputs))(*inputs),
                (ctypes.c_void_p * len(targets))(*targets),
            )
        return outputs

    def _make_tables(self, rows: Matrix) -> ctypes.Array[ctypes.c_char]:
        columns = len(rows[0])
        tables = ctypes.create_string_buffer(_TABLE_BYTES_PER_FACTOR * columns * len(rows))
        self._init_tables(columns, len(rows), b"".join(rows), tables)
        return tables


def load_isal() -> IsalEngine | None:
    """The engine if this machine has the library, else None. Its answers are not checked."""
    found = library()
    try:
        return IsalEngine(found) if found is not None else None
    except AttributeError:
        return None  # a library of that name without these functions
