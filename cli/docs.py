"""`ossctl docs`: the documentation in a browser, from this machine alone."""

import asyncio
import sys
from typing import Annotated

import typer

from cli.output import console, errors_as_exit_codes

STOP_S = 0.2


def docs(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 6060,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the documentation over HTTP until interrupted."""
    with errors_as_exit_codes():
        try:
            asyncio.run(_serve(host, port))
        except KeyboardInterrupt:
            pass  # the way to end it


async def _serve(host: str, port: int) -> None:
    # A server is for this one verb; every other starts sooner without.
    from cli.docs_server import start
    from cli.pages import load

    server = start(load(), host, port)
    shown = f"[{host}]" if ":" in host else host
    console().print(f"documentation at http://{shown}:{server.port}/", markup=False)
    sys.stdout.flush()  # whoever reads a pipe waits for that line
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop(STOP_S)
