"""Where ISA-L is: the C library of the fast engines, loaded when first needed."""

import ctypes
from functools import cache
from importlib.util import find_spec


@cache
def library() -> ctypes.CDLL | None:
    """ISA-L, or None where this machine has none. What it computes is not checked here."""
    for name in _library_names():
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue  # not there: try the next one
    return None


def _library_names() -> list[str]:
    """Where ISA-L may be: inside pyeclib's wheel, else as the system's own library."""
    names = ["libisal.so.2"]
    spec = find_spec("pyeclib_c")
    if spec is not None and spec.origin is not None:
        folder = spec.origin.rpartition("/")[0]
        names.insert(0, f"{folder}/pyeclib.libs/libisal-pyeclib.so.2")
    return names
