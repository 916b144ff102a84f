"""One bounded step of collection (SAFETY rules 1 to 4, 17, 18).

What expires by time waits while a jump of catalog time is unconfirmed; taking apart what
is already unreferenced does not.
"""

from osscore.errors import CommandTooLarge
from osscore.model import unpack_slots
from osscore.names import STRIPE_ID_BYTES
from raftmeta.catalog import manifests, stripes, uploads
from raftmeta.catalog.apply_sessions import SESSION_IDLE_MS
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import Collect, Collected, Done, TrashDone

ROWS_MAX = 500
"""Most rows of each kind in one step."""
_TRASH_DONE_MAX = 1000


def collect(tx: Transaction, command: Collect) -> Collected:
    """End what has expired, free buried segments, claim dead stripes: ROWS_MAX rows each."""
    rows_max = max(1, min(command.rows_max, ROWS_MAX))
    grace_ms = max(command.grace_ms, tx.meta.number("gc_grace_ms"))
    segments = _reap_graveyard(tx, rows_max)
    _drop_removed_trash(tx, rows_max)
    if tx.meta.number("time_jumped"):
        return Collected(segments=segments)
    _forget_spent(tx, rows_max)
    return Collected(
        uploads=_end_uploads(tx, rows_max),
        sessions=_end_sessions(tx, rows_max),
        segments=segments,
        stripes=_claim_dead(tx, grace_ms, rows_max),
    )


def trash_done(tx: Transaction, command: TrashDone) -> Done:
    """Forget deletions that a disk has made durable. Refuses CommandTooLarge."""
    if len(command.rows) > _TRASH_DONE_MAX:
        raise CommandTooLarge(f"At most {_TRASH_DONE_MAX} deletions are confirmed at once.")
    before = tx.db.total_changes
    tx.db.executemany(
        "DELETE FROM trash WHERE row = ? AND disk = ?",
        [(row, command.disk) for row in command.rows],
    )
    tx.meta.add("total_trash", before - tx.db.total_changes)
    return Done()


def _end_uploads(tx: Transaction, rows_max: int) -> int:
    expired = tx.db.execute(
        "SELECT upload FROM uploads WHERE expires_at_ms < ? ORDER BY expires_at_ms, upload LIMIT ?",
        (tx.time_ms, rows_max),
    ).fetchall()
    ended = rows = 0
    for (upload,) in expired:
        found = uploads.find(tx, upload)
        assert found is not None
        rows += uploads.end(tx, found)
        ended += 1
        if rows >= rows_max:
            break
    return ended


def _end_sessions(tx: Transaction, rows_max: int) -> int:
    """Close idle sessions, then drop their results piece by piece.

    A closed session refuses everything from its first dropped result on, so no command of
    it can be applied a second time.
    """
    tx.db.execute(
        "UPDATE sessions SET expired = 1 WHERE session IN (SELECT session FROM sessions"
        " WHERE used_ms < ? AND expired = 0 ORDER BY used_ms, session LIMIT ?)",
        (tx.time_ms - SESSION_IDLE_MS, rows_max),
    )
    closed = tx.db.execute(
        "SELECT session FROM sessions WHERE used_ms < ? AND expired = 1"
        " ORDER BY used_ms, session LIMIT ?",
        (tx.time_ms - SESSION_IDLE_MS, rows_max),
    ).fetchall()
    rows = 0
    for number, (session,) in enumerate(closed):
        if rows >= rows_max:
            return number
        rows += 1 + _drop_session(tx, session, rows_max)
    return len(closed)


def _drop_session(tx: Transaction, session: int, rows_max: int) -> int:
    dropped = tx.db.execute(
        "DELETE FROM results WHERE session = ?1 AND seq IN"
        " (SELECT seq FROM results WHERE session = ?1 ORDER BY seq LIMIT ?2)",
        (session, rows_max),
    ).rowcount
    if dropped < rows_max:
        tx.db.execute("DELETE FROM sessions WHERE session = ?", (session,))
        tx.meta.add("total_sessions", -1)
    return dropped


def _reap_graveyard(tx: Transaction, rows_max: int) -> int:
    freed = 0
    while freed < rows_max:
        row = tx.db.execute("SELECT manifest FROM graveyard ORDER BY manifest LIMIT 1").fetchone()
        if row is None:
            break
        wanted = rows_max - freed
        got = manifests.free_segments(tx, row[0], segments_max=wanted)
        freed += got
        if got < wanted:
            tx.db.execute("DELETE FROM graveyard WHERE manifest = ?", row)
            tx.meta.add("total_graveyard", -1)
    return freed


def _claim_dead(tx: Transaction, grace_ms: int, rows_max: int) -> int:
    """Order the deletion of all shards of long-dead stripes and forget the stripes.

    Dead for longer than the grace means born before it, too: the id cannot be named again.
    """
    dead = tx.db.execute(
        "SELECT row, stripe, slots, shard_bytes FROM stripes"
        " WHERE dead_since_ms IS NOT NULL AND dead_since_ms < ?"
        " ORDER BY dead_since_ms, row LIMIT ?",
        (tx.time_ms - grace_ms, rows_max),
    ).fetchall()
    claimed = rows = 0
    for row, stripe, packed, shard_bytes in dead:
        slots = unpack_slots(packed)
        # Missing ones too: a shard may have arrived after its writer stopped waiting.
        rows += 1 + 2 * stripes.trash_shards(tx, stripe, slots)
        tx.db.executemany(
            "DELETE FROM slots_by_disk WHERE disk = ? AND stripe_row = ?",
            [(slot.disk, row) for slot in slots],
        )
        tx.db.execute("DELETE FROM stripes WHERE row = ?", (row,))
        tx.meta.add("total_stored_bytes", -shard_bytes * len(slots))
        claimed += 1
        if rows >= rows_max:
            break
    tx.meta.add("total_dead_stripes", -claimed)
    return claimed


def _forget_spent(tx: Transaction, rows_max: int) -> None:
    """Ids of mapped-away stripes need no memory once their birth alone forbids naming them."""
    born_before_ms = max(0, tx.time_ms - tx.meta.number("gc_grace_ms"))
    bound = born_before_ms.to_bytes(6, "big") + bytes(STRIPE_ID_BYTES - 6)
    tx.db.execute(
        "DELETE FROM spent_stripes WHERE stripe IN"
        " (SELECT stripe FROM spent_stripes WHERE stripe < ? ORDER BY stripe LIMIT ?)",
        (bound, rows_max),
    )


def _drop_removed_trash(tx: Transaction, rows_max: int) -> None:
    """A removed disk never confirms its deletions."""
    removed = [disk for disk, row in sorted(tx.disks().items()) if row.state == "removed"]
    for disk in removed:
        if rows_max <= 0:
            break
        dropped = tx.db.execute(
            "DELETE FROM trash WHERE row IN (SELECT row FROM trash WHERE disk = ?"
            " ORDER BY not_before_ms, row LIMIT ?)",
            (disk, rows_max),
        ).rowcount
        tx.meta.add("total_trash", -dropped)
        rows_max -= dropped
