"""How much of a disk may be filled: all but the reserve (SAFETY rule 14); its store at a glance."""

from dataclasses import dataclass
from pathlib import Path

from ossd.disk import Disk


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Sizes of one disk's store.

    `reserve_volumes` full volumes and `reserve_fraction` of the disk are kept free for
    deletes and compaction; together never more than a quarter of a small disk.
    """

    volume_bytes: int = 1024 * 1024 * 1024
    reserve_volumes: int = 2
    reserve_fraction: float = 0.01
    batch_bytes_max: int = 16 * 1024 * 1024
    """Most bytes of one group commit, unless a single request is larger."""
    live_fraction_min: float = 0.5
    """A sealed volume of which less than this is live is rewritten."""
    flush_s: float = 5.0
    """Longest that a row of the index waits in memory before it is flushed."""
    read_threads: int = 4


@dataclass(frozen=True, slots=True)
class StoreStats:
    """One disk at a glance. `free_bytes`: room outside the reserve. `live_bytes`: shards and
    temps, of which `temp_bytes` are temps. `problem`: why it takes no writes until its daemon
    restarts, or empty."""

    capacity_bytes: int
    free_bytes: int
    used_bytes: int
    live_bytes: int
    temp_bytes: int
    shards: int
    volumes: int
    writable: bool
    problem: str
    damaged: int


class Room:
    """The room of the file system that holds one disk's volumes."""

    def __init__(self, disk: Disk, directory: Path, settings: StoreSettings) -> None:
        self._disk = disk
        self._directory = directory
        self._settings = settings
        total_bytes = disk.space(directory).total_bytes
        # On a small disk, volumes of the usual size would leave compaction no room to turn.
        self.volume_bytes = min(settings.volume_bytes, max(total_bytes // 16, 1024 * 1024))

    def reserve_bytes(self, total_bytes: int) -> int:
        """What PUT leaves untouched."""
        wanted = self._settings.reserve_volumes * self.volume_bytes
        wanted += int(total_bytes * self._settings.reserve_fraction)
        return min(wanted, total_bytes // 4)

    def writable_bytes(self) -> int:
        """What PUT may still fill, below 0 inside the reserve. Raises OSError."""
        space = self._disk.space(self._directory)
        return space.free_bytes - self.reserve_bytes(space.total_bytes)

    def total_bytes(self) -> int:
        """Size of the file system. Raises OSError."""
        return self._disk.space(self._directory).total_bytes
