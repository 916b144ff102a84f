"""Sizes as people write them."""

import pytest

from cli.output import UsageError
from cli.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("500", 500),
        ("20MB", 20_000_000),
        ("1.5GiB", 3 << 29),
        (" 2 kib ", 2048),
        ("3t", 3 << 40),
        ("123456789012345", 123_456_789_012_345),
    ],
)
def test_what_it_means(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "x", "-1", "1e3", "1XB", "1.5.5G", "GiB", "1" * 16])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)
