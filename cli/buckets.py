"""Commands on buckets."""

import os
from typing import Annotated
from urllib.parse import quote

import typer

from cli import api as http
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import connect
from cli.output import console, errors_as_exit_codes, print_json, print_table
from cli.target import checked_profile, parse_bucket

app = typer.Typer(no_args_is_help=True, help="Create, list and remove buckets.")
Name = Annotated[str, typer.Argument(help="3 to 63 of a-z, 0-9, '-', '.'.")]


@app.command()
def create(
    name: Name,
    profile: Annotated[str | None, typer.Option(help="Redundancy k+m, such as 4+2.")] = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Make an empty bucket."""
    with errors_as_exit_codes():
        query = {"profile": checked_profile(profile)} if profile else {}
        _change("PUT", name, query, "created", directory, endpoint, as_json)


@app.command()
def rm(
    name: Name, directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False
) -> None:
    """Remove an empty bucket."""
    with errors_as_exit_codes():
        _change("DELETE", name, {}, "removed", directory, endpoint, as_json)


@app.command()
def ls(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """List buckets."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        found = http.run(connection, lambda api: api.json("GET", "/buckets"))["buckets"]
        if as_json:
            print_json(found)
            return
        print_table(
            ["BUCKET", "PROFILE"], [[b["name"], b.get("profile") or "default"] for b in found]
        )


def _change(
    method: str,
    name: str,
    query: dict[str, str],
    done: str,
    directory: Dir,
    endpoint: Endpoint,
    as_json: bool,
) -> None:
    bucket = parse_bucket(name)
    connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
    path = f"/buckets/{quote(bucket)}"
    http.run(connection, lambda api: api.json(method, path, query=query))
    if as_json:
        print_json({"bucket": bucket, done: True})
    else:
        console().print(f"bucket {bucket} {done}", markup=False)
