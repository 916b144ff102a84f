"""The audit: one row for each use of an administrative right, in the transaction of the change.

Rows are numbered without gaps and never change; beyond AUDIT_ROWS_MAX the oldest go.
"""

from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import Done, Refused
from raftmeta.credentials import AuditNote, NoteAudit
from raftmeta.entries import AnyResult

AUDIT_ROWS_MAX = 200_000
_DROPPED_AT_ONCE = 4  # more than one, so that rows beyond a lowered bound go in time
_WORD_CHARS_MAX = 128
_TEXT_CHARS_MAX = 1100


def note_audit(tx: Transaction, _: NoteAudit) -> Done:
    """Nothing: the row is that of the entry's own note."""
    return Done()


def record(tx: Transaction, note: AuditNote, result: AnyResult) -> None:
    """Write down who did what, and whether it was done. Long texts are cut."""
    number = tx.meta.take("next_audit")
    tx.db.execute(
        "INSERT INTO audit"
        " (number, at_ms, actor, action, target, detail, request_id, source, outcome)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            number,
            tx.time_ms,
            note.actor[:_WORD_CHARS_MAX],
            note.action[:_WORD_CHARS_MAX],
            note.target[:_TEXT_CHARS_MAX],
            note.detail[:_TEXT_CHARS_MAX],
            note.request_id[:_WORD_CHARS_MAX],
            note.source[:_WORD_CHARS_MAX],
            result.refusal if isinstance(result, Refused) else "done",
        ),
    )
    tx.db.execute(
        "DELETE FROM audit WHERE number IN"
        " (SELECT number FROM audit WHERE number <= ? ORDER BY number LIMIT ?)",
        (number - AUDIT_ROWS_MAX, _DROPPED_AT_ONCE),
    )
