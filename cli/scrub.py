"""`ossctl scrub ...`: the rereading of every record on every disk."""

import asyncio
import os
from typing import Annotated, Any

import typer

from cli import api as http
from cli.api import Api
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import connect
from cli.output import (
    ExitCode,
    console,
    errors_as_exit_codes,
    human_bytes,
    human_span,
    print_json,
    print_table,
)
from cli.progress import tally
from osscore.errors import DeadlineExceeded

app = typer.Typer(no_args_is_help=True, help="The rereading of all disks.")
PATH = "/v1/maintenance/scrub"
POLL_S = 0.5
Node = Annotated[str, typer.Argument(help="Only the disks of this node; nothing: all.")]


@app.callback()
def group() -> None:
    """The rereading of all disks."""


@app.command()
def status(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Show how far it is, how fast, what it found, and how long ago disks were reread."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        found = http.run(connection, lambda api: api.json("GET", PATH))
        if as_json:
            print_json(found)
        else:
            _tell(found)


@app.command()
def now(
    node: Node = "",
    wait: Annotated[bool, typer.Option("--wait", help="Return when all is reread.")] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, help="Longest wait, seconds.")
    ] = 86400.0,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Begin to reread everything from the beginning, at the rate that is set."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        told = http.run(connection, lambda api: _order(api, "now", node))
        if wait:
            asked = {
                (each["node"], each["disk"]): each["began_at_ms"]
                for each in told
                if not each["error"]
            }
            http.run(
                connection,
                lambda api: _wait(api, asked, timeout_s=timeout_s, shown=not as_json),
            )
        _conclude(told, "was reread" if wait else "is reread from the beginning", as_json=as_json)


@app.command()
def pause(
    node: Node = "", directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False
) -> None:
    """Reread nothing until `resume`, but what readers found damaged."""
    _tell_all("pause", node, directory, endpoint, "is paused", as_json=as_json)


@app.command()
def resume(
    node: Node = "", directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False
) -> None:
    """Go on where it was paused."""
    _tell_all("resume", node, directory, endpoint, "goes on", as_json=as_json)


def _tell_all(
    action: str, node: str, directory: Dir, endpoint: Endpoint, done: str, *, as_json: bool
) -> None:
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        told = http.run(connection, lambda api: _order(api, action, node))
        _conclude(told, done, as_json=as_json)


async def _order(api: Api, action: str, node: str) -> list[dict[str, Any]]:
    answer = await api.json("POST", PATH, query={"action": action, "node": node})
    found: list[dict[str, Any]] = answer["disks"]
    return found


def _conclude(told: list[dict[str, Any]], done: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"disks": told})
    else:
        for each in told:
            said = f"was not told: {each['error']}" if each["error"] else done
            console().print(f"{each['node']} disk {each['disk']} {said}", markup=False)
    if any(each["error"] for each in told):
        raise SystemExit(int(ExitCode.FAILURE))


async def _wait(
    api: Api, asked: dict[tuple[str, int], int], *, timeout_s: float, shown: bool
) -> None:
    """Until every asked pass has ended; a disk that is gone is not waited for."""
    try:
        async with asyncio.timeout(timeout_s):
            with tally(shown=shown) as line:
                while asked := _left(asked, found := await api.json("GET", PATH)):
                    done, left = (found["totals"][f"{name}_bytes"] for name in ("done", "left"))
                    line.show(done, done + left, f"{human_bytes(left)} left")
                    await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        names = ", ".join(f"{name} disk {disk}" for name, disk in sorted(asked))
        raise DeadlineExceeded(f"not reread within {timeout_s:.0f} s: {names}") from error


def _left(asked: dict[tuple[str, int], int], found: dict[str, Any]) -> dict[tuple[str, int], int]:
    ended = {
        (each["node"], each["disk"]): each["scrub"]["last_began_at_ms"] if each["scrub"] else -1
        for each in found["disks"]
    }
    return {key: at_ms for key, at_ms in asked.items() if key in ended and ended[key] < at_ms}


def _tell(found: dict[str, Any]) -> None:
    rows = [
        [each["node"], str(each["disk"]), *(_row(each["scrub"]) or [each["why"]])]
        for each in found["disks"]
    ]
    width = 8
    heads = ["NODE", "DISK", "STATE", "REREAD", "LEFT", "RATE", "BAD", "OLDEST VERIFIED"]
    print_table(heads, [row + [""] * (width - len(row)) for row in rows])
    totals = found["totals"]
    if totals["eta_s"] is not None:
        console().print(f"about {human_span(totals['eta_s'])} left", markup=False)
    if totals["unreported"]:
        console().print(
            f"{totals['unreported']} bad shards are not reported to the catalog yet", markup=False
        )


def _row(scrub: dict[str, Any] | None) -> list[str]:
    if scrub is None:
        return []
    under_way = scrub["began_at_ms"] > 0
    state = "paused" if scrub["is_paused"] else "rereads" if under_way else "rests"
    ago_ms = scrub["oldest_verified_ms_ago"]
    oldest = "never" if ago_ms < 0 else f"{human_span(ago_ms / 1000)} ago"
    if ago_ms >= 0 and scrub["unverified_volumes"]:
        oldest += f", {scrub['unverified_volumes']} of {scrub['volumes']} volumes never"
    return [
        state,
        human_bytes(scrub["done_bytes"] if under_way else scrub["last_bytes"]),
        human_bytes(scrub["left_bytes"]),
        f"{human_bytes(scrub['bytes_per_s'])}/s" if under_way else "",
        str(scrub["bad"] if under_way else scrub["last_bad"]),
        oldest,
    ]
