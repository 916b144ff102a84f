"""Which file the demo takes, and how its second version differs."""

import os
import tarfile
from pathlib import Path

import pytest

from tests.demo import files
from tests.demo.files import EDIT_BYTES, archive_library, large_file, write_second_version

MIN = 1000


@pytest.fixture(autouse=True)
def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SIZE_BYTES_MIN", MIN)
    monkeypatch.setattr(files, "SIZE_BYTES_MAX", 4 * MIN)


def filled(path: Path, size_bytes: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\1" * size_bytes)
    return path


def test_the_smallest_file_that_is_large_enough_is_taken(tmp_path: Path) -> None:
    filled(tmp_path / "a" / "too-small", MIN - 1)
    filled(tmp_path / "a" / "too-large", 4 * MIN + 1)
    filled(tmp_path / "a" / "larger", MIN + 1)
    wanted = filled(tmp_path / "a" / "folder" / "b", MIN)
    filled(tmp_path / "a" / "folder" / "c", MIN)
    assert large_file((tmp_path / "none", tmp_path / "a")) == wanted


def test_an_earlier_place_wins_over_a_smaller_file(tmp_path: Path) -> None:
    wanted = filled(tmp_path / "first" / "f", MIN + 1)
    filled(tmp_path / "second" / "f", MIN)
    assert large_file((tmp_path / "first", tmp_path / "second")) == wanted


def test_links_sparse_and_hidden_away_files_are_no_choice(tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "folder").mkdir(parents=True)
    (place / "link").symlink_to(filled(tmp_path / "elsewhere", MIN))
    (place / "loop").symlink_to(place)
    with (place / "sparse").open("wb") as file:
        file.truncate(2 * MIN)
    os.mkfifo(place / "pipe")
    filled(place / "1" / "2" / "3" / "deep", MIN)
    assert large_file((place,)) is None


def test_the_search_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        filled(tmp_path / f"{number}", 1)
    filled(tmp_path / "last", MIN)
    assert large_file((tmp_path,)) == tmp_path / "last"
    monkeypatch.setattr(files, "ENTRIES_MAX", 10)
    assert large_file((tmp_path,)) is None


def test_the_archive_holds_the_library(tmp_path: Path) -> None:
    archive_library(tmp_path / "library.tar")
    with tarfile.open(tmp_path / "library.tar") as archive:
        names = archive.getnames()
        source = archive.extractfile("json/decoder.py")
        assert source is not None and b"JSONDecodeError" in source.read()
    assert not [name for name in names if "site-packages" in name or "__pycache__" in name]


@pytest.mark.parametrize("size_bytes", [1, EDIT_BYTES, 3 * EDIT_BYTES, 10 * EDIT_BYTES + 7])
def test_the_second_version_differs_in_its_middle_alone(tmp_path: Path, size_bytes: int) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(os.urandom(size_bytes))
    start = write_second_version(first, second)
    old, new = first.read_bytes(), second.read_bytes()
    differing = [at for at in range(size_bytes) if old[at] != new[at]]
    assert len(new) == size_bytes and start % EDIT_BYTES == 0
    assert differing == list(range(start, min(start + EDIT_BYTES, size_bytes)))
