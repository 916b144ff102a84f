"""Digests by their published test vectors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osscore.digests import _isal, blake3_256, crc32c, crc32c_blocks


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # this and the next three: RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c_vectors(data, crc):
    assert crc32c(data) == crc


@given(head=st.binary(max_size=100), tail=st.binary(max_size=100))
def test_crc32c_goes_on_from_a_seed(head, tail):
    assert crc32c(tail, crc32c(head)) == crc32c(head + tail)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
@pytest.mark.parametrize("size_bytes", [0, 1, 262_143, 262_144, 700_001])
def test_crc32c_of_any_buffer(kind, size_bytes):
    data = bytes(index % 253 for index in range(size_bytes))
    assert crc32c(kind(data), 5) == crc32c(data, 5)


@given(data=st.binary(max_size=300), block_bytes=st.integers(1, 64))
def test_crc32c_of_blocks(data, block_bytes):
    blocks = [data[at : at + block_bytes] for at in range(0, len(data), block_bytes)]
    assert crc32c_blocks(data, block_bytes) == [crc32c(block) for block in blocks]


@pytest.mark.parametrize("size_bytes", [0, 16_383, 16_384, 65_536, 65_537, 700_001])
@pytest.mark.parametrize("offset", [0, 1, 7])
def test_both_libraries_agree(size_bytes, offset, monkeypatch):
    data = memoryview(bytearray(index * 7 % 251 for index in range(offset + size_bytes)))[offset:]
    fast = crc32c(data, 99), crc32c_blocks(data, 65_536)
    monkeypatch.setattr("osscore.digests._isal", lambda: None)
    assert (crc32c(data, 99), crc32c_blocks(data, 65_536)) == fast


def test_a_library_that_lies_is_not_used(monkeypatch):
    class Lying:
        @staticmethod
        def crc32_iscsi(*_: object) -> int:
            return 1

    _isal.cache_clear()
    monkeypatch.setattr("osscore.digests.library", Lying)
    try:
        assert _isal() is None
    finally:
        _isal.cache_clear()


def test_blake3_vector():
    expected = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert blake3_256(b"").hex() == expected


def test_blake3_of_any_buffer():
    assert blake3_256(bytearray(b"abc")) == blake3_256(memoryview(b"abc")) == blake3_256(b"abc")
