"""`ossctl docs`: the documentation in a browser, from this machine alone."""

import asyncio
import sys
from typing import Annotated
from urllib.parse import unquote

import typer

from cli.output import console, errors_as_exit_codes
from cli.pages import STYLE, Pages, load
from ossd.clock import SystemClock
from ossd.http import Handler, serve
from ossd.metrics import Metrics
from ossd.server import Server, ServerSettings

POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'"
STOP_S = 0.2


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


def docs(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 6060,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the documentation over HTTP until interrupted."""
    with errors_as_exit_codes():
        try:
            asyncio.run(_serve(load(), host, port))
        except KeyboardInterrupt:
            pass  # the way to end it


async def _serve(pages: Pages, host: str, port: int) -> None:
    server = start(pages, host, port)
    shown = f"[{host}]" if ":" in host else host
    console().print(f"documentation at http://{shown}:{server.port}/", markup=False)
    sys.stdout.flush()  # whoever reads a pipe waits for that line
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop(STOP_S)


def start(pages: Pages, host: str, port: int) -> Server:
    """Listen on the running loop. Raises StoreError if that cannot be done."""
    return serve(
        [(r"/style\.css", StyleHandler), (r"/(.*)", PageHandler, {"pages": pages})],
        settings=ServerSettings(role="docs", clock=SystemClock(), metrics=Metrics()),
        address=host,
        port=port,
    )
