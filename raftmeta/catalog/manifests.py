"""Manifests: lists of segments shared by versions, uploads and holds, counted by reference."""

from collections import Counter

from osscore.errors import CorruptCatalog, NoSuchVersion
from raftmeta.catalog import stripes
from raftmeta.catalog.transaction import Transaction

SEGMENTS_AT_ONCE = 64
"""A manifest of more segments is taken apart by Collect (SAFETY rule 18)."""


def create(tx: Transaction) -> int:
    """An empty manifest with one reference; answers its number, never used before."""
    manifest = tx.meta.take("next_manifest")
    tx.db.execute(
        "INSERT INTO manifests (manifest, refcount, size_bytes, segment_count) VALUES (?, 1, 0, 0)",
        (manifest,),
    )
    return manifest


def append(tx: Transaction, manifest: int, *, start: int, pieces: list[tuple[int, int]]) -> int:
    """Add whole stripes, as (row, plain bytes), from byte `start` on; answers the new end.

    The caller owns one reference on each row and hands it over.
    """
    rows = []
    end = start
    for stripe_row, plain_bytes in pieces:
        rows.append((manifest, end, plain_bytes, stripe_row))
        end += plain_bytes
    tx.db.executemany(
        "INSERT INTO segments (manifest, start, length, stripe_offset, stripe_row)"
        " VALUES (?, ?, ?, 0, ?)",
        rows,
    )
    tx.db.execute(
        "UPDATE manifests SET size_bytes = ?, segment_count = segment_count + ? WHERE manifest = ?",
        (end, len(rows), manifest),
    )
    tx.meta.add("total_segments", len(rows))
    return end


def move(tx: Transaction, manifest: int, *, to: int, start: int) -> None:
    """Take all segments of one manifest to the end of another, which ends at byte `start`.

    What is left is an empty manifest.
    """
    moved = tx.db.execute(
        "SELECT start, length, stripe_offset, stripe_row FROM segments WHERE manifest = ?"
        " ORDER BY start",
        (manifest,),
    ).fetchall()
    tx.db.execute("DELETE FROM segments WHERE manifest = ?", (manifest,))
    tx.db.executemany(
        "INSERT INTO segments (manifest, start, length, stripe_offset, stripe_row)"
        " VALUES (?, ?, ?, ?, ?)",
        [(to, start + each[0], *each[1:]) for each in moved],
    )
    size_bytes = sum(each[1] for each in moved)
    tx.db.executemany(
        "UPDATE manifests SET size_bytes = size_bytes + ?, segment_count = segment_count + ?"
        " WHERE manifest = ?",
        [(size_bytes, len(moved), to), (-size_bytes, -len(moved), manifest)],
    )


def share(tx: Transaction, manifest: int) -> None:
    """Take one more reference. Refuses NoSuchVersion when the manifest is gone."""
    changed = tx.db.execute(
        "UPDATE manifests SET refcount = refcount + 1 WHERE manifest = ?", (manifest,)
    ).rowcount
    if not changed:
        raise NoSuchVersion("The bytes of that version are gone.")


def release(tx: Transaction, manifest: int) -> int:
    """Give one reference back; the last one frees the segments, or buries a long manifest.

    Answers how many segments were freed at once, for the caller's row budget.
    """
    found = tx.db.execute(
        "SELECT refcount, segment_count FROM manifests WHERE manifest = ?", (manifest,)
    ).fetchone()
    if found is None:
        raise CorruptCatalog(f"Manifest {manifest} is referenced but gone.")
    refcount, segment_count = found
    if refcount > 1:
        tx.db.execute(
            "UPDATE manifests SET refcount = refcount - 1 WHERE manifest = ?", (manifest,)
        )
        return 0
    tx.db.execute("DELETE FROM manifests WHERE manifest = ?", (manifest,))
    if segment_count <= SEGMENTS_AT_ONCE:
        return free_segments(tx, manifest, segments_max=SEGMENTS_AT_ONCE)
    tx.db.execute("INSERT INTO graveyard (manifest) VALUES (?)", (manifest,))
    tx.meta.add("total_graveyard", 1)
    return 0


def free_segments(tx: Transaction, manifest: int, *, segments_max: int) -> int:
    """Drop the first segments of a manifest nobody refers to, and their references."""
    found = tx.db.execute(
        "SELECT start, stripe_row FROM segments WHERE manifest = ? ORDER BY start LIMIT ?",
        (manifest, segments_max),
    ).fetchall()
    if not found:
        return 0
    tx.db.execute(
        "DELETE FROM segments WHERE manifest = ? AND start <= ?", (manifest, found[-1][0])
    )
    tx.meta.add("total_segments", -len(found))
    counts = Counter(stripe_row for _, stripe_row in found)
    for stripe_row, count in sorted(counts.items()):
        stripes.release(tx, stripe_row, count)
    return len(found)
