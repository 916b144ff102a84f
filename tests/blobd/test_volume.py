"""A volume: whatever happens to some of its bytes, every other record is found."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blobd.record import (
    FORMAT_VERSION,
    HEAD_BYTES,
    Header,
    RecordType,
    digest,
    encode,
    entry_of,
    identity_key,
    pack_entry,
    record_bytes,
)
from blobd.volume import (
    WINDOW_BYTES,
    Found,
    Gap,
    VolumeName,
    encode_seal,
    read_contents,
    scan,
)
from osscore.model import BLOCK_BYTES, Coding, CodingKind, ShardIdentity
from osscore.names import StripeId
from tests.fakes.disk import SimulatedDisk, SimulatedFile

SALT = b"saltsalt"
PATH = Path("/data/volume")


def header_of(number: int, body: bytes, *, type_: int = RecordType.SHARD) -> Header:
    crc, block_crcs = digest(body)
    identity = ShardIdentity(StripeId(number.to_bytes(16, "big")), 0, 0)
    return Header(
        type=type_,
        key=identity_key(identity),
        coding=Coding(CodingKind.REED_SOLOMON, 4, 2),
        body_bytes=len(body),
        body_crc=crc,
        block_crcs=block_crcs,
        written_at_ms=1,
        since=1,
    )


def record(number: int, body: bytes, **more: int) -> bytes:
    return b"".join(encode(header_of(number, body, **more), body, SALT))


def file_of(data: bytes) -> SimulatedFile:
    file = SimulatedDisk().open(PATH, create=True)
    file.pwrite([data], 0)
    return file


def numbers(data: bytes) -> list[int]:
    """The stripes of the intact records a scan finds."""
    return [
        int.from_bytes(found.header.key[:16], "big")
        for found in scan(file_of(data), SALT)
        if isinstance(found, Found) and found.intact
    ]


def test_name_and_back() -> None:
    name = VolumeName(7, bytes.fromhex("00ff00ff00ff00ff"))
    assert name.path(PATH).name == "00000007-00ff00ff00ff00ff.volume"
    assert VolumeName.parse(name.path(PATH).name) == name
    for other in ("index.sqlite", "0000007-00ff00ff00ff00ff.volume", "lock", ""):
        assert VolumeName.parse(other) is None


def test_torn_tail_at_every_byte_costs_only_the_torn_record() -> None:
    whole = record(1, b"a" * 30) + record(2, b"b" * 50)
    last = record(3, b"c" * 40)
    for cut in range(len(last) - 1):
        # The last byte of this record is padding: without it the record is whole.
        expected = [1, 2, 3] if cut >= len(last) - (-40 % 8) else [1, 2]
        assert numbers(whole + last[:cut]) == expected


def test_every_later_record_is_found_behind_garbage_of_any_length() -> None:
    for size_bytes in (8, 24, 80, 4096):
        garbage = bytes(index * 7 % 256 for index in range(size_bytes))
        data = record(1, b"a") + garbage + record(2, b"b")
        assert numbers(data) == [1, 2]
        gap = next(found for found in scan(file_of(data), SALT) if isinstance(found, Gap))
        assert (gap.offset, gap.end) == (record_bytes(1), record_bytes(1) + size_bytes)


def test_record_behind_a_torn_one_that_claims_its_room_is_found() -> None:
    torn = record(1, b"x" * 5000)[:1000]
    assert numbers(torn + record(2, b"b") + record(3, b"c")) == [2, 3]


def test_record_across_the_border_of_a_search_window_is_found() -> None:
    for shift in range(-32, 40, 8):
        garbage = bytes(WINDOW_BYTES + 8 + shift)
        assert numbers(garbage + record(1, b"a")) == [1]


@given(st.integers(0, 3), st.data())
@settings(max_examples=80, deadline=None)
def test_any_flipped_bit_costs_at_most_the_record_it_is_in(
    victim: int, data: st.DataObject
) -> None:
    records = [record(number, bytes([number]) * (100 * number + 3)) for number in range(4)]
    spoilt = bytearray(records[victim])
    bit = data.draw(st.integers(0, len(spoilt) * 8 - 1))
    spoilt[bit // 8] ^= 1 << bit % 8
    found = numbers(b"".join([*records[:victim], spoilt, *records[victim + 1 :]]))
    assert [number for number in found if number != victim] == [
        number for number in range(4) if number != victim
    ]


def test_damaged_body_is_reported_with_its_identity() -> None:
    spoilt = bytearray(record(1, b"a" * 100))
    spoilt[90] ^= 1
    found = list(scan(file_of(bytes(spoilt) + record(2, b"b")), SALT))
    assert isinstance(found[0], Found)
    assert found[0].header.key == header_of(1, b"").key
    assert not found[0].intact
    contents = read_contents(file_of(bytes(spoilt) + record(2, b"b")), SALT)
    assert [entry.damaged for entry in contents.entries] == [True, False]


def test_record_inside_a_body_is_never_taken_for_one() -> None:
    forged = b"".join(encode(header_of(9, b"evil"), b"evil", b"guessed!"))
    spoilt = bytearray(record(1, forged * 3))
    spoilt[-10] ^= 1
    assert numbers(bytes(spoilt) + record(2, b"b")) == [2]


def test_bodies_below_the_synced_mark_are_not_read() -> None:
    spoilt = bytearray(record(1, b"a" * 100))
    spoilt[90] ^= 1
    data = bytes(spoilt) + record(2, b"b")
    found = list(scan(file_of(data), SALT, verify_from=len(spoilt)))
    assert all(isinstance(item, Found) and item.intact for item in found)


def sealed(data: bytes) -> bytes:
    entries = [
        pack_entry(entry_of(found.header, found.offset))
        for found in scan(file_of(data), SALT)
        if isinstance(found, Found)
    ]
    pieces = encode_seal(b"".join(entries), salt=SALT, offset=len(data), written_at_ms=5)
    return data + b"".join(bytes(piece) for piece in pieces)


def test_sealed_volume_is_read_by_its_seal_alone() -> None:
    data = record(1, b"a") + record(2, b"b" * BLOCK_BYTES * 2)
    scanned = read_contents(file_of(data), SALT)
    listed = read_contents(file_of(sealed(data)), SALT)
    assert (scanned.sealed, listed.sealed) == (False, True)
    assert scanned.entries == listed.entries
    garbled = bytearray(sealed(data))
    garbled[: len(data)] = bytes(len(data))
    assert read_contents(file_of(bytes(garbled)), SALT).entries == listed.entries


def test_damaged_seal_falls_back_to_a_scan() -> None:
    data = record(1, b"a") + record(2, b"b")
    good = sealed(data)
    expected = read_contents(file_of(data), SALT).entries
    for at in range(len(data), len(good) - 4):
        spoilt = bytearray(good)
        spoilt[at] ^= 4
        found = read_contents(file_of(bytes(spoilt)), SALT)
        assert found.entries == expected
    for cut in range(len(data), len(good)):
        assert read_contents(file_of(good[:cut]), SALT).entries == expected


def test_records_behind_a_seal_are_found() -> None:
    data = sealed(record(1, b"a")) + record(2, b"b")
    assert [entry.key[15] for entry in read_contents(file_of(data), SALT).entries] == [1, 2]


def test_later_versions_and_types_mark_the_volume_as_not_ours_to_rewrite() -> None:
    later = bytearray(record(1, b"a"))
    later[16] = FORMAT_VERSION + 1
    contents = read_contents(file_of(record(2, b"b") + bytes(later) + record(3, b"c")), SALT)
    assert [entry.key[15] for entry in contents.entries] == [2, 3]
    assert contents.foreign
    assert read_contents(file_of(record(1, b"m", type_=RecordType.MANIFEST)), SALT).foreign
    assert not read_contents(file_of(record(1, b"a")), SALT).foreign


@pytest.mark.parametrize("data", [b"", b"x", bytes(HEAD_BYTES), b"\xff" * 5000])
def test_no_records_in_no_records(data: bytes) -> None:
    contents = read_contents(file_of(data), SALT)
    assert contents.entries == ()
    assert sum(gap.end - gap.offset for gap in contents.gaps) == len(data)
