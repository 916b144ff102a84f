"""The bytes of a temp's records: golden, and apart from all shards."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobd.record import (
    KEYS_END,
    NO_CODING,
    TEMP_MARK,
    Header,
    RecordType,
    digest,
    encode,
    identity_key,
    is_temp,
    parse_head,
)
from blobd.temp.records import (
    TYPES,
    Kind,
    TempDone,
    TempHead,
    end_of,
    identity_of,
    parse_temp_id,
    temp_id,
)
from osscore.model import ShardIdentity
from osscore.names import stripe_id

SALT = bytes.fromhex("0102030405060708")
TEMP = temp_id(bytes(range(10)))
HEAD = TempHead(
    name="a/b",
    access_key="K",
    size_bytes=5,
    sha256=b"s" * 32,
    piece_count=1,
    created_at_ms=1_700_000_000_000,
    expires_at_ms=1_700_003_600_000,
    content={"content-type": "text/plain"},
    user={"colour": "red"},
    profile="4+2",
)
DONE = TempDone(
    name="a/b",
    number=3,
    version_id="00000000000000ff",
    size_bytes=5,
    sha256=b"s" * 32,
    expires_at_ms=1_700_003_600_000,
)
GOLDEN_HEAD = """
8aa46e616d65a361 2f62aa6163636573 735f6b6579a14baa 73697a655f627974 657305a673686132
3536c42073737373 7373737373737373 7373737373737373 7373737373737373 73737373ab706965
63655f636f756e74 01ad637265617465 645f61745f6d73cf 0000018bcfe56800 ad65787069726573
5f61745f6d73cf00 00018bd01c5680a7 636f6e74656e7481 ac636f6e74656e74 2d74797065aa7465
78742f706c61696e a47573657281a663 6f6c6f7572a37265 64a770726f66696c 65a3342b32
"""
GOLDEN_DONE = """
86a46e616d65a361 2f62a66e756d6265 7203aa7665727369 6f6e5f6964b03030 3030303030303030
303030306666aa73 697a655f62797465 7305a67368613235 36c4207373737373 7373737373737373
7373737373737373 7373737373737373 737373ad65787069 7265735f61745f6d 73cf0000018bd01c
5680
"""
GOLDEN_PIECE = """
8a6f73737265630a 0102030405060708 0107000000ffffff ffffff0001020304 0506070809020000
0000000000010000 0000018bcfe56800 000000059a71bb4c 0000000100000000 9a71bb4cfeda0406
68656c6c6f000000
"""


def test_golden_bytes_of_a_head_and_of_what_became_of_it() -> None:
    assert msgspec.msgpack.encode(HEAD) == bytes.fromhex(GOLDEN_HEAD)
    assert msgspec.msgpack.decode(bytes.fromhex(GOLDEN_HEAD), type=TempHead) == HEAD
    assert msgspec.msgpack.encode(DONE) == bytes.fromhex(GOLDEN_DONE)
    assert msgspec.msgpack.decode(bytes.fromhex(GOLDEN_DONE), type=TempDone) == DONE


def test_golden_bytes_of_a_piece() -> None:
    crc, block_crcs = digest(b"hello")
    header = Header(
        type=TYPES[Kind.PIECE],
        key=identity_key(identity_of(TEMP, Kind.PIECE, 1)),
        coding=NO_CODING,
        body_bytes=5,
        body_crc=crc,
        block_crcs=block_crcs,
        written_at_ms=1_700_000_000_000,
        since=1,
    )
    record = b"".join(encode(header, b"hello", SALT))
    assert record == bytes.fromhex(GOLDEN_PIECE)
    assert parse_head(record, SALT) == header


def test_the_numbers_of_types_and_kinds_are_fixed() -> None:
    assert {kind: (int(kind), int(type_)) for kind, type_ in TYPES.items()} == {
        Kind.HEAD: (0, 6),
        Kind.DONE: (1, 8),
        Kind.PIECE: (2, 7),
    }
    assert RecordType.TEMP_PIECE == 7


@given(st.integers(0, 2**47), st.binary(min_size=10, max_size=10), st.integers(0, 255))
def test_every_shard_lies_before_every_temp(birth_ms: int, entropy: bytes, index: int) -> None:
    shard = identity_key(ShardIdentity(stripe_id(birth_ms, entropy), index, 2**63 - 1))
    assert shard < TEMP_MARK and not is_temp(shard)
    other = temp_id(entropy)
    for kind in Kind:
        key = identity_key(identity_of(other, kind, 2**63))
        assert is_temp(key)
        assert TEMP_MARK < other < key < end_of(other) < KEYS_END


def test_an_id_is_32_hex_digits_and_marked() -> None:
    assert parse_temp_id(TEMP.hex()) == TEMP
    assert parse_temp_id(TEMP.hex().upper()) == TEMP


@pytest.mark.parametrize(
    "text", ["", "x" * 32, "00" * 16, "ff" * 15, "ff" * 17, "é" * 32, " " * 32]
)
def test_anything_else_is_no_id(text: str) -> None:
    assert parse_temp_id(text) is None
