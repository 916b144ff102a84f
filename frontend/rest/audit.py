"""The audit: `/v1/audit`."""

from frontend.rest.handler import NativeHandler
from frontend.serving import query
from osscore.times import iso_time
from raftmeta.credentials import AuditListed, AuditRow, ListAudit

_LIMIT_DEFAULT, _LIMIT_MAX = 100, 1000
_NUMBER_MAX = (1 << 62) - 1


class AuditHandler(NativeHandler):
    """`/v1/audit?after=&limit=&actor=&action=&newest=1`."""

    async def get(self) -> None:
        """A page, oldest first unless `newest` is given; reading it is an entry, too."""
        await self.note(await self.administer("audit.list"))
        given = self.arguments
        asked = ListAudit(
            after=min(query.number(given, "after") or 0, _NUMBER_MAX),
            newest_first=query.flag(given, "newest"),
            limit=query.limit(given, default=_LIMIT_DEFAULT, most=_LIMIT_MAX),
            actor=query.text(given, "actor"),
            action=query.text(given, "action"),
        )
        page = await self.store.meta.query(asked, AuditListed)
        self.reply_json({"entries": [_shown(row) for row in page.rows], "next": page.next})


def _shown(row: AuditRow) -> dict[str, object]:
    return {
        "number": row.number,
        "at": iso_time(row.at_ms),
        "actor": row.actor,
        "action": row.action,
        "target": row.target,
        "detail": row.detail,
        "request_id": row.request_id,
        "source": row.source,
        "outcome": row.outcome,
    }
