"""What a store takes: rows of each table of the catalog, shards and bytes of all disks."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raftmeta.identity import CATALOG_NAME, CURRENT_NAME
from tests.heal.damage import folders
from tests.heal.leftovers import held, nothing_left
from tests.heal.site import Site

GROWING = frozenset({"audit", "censuses", "meta", "results", "sessions"})
"""Tables that say nothing of objects: a log, a row a disk, single values, what clients are at."""
PER_NAME = {"keys": 1, "removed_versions": 16}
"""Rows that every name ever used leaves at most: its next version number, and a bounded memory
of the past (ADR 15)."""
LIVE_FRACTION_MIN = 0.5
"""Of a sealed volume; a volume with less is written anew."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """`rows`: by table; `shards`, `shard_bytes`: on all disks; `file_bytes`: of all volumes."""

    rows: dict[str, int]
    shards: int
    shard_bytes: int
    file_bytes: int

    def grown_beyond(self, before: "Footprint", *, names: int, volumes_bytes: int) -> list[str]:
        """What takes more than it did. `names`: how many were used since; `volumes_bytes`: what
        the volumes that are still written to may hold in vain."""
        wrong = []
        for table, count in self.rows.items():
            was = before.rows.get(table, 0)
            allowed = was + names * PER_NAME.get(table, 0)
            if table not in GROWING and not was <= count <= allowed:
                wrong.append(f"{table}: {was} rows, now {count}")
        if (self.shards, self.shard_bytes) != (before.shards, before.shard_bytes):
            wrong.append(
                f"{before.shards} shards of {before.shard_bytes} bytes,"
                f" now {self.shards} of {self.shard_bytes}"
            )
        most_bytes = self.shard_bytes / LIVE_FRACTION_MIN + volumes_bytes
        if self.file_bytes > most_bytes:
            wrong.append(f"volumes of {self.file_bytes} bytes for {self.shard_bytes} of shards")
        return wrong

    def shown(self) -> dict[str, Any]:
        """For the report: what there is any of."""
        rows = {table: count for table, count in self.rows.items() if count}
        return {
            "shards": self.shards,
            "shard_bytes": self.shard_bytes,
            "file_bytes": self.file_bytes,
            "rows": rows,
        }


async def footprint(site: Site) -> Footprint:
    """What is there now."""
    shards = await held(site)
    leader = await site.cluster.leader()
    return Footprint(
        rows=rows_of(Path(leader["data"])),
        shards=len(shards),
        shard_bytes=sum(shards.values()),
        file_bytes=sum(map(_volume_bytes, site.local.blobs)),
    )


def rows_of(metanode: Path) -> dict[str, int]:
    """Rows by table, read from the catalog of a metanode that runs."""
    current = (metanode / CURRENT_NAME).read_text().strip()
    with closing(
        sqlite3.connect(f"file:{metanode / current / CATALOG_NAME}?mode=ro", uri=True)
    ) as db:
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return {
            name: db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0]
            for (name,) in names.fetchall()
        }


async def is_collected(site: Site) -> bool:
    """Whether nothing waits to be deleted, written anew or forgotten, on no disk and nowhere."""
    counted = await site.counted()
    waits = counted.dead_stripes or counted.uploads or counted.trash or counted.graveyard
    if waits or counted.missing or await site.open_tasks():
        return False
    return await nothing_left(site)


def _volume_bytes(node: dict[str, Any]) -> int:
    total = 0
    for folder in folders(node):
        for path in folder.rglob("*.volume"):
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                continue  # compacted away just now
    return total
