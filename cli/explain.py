"""`ossctl object explain`: what is kept of an object, where, and what it would survive now."""

import os
from collections import Counter
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli import api as http
from cli.api import Api
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import connect
from cli.output import (
    console,
    errors_as_exit_codes,
    human_ago,
    human_bytes,
    human_time,
    print_json,
    print_table,
)
from cli.target import Bucket, Name, Target, parse_object

app = typer.Typer(no_args_is_help=True, help="Look into one object.")
STRIPES_SHOWN = 20
VERSIONS_SHOWN = 10


@app.command()
def explain(
    name: Name,
    version: Annotated[int | None, typer.Option(min=1, help="That version.")] = None,
    bucket: Bucket = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Show where every shard of an object lies, in which state, and what it would survive."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        target = parse_object(name, bucket)
        found = http.run(connection, lambda api: _ask(api, target, version))
        if as_json:
            print_json(found)
        else:
            _print(found)


async def _ask(api: Api, target: Target, version: int | None) -> Any:
    query = {"bucket": target.bucket}
    if version is not None:
        query["version"] = str(version)
    return await api.json("GET", f"/explain/{quote(target.key, safe='/')}", query=query)


def _print(found: dict[str, Any]) -> None:
    version = found["version"]
    console().print(
        f"{found['key']}, version {version['version']} of {len(found['versions'])}, "
        f"{human_time(version['modified'])}",
        markup=False,
        highlight=False,
    )
    rows = [["size", human_bytes(found["logical_bytes"])]]
    if found["is_inline"]:
        rows.append(["kept", "in the catalog, on every metanode"])
        rows.append(["survives now", "the loss of any minority of the metanodes"])
    else:
        rows += _facts(found)
    print_table(["", ""], rows)
    _print_chain(found["versions"], shown=version["version"])
    if found["stripes"]:
        _print_stripes(found["stripes"])


def _facts(found: dict[str, Any]) -> list[list[str]]:
    stripes = found["stripes"]
    shared = sum(stripe["references"] > 1 for stripe in stripes)
    packed = [stripe for stripe in stripes if stripe["compressed_bytes"] is not None]
    saved = sum(stripe["plain_bytes"] - stripe["compressed_bytes"] for stripe in packed)
    states = Counter(shard["state"] for stripe in stripes for shard in stripe["shards"])
    return [
        ["on disks", f"{human_bytes(found['stored_bytes'])} as {', '.join(found['profiles'])}"],
        ["stripes", f"{len(stripes)}, {shared} of them shared with other objects or versions"],
        ["compression", f"saves {human_bytes(saved)} in {len(packed)} stripes"],
        ["shards", ", ".join(f"{count} {state}" for state, count in sorted(states.items()))],
        ["last verified", _verified([s for stripe in stripes for s in stripe["shards"]])],
        [
            "survives now",
            survival(found["survives_nodes"], found["survives_disks"], found["survives_zones"]),
        ],
    ]


def survival(nodes: int, disks: int, zones: int | None = None) -> str:
    """What may be lost, for people. `zones` None: not all shards lie in zones."""
    if nodes < 0:
        return "nothing: it cannot be read now"
    said = f"the loss of {_any(nodes, 'node')}, or of {_any(disks, 'disk')}"
    return said if zones is None else f"{said}, or of {_any(zones, 'zone')}"


def _any(count: int, what: str) -> str:
    return {0: f"no {what}", 1: f"any one {what}"}.get(count, f"any {count} {what}s")


def _verified(shards: list[dict[str, Any]]) -> str:
    """How long ago all of them had been reread, for people."""
    times = [shard["verified"] for shard in shards]
    never = sum(each is None for each in times)
    oldest = min((each for each in times if each is not None), default=None)
    said = [] if oldest is None else [f"the longest ago {human_ago(oldest)}"]
    if never:
        said.append(f"{never} of {len(times)} shards not since they were written")
    return ", ".join(said)


def _print_chain(versions: list[dict[str, Any]], *, shown: int) -> None:
    """The newest versions and markers of the object."""
    if len(versions) < 2:
        return
    rows = [
        [
            str(each["version"]),
            "delete marker" if each["is_marker"] else human_bytes(each["size"]),
            human_time(each["modified"]),
            ", ".join(
                word
                for word, holds in (
                    ("current", each["is_latest"]),
                    ("shown here", each["version"] == shown),
                )
                if holds
            ),
        ]
        for each in versions[:VERSIONS_SHOWN]
    ]
    print_table(["VERSION", "SIZE", "MODIFIED", ""], rows)
    if len(versions) > VERSIONS_SHOWN:
        console().print(f"{len(versions) - VERSIONS_SHOWN} older ones: --json shows them")


def _print_stripes(stripes: list[dict[str, Any]]) -> None:
    rows = [
        [
            str(stripe["start"]),
            human_bytes(stripe["length"]),
            stripe["coding"],
            str(stripe["references"]),
            str(shard["index"]),
            shard["node"] or "unknown",
            shard["disk"][:8],
            shard["state"],
            human_ago(shard["verified"]) if shard["verified"] else "-",
        ]
        for stripe in stripes[:STRIPES_SHOWN]
        for shard in stripe["shards"]
    ]
    heads = ["START", "LENGTH", "CODING", "REFS", "SHARD", "NODE", "DISK", "STATE", "VERIFIED"]
    print_table(heads, rows)
    if len(stripes) > STRIPES_SHOWN:
        console().print(f"{len(stripes) - STRIPES_SHOWN} more stripes: --json shows all")
