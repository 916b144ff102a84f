"""`ossctl meta status|add|remove|replace|transfer-leader`: which metanodes count, who leads."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli import api as http
from cli.archived import archive_line
from cli.cluster import AsJson, Dir, Endpoint
from cli.output import console, errors_as_exit_codes, print_json, print_table

MEMBERS = "/v1/meta/members"
Name = Annotated[str, typer.Argument(help="A metanode's id.")]


def status(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """The metanodes as their leader sees them: who counts, who joins, how closely they follow, and
    how far the catalog is archived at blob daemons."""
    with errors_as_exit_codes():
        found = http.call(directory, endpoint, "GET", MEMBERS)
        found["archive"] = http.call(directory, endpoint, "GET", "/v1/cluster")["archive"]
        _show(found, as_json=as_json)


def add(
    name: Name,
    replaces: Annotated[
        str, typer.Option(help="The metanode whose place it takes, dead or alive.")
    ] = "",
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Count a metanode that was started with the cluster secret and one address (--peers)."""
    with errors_as_exit_codes():
        send = {"id": name, "replaces": replaces}
        _show(http.call(directory, endpoint, "POST", MEMBERS, send=send), as_json=as_json)


def replace(
    old: Annotated[str, typer.Argument(help="The metanode that goes, dead or alive.")],
    new: Annotated[str, typer.Argument(help="The one that has joined.")],
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Count NEW in the place of OLD. Where it broke off, the same command goes on."""
    add(new, old, directory, endpoint, as_json)


def remove(
    name: Name, directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False
) -> None:
    """Count a metanode no more, for good. Refused if those left would be no majority."""
    with errors_as_exit_codes():
        path = f"{MEMBERS}/{quote(name, safe='')}"
        _show(http.call(directory, endpoint, "DELETE", path), as_json=as_json)


def transfer_leader(
    to: Annotated[str, typer.Argument(help="Who shall lead; else whoever is best placed.")] = "",
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Let another metanode lead, for instance before this one's machine is stopped."""
    with errors_as_exit_codes():
        found = http.call(directory, endpoint, "POST", "/v1/meta/lead", send={"to": to})
        _show(found, as_json=as_json)


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [
        [
            each["id"],
            each["state"],
            str(each["entries_behind"]),
            f"{each['silent_ms'] / 1000:.1f} s",
            each["url"],
        ]
        for each in found["metanodes"]
    ]
    print_table(["METANODE", "STATE", "ENTRIES BEHIND", "SILENT FOR", "URL"], rows)
    if any(each["state"] == "joining" for each in found["metanodes"]):
        console().print("one that joins is counted by 'ossctl meta add ID'", markup=False)
    if line := archive_line(found.get("archive")):
        console().print(line, markup=False)
