"""Commands on access keys. A secret is printed once, when it is made."""

import os
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli import local_cluster
from cli.api import call
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import cluster_folder, connect
from cli.durations import parse_duration
from cli.output import (
    UsageError,
    console,
    errors_as_exit_codes,
    facts,
    human_time,
    print_json,
    print_table,
    stderr,
)

app = typer.Typer(no_args_is_help=True, help="Access keys: who may do what.")
Id = Annotated[str, typer.Argument(help="Id of an access key.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", "-s", help="upload, download, info, delete or admin; repeat it."),
]
Buckets = Annotated[
    list[str] | None, typer.Option("--bucket", "-b", help="Only this bucket; repeat it.")
]
Prefixes = Annotated[
    list[str] | None,
    typer.Option("--prefix", "-p", help="Only names that begin like this; repeat it."),
]
Note = Annotated[str | None, typer.Option(help="What it is for.")]
OVERLAP_DEFAULT = "24h"
NO_ID = "an access key has an id"


@app.command()
def create(
    scopes: Scopes = None,
    buckets: Buckets = None,
    prefixes: Prefixes = None,
    expires: Annotated[str | None, typer.Option(help="How long it works, such as 30d.")] = None,
    note: Note = None,
    access_key: Annotated[str | None, typer.Option("--id", help="Its id; made up if none.")] = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Make an access key and print its secret, this once."""
    with errors_as_exit_codes():
        if not scopes:
            raise UsageError("say what it may: --scope upload, download, info, delete or admin")
        if access_key == "":
            raise UsageError(NO_ID)
        body: dict[str, Any] = {"scopes": scopes, "buckets": buckets, "prefixes": prefixes}
        body |= {"note": note, "access_key": access_key}
        body["expires_s"] = None if expires is None else parse_duration(expires)
        # Not by truth: 0 s is a time, if one that is refused, and no time at all means never.
        given = {name: value for name, value in body.items() if value is not None}
        made = call(directory, endpoint, "POST", "/v1/keys", send=given)
        _print_secret(made, as_json=as_json)


@app.command()
def ls(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """List access keys, those that do not work too."""
    with errors_as_exit_codes():
        rows = []
        after: str | None = ""
        while after is not None:
            query = {"after": after}
            page = call(directory, endpoint, "GET", "/v1/keys", query=query)
            for key in page["keys"]:
                if as_json:
                    print_json(key)
                    continue
                rows.append(
                    [
                        key["access_key"],
                        ",".join(key["scopes"]),
                        _limits(key),
                        _time(key["expires_at"]) or "never",
                        "disabled" if key["disabled"] else "",
                        key["note"],
                    ]
                )
            after = page["next"]
        if not as_json:
            print_table(["KEY", "SCOPES", "LIMITED TO", "EXPIRES", "", "NOTE"], rows)


@app.command()
def show(
    access_key: Id, directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False
) -> None:
    """Show an access key, without its secret."""
    with errors_as_exit_codes():
        _print_key(call(directory, endpoint, "GET", _path(access_key)), as_json=as_json)


@app.command(name="set")
def set_(
    access_key: Id,
    scopes: Scopes = None,
    buckets: Buckets = None,
    prefixes: Prefixes = None,
    unlimited: Annotated[
        bool, typer.Option("--unlimited", help="All buckets and all names.")
    ] = False,
    expires: Annotated[
        str | None, typer.Option(help="How long it works from now, such as 30d, or never.")
    ] = None,
    note: Note = None,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Whether it works.")
    ] = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Change what an access key may; it counts at once."""
    with errors_as_exit_codes():
        if unlimited and (buckets or prefixes):
            raise UsageError("--unlimited does not go together with --bucket and --prefix")
        body: dict[str, Any] = {"scopes": scopes, "note": note, "disabled": disabled}
        body |= {"buckets": [] if unlimited else buckets, "prefixes": [] if unlimited else prefixes}
        given = {name: value for name, value in body.items() if value is not None}
        if expires == "never":
            given["expires_at"] = None
        elif expires is not None:
            given["expires_s"] = parse_duration(expires)
        if not given:
            raise UsageError("say what to change; see 'ossctl key set --help'")
        changed = call(directory, endpoint, "PATCH", _path(access_key), send=given)
        _print_key(changed, as_json=as_json)


@app.command()
def rotate(
    access_key: Id,
    overlap: Annotated[
        str, typer.Option(help="How long the former secret works on; 0: not at all.")
    ] = OVERLAP_DEFAULT,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Give an access key a new secret and print it, this once."""
    with errors_as_exit_codes():
        path = _path(access_key) + "/rotate"
        body = {"overlap_s": parse_duration(overlap)}
        made = call(directory, endpoint, "POST", path, send=body)
        _print_secret(made, as_json=as_json)
        if remember(directory, endpoint, access_key=access_key, secret_key=made["secret_key"]):
            stderr().print("cluster.json holds the new secret", markup=False)


@app.command()
def revoke(
    access_key: Id, directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False
) -> None:
    """Remove an access key; it and the links it made are refused at once."""
    with errors_as_exit_codes():
        call(directory, endpoint, "DELETE", _path(access_key))
        if as_json:
            print_json({"access_key": access_key, "revoked": True})
        else:
            console().print(f"access key {access_key} revoked", markup=False)


def remember(
    directory: Dir,
    endpoint: Endpoint,
    *,
    access_key: str = "",
    secret_key: str = "",
    system_token: str = "",
) -> bool:
    """Keep a local cluster's `cluster.json` true; whether there was something to keep.

    Without it the next command would still use the former secret.
    """
    cluster = local_cluster.load(cluster_folder(directory, os.environ))
    connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
    if cluster is None or connection.endpoints != tuple(f["api"] for f in cluster.frontends):
        return False  # another cluster was asked
    if system_token:
        cluster.system_token = system_token
    elif access_key == cluster.root_access_key:
        cluster.root_secret_key = secret_key
    else:
        return False
    cluster.save()
    return True


def _path(access_key: str) -> str:
    if not access_key:
        raise UsageError(NO_ID)
    return f"/v1/keys/{quote(access_key, safe='')}"


def _print_secret(made: dict[str, Any], *, as_json: bool) -> None:
    _print_key(made, as_json=as_json)
    if not as_json:
        stderr().print("The secret is shown this once; keep it.", markup=False)


def _print_key(key: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(key)
        return
    shown = {"access key": key["access_key"]}
    if "secret_key" in key:
        shown["secret key"] = key["secret_key"]
    shown |= {
        "scopes": ", ".join(key["scopes"]),
        "limited to": _limits(key) or "nothing",
        "expires": _time(key["expires_at"]) or "never",
        "state": "disabled" if key["disabled"] else "enabled",
        "note": key["note"],
        "created": _time(key["created_at"]),
        "changed": _time(key["changed_at"]),
    }
    if key["previous_secret_until"]:
        shown["former secret works until"] = _time(key["previous_secret_until"])
    facts(shown)


def _limits(key: dict[str, Any]) -> str:
    buckets, prefixes = key["buckets"] or ["*"], key["prefixes"] or [""]
    if not key["buckets"] and not key["prefixes"]:
        return ""
    return ", ".join(f"oss://{bucket}/{prefix}" for bucket in buckets for prefix in prefixes)


def _time(text: str | None) -> str:
    return human_time(text) if text else ""
