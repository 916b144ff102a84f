"""The engine that runs everywhere: a translation table for each factor, numpy's XOR."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from osscore.digests import Bytes
from osscore.gf256 import Gf256, Matrix

# Small enough that a piece of every source and output stays in the second-level cache.
_PIECE_BYTES = 64 * 1024


class TableEngine:
    """Multiplies with `bytes.translate`, adds with numpy. Threads may share one.

    numpy is loaded when the first engine is made, not before: it costs about 15 MB.
    """

    name = "table"

    def __init__(self, field: Gf256) -> None:
        import numpy

        self._numpy = numpy
        self._products = lru_cache(maxsize=256)(field.products)

    def combine(self, rows: Matrix, sources: Sequence[Bytes]) -> list[bytes]:
        """One output a row: the sum over columns of row[column] times sources[column]."""
        size_bytes = len(sources[0])
        totals = [self._numpy.zeros(size_bytes, dtype=self._numpy.uint8) for _ in rows]
        views = [memoryview(source).cast("B") for source in sources]
        for start in range(0, size_bytes, _PIECE_BYTES):
            stop = min(start + _PIECE_BYTES, size_bytes)
            for column, view in enumerate(views):
                factors = bytes(row[column] for row in rows)
                self._add(factors, bytes(view[start:stop]), [t[start:stop] for t in totals])
        return [total.tobytes() for total in totals]

    def _add(self, factors: bytes, piece: bytes, totals: list[Any]) -> None:
        """Add factors[i] times `piece` to totals[i], in place."""
        for factor, total in zip(factors, totals, strict=True):
            if factor:
                addend = piece if factor == 1 else piece.translate(self._products(factor))
                total ^= self._numpy.frombuffer(addend, dtype=self._numpy.uint8)
