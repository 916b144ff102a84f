"""Commands on buckets."""

import os
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli import api as http
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import connect
from cli.durations import parse_life, shown_duration
from cli.output import (
    UsageError,
    console,
    errors_as_exit_codes,
    human_bytes,
    print_json,
    print_table,
)
from cli.sizes import parse_size
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
        query = {"profile": checked_profile(profile)} if profile is not None else {}
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
            for bucket in found:
                print_json(bucket)
            return
        print_table(
            ["BUCKET", "PROFILE", "KEEPS", "EXPIRES", "VERSIONS", "USED", "QUOTA"],
            [
                [
                    b["name"],
                    b.get("profile") or "default",
                    _keeps(b),
                    ", ".join(_lifetimes(b)) or "never",
                    str(b["used_versions"]),
                    human_bytes(b["used_bytes"]),
                    _quota(b),
                ]
                for b in found
            ],
        )


@app.command()
def stat(
    name: Name, directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False
) -> None:
    """Show what a bucket holds and what it is set to."""
    with errors_as_exit_codes():
        bucket = parse_bucket(name)
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        shown = http.run(connection, lambda api: api.json("GET", f"/buckets/{quote(bucket)}"))
        if as_json:
            print_json(shown)
            return
        for word, said in _described(shown):
            console().print(f"{word + ':':22}{said}", markup=False)


@app.command(name="set")
def set_(
    name: Name,
    keep_versions: Annotated[
        int | None,
        typer.Option(min=0, help="Keep so many versions of each object from now on; 0: all."),
    ] = None,
    quota: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Hold at most this, old versions included; 0: any."),
    ] = None,
    quota_versions: Annotated[
        int | None, typer.Option(min=0, help="Hold at most so many versions; 0: any.")
    ] = None,
    expire_after: Annotated[
        str | None,
        typer.Option(metavar="30d", help="Objects get a delete marker so long after; off: never."),
    ] = None,
    expire_noncurrent_after: Annotated[
        str | None,
        typer.Option(
            metavar="30d", help="Old versions go for good so long after a newer one; off: never."
        ),
    ] = None,
    abort_uploads_after: Annotated[
        str | None,
        typer.Option(
            metavar="7d", help="Uploads not gone on with are given up; off: as the store is set."
        ),
    ] = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Change a bucket's settings."""
    with errors_as_exit_codes():
        asked = {
            "keep_versions": keep_versions,
            "quota_bytes": None if quota is None else parse_size(quota),
            "quota_versions": quota_versions,
            "expire_after_s": _life(expire_after),
            "expire_noncurrent_after_s": _life(expire_noncurrent_after),
            "abort_uploads_after_s": _life(abort_uploads_after),
        }
        query = {setting: str(value) for setting, value in asked.items() if value is not None}
        if not query:
            raise UsageError("say what to change, such as --keep-versions N, --expire-after 30d")
        bucket = parse_bucket(name)
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        path = f"/buckets/{quote(bucket)}"
        shown = http.run(connection, lambda api: api.json("PATCH", path, query=query))
        if as_json:
            print_json(shown)
            return
        said = [f"bucket {bucket} keeps {_kept(shown['keep_versions'])}", f"quota {_quota(shown)}"]
        if _lifetimes(shown):
            said.append(f"gone after: {', '.join(_lifetimes(shown))}")
        console().print(", ".join(said), markup=False)


def _life(asked: str | None) -> int | None:
    return None if asked is None else parse_life(asked)


def _lifetimes(bucket: dict[str, Any]) -> list[str]:
    """What goes by time, in words; what does not is left out."""
    words = {
        "expire_after_s": "objects {}",
        "expire_noncurrent_after_s": "old versions {}",
        "abort_uploads_after_s": "uploads {}",
    }
    return [
        said.format(shown_duration(bucket[name])) for name, said in words.items() if bucket[name]
    ]


def _described(bucket: dict[str, Any]) -> list[tuple[str, str]]:
    def after(name: str, otherwise: str) -> str:
        return shown_duration(bucket[name]) if bucket[name] else otherwise

    return [
        ("bucket", bucket["name"]),
        ("created", bucket["created"]),
        ("profile", bucket["profile"] or "default"),
        ("versions", str(bucket["used_versions"])),
        ("used", human_bytes(bucket["used_bytes"])),
        ("quota", _quota(bucket)),
        ("keeps", _kept(bucket["keep_versions"])),
        ("objects expire", after("expire_after_s", "never")),
        ("old versions expire", after("expire_noncurrent_after_s", "never")),
        ("uploads are given up", after("abort_uploads_after_s", "as the store is set")),
    ]


@app.command(name="set-profile")
def set_profile(
    name: Name,
    profile: Annotated[str, typer.Argument(help="Redundancy k+m, such as 4+2.")],
    reencode: Annotated[
        bool, typer.Option("--reencode", help="Also of what is there, in the background.")
    ] = False,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Change the redundancy of what is written, and with --reencode of what is there."""
    with errors_as_exit_codes():
        bucket, wanted = parse_bucket(name), checked_profile(profile)
        query = {"profile": wanted} | ({"reencode": "1"} if reencode else {})
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        path = f"/buckets/{quote(bucket)}"
        shown = http.run(connection, lambda api: api.json("PATCH", path, query=query))
        if as_json:
            print_json(shown)
            return
        console().print(f"bucket {bucket} is written as {wanted} from now on", markup=False)
        console().print(
            f"what is there is encoded anew: `ossctl reencode status {bucket}`"
            if reencode
            else "what is there stays as it is; --reencode encodes it anew",
            markup=False,
        )


def _keeps(bucket: dict[str, Any]) -> str:
    return str(bucket.get("keep_versions") or "all")


def _quota(bucket: dict[str, Any]) -> str:
    bounds = []
    if bucket["quota_bytes"]:
        bounds.append(human_bytes(bucket["quota_bytes"]))
    if bucket["quota_versions"]:
        bounds.append(f"{bucket['quota_versions']} versions")
    return ", ".join(bounds) or "none"


def _kept(count: int) -> str:
    if not count:
        return "every version"
    return f"the newest {count} versions of each object"


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
