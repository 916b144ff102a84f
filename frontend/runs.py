"""Work in many steps under one row of the audit.

The row is written by the first step, whose answer carries a *run*: text that only a frontend can
make, and that says which use of which right goes on where. A step that brings a run
which fits needs no row of its own; every other one writes its own, wherever it begins. So nobody
uses these rights without a row, and nobody who goes on is refused.
"""

import hmac
import re

import msgspec
from blake3 import blake3

from raftmeta.access import Access, Grant
from raftmeta.credentials import AuditNote

RUN_MS_MAX = 86_400_000
"""A row stands for the steps of a day; the next one then writes another."""
_PURPOSE = "maintenance runs"
_MAC_BYTES = 16
_TEXT = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{32})")


class Runs:
    """Makes and reads runs. Use from one event loop."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def find(self, text: str, grant: Grant, note: AuditNote, after: str) -> int | None:
        """When the row was written that a step from `after` belongs to, in ms since 1970; None:
        there is none that `text` proves. Raises Unavailable."""
        match = _TEXT.fullmatch(text)
        if match is None:
            return None
        began_at_ms = int(match[1], 16)
        right = await self._mac(began_at_ms, grant, note, after)
        if not hmac.compare_digest(match[2], right):
            return None
        is_fresh = abs(self._access.now_ms() - began_at_ms) < RUN_MS_MAX
        return began_at_ms if is_fresh else None

    async def write(
        self, began_at_ms: int | None, grant: Grant, note: AuditNote, after: str
    ) -> str:
        """The run of the step that goes on from `after`. `began_at_ms`: as `find` answered; None:
        the row was written just now."""
        began_at_ms = self._access.now_ms() if began_at_ms is None else began_at_ms
        return f"{began_at_ms:x}-{await self._mac(began_at_ms, grant, note, after)}"

    async def _mac(self, began_at_ms: int, grant: Grant, note: AuditNote, after: str) -> str:
        """Of everything that the row says and of where the work stands; not of the request."""
        said = (note.actor, grant.created_at_ms, note.action, note.target, note.detail)
        key = await self._access.vault.derive(_PURPOSE)
        text = msgspec.msgpack.encode((began_at_ms, *said, after))
        return blake3(text, key=key).hexdigest(length=_MAC_BYTES)
