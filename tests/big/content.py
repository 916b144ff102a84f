"""Bytes of any amount from a seed: made as they are sent, never held, never the same twice."""

import hashlib
from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PIECE_BYTES = 1 << 20
_BLOCK_BYTES = 16
_ZEROS = bytes(PIECE_BYTES)


class Content:
    """The AES-CTR key stream of a seed: it does not compress, and no two stripes are equal."""

    def __init__(self, *, size_bytes: int, seed: int) -> None:
        self.size_bytes = size_bytes
        self._key = hashlib.sha256(b"raftoss big %d" % seed).digest()

    def pieces(self, first: int = 0, last: int | None = None) -> Iterator[bytes]:
        """Bytes [first, last], both inclusive, in pieces; `last` None: to the end."""
        end = self.size_bytes if last is None else last + 1
        skipped = first % _BLOCK_BYTES
        counter = (first // _BLOCK_BYTES).to_bytes(_BLOCK_BYTES, "big")
        stream = Cipher(algorithms.AES(self._key), modes.CTR(counter)).encryptor()
        stream.update(_ZEROS[:skipped])
        for at in range(first, end, PIECE_BYTES):
            yield stream.update(_ZEROS[: min(PIECE_BYTES, end - at)])

    def sha256(self) -> str:
        """Hex digest of all of it."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()


def parse_size(text: str) -> int:
    """'5GiB', '300MiB' or plain bytes. Raises ValueError."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if text.endswith(unit):
            return _positive(text.removesuffix(unit)) * factor
    return _positive(text)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("a size is at least 1")
    return number
