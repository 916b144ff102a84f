"""Whom this machine trusts over TLS, read only by who speaks it."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

_READS_IT = "set_default_verify_paths"


@contextmanager
def nobody_trusted() -> Iterator[None]:
    """TLS contexts made inside trust nobody.

    For imports of aiohttp: it makes two contexts then, each of which reads the machine's hundred
    and more certificates (30 ms of CPU, 0.8 MB), needed or not. Other threads' contexts
    trust nobody either: use it while a process starts. Speak TLS with `machines_trust`.
    """
    # On the subclass of the module `ssl`: what it inherits is back once this is gone.
    setattr(ssl.SSLContext, _READS_IT, _read_nothing)
    try:
        yield
    finally:
        if _READS_IT in vars(ssl.SSLContext):  # another thread may have been first
            delattr(ssl.SSLContext, _READS_IT)


def _read_nothing(_context: ssl.SSLContext) -> None:
    """In place of reading the certificates."""


def machines_trust() -> ssl.SSLContext:
    """What aiohttp itself would use: whom this machine trusts. Run it off the event loop."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
