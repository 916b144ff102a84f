"""Commands that keep the store tidy: prune."""

import os
from typing import Annotated, Any

import typer

from cli import api as http
from cli.api import Api
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import connect
from cli.output import console, errors_as_exit_codes, human_bytes, print_json, print_table
from cli.progress import tally
from cli.steps import steps
from cli.target import Bucket, Recursive, Target, parse_object, parse_prefix

Keep = Annotated[int, typer.Option("--keep", min=1, help="Versions of each object that stay.")]
Yes = Annotated[bool, typer.Option("--yes", help="Really do it; else only say what would go.")]
SHOWN = 20


def prune(
    name: Annotated[
        str, typer.Argument(help="Object, or oss://BUCKET; nothing: the whole bucket.")
    ] = "",
    keep: Keep = 5,
    yes: Yes = False,
    bucket: Bucket = None,
    recursive: Recursive = False,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Keep the newest versions of objects and remove older ones for good."""
    with errors_as_exit_codes():
        target = parse_prefix(name, bucket)
        if target.key and not recursive:
            target = parse_object(name, bucket)
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        query = {"bucket": target.bucket, "keep": str(keep)}
        query["prefix" if recursive or not target.key else "key"] = target.key
        if not yes:
            query["dry_run"] = "1"
        total = http.run(connection, lambda api: _prune(api, query, shown=not as_json))
        if as_json:
            print_json({"bucket": target.bucket, "keep": keep, "dry_run": not yes, **total})
        else:
            _tell(target, keep, total, is_done=yes)


async def _prune(api: Api, query: dict[str, str], *, shown: bool) -> dict[str, Any]:
    by_key: dict[str, dict[str, Any]] = {}
    visited = 0
    with tally(shown=shown) as line:
        async for step in steps(api, "/v1/maintenance/prune", query):
            visited += step["visited"]
            for found in step["objects"]:
                _add(by_key, found)
            line.show(visited, None, f"{visited} objects looked at")
    found = list(by_key.values())
    sums = {name: sum(each[name] for each in found) for name in ("versions", "markers", "bytes")}
    return {**sums, "objects": found}


def _add(by_key: dict[str, dict[str, Any]], found: dict[str, Any]) -> None:
    """One key may take several steps."""
    if not found["versions"] + found["markers"]:
        return
    known = by_key.setdefault(
        found["key"], {"key": found["key"], "versions": 0, "markers": 0, "bytes": 0}
    )
    for name in ("versions", "markers", "bytes"):
        known[name] += found[name]


def _tell(target: Target, keep: int, total: dict[str, Any], *, is_done: bool) -> None:
    objects = total["objects"]
    where = f"oss://{target.bucket}/{target.key}"
    if not objects:
        console().print(f"{where}: nothing is older than the newest {keep}", markup=False)
        return
    rows = [
        [str(each["versions"]), str(each["markers"]), human_bytes(each["bytes"]), each["key"]]
        for each in objects[:SHOWN]
    ]
    print_table(["VERSIONS", "MARKERS", "SIZE", "NAME"], rows)
    if len(objects) > SHOWN:
        console().print(f"(and {len(objects) - SHOWN} more objects)", markup=False)
    verb = "removed" if is_done else "would remove"
    said = (
        f"{verb} {total['versions']} versions and {total['markers']} delete markers "
        f"of {len(objects)} objects, {human_bytes(total['bytes'])} as users see it"
    )
    console().print(said if is_done else f"{said}; --yes does it", markup=False)
