"""What a command's handler works with: the open transaction and its catalog time."""

import sqlite3
from dataclasses import dataclass, field

from raftmeta.catalog.meta import Meta


@dataclass(frozen=True, slots=True)
class DiskRow:
    """What apply must know of a disk to judge a slot."""

    node: str
    state: str

    @property
    def usable(self) -> bool:
        """Whether shards there count as durable (SAFETY rule 9)."""
        return self.state in ("in", "draining")


@dataclass(slots=True)
class Transaction:
    """One batch being applied. `position` is that of the running command in its batch.

    Handlers read and write through `db` and `meta` only, and know no time but `time_ms`.
    A handler refuses by raising a RequestError or Unavailable: the caller undoes its writes.
    """

    db: sqlite3.Connection
    meta: Meta
    index: int
    time_ms: int
    position: int = 0
    _disks: dict[int, DiskRow] | None = field(default=None)

    def disks(self) -> dict[int, DiskRow]:
        """All disks by number."""
        if self._disks is None:
            rows = self.db.execute("SELECT disk, node, state FROM disks")
            self._disks = {disk: DiskRow(node, state) for disk, node, state in rows}
        return self._disks

    def forget_disks(self) -> None:
        """Call after changing the disks table."""
        self._disks = None
