"""Which file the demo stores, and what its second version is."""

import hashlib
import os
import shutil
import stat
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20
SIZE_BYTES_MIN = 64 * MIB
SIZE_BYTES_MAX = 256 * MIB
"""Larger files prove nothing more and take longer."""
PLACES = tuple(
    Path(place)
    for place in (
        "/usr/bin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/usr/share",
        "/opt",
        "/Library",
    )
)
"""Programs come first: they are neither random nor all alike."""
DEPTH_MAX = 3
ENTRIES_MAX = 50_000
EDIT_BYTES = 4096
"""What the second version changes. It starts at a multiple of itself, so it lies in one stripe."""


def large_file(places: tuple[Path, ...] = PLACES) -> Path | None:
    """The smallest file of SIZE_BYTES_MIN to SIZE_BYTES_MAX in the first place that has one.

    Names settle ties and the order of the search, so a machine always gives the same file. At
    most ENTRIES_MAX entries a place are looked at, DEPTH_MAX folders deep.
    """
    for place in places:
        found = min(_large_files(place), default=None)
        if found is not None:
            return found[1]
    return None


def _large_files(place: Path) -> Iterator[tuple[int, Path]]:
    """Size and path of each suitable file below `place`."""
    folders, entries_left = [(place, 1)], ENTRIES_MAX
    for folder, depth in folders:  # grows while it is read: one level after the other
        for entry in _entries(folder):
            entries_left -= 1
            if not entries_left:
                return
            if entry.is_dir(follow_symlinks=False):
                if depth < DEPTH_MAX:
                    folders.append((Path(entry.path), depth + 1))
            elif _is_suitable(entry):
                yield entry.stat(follow_symlinks=False).st_size, Path(entry.path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []  # not there, or not ours to read


def _is_suitable(entry: os.DirEntry[str]) -> bool:
    try:
        facts = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    is_sparse = facts.st_blocks * 512 < facts.st_size // 2
    return (
        stat.S_ISREG(facts.st_mode)
        and SIZE_BYTES_MIN <= facts.st_size <= SIZE_BYTES_MAX
        and not is_sparse
        and os.access(entry.path, os.R_OK)
    )


def archive_library(archive: Path) -> None:
    """A tar file of the Python library that runs this, as large as that happens to be."""
    library = Path(sysconfig.get_path("stdlib"))
    # Installed packages are not the library, and compiled files may vanish at any time.
    left_out = {"site-packages", "dist-packages", "__pycache__"}
    with tarfile.open(archive, "w") as file:
        for path in sorted(library.rglob("*")):
            inner = path.relative_to(library)
            if left_out.isdisjoint(inner.parts):
                file.add(path, arcname=inner, recursive=False)


def write_second_version(first: Path, second: Path) -> int:
    """Copy `first` with EDIT_BYTES in its middle inverted; answers where they start."""
    shutil.copyfile(first, second)
    with second.open("r+b") as file:
        start = file.seek(0, os.SEEK_END) // 2 // EDIT_BYTES * EDIT_BYTES
        file.seek(start)
        old = file.read(EDIT_BYTES)
        file.seek(start)
        file.write(bytes(byte ^ 0xFF for byte in old))
    return start


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
