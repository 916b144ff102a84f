"""`ossctl census`: the cluster's health by what disks hold."""

import asyncio
import os
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from cli import api as http
from cli.api import Api
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import connect
from cli.output import ExitCode, console, errors_as_exit_codes, print_json
from cli.progress import tally
from osscore.errors import DeadlineExceeded

PATH = "/v1/maintenance/census"
POLL_S = 0.5
Asked = dict[tuple[str, int], int]
"""(node, disk) -> when it was asked."""


def census(
    node: Annotated[str, typer.Argument(help="With --now: only the disks of this node.")] = "",
    now: Annotated[
        bool, typer.Option("--now", help="Compare every disk with the catalog first.")
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, help="Longest wait for that, seconds.")
    ] = 600.0,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Show which shards are missing, and which disks nobody vouches for."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        errors: list[str] = []
        if now:
            errors = http.run(
                connection, lambda api: _take(api, node, timeout_s=timeout_s, shown=not as_json)
            )
        found = http.run(connection, lambda api: api.json("GET", PATH))
        if as_json:
            print_json({**found, "errors": errors})
        else:
            for line in [*errors, *health_lines(found)]:
                console().print(line, markup=False)
        if errors:
            raise SystemExit(int(ExitCode.FAILURE))


def health_lines(found: dict[str, Any]) -> Iterable[str]:
    """The health for people, the worst last."""
    slots, disks = found["slots"], found["disks"]
    age = found["oldest_ms_ago"]
    oldest = "" if age is None else f", the oldest census {age / 1000:.0f} s ago"
    yield f"{disks['counted']} of {sum(disks.values())} disks counted{oldest}"
    yield f"{slots['present']} of {slots['expected']} shards are there, {slots['missing']} missing"
    if slots["surplus"]:
        yield f"{slots['surplus']} shards that nothing names wait to be removed"
    for count, stripes in found["stripes"]["by_missing"].items():
        yield f"{stripes} of {found['stripes']['total']} stripes wait for {count} shards"
    for each in found["uncounted"]:
        stripes = "an unknown number of" if each["stripes"] is None else each["stripes"]
        least = "at least " if each["more"] else ""
        yield (
            f"{each['node']} disk {each['disk']} is not counted: {each['why']};"
            f" {least}{stripes} stripes have shards there"
        )


async def _take(api: Api, node: str, *, timeout_s: float, shown: bool) -> list[str]:
    """Have a census taken and wait for it; answers the disks that could not be asked."""
    told = (await api.json("POST", PATH, query={"node": node}))["disks"]
    asked: Asked = {
        (each["node"], each["disk"]): each["asked_at_ms"] for each in told if not each["error"]
    }
    count = len(asked)
    try:
        async with asyncio.timeout(timeout_s):
            with tally(shown=shown) as line:
                while asked := _left(asked, await api.json("GET", "/v1/cluster")):
                    line.show(count - len(asked), count, f"{count - len(asked)} disks compared")
                    await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        names = ", ".join(f"{name} disk {disk}" for name, disk in sorted(asked))
        raise DeadlineExceeded(f"not compared within {timeout_s:.0f} s: {names}") from error
    return [
        f"{each['node']} disk {each['disk']} was not asked: {each['error']}"
        for each in told
        if each["error"]
    ]


def _left(asked: Asked, cluster: dict[str, Any]) -> Asked:
    """Those of which no census begun since was told. One that is gone is not waited for."""
    begun = {
        (blob["id"], disk["disk"]): disk["census"]["begun_at_ms"] if disk["census"] else -1
        for blob in cluster["blobs"]
        for disk in blob["disks"]
        if disk["state"] != "removed"
    }
    return {key: at_ms for key, at_ms in asked.items() if key in begun and begun[key] < at_ms}
