"""`GET /openapi.json`: the description, open to anybody."""

from typing import Any, ClassVar

import msgspec

from frontend.openapi.words import JSON, Node
from ossd.http import Handler


def openapi_routes(description: Node) -> list[Any]:
    """Routes for `serve`."""
    return [(r"/openapi\.json", DescriptionHandler, {"body": msgspec.json.encode(description)})]


class DescriptionHandler(Handler):
    """The description as it was encoded at start."""

    api: ClassVar[str] = "openapi"

    def initialize(self, body: bytes) -> None:
        """Take the encoded description."""
        self._description = body

    async def get(self) -> None:
        """JSON, which pages of other origins may read too: it tells nothing of anybody."""
        self.set_header("Content-Type", JSON)
        self.set_header("Access-Control-Allow-Origin", "*")
        await self.reply_body(self._description)
