"""One bounded step of collection (SAFETY rules 1 to 4, 17, 18).

What expires by time waits while a jump of catalog time is unconfirmed; taking apart what
is already unreferenced does not. While deletion is frozen no shard is claimed, and nothing
ends that holds some (SAFETY rule 16).
"""

from dataclasses import dataclass

from osscore.errors import CommandTooLarge
from osscore.model import unpack_slots
from osscore.names import STRIPE_ID_BYTES
from raftmeta.catalog import (
    apply_chunks,
    apply_moves,
    apply_reencode,
    manifests,
    stripes,
    uploads,
)
from raftmeta.catalog.apply_credentials import forget_expired_tokens
from raftmeta.catalog.apply_sessions import SESSION_IDLE_MS
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import Collect, Collected, Done, TrashDone

ROWS_MAX = 500
"""Most of each kind in one step."""
STEP_ROWS_MAX = 1900
"""Most rows written by a whole step, but for the last stripe claimed (SAFETY rule 18)."""
_UPLOADS_ROWS_MAX = 1200
_SESSIONS_ROWS_MAX = 400
_TRASH_DONE_MAX = 1000


@dataclass(slots=True)
class _Budget:
    """What one step may still write."""

    each_max: int
    rows: int = STEP_ROWS_MAX

    def of(self, rows_each: int = 1) -> int:
        """How many of a kind may be dealt with that write so many rows each."""
        return max(0, min(self.each_max, self.rows // rows_each))


def collect(tx: Transaction, command: Collect) -> Collected:
    """End what has expired, free buried segments, claim dead stripes: at most ROWS_MAX of
    each and 2,000 rows together. What ends by time comes first, since much of the rest
    follows from it and is never starved by more of it for long."""
    budget = _Budget(each_max=max(1, min(command.rows_max, ROWS_MAX)))
    if tx.meta.number("time_jumped"):
        segments = _reap_graveyard(tx, budget)
        _drop_removed_trash(tx, budget)
        return Collected(segments=segments)
    if tx.meta.number("frozen"):
        sessions = _end_sessions(tx, budget)
        return Collected(sessions=sessions, segments=_reap_graveyard(tx, budget))
    grace_ms = max(command.grace_ms, tx.meta.number("gc_grace_ms"))
    uploads_ended = _end_uploads(tx, budget) + _end_chunks(tx, budget)
    _forget_finished(tx, budget)
    sessions_ended = _end_sessions(tx, budget)
    segments = _reap_graveyard(tx, budget)
    _drop_removed_trash(tx, budget)
    _forget_spent(tx, budget)
    budget.rows -= forget_expired_tokens(tx, budget.of())
    return Collected(
        uploads=uploads_ended,
        sessions=sessions_ended,
        segments=segments,
        stripes=_claim_dead(tx, grace_ms, budget),
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


def _end_uploads(tx: Transaction, budget: _Budget) -> int:
    rows_max = min(_UPLOADS_ROWS_MAX, budget.rows)
    expired = tx.db.execute(
        "SELECT upload FROM uploads WHERE expires_at_ms < ? ORDER BY expires_at_ms, upload LIMIT ?",
        (tx.time_ms, budget.of()),
    ).fetchall()
    ended = rows = 0
    for (upload,) in expired:
        found = uploads.find(tx, upload)
        assert found is not None
        cost = uploads.rows_to_end(found)
        if ended and rows + cost > rows_max:
            break
        uploads.end(tx, found)
        rows += cost
        ended += 1
    budget.rows -= rows
    return ended


def _end_chunks(tx: Transaction, budget: _Budget) -> int:
    ended, rows = apply_chunks.end_families(tx, rows_max=min(_UPLOADS_ROWS_MAX, budget.rows) // 2)
    budget.rows -= rows
    return ended


def _forget_finished(tx: Transaction, budget: _Budget) -> None:
    budget.rows -= tx.db.execute(
        "DELETE FROM finished_uploads WHERE upload IN (SELECT upload FROM finished_uploads"
        " WHERE expires_at_ms < ? ORDER BY expires_at_ms, upload LIMIT ?)",
        (tx.time_ms, budget.of()),
    ).rowcount


def _end_sessions(tx: Transaction, budget: _Budget) -> int:
    """Close idle sessions, then drop their results piece by piece.

    A closed session refuses everything from its first dropped result on, so no command of
    it can be applied a second time.
    """
    # Closing writes as many rows as dropping may.
    rows_max = min(budget.of(2), _SESSIONS_ROWS_MAX // 2)
    idle_since_ms = tx.time_ms - SESSION_IDLE_MS
    rows = tx.db.execute(
        "UPDATE sessions SET expired = 1 WHERE session IN (SELECT session FROM sessions"
        " WHERE used_ms < ? AND expired = 0 ORDER BY used_ms, session LIMIT ?)",
        (idle_since_ms, rows_max),
    ).rowcount
    closed = tx.db.execute(
        "SELECT session FROM sessions WHERE used_ms < ? AND expired = 1"
        " ORDER BY used_ms, session LIMIT ?",
        (idle_since_ms, rows_max),
    ).fetchall()
    ended = dropped = 0
    for (session,) in closed:
        if dropped >= rows_max:
            break
        dropped += 1 + _drop_session(tx, session, rows_max - dropped)
        ended += 1
    budget.rows -= rows + dropped
    return ended


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


def _reap_graveyard(tx: Transaction, budget: _Budget) -> int:
    segments_max = budget.of(2)  # the segment and the count of its stripe
    freed = 0
    while freed < segments_max:
        row = tx.db.execute("SELECT manifest FROM graveyard ORDER BY manifest LIMIT 1").fetchone()
        if row is None:
            break
        wanted = segments_max - freed
        got = manifests.free_segments(tx, row[0], segments_max=wanted)
        freed += got
        if got < wanted:
            tx.db.execute("DELETE FROM graveyard WHERE manifest = ?", row)
            tx.meta.add("total_graveyard", -1)
            budget.rows -= 1
    budget.rows -= 2 * freed
    return freed


def _claim_dead(tx: Transaction, grace_ms: int, budget: _Budget) -> int:
    """Order the deletion of all shards of long-dead stripes and forget the stripes.

    Dead for longer than the grace means born before it, too: the id cannot be named again.
    """
    rows_max = budget.of()
    dead = tx.db.execute(
        "SELECT row, stripe, slots, shard_bytes FROM stripes"
        " WHERE dead_since_ms IS NOT NULL AND dead_since_ms < ?"
        " ORDER BY dead_since_ms, row LIMIT ?",
        (tx.time_ms - grace_ms, rows_max),
    ).fetchall()
    claimed = rows = 0
    for row, stripe, packed, shard_bytes in dead:
        if rows >= rows_max:
            break
        slots = unpack_slots(packed)
        # Missing ones too: a shard may have arrived after its writer stopped waiting.
        rows += 1 + 2 * stripes.trash_shards(tx, stripe, slots)
        stripes.unlist(tx, row, slots)
        stripes.count_slots(tx, slots, shard_bytes, is_gone=True)
        rows += 2 * apply_moves.close_tasks_of(tx, row)
        rows += apply_reencode.close_reencode_of(tx, row)
        tx.db.execute("DELETE FROM stripes WHERE row = ?", (row,))
        tx.meta.add("total_stored_bytes", -shard_bytes * len(slots))
        claimed += 1
    budget.rows -= rows
    tx.meta.add("total_dead_stripes", -claimed)
    return claimed


def _forget_spent(tx: Transaction, budget: _Budget) -> None:
    """Ids of mapped-away stripes need no memory once their birth alone forbids naming them."""
    born_before_ms = max(0, tx.time_ms - tx.meta.number("gc_grace_ms"))
    bound = born_before_ms.to_bytes(6, "big") + bytes(STRIPE_ID_BYTES - 6)
    budget.rows -= tx.db.execute(
        "DELETE FROM spent_stripes WHERE stripe IN"
        " (SELECT stripe FROM spent_stripes WHERE stripe < ? ORDER BY stripe LIMIT ?)",
        (bound, budget.of()),
    ).rowcount


def _drop_removed_trash(tx: Transaction, budget: _Budget) -> None:
    """A removed disk never confirms its deletions."""
    removed = [disk for disk, row in sorted(tx.disks().items()) if row.state == "removed"]
    for disk in removed:
        dropped = tx.db.execute(
            "DELETE FROM trash WHERE row IN (SELECT row FROM trash WHERE disk = ?"
            " ORDER BY not_before_ms, row LIMIT ?)",
            (disk, budget.of()),
        ).rowcount
        tx.meta.add("total_trash", -dropped)
        budget.rows -= dropped
