"""Importing a library without what it would take along only because it is installed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(module: str) -> Iterator[None]:
    """Imports inside find no `module`, unless it is loaded already.

    Other threads find none either: use it while a process starts. Not for modules that the
    library needs.
    """
    if module in sys.modules:
        yield
        return
    # How the import system itself marks what must not be found.
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if sys.modules.get(module, module) is None:  # another thread may have been first
            sys.modules.pop(module, None)
