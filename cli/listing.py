"""Commands that list: ls, versions."""

import os
import sys
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli import api as http
from cli.api import Api
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import connect
from cli.moments import At, which_version
from cli.output import (
    FAILURES_SHOWN,
    UsageError,
    console,
    errors_as_exit_codes,
    human_bytes,
    human_time,
    print_json,
    print_table,
)
from cli.target import Bucket, Name, Recursive, Target, parse_object, parse_prefix
from osscore.errors import NoSuchKey

PAGE = "1000"
NOW: Mapping[str, str] = MappingProxyType({})


def ls(
    prefix: Annotated[
        str, typer.Argument(help="Prefix, or oss://BUCKET/PREFIX; oss:// lists buckets.")
    ] = "",
    bucket: Bucket = None,
    long: Annotated[bool, typer.Option("--long", "-l", help="Size, time and version.")] = False,
    recursive: Recursive = False,
    at: At = None,
    versions: Annotated[bool, typer.Option("--versions", help="Every version.")] = False,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """List objects; folders end with '/'."""
    with errors_as_exit_codes():
        if at is not None and (versions or prefix in ("oss://", "s3://")):
            raise UsageError("--at lists the objects of one bucket, not versions or buckets")
        then = which_version(None, at)
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        if prefix in ("oss://", "s3://"):
            http.run(connection, lambda api: _list_buckets(api, as_json=as_json))
            return
        target = parse_prefix(prefix, bucket)
        if versions:
            http.run(connection, lambda api: _print_versions(api, target, None, as_json=as_json))
            return
        delimiter = "" if recursive else "/"

        async def work(api: Api) -> None:
            gone: list[dict[str, Any]] = []
            async for page in _pages(api, target.bucket, target.key, delimiter, then):
                _print_page(page, long=long, as_json=as_json)
                gone += page.get("gone", [])
            if not as_json:
                _tell_gone(gone)

        http.run(connection, work)


def _print_page(page: dict[str, Any], *, long: bool, as_json: bool) -> None:
    # Objects and folders in one order, as they would sort as names.
    entries = [(e["key"], e) for e in page["objects"]] + [(p, None) for p in page["prefixes"]]
    if as_json:
        entries += [(e["key"], e) for e in page.get("gone", [])]
    rows = []
    for key, entry in sorted(entries, key=lambda pair: pair[0].encode()):
        if as_json:
            print_json(entry or {"prefix": key})
        elif not long:
            console().print(key, markup=False)
        elif entry is None:
            rows.append(["", "", "", key])
        else:
            rows.append(
                [
                    human_bytes(entry["size"]),
                    human_time(entry["modified"]),
                    str(entry["version"]),
                    key,
                ]
            )
    if rows:
        print_table(["SIZE", "MODIFIED", "VERSION", "NAME"], rows)


def _tell_gone(gone: list[dict[str, Any]]) -> None:
    """On standard error: what is listed can be fetched."""
    for entry in gone[:FAILURES_SHOWN]:
        sys.stderr.write(f"ossctl: {entry['key']}: {why_gone(entry)}\n")
    if len(gone) > FAILURES_SHOWN:
        sys.stderr.write(f"ossctl: (and {len(gone) - FAILURES_SHOWN} more)\n")


def why_gone(entry: dict[str, Any]) -> str:
    """Why an object of a time cannot be fetched any more."""
    if entry["was"] == "unknown":
        return "what it was then cannot be told: too many of its versions were removed since"
    which = f"version {entry['version']}" if entry["version"] else "a version"
    return f"was {which} then, which was removed since: pruned, expired or deleted for good"


async def _pages(
    api: Api, bucket: str, prefix: str, delimiter: str, then: Mapping[str, str]
) -> AsyncIterator[dict[str, Any]]:
    after = ""
    while True:
        query = {"prefix": prefix, "delimiter": delimiter, "after": after, "limit": PAGE, **then}
        page = await api.json("GET", f"/buckets/{quote(bucket)}/objects", query=query)
        yield page
        if page["next"] is None:
            return
        after = page["next"]


async def objects_below(
    api: Api, bucket: str, prefix: str, then: Mapping[str, str] = NOW
) -> AsyncIterator[dict[str, Any]]:
    """Every object whose key begins with `prefix`, as the API lists it; with `at` in `then` also
    those that were there and are gone for good, which have a `was`."""
    async for page in _pages(api, bucket, prefix, "", then):
        for entry in [*page["objects"], *page.get("gone", [])]:
            yield entry


async def _list_buckets(api: Api, *, as_json: bool) -> None:
    found = await api.json("GET", "/buckets")
    for entry in found["buckets"]:
        if as_json:
            print_json(entry)
        else:
            console().print(f"oss://{entry['name']}", markup=False)


def versions(
    name: Name,
    bucket: Bucket = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Show every version of an object, newest first."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        target = parse_object(name, bucket)
        http.run(connection, lambda api: _print_versions(api, target, target.key, as_json=as_json))


async def _print_versions(api: Api, target: Target, key: str | None, *, as_json: bool) -> None:
    rows = []
    is_found = False
    async for entry in _versions(api, target, key):
        is_found = True
        if as_json:
            print_json(entry)
            continue
        size = "deleted" if entry["is_marker"] else human_bytes(entry["size"])
        rows.append(
            [
                str(entry["version"]),
                size,
                human_time(entry["modified"]),
                "current" if entry["is_latest"] else "",
                entry["key"],
            ]
        )
    if rows:
        print_table(["VERSION", "SIZE", "MODIFIED", "", "NAME"], rows)
    if key is not None and not is_found:
        raise NoSuchKey(f"there is no object {target}")


async def _versions(api: Api, target: Target, key: str | None) -> AsyncIterator[dict[str, Any]]:
    path = f"/buckets/{quote(target.bucket)}/versions"
    query = {"prefix": target.key, "limit": PAGE}
    if key is not None:
        path, query = f"{path}/{quote(key, safe='/')}", {"limit": PAGE}
    while True:
        page = await api.json("GET", path, query=query, headers={"Accept": "application/json"})
        for entry in page["versions"]:
            yield entry
        if page["next"] is None:
            return
        query["after"] = page["next"]
