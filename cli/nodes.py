"""`ossctl node ...`: blob daemons and their disks."""

import asyncio
import os
from typing import Annotated, Any

import typer

from cli import api as http
from cli.api import Api, call
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import connect
from cli.output import (
    UsageError,
    console,
    errors_as_exit_codes,
    human_bytes,
    print_json,
    print_table,
)
from cli.progress import tally
from osscore.errors import DeadlineExceeded

POLL_S = 0.5
app = typer.Typer(no_args_is_help=True, help="Blob daemons and their disks.")
Name = Annotated[str, typer.Argument(metavar="NODE[/DISK]", help="As 'ossctl node ls' names it.")]


@app.callback()
def group() -> None:
    """Blob daemons and their disks."""


@app.command()
def ls(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """List blob daemons with their disks and what lies there."""
    with errors_as_exit_codes():
        cluster = call(directory, endpoint, "GET", "/v1/cluster")
        nodes = [
            {**blob, "disks": disks}
            for blob in cluster["blobs"]
            if (disks := [disk for disk in blob["disks"] if disk["state"] != "removed"])
        ]
        if as_json:
            print_json({"nodes": nodes})
            return
        rows = [_row(node, disk) for node in nodes for disk in node["disks"]]
        print_table(["NODE", "DISK", "ZONE", "STATE", "SHARDS", "USED", "FREE", "CAPACITY"], rows)


@app.command()
def drain(
    name: Name,
    cancel: Annotated[bool, typer.Option("--cancel", help="No longer.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it is empty.")] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0, help="Seconds that --wait waits at most.")
    ] = 86_400.0,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Have everything on a node or disk moved elsewhere; 'ossctl rebalance status' tells how far
    it is. It goes on by itself, also when --wait is interrupted."""
    with errors_as_exit_codes():
        if cancel and wait:
            raise UsageError("--cancel is done at once: there is nothing to wait for")
        query = _query(name) | ({"cancel": "1"} if cancel else {})
        found = call(directory, endpoint, "POST", "/v1/maintenance/drain", query=query)
        if wait:
            connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
            disks = {disk["disk"] for disk in found["disks"]}
            http.run(
                connection,
                lambda api: _wait_empty(api, disks, timeout_s=timeout_s, shown=not as_json),
            )
        if as_json:
            print_json(found)
        elif cancel:
            console().print(f"{name} is not emptied any more", markup=False)
        elif wait:
            console().print(f"{name} is empty; 'ossctl node remove {name} --yes' takes it out")
        else:
            console().print(f"{name} is being emptied: {_load(found)}", markup=False)


@app.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Really do it; else only say.")] = False,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Take an empty node or disk out of the cluster, for good."""
    with errors_as_exit_codes():
        query = _query(name) | ({} if yes else {"dry_run": "1"})
        found = call(directory, endpoint, "POST", "/v1/maintenance/remove", query=query)
        if as_json:
            print_json(found)
            return
        numbers = ", ".join(str(disk["disk"]) for disk in found["disks"])
        said = f"{found['node']}: disk {numbers} {'removed' if yes else 'is empty'}"
        console().print(said if yes else f"{said}; --yes removes it", markup=False)
        if yes:
            console().print("a daemon without other disks may be stopped now, and its data deleted")


async def _wait_empty(api: Api, disks: set[int], *, timeout_s: float, shown: bool) -> None:
    """Until no shard is on these disks. Raises DeadlineExceeded."""
    total_bytes = 0
    try:
        async with asyncio.timeout(timeout_s):
            with tally(shown=shown) as line:
                while left := _left_on(disks, await api.json("GET", "/v1/cluster")):
                    shards, left_bytes = left
                    total_bytes = max(total_bytes, left_bytes)
                    said = f"{shards} shards, {human_bytes(left_bytes)} left"
                    line.show(total_bytes - left_bytes, total_bytes, said)
                    await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        raise DeadlineExceeded(f"not empty within {timeout_s:.0f} s; it goes on") from error


def _left_on(disks: set[int], cluster: dict[str, Any]) -> tuple[int, int] | None:
    """Shards and their bytes on these disks; None: none."""
    found = [d for blob in cluster["blobs"] for d in blob["disks"] if d["disk"] in disks]
    shards, size_bytes = (sum(disk[unit] for disk in found) for unit in ("shards", "bytes"))
    return (shards, size_bytes) if shards else None


def _query(name: str) -> dict[str, str]:
    """NODE or NODE/DISK. Raises UsageError."""
    node, slash, disk = name.rpartition("/")
    if not slash:
        return {"node": name}
    if not node or not disk.isdecimal():
        raise UsageError(f"a disk is named NODE/NUMBER, not {name!r}")
    return {"node": node, "disk": disk}


def _row(node: dict[str, Any], disk: dict[str, Any]) -> list[str]:
    state = "silent" if disk["silent"] else node["state"]
    if disk["state"] != "in":
        state = f"{disk['state']}, {state}"
    if disk["problem"] and not disk["silent"]:
        state += f", {disk['problem']}"
    return [
        node["id"],
        str(disk["disk"]),
        node["zone"],
        state,
        str(disk["shards"]),
        human_bytes(disk["bytes"]),
        human_bytes(disk["free_bytes"]),
        human_bytes(disk["capacity_bytes"]),
    ]


def _load(found: dict[str, Any]) -> str:
    shards = sum(disk["shards"] for disk in found["disks"])
    size_bytes = sum(disk["bytes"] for disk in found["disks"])
    return f"{shards} shards, {human_bytes(size_bytes)}"
