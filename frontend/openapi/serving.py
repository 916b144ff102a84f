"""`GET /openapi.json`: the description, open to anybody."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from frontend.openapi.words import JSON
from ossd.http import Handler


class Written:
    """The description as JSON, written when it is first asked for.

    Few frontends are ever asked, and it takes a tenth of a second of CPU: in a thread, so that
    other requests go on.
    """

    def __init__(self, write: Callable[[], bytes]) -> None:
        self._write = write
        self._writing: asyncio.Task[bytes] | None = None

    async def body(self) -> bytes:
        """The JSON; whoever asks meanwhile waits for the same."""
        if self._writing is None:
            self._writing = asyncio.create_task(asyncio.to_thread(self._write), name="openapi")
        # Shielded: others wait too, and one of them may leave.
        return await asyncio.shield(self._writing)


def openapi_routes(write: Callable[[], bytes]) -> list[Any]:
    """Routes for `serve`; `write` gives the description as JSON and is called at most once."""
    return [(r"/openapi\.json", DescriptionHandler, {"written": Written(write)})]


class DescriptionHandler(Handler):
    """The description of everything that is served here."""

    api: ClassVar[str] = "openapi"

    def initialize(self, written: Written) -> None:
        """Tornado's call with the route's arguments."""
        self._written = written

    async def get(self) -> None:
        """JSON, which pages of other origins may read too: it tells nothing of anybody."""
        body = await self._written.body()
        self.set_header("Content-Type", JSON)
        self.set_header("Access-Control-Allow-Origin", "*")
        await self.reply_body(body)
