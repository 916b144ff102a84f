"""`/upload/token` and `/download/token`: a token for one content."""

from typing import ClassVar

from frontend import tickets
from frontend.serving import query
from frontend.tickets import parse_sha256
from frontend.tokens import arguments
from frontend.tokens.handler import TokenFormHandler
from raftmeta.access import DOWNLOAD, UPLOAD


class MintHandler(TokenFormHandler):
    """One kind of token. Tokens of one kind are good for nothing else."""

    kind: ClassVar[int]
    scope: ClassVar[str]

    async def act(self) -> None:
        """`hash`, and optionally `ttl` in seconds and `max_size` in bytes."""
        caller = await self.calling_system()
        sha256 = parse_sha256(query.text(self.arguments, "hash"))
        caller.require(self.scope, sha256)
        minted = await self.surface.tickets.mint(
            self.kind,
            sha256,
            ttl_s=arguments.ttl_s(self.arguments),
            max_size_bytes=arguments.max_size_bytes(self.arguments),
        )
        self.reply({"token": minted.text})


class UploadTokenHandler(MintHandler):
    """`/upload/token`."""

    kind = tickets.UPLOAD
    scope = UPLOAD


class DownloadTokenHandler(MintHandler):
    """`/download/token`."""

    kind = tickets.DOWNLOAD
    scope = DOWNLOAD
