"""The bytes of a backup: kept for ever, read by any zstd, and no bit of them may differ."""

from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from osscore.digests import blake3_256
from osscore.errors import CorruptCatalog
from raftmeta.backup.container import (
    PIECE_BYTES,
    Manifest,
    pack_head,
    pack_piece,
    read_head,
    unpack,
)
from tests.fakes.disk import SimulatedDisk

PLAIN = b"SQLite format 3\x00" + bytes(240)
MANIFEST = Manifest(
    cluster_id="63" * 16,
    generation=1,
    applied_index=50,
    catalog_time_ms=1_800_000_000_000,
    made_at_ms=1_800_000_000_500,
    schema=5,
    size_bytes=len(PLAIN),
    blake3=blake3_256(PLAIN).hex(),
    program="0.1.0",
    counts={"versions": 3},
)
GOLDEN = Path(__file__).with_name("backup_bytes.hex")


def packed(plain: bytes, manifest: Manifest | None = None) -> bytes:
    made = manifest or msgspec.structs.replace(
        MANIFEST, size_bytes=len(plain), blake3=blake3_256(plain).hex()
    )
    pieces = (plain[at : at + PIECE_BYTES] for at in range(0, len(plain), PIECE_BYTES))
    return pack_head(made) + b"".join(map(pack_piece, pieces))


def unpacked(data: bytes) -> tuple[Manifest, bytes]:
    disk = SimulatedDisk()
    disk.make_directory(Path("/d"))
    source, target = (disk.open(Path(f"/d/{name}"), create=True) for name in "st")
    source.pwrite([data], 0)
    manifest = unpack(source, target)
    return manifest, target.pread(target.size_bytes(), 0)


def test_a_backup_keeps_its_bytes() -> None:
    """docs/formats/backup.md. The frames are whatever zstd makes; the manifest's are ours."""
    golden = bytes.fromhex(GOLDEN.read_text())
    assert unpacked(golden) == (MANIFEST, PLAIN)
    assert golden.startswith(pack_head(MANIFEST))


def test_any_zstd_program_makes_the_catalog_of_it() -> None:
    plain = bytes(range(256)) * (PIECE_BYTES // 256) + b"the second frame"
    reader = zstandard.ZstdDecompressor().stream_reader(packed(plain), read_across_frames=True)
    assert reader.readall() == plain


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_no_flipped_bit_is_taken(at: int, bit: int) -> None:
    data = bytearray(packed(PLAIN))
    data[at % len(data)] ^= 1 << bit
    try:
        found = unpacked(bytes(data))
    except CorruptCatalog:
        return
    # zstd leaves some bits of a frame's head to the writer: the bytes must be the same.
    assert found == (MANIFEST, PLAIN)


@given(st.integers(0, 10**6))
def test_a_backup_that_was_cut_short_is_not_taken(left: int) -> None:
    # Without the last frame's own checksum every byte of the catalog is there, and compared.
    whole = packed(PLAIN)[:-4]
    with pytest.raises(CorruptCatalog):
        unpacked(whole[: left % len(whole)])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no backup"),
        (PLAIN, "no backup"),
        (pack_piece(PLAIN), "no backup"),
        (packed(PLAIN) + pack_piece(b"more"), "more than its manifest"),
        (packed(PLAIN) + b"noise that is no frame", "damaged"),
        (packed(bytes(len(PLAIN)), MANIFEST), "not those"),
        (packed(PLAIN).replace(b"backup 1 ", b"backup 2 "), "format"),
        (packed(PLAIN).replace(b'"schema":5', b'"schema":6'), "manifest is damaged"),
    ],
)
def test_what_is_no_whole_backup_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(CorruptCatalog, match=why):
        unpacked(data)


def test_the_head_alone_tells_what_a_backup_holds() -> None:
    disk = SimulatedDisk()
    disk.make_directory(Path("/d"))
    file = disk.open(Path("/d/b"), create=True)
    file.pwrite([packed(PLAIN)], 0)
    head = read_head(file)
    assert head.manifest == MANIFEST and head.size_bytes == len(pack_head(MANIFEST))
