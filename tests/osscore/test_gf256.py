"""The field is pyfinite's, and its matrices invert."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfinite.ffield import FField

from osscore.gf256 import Gf256, cauchy_rows, identity_row, inverted, product

FIELD = Gf256.from_pyfinite()
PYFINITE = FField(8, useLUT=0)
ELEMENTS = st.integers(0, 255)


def test_the_polynomial_is_0x11d():
    assert PYFINITE.generator == 0x11D


def test_every_inverse_is_that_of_pyfinite():
    for element in range(1, 256):
        assert FIELD.inverse(element) == PYFINITE.Inverse(element)
        assert FIELD.multiply(element, FIELD.inverse(element)) == 1


def test_zero_has_no_inverse():
    with pytest.raises(ZeroDivisionError):
        FIELD.inverse(0)


def test_every_product_is_that_of_pyfinite():
    for factor in range(256):
        expected = bytes(PYFINITE.Multiply(factor, element) for element in range(256))
        assert FIELD.products(factor) == expected


@given(st.lists(st.tuples(ELEMENTS, ELEMENTS), max_size=20))
def test_dot_is_the_sum_of_products(pairs):
    expected = 0
    for one, other in pairs:
        expected ^= PYFINITE.Multiply(one, other)
    assert FIELD.dot([one for one, _ in pairs], [other for _, other in pairs]) == expected


def test_parity_rows_are_the_inverses_the_format_states():
    for data_count, parity_count in ((1, 1), (4, 2), (16, 8)):
        rows = cauchy_rows(FIELD, data_count, parity_count)
        for row in range(parity_count):
            for column in range(data_count):
                assert rows[row][column] == PYFINITE.Inverse((data_count + row) ^ column)


@pytest.mark.parametrize(("data_count", "parity_count"), [(1, 1), (2, 1), (4, 2), (6, 3)])
def test_any_k_rows_of_the_generator_are_independent(data_count, parity_count):
    unit = tuple(identity_row(data_count, index) for index in range(data_count))
    generator = unit + cauchy_rows(FIELD, data_count, parity_count)
    for kept in combinations(generator, data_count):
        assert product(FIELD, inverted(FIELD, kept), kept) == unit


def test_a_singular_matrix_has_no_inverse():
    with pytest.raises(ZeroDivisionError):
        inverted(FIELD, (bytes([1, 2]), bytes([1, 2])))
