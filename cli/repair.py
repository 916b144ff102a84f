"""`ossctl repair ...`: what is damaged, how its repair gets on, and work on shards by hand."""

import asyncio
import os
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from cli import api as http
from cli.api import Api
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import connect
from cli.output import ExitCode, console, errors_as_exit_codes, human_bytes, print_json, print_table
from cli.progress import Tally, tally
from cli.steps import steps
from cli.work import change, disk_lines, progress_lines
from osscore.errors import StoreError

app = typer.Typer(no_args_is_help=True, help="Work on the shards of the store.")
COUNTS = ("examined", "young", "kept", "shared", "removed")


@app.callback()
def group() -> None:
    """Work on the shards of the store."""


@app.command()
def status(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Show what is damaged and how its repair gets on."""
    with errors_as_exit_codes():
        found = http.call(directory, endpoint, "GET", "/v1/maintenance/repair")
        if as_json:
            print_json(found)
            return
        for line in _status_lines(found):
            console().print(line, markup=False)


@app.command()
def pause(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Stop repair until it is resumed."""
    change("repair", "pause", directory, endpoint, as_json=as_json)


@app.command()
def resume(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Go on repairing."""
    change("repair", "resume", directory, endpoint, as_json=as_json)


@app.command()
def force(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Give up every disk that is silent now, however many there are, and rebuild what they held.

    For when 'ossctl repair status' says that too many are silent at once, and they will not be
    back. One that is heard of again counts again.
    """
    with errors_as_exit_codes():
        found = http.call(directory, endpoint, "POST", "/v1/maintenance/repair/force")
        if as_json:
            print_json(found)
            return
        lines = [*disk_lines(found["lost"], "is given up")] or ["no disk is silent"]
        for line in lines:
            console().print(line, markup=False)


@app.command()
def orphans(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Remove shards that belong to nothing, on every node, now.

    Nothing younger than the grace is touched, nor what any object needs.
    """
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        found = http.run(
            connection, lambda api: _sweep_all(api, dry_run=dry_run, shown=not as_json)
        )
        if as_json:
            print_json({"dry_run": dry_run, "disks": found})
        else:
            _tell(found, dry_run=dry_run)
        if any(disk["error"] for disk in found):
            raise SystemExit(int(ExitCode.FAILURE))


async def _sweep_all(api: Api, *, dry_run: bool, shown: bool) -> list[dict[str, Any]]:
    cluster = await api.json("GET", "/v1/cluster")
    disks = [
        {"node": blob["id"], "disk": disk["disk"], "error": ""}
        | {name: {"shards": 0, "bytes": 0} for name in COUNTS}
        for blob in cluster["blobs"]
        for disk in blob["disks"]
        if disk["state"] != "removed"
    ]
    with tally(shown=shown) as line:
        await asyncio.gather(
            *(_sweep(api, disk, dry_run=dry_run, line=line, disks=disks) for disk in disks)
        )
    return disks


async def _sweep(
    api: Api, disk: dict[str, Any], *, dry_run: bool, line: Tally, disks: list[dict[str, Any]]
) -> None:
    """One disk to its end; what stops it is told beside the others' counts."""
    query = {"disk": str(disk["disk"]), "dry_run": str(int(dry_run))}
    try:
        async for page in steps(api, "/v1/maintenance/orphans", query):
            for name in COUNTS:
                for unit in ("shards", "bytes"):
                    disk[name][unit] += page[name][unit]
            examined = sum(each["examined"]["shards"] for each in disks)
            line.show(examined, None, f"{examined} shards examined")
    except StoreError as error:
        disk["error"] = error.message


def _status_lines(found: dict[str, Any]) -> Iterable[str]:
    if found["alarm"]:
        yield f"alarm: {found['alarm']}"
    stripes = found["stripes"]
    for missing, count in stripes["by_missing"].items():
        so_far = "" if stripes["surveyed"] else " so far"
        yield f"{count} stripes miss {missing} shards{so_far}"
    if stripes["unreadable"]:
        yield f"{stripes['unreadable']} of these have too few shards left to be rebuilt"
    if not stripes["by_missing"]:
        yield "no stripe misses a shard" if stripes["surveyed"] else "not all was looked at yet"
    objects = found["objects"]
    for missing, count in objects["by_missing"].items():
        at_least = "at least " if objects["partial"] else ""
        yield f"{at_least}{count} versions of objects have stripes that miss {missing} shards"
    for disk in found["lost"]:
        left = disk_lines([disk], "is lost") if disk["shards"] else [_rebuilt(disk)]
        yield from left
    yield from progress_lines(found)


def _rebuilt(disk: dict[str, Any]) -> str:
    name = f"{disk['node']}/{disk['disk']}"
    return f"{name} is lost, and all it held is elsewhere by now"


def _tell(disks: list[dict[str, Any]], *, dry_run: bool) -> None:
    rows = [
        [each["node"], str(each["disk"]), *(_count(each[name]) for name in COUNTS)]
        for each in disks
    ]
    removed = "WOULD REMOVE" if dry_run else "REMOVED"
    print_table(["NODE", "DISK", "EXAMINED", "YOUNG", "KEPT", "OF THESE SHARED", removed], rows)
    for each in disks:
        if each["error"]:
            console().print(f"{each['node']} disk {each['disk']}: {each['error']}", markup=False)


def _count(count: dict[str, int]) -> str:
    return f"{count['shards']} ({human_bytes(count['bytes'])})" if count["shards"] else "0"
