"""`ossctl node ...`: blob daemons and their disks."""

from typing import Annotated, Any

import typer

from cli.api import call
from cli.cluster import AsJson, Dir, Endpoint
from cli.output import (
    UsageError,
    console,
    errors_as_exit_codes,
    human_bytes,
    print_json,
    print_table,
)

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
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Have everything on a node or disk moved elsewhere; 'ossctl rebalance status' tells how far
    it is."""
    with errors_as_exit_codes():
        query = _query(name) | ({"cancel": "1"} if cancel else {})
        found = call(directory, endpoint, "POST", "/v1/maintenance/drain", query=query)
        if as_json:
            print_json(found)
        elif cancel:
            console().print(f"{name} is not emptied any more", markup=False)
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
