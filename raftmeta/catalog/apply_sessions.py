"""Exactly once (SAFETY rule 19): sessions, and the first result of each request."""

from collections.abc import Callable

import msgspec

from osscore.errors import Conflict, SessionExpired
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import OpenSession, Refused, SessionOpened
from raftmeta.entries import AnyResult, Entry

SESSION_IDLE_MS = 600_000
"""Catalog time after which Collect ends an idle session."""
RESULTS_DROPPED_MAX = 500
"""Most results one command drops; more of them go with the next ones (SAFETY rule 18)."""

_POSITION_BITS = 16
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AnyResult).decode


def open_session(tx: Transaction, _: OpenSession) -> SessionOpened:
    """Register a session. Its number is made from catalog time, so that a catalog restored
    from a backup never gives one that an older process still uses."""
    session = tx.time_ms << _POSITION_BITS | tx.position
    tx.db.execute(
        "INSERT INTO sessions (session, used_ms, acked_below, expired) VALUES (?, ?, 0, 0)",
        (session, tx.time_ms),
    )
    tx.meta.add("total_sessions", 1)
    return SessionOpened(session=session)


def apply_once(tx: Transaction, entry: Entry, run: Callable[[], AnyResult]) -> AnyResult:
    """The entry's first result: of an earlier delivery, or of `run` now."""
    found = tx.db.execute(
        "SELECT used_ms, acked_below FROM sessions WHERE session = ? AND expired = 0",
        (entry.session,),
    ).fetchone()
    if found is None:
        return refused(SessionExpired())
    used_ms, acked_below = found
    if entry.seq < acked_below:
        return refused(Conflict("The answer to this request was acknowledged before."))
    if tx.time_ms != used_ms or entry.acked_below > acked_below:
        _renew(tx, entry, acked_below)
    first = tx.db.execute(
        "SELECT result FROM results WHERE session = ? AND seq = ?", (entry.session, entry.seq)
    ).fetchone()
    if first is not None:
        remembered: AnyResult = _decode(first[0])
        return remembered
    result = run()
    tx.db.execute(
        "INSERT INTO results (session, seq, result) VALUES (?, ?, ?)",
        (entry.session, entry.seq, _encode(result)),
    )
    return result


def refused(error: Exception) -> Refused:
    """A refusal as the result of a command."""
    return Refused(refusal=type(error).__name__, message=str(error))


def _renew(tx: Transaction, entry: Entry, acked_below: int) -> None:
    # An entry cannot acknowledge its own answer or later ones.
    acked = max(acked_below, min(entry.acked_below, entry.seq))
    tx.db.execute(
        "UPDATE sessions SET used_ms = ?, acked_below = ? WHERE session = ?",
        (tx.time_ms, acked, entry.session),
    )
    if acked > acked_below:
        tx.db.execute(
            "DELETE FROM results WHERE session = ?1 AND seq IN"
            " (SELECT seq FROM results WHERE session = ?1 AND seq < ?2 ORDER BY seq LIMIT ?3)",
            (entry.session, acked, RESULTS_DROPPED_MAX),
        )
