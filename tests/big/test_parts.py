"""The bytes of `make big`, the ranges it looks at, and the room it asks for."""

import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.big import room
from tests.big.__main__ import ranges
from tests.big.content import Content, parse_size

MIB = 1 << 20


def test_room_is_asked_for_the_coded_object_and_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gib = 1 << 30
    # Blob daemons keep two volumes of 1 GiB and a hundredth of the disk.
    needed = int(10 * gib * 1.5 * 1.02) + 128 * MIB + 2 * gib + gib
    space = SimpleNamespace(total_bytes=100 * gib, free_bytes=needed)
    monkeypatch.setattr("tests.big.room.SystemDisk.space", lambda *_: space)
    room.check_room(tmp_path, 10 * gib)
    space.free_bytes -= 1
    with pytest.raises(room.NoRoom):
        room.check_room(tmp_path, 10 * gib)


def test_content_is_the_same_again_and_does_not_compress() -> None:
    content = Content(size_bytes=9 * MIB + 5, seed=3)
    body = b"".join(content.pieces())
    assert len(body) == content.size_bytes
    assert body == b"".join(Content(size_bytes=9 * MIB + 5, seed=3).pieces())
    assert body[: 4 * MIB] != b"".join(Content(size_bytes=4 * MIB, seed=4).pieces())
    assert len({body[at : at + 64] for at in range(0, len(body), 64)}) == len(body) // 64 + 1
    assert len(zlib.compress(body[:MIB], 1)) > MIB


@pytest.mark.parametrize(
    ("first", "last"), [(0, 0), (15, 16), (17, 3 * MIB), (MIB - 1, MIB), (9 * MIB, 9 * MIB + 4)]
)
def test_content_can_be_made_from_any_byte_on(first: int, last: int) -> None:
    content = Content(size_bytes=9 * MIB + 5, seed=3)
    whole = b"".join(content.pieces())
    assert b"".join(content.pieces(first, last)) == whole[first : last + 1]


def test_ranges_lie_around_the_borders_and_at_the_end() -> None:
    five_gib = 5 << 30
    around = ranges(five_gib)
    for border in (1 << 31, 1 << 32):
        assert any(first < border - 1 and border < last < five_gib for first, last in around)
    assert around[-1][1] == five_gib - 1
    assert ranges(1) == [(0, 0)]


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("5GiB", 5 << 30), ("300MiB", 300 << 20), ("1KiB", 1024), ("7", 7)]
)
def test_a_size_is_read(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "0", "-1MiB", "5GB", "1.5GiB", "GiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)
