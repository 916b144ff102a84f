"""What a command's handler works with: the open transaction and its catalog time."""

import sqlite3
from dataclasses import dataclass, field

from raftmeta.catalog.meta import Meta


@dataclass(frozen=True, slots=True)
class DiskRow:
    """What apply must know of a disk to judge a slot. `is_compared`: an older state of it is
    being compared. `sure_from_ms`: it was such a state until then; what was stored there for a
    stripe born before may be gone (SAFETY rule 15)."""

    node: str
    state: str
    is_compared: bool = False
    sure_from_ms: int = 0

    @property
    def usable(self) -> bool:
        """Whether shards there count as durable (SAFETY rule 9)."""
        return self.state in ("in", "draining")

    def holds(self, stored_from_ms: int) -> bool:
        """Whether a shard that a newcomer stored there at that time or later is there."""
        return self.usable and not self.is_compared and stored_from_ms >= self.sure_from_ms


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
            rows = self.db.execute(
                "SELECT d.disk, d.node, d.state, r.disk IS NOT NULL, d.sure_from_ms"
                " FROM disks d LEFT JOIN rejoins r ON r.disk = d.disk"
            )
            self._disks = {
                disk: DiskRow(node, state, bool(compared), sure_ms)
                for disk, node, state, compared, sure_ms in rows
            }
        return self._disks

    def forget_disks(self) -> None:
        """Call after changing the disks table."""
        self._disks = None
