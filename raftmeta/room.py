"""The room on a metanode's own disk, as last looked at (SAFETY rule 14)."""

import logging
from pathlib import Path

from ossd.disk import Disk, Space
from raftmeta.admission import has_room
from raftmeta.config import MetaConfig

COPIES = 2
"""Of the catalog that a leader holds for a moment: one as it is, one packed."""

log = logging.getLogger(__name__)


class MetadataRoom:
    """`has_room`: whether the catalog may grow; False is for `admission`."""

    def __init__(self, folder: Path, disk: Disk, config: MetaConfig) -> None:
        self._folder = folder
        self._disk = disk
        self._config = config
        self.has_room = True
        self.free_bytes = 0

    def look(self) -> None:
        """Ask the file system. Raises OSError. Blocks for a moment."""
        space = self._disk.space(self._folder)
        fits = self._fits(space)
        if fits != self.has_room:
            log.warning("metadata_space", extra={"low": not fits, "free_bytes": space.free_bytes})
        self.has_room, self.free_bytes = fits, space.free_bytes

    def may_copy(self, catalog_bytes: int) -> bool:
        """Whether there would be room with a copy made for the archive, too. Raises OSError."""
        space = self._disk.space(self._folder)
        left_bytes = max(0, space.free_bytes - COPIES * catalog_bytes)
        return self._fits(Space(space.total_bytes, left_bytes))

    def _fits(self, space: Space) -> bool:
        return has_room(
            space,
            low_bytes=self._config.low_space_bytes,
            low_percent=self._config.low_space_percent,
        )
