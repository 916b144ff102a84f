"""Contiguous memory, as C functions want it: where it lies, and fresh without zeroing."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

Bytes = bytes | bytearray | memoryview
"""What is read and never kept: any contiguous buffer of bytes."""


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
_new_bytearray = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyByteArray_FromStringAndSize", ctypes.pythonapi)
)


@contextmanager
def address(data: Bytes) -> Iterator[int]:
    """Where the bytes lie in memory. The object can neither move nor go inside the block."""
    view = _PyBuffer()
    # ctypes turns a failure of this call into the BufferError it set.
    _get_buffer(data, ctypes.byref(view), _PY_BUF_SIMPLE)
    try:
        yield view.buf or 0
    finally:
        _release_buffer(ctypes.byref(view))


def fresh_bytes(size_bytes: int) -> bytes:
    """A `bytes` of undefined content. Fill it in place before anybody else sees it."""
    fresh: bytes = _new_bytes(None, size_bytes)
    return fresh


def fresh_bytearray(size_bytes: int) -> bytearray:
    """A `bytearray` of undefined content: for a reader that fills it, zeroing is a waste."""
    fresh: bytearray = _new_bytearray(None, size_bytes)
    return fresh
