"""What a query's handler works with: one read transaction and its single values."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from raftmeta.catalog.soft import SoftState


@dataclass(frozen=True, slots=True)
class Reading:
    """One consistent state. `meta`: the catalog's single values in that state."""

    db: sqlite3.Connection
    meta: Mapping[str, int | bytes]
    soft: SoftState

    def number(self, name: str) -> int:
        """An integer of `meta`."""
        value = self.meta[name]
        assert isinstance(value, int)
        return value

    def blob(self, name: str) -> bytes:
        """A bytes value of `meta`."""
        value = self.meta[name]
        assert isinstance(value, bytes)
        return value
