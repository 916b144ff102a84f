"""The bytes of a record: golden, and no bit of them may flip unseen."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blobd.record import (
    ENTRY_BYTES,
    TRAILER_BYTES,
    Entry,
    Header,
    RecordType,
    digest,
    encode,
    encode_head,
    encode_trailer,
    head_bytes,
    identity_key,
    key_identity,
    pack_entry,
    parse_head,
    parse_trailer,
    record_bytes,
    seal,
    tombstone,
    unpack_entries,
)
from osscore.digests import crc32c
from osscore.model import BLOCK_BYTES, Coding, CodingKind, ShardIdentity
from osscore.names import StripeId

SALT = bytes.fromhex("0102030405060708")
IDENTITY = ShardIdentity(StripeId(bytes(range(16))), 5, 7)


def header_of(body: bytes) -> Header:
    crc, block_crcs = digest(body)
    return Header(
        type=RecordType.SHARD,
        key=identity_key(IDENTITY),
        coding=Coding(CodingKind.REED_SOLOMON, 4, 2),
        body_bytes=len(body),
        body_crc=crc,
        block_crcs=block_crcs,
        written_at_ms=1_700_000_000_000,
        since=9,
    )


GOLDEN_SHARD = """
8a6f73737265630a 0102030405060708 0101000402000102 030405060708090a 0b0c0d0e0f050000
0000000000070000 0000018bcfe56800 0000000bc99465aa 0000000900000000 c99465aa9fd401c3
68656c6c6f20776f 726c640000000000
"""
GOLDEN_TOMBSTONE = """
8a6f73737265630a 0102030405060708 0102000000000102 030405060708090a 0b0c0d0e0f050000
0000000000070000 0000018bcfe56800 0000000000000000 0000000300000009 622231e100000000
"""
GOLDEN_ENTRY = """
0101000102030405 060708090a0b0c0d 0e0f050000000000 0000070000000000 0010000000000bc9
9465aa0000000900 000000
"""
GOLDEN_TRAILER = "8a6f7373656e640a 0102030405060708 0000000000001000 a9cc855600000000"
TOMBSTONE = tombstone(identity_key(IDENTITY), written_at_ms=1_700_000_000_000, since=3, target=9)


def test_golden_bytes_of_a_shard_record() -> None:
    record = b"".join(encode(header_of(b"hello world"), b"hello world", SALT))
    assert record == bytes.fromhex(GOLDEN_SHARD)
    assert parse_head(record, SALT) == header_of(b"hello world")


def test_golden_bytes_of_a_tombstone() -> None:
    record = b"".join(encode(TOMBSTONE, b"", SALT))
    assert record == bytes.fromhex(GOLDEN_TOMBSTONE)
    assert parse_head(record, SALT) == TOMBSTONE


def test_golden_bytes_of_a_seal() -> None:
    entry = Entry(RecordType.SHARD, identity_key(IDENTITY), 4096, 11, 0xC99465AA, 9, 0, True)
    assert pack_entry(entry) == bytes.fromhex(GOLDEN_ENTRY)
    assert len(pack_entry(entry)) == ENTRY_BYTES
    assert unpack_entries(pack_entry(entry) * 2) == [entry, entry]
    assert encode_trailer(SALT, 4096) == bytes.fromhex(GOLDEN_TRAILER)
    assert parse_trailer(bytes.fromhex(GOLDEN_TRAILER), SALT) == 4096
    assert len(bytes.fromhex(GOLDEN_TRAILER)) == TRAILER_BYTES
    table = pack_entry(entry) * 2000
    assert seal(table, written_at_ms=5).block_crcs == digest(table)[1]


@pytest.mark.parametrize("size_bytes", [0, 1, 8, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES])
def test_record_has_the_size_it_is_said_to_have(size_bytes: int) -> None:
    body = bytes(size_bytes)
    record = b"".join(encode(header_of(body), body, SALT))
    assert len(record) == record_bytes(size_bytes)
    assert len(record) % 8 == 0
    assert record[head_bytes(size_bytes) :][:size_bytes] == body
    assert parse_head(record, SALT) == header_of(body)


@pytest.mark.parametrize("body", [b"", b"hello", bytes(3 * BLOCK_BYTES)])
def test_any_flipped_bit_of_a_header_is_detected(body: bytes) -> None:
    head = bytearray(encode_head(header_of(body), SALT))
    covered = 72 + 4 * len(header_of(body).block_crcs) + 4
    for bit in range(covered * 8):
        head[bit // 8] ^= 1 << bit % 8
        assert parse_head(head, SALT) is None
        head[bit // 8] ^= 1 << bit % 8
    assert parse_head(head, SALT) == header_of(body)


def test_any_flipped_bit_of_a_trailer_is_detected() -> None:
    trailer = bytearray(encode_trailer(SALT, 4096))
    for bit in range(28 * 8):
        trailer[bit // 8] ^= 1 << bit % 8
        assert parse_trailer(trailer, SALT) is None
        trailer[bit // 8] ^= 1 << bit % 8


def test_half_a_header_and_one_of_another_volume_are_none() -> None:
    head = encode_head(header_of(bytes(3 * BLOCK_BYTES)), SALT)
    for cut in range(72 + 3 * 4 + 4):
        assert parse_head(head[:cut], SALT) is None
    assert parse_head(head, b"othersal") is None
    assert parse_head(b"", SALT) is None


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_header_comes_back(body: bytes, gen: int, since: int) -> None:
    identity = ShardIdentity(StripeId(b"s" * 16), 255, gen)
    header = header_of(body)._replace(key=identity_key(identity), since=since)
    found = parse_head(encode_head(header, SALT), SALT)
    assert found == header
    assert key_identity(found.key) == identity


_IDENTITIES = st.tuples(
    st.binary(min_size=16, max_size=16), st.integers(0, 255), st.integers(0, 2**64 - 1)
)


@given(st.lists(_IDENTITIES, max_size=20))
@settings(max_examples=50, deadline=None)
def test_keys_sort_as_identities(found: list[tuple[bytes, int, int]]) -> None:
    keys = [identity_key(ShardIdentity(StripeId(s), i, g)) for s, i, g in sorted(found)]
    assert keys == sorted(keys)


def test_digest_covers_whole_and_blocks() -> None:
    body = bytes(range(256)) * 600
    crc, blocks = digest(memoryview(bytearray(body)))
    assert crc == crc32c(body)
    parts = [body[at : at + BLOCK_BYTES] for at in range(0, len(body), BLOCK_BYTES)]
    assert blocks == tuple(crc32c(part) for part in parts)
