"""The bytes of an archived log: kept for ever, and no damaged bit of them is believed."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osscore.errors import CorruptCatalog
from raftmeta.archive.pieces import (
    HEAD_BYTES,
    HEADER_BYTES,
    ArchivedEntry,
    FoundLog,
    LogName,
    SnapshotName,
    check_piece,
    pack_header,
    pack_piece,
    parse_name,
    scan_log,
    unpack_piece,
)
from tests.fakes.disk import SimulatedDisk

CLUSTER = b"c" * 16
NAME = LogName(generation=3, run=10, first=10)
GOLDEN = Path(__file__).with_name("log_bytes.hex")


def entries(first: int, count: int, *, size_bytes: int = 20) -> list[ArchivedEntry]:
    return [
        ArchivedEntry(index, 2, bytes([index % 256]) * size_bytes)
        for index in range(first, first + count)
    ]


def scanned(*parts: bytes, name: LogName = NAME) -> FoundLog:
    disk = SimulatedDisk()
    with closing(disk.open(Path("/data/log"), create=True)) as file:
        file.pwrite(parts, 0)
        return scan_log(file, CLUSTER, name)


def ranges(found: FoundLog) -> list[tuple[int, int]]:
    return [(piece.head.first, piece.head.last) for piece in found.pieces]


def three() -> Sequence[bytes]:
    return (
        pack_header(CLUSTER, NAME),
        pack_piece(entries(10, 2)),
        pack_piece(entries(12, 3)),
        pack_piece(entries(15, 1)),
    )


def test_a_log_keeps_its_bytes() -> None:
    """docs/formats/archive.md. The packed part is whatever zstd makes; the heads are ours."""
    golden = bytes.fromhex(GOLDEN.read_text())
    assert golden.startswith(pack_header(CLUSTER, NAME))
    found = scanned(golden)
    assert not found.damage and ranges(found) == [(10, 11), (12, 14), (15, 15)]
    pieces = [golden[p.offset : p.offset + p.head.size_bytes] for p in found.pieces]
    assert [entry for piece in pieces for entry in unpack_piece(piece)] == entries(10, 6)


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.binary(max_size=300)), min_size=1))
def test_a_piece_gives_its_entries_back(parts: list[tuple[int, bytes]]) -> None:
    given_ = [ArchivedEntry(7 + n, term, body) for n, (term, body) in enumerate(parts)]
    assert unpack_piece(pack_piece(given_)) == given_


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_piece_is_taken(at: int, bit: int) -> None:
    piece = bytearray(pack_piece(entries(10, 4)))
    piece[at % len(piece)] ^= 1 << bit
    with pytest.raises(CorruptCatalog):
        check_piece(piece)


@given(st.integers(1, 400))
def test_what_a_crash_cut_short_is_not_believed(cut_bytes: int) -> None:
    whole = b"".join(three())
    found = scanned(whole[: max(0, len(whole) - cut_bytes)])
    kept = [(10, 11), (12, 14), (15, 15)][: len(found.pieces)]
    assert ranges(found) == kept and len(kept) < 3
    assert bool(found.damage) == (found.good_bytes < found.size_bytes or not found.size_bytes)


def test_a_damaged_piece_is_stepped_over() -> None:
    header, first, second, third = three()
    rotten = bytearray(second)
    rotten[-1] ^= 1
    found = scanned(header, first, rotten, third)
    assert ranges(found) == [(10, 11), (15, 15)] and len(found.damage) == 1


def test_nothing_is_searched_for_behind_a_bad_head() -> None:
    """What lies there may be bytes that a user chose."""
    header, first, second, third = three()
    rotten = bytearray(second)
    rotten[HEAD_BYTES - 1] ^= 1
    chosen = pack_piece([ArchivedEntry(12, 2, b"chosen by a user")])
    for behind in (third, chosen):
        assert ranges(scanned(header, first, rotten, behind)) == [(10, 11)]


def test_a_log_of_another_cluster_or_name_is_not_believed() -> None:
    header, first, *_ = three()
    other = LogName(generation=4, run=10, first=10)
    assert not scanned(header, first, name=other).pieces
    assert not scanned(pack_header(b"d" * 16, NAME), first).pieces
    assert not scanned(header[: HEADER_BYTES - 1]).pieces


def test_a_piece_that_does_not_follow_ends_the_file() -> None:
    header, first, _, third = three()
    found = scanned(header, first, third)
    assert ranges(found) == [(10, 11)] and "follows 11" in found.damage[0]


def test_names_say_what_a_file_holds() -> None:
    snapshot = SnapshotName(generation=3, index=9, blake3="ab" * 32)
    assert parse_name(str(NAME)) == NAME and parse_name(str(snapshot)) == snapshot
    for text in (f"{NAME}.new", f"{snapshot}.part", "label", "", f"../{NAME}"):
        assert parse_name(text) is None
    assert max(LogName(1, 900, 900), LogName(1, 17, 5000)).run == 900
