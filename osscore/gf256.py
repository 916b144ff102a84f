"""Arithmetic of GF(256) and its small matrices, as pyfinite defines them.

The field is `FField(8)`: polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11d), generator 2. pyfinite
is asked once for the powers of the generator; all else follows from them by table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

Matrix = tuple[bytes, ...]
"""Rows of field elements, all of one length."""

_ORDER = 255
"""Non-zero elements: the powers of the generator before they repeat."""
_GENERATOR = 2


@dataclass(frozen=True, slots=True)
class Gf256:
    """The field as two tables: `powers[i]` is 2^i for i < 510, `logs` its inverse."""

    powers: bytes
    logs: bytes

    @classmethod
    def from_pyfinite(cls) -> "Gf256":
        """Build the tables from pyfinite's `FField(8)`."""
        from pyfinite.ffield import FField

        # With its own lookup table pyfinite would write and unpickle a file in the current
        # folder; and the table is slower to make than these 255 products.
        field = FField(8, useLUT=0)
        powers = bytearray([1])
        while len(powers) < _ORDER:
            powers.append(field.Multiply(powers[-1], _GENERATOR))
        logs = bytearray(256)
        for exponent, element in enumerate(powers):
            logs[element] = exponent
        return cls(powers=bytes(powers + powers), logs=bytes(logs))

    def multiply(self, left: int, right: int) -> int:
        """The product of two elements."""
        if left == 0 or right == 0:
            return 0
        return self.powers[self.logs[left] + self.logs[right]]

    def inverse(self, element: int) -> int:
        """The element that `element` times gives 1. Raises ZeroDivisionError for 0."""
        if element == 0:
            raise ZeroDivisionError("0 has no inverse in GF(256)")
        return self.powers[_ORDER - self.logs[element]]

    def products(self, factor: int) -> bytes:
        """`factor` times each element: a table for `bytes.translate`."""
        return bytes(self.multiply(factor, element) for element in range(256))

    def dot(self, left: Sequence[int], right: Sequence[int]) -> int:
        """The sum of the products of two equally long vectors."""
        total = 0
        for one, other in zip(left, right, strict=True):
            total ^= self.multiply(one, other)
        return total


def cauchy_rows(field: Gf256, data_count: int, parity_count: int) -> Matrix:
    """The parity rows of the store's code: row r, column j is 1 / ((k + r) xor j).

    Any k rows of the identity above these are independent, because every square part of a
    Cauchy matrix is invertible. Holds for k + m <= 256.
    """
    return tuple(
        bytes(field.inverse((data_count + row) ^ column) for column in range(data_count))
        for row in range(parity_count)
    )


def identity_row(size: int, index: int) -> bytes:
    """Row `index` of the identity matrix."""
    return bytes(1 if column == index else 0 for column in range(size))


def product(field: Gf256, left: Matrix, right: Matrix) -> Matrix:
    """The matrix product left x right."""
    columns = [bytes(row[column] for row in right) for column in range(len(right[0]))]
    return tuple(bytes(field.dot(row, column) for column in columns) for row in left)


def inverted(field: Gf256, matrix: Matrix) -> Matrix:
    """The inverse of a square matrix, by Gauss-Jordan elimination.

    Raises ZeroDivisionError if it has none.
    """
    size = len(matrix)
    work = [bytearray(row + identity_row(size, index)) for index, row in enumerate(matrix)]
    for column in range(size):
        pivot = next((row for row in range(column, size) if work[row][column]), None)
        if pivot is None:
            raise ZeroDivisionError("the matrix is singular")
        work[column], work[pivot] = work[pivot], work[column]
        scale = field.products(field.inverse(work[column][column]))
        work[column] = work[column].translate(scale)
        _clear_column(field, work, column)
    return tuple(bytes(row[size:]) for row in work)


def _clear_column(field: Gf256, work: list[bytearray], column: int) -> None:
    """Subtract the pivot row from every other so that only the pivot stays in `column`."""
    for index, row in enumerate(work):
        factor = row[column]
        if index == column or factor == 0:
            continue
        for position, element in enumerate(work[column]):
            row[position] ^= field.multiply(factor, element)
