"""What memory processes have taken, and whether the disk has room (Linux)."""

from pathlib import Path

from blobd.room import Room, StoreSettings
from cli.output import human_bytes
from ossd.disk import SystemDisk

CODED = 6 / 4
HEADS = 1.02
"""Heads and checksums of records."""
TWINS_BYTES = 128 << 20
"""Stripes that travel a second time before the store knows that it has them."""


class NoRoom(Exception):
    """The disk is too small for what was asked."""


def peak_bytes(pid: int) -> int:
    """The most memory a living process has had resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has ended")


def check_room(folder: Path, size_bytes: int) -> None:
    """Raises NoRoom unless the disk of `folder` takes an object of that size."""
    disk = SystemDisk()
    space = disk.space(folder)
    reserve_bytes = Room(disk, folder, StoreSettings()).reserve_bytes(space.total_bytes)
    needed_bytes = int(size_bytes * CODED * HEADS) + TWINS_BYTES + reserve_bytes
    if space.free_bytes < needed_bytes:
        raise NoRoom(
            f"{folder} has {human_bytes(space.free_bytes)} free and "
            f"{human_bytes(needed_bytes)} are needed: {human_bytes(size_bytes)} once and a half, "
            "and what blob daemons keep in reserve. Set TMPDIR to a folder on a larger disk, or "
            "take less: make big SIZE=300MiB"
        )
