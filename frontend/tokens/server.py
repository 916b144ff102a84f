"""`/server/token` and `/server/active`: the system token, and who is there."""

from typing import ClassVar
from urllib.parse import urlsplit

import msgspec

from frontend.flows.keys import set_system_token
from frontend.serving.auditing import audit_note
from frontend.tokens.codes import TOKEN_LENGTH
from frontend.tokens.handler import TokenHandler
from osscore.errors import InvalidArgument
from ossd.json_body import parse_json
from raftmeta.access import ADMIN, INFO

_LIVING = ("up", "unknown")
"""A new leader has heard nobody yet: for that second nobody counts as gone."""


class NewToken(msgspec.Struct, frozen=True):
    """Body of `PUT /server/token`."""

    token: str | msgspec.UnsetType = msgspec.UNSET


class SystemTokenHandler(TokenHandler):
    """`/server/token`."""

    codes: ClassVar = {InvalidArgument: TOKEN_LENGTH}

    async def put(self) -> None:
        """Replace the system token; the former one is refused everywhere from here on."""
        caller = await self.calling_system()
        caller.require(ADMIN)
        wanted = parse_json(bytes(self.body), NewToken, 'The body is JSON like {"token": "..."}')
        if wanted.token is msgspec.UNSET:
            raise InvalidArgument("The body's field `token` is missing.")
        note = audit_note(self, caller.actor, "system-token.set")
        await set_system_token(self.store, wanted.token, audit=note)
        self.reply({"status": "success"})


class ActiveHandler(TokenHandler):
    """`/server/active`."""

    async def get(self) -> None:
        """The hosts of the living blob daemons, one for each."""
        (await self.calling_system()).require(INFO)
        described = (await self.store.cluster.refresh()).described
        living = [node for node in described.nodes if node.health in _LIVING]
        ips = [urlsplit(node.url).hostname or "" for node in living]
        self.reply({"status": "success", "ips": ips, "count": len(ips)})
