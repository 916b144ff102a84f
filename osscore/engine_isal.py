"""The fast engine: ISA-L's vector code, in the library that pyeclib's wheel brings along.

pyeclib's own calls put a header before every fragment, copy each of them twice and hold the
interpreter lock (measured: 500 MB/s in a worker thread). ISA-L's two C functions underneath,
`ec_init_tables` and `ec_encode_data` (erasure_code.h), take plain pointers and any matrix:
encoding, decoding and rebuilding become the same call at memory speed, and threads run beside
each other. Their polynomial is ours, 0x11d.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib.util import find_spec

from osscore.digests import Bytes
from osscore.gf256 import Matrix

_TABLE_BYTES_PER_FACTOR = 32
# A table of the largest profile has 4 KiB, so the cache stays below a megabyte.
_TABLES_MAX = 200


class _PyBuffer(ctypes.Structure):
    """`Py_buffer` of the stable C interface (PEP 688 calls it the buffer protocol)."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_PY_BUF_SIMPLE = 0
_get_buffer = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int
)(("PyObject_GetBuffer", ctypes.pythonapi))
_release_buffer = ctypes.PYFUNCTYPE(None, ctypes.POINTER(_PyBuffer))(
    ("PyBuffer_Release", ctypes.pythonapi)
)
_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)


@contextmanager
def _address(data: Bytes) -> Iterator[int]:
    """Where the bytes lie in memory. The object can neither move nor go inside the block."""
    view = _PyBuffer()
    # ctypes turns a failure of this call into the BufferError it set.
    _get_buffer(data, ctypes.byref(view), _PY_BUF_SIMPLE)
    try:
        yield view.buf or 0
    finally:
        _release_buffer(ctypes.byref(view))


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
        outputs: list[bytes] = [_new_bytes(None, size_bytes) for _ in rows]
        with ExitStack() as pinned:
            inputs = [pinned.enter_context(_address(source)) for source in sources]
            targets = [pinned.enter_context(_address(output)) for output in outputs]
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
    for name in _library_names():
        try:
            return IsalEngine(ctypes.CDLL(name))
        except (OSError, AttributeError):
            # Not there, or a library without these functions: try the next one.
            continue
    return None


def _library_names() -> list[str]:
    """Where ISA-L may be: inside pyeclib's wheel, else as the system's own library."""
    names = ["libisal.so.2"]
    spec = find_spec("pyeclib_c")
    if spec is not None and spec.origin is not None:
        folder = spec.origin.rpartition("/")[0]
        names.insert(0, f"{folder}/pyeclib.libs/libisal-pyeclib.so.2")
    return names
