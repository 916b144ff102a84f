"""The HTTP server behind `ossctl docs`."""

from urllib.parse import unquote

from cli.pages import STYLE, Pages
from ossd.clock import SystemClock
from ossd.http import Handler, serve
from ossd.metrics import Metrics
from ossd.server import Server, ServerSettings

POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'"


class StyleHandler(Handler):
    """`/style.css`."""

    async def get(self) -> None:
        """The one style of all pages."""
        self.set_header("Content-Type", "text/css; charset=utf-8")
        await self.reply_body(STYLE.encode())


class PageHandler(Handler):
    """Every page by the path of its file."""

    def initialize(self, pages: Pages) -> None:
        """Tornado's call with the route's arguments."""
        self.pages = pages

    async def get(self, path: str) -> None:
        """The page, or one that says that there is none."""
        wanted = unquote(path)
        page = self.pages.render(wanted)
        if page is None:
            self.set_status(404)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", POLICY)
        await self.reply_body((page or self.pages.missing(wanted)).encode())


def start(pages: Pages, host: str, port: int) -> Server:
    """Listen on the running loop. Raises StoreError if that cannot be done."""
    return serve(
        [(r"/style\.css", StyleHandler), (r"/(.*)", PageHandler, {"pages": pages})],
        settings=ServerSettings(role="docs", clock=SystemClock(), metrics=Metrics()),
        address=host,
        port=port,
    )
