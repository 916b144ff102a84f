"""Who uses an administrative right in a request, as the audit will say it."""

from ossd.answering import AnsweringHandler
from raftmeta.credentials import AuditNote


def audit_note(
    handler: AnsweringHandler, actor: str, action: str, target: str = "", detail: str = ""
) -> AuditNote:
    """The note that goes with a command. `detail` holds no secret."""
    return AuditNote(
        actor=actor,
        action=action,
        target=target,
        detail=detail,
        request_id=handler.request_id,
        source=handler.request.remote_ip or "",
    )
