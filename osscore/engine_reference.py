"""The slowest engine: pyfinite's own arithmetic, byte by byte. What the others must equal.

For tests and the benchmark only (about half a megabyte a second).
"""

from collections.abc import Sequence

from osscore.digests import Bytes
from osscore.gf256 import Matrix


class ReferenceEngine:
    """Multiplies and adds with nothing but `FField(8)`."""

    name = "reference"

    def __init__(self) -> None:
        from pyfinite.ffield import FField

        self._field = FField(8, useLUT=0)

    def combine(self, rows: Matrix, sources: Sequence[Bytes]) -> list[bytes]:
        """One output a row: the sum over columns of row[column] times sources[column]."""
        return [self._sum(row, sources) for row in rows]

    def _sum(self, row: bytes, sources: Sequence[Bytes]) -> bytes:
        total = bytearray(len(sources[0]))
        for factor, source in zip(row, sources, strict=True):
            for position, element in enumerate(source):
                product = self._field.Multiply(factor, element)
                total[position] = self._field.Add(total[position], product)
        return bytes(total)
