"""Commands on tokens: for one content each, what signs them, and the system token."""

import base64
import json
import re
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from cli.api import call
from cli.cluster import AsJson, Dir, Endpoint
from cli.durations import parse_duration
from cli.keys import OVERLAP_DEFAULT, remember
from cli.output import (
    UsageError,
    console,
    errors_as_exit_codes,
    human_time,
    print_json,
    print_table,
    stderr,
)

app = typer.Typer(no_args_is_help=True, help="Tokens: one content, for a while.")
_MADE_ID = re.compile(r"[0-9a-f]{24}")
"""An id as this store makes them."""
_ANY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOKEN = re.compile(r"([A-Za-z0-9_+/-]+)={0,2}\.[0-9a-f]{64}")


@app.command()
def create(
    sha256: Annotated[str, typer.Argument(metavar="SHA256", help="Of the content, in hex.")],
    kind: Annotated[str, typer.Option("--type", "-t", help="upload, download or both.")],
    expires: Annotated[str, typer.Option(help="How long it is good.")] = "24h",
    max_size: Annotated[int, typer.Option(min=0, help="Most bytes; 0: any.")] = 0,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Make a token for uploading or downloading one content."""
    with errors_as_exit_codes():
        body = {"type": kind, "hash": sha256, "ttl_s": parse_duration(expires)}
        made = call(directory, endpoint, "POST", "/v1/tokens", send={**body, "max_size": max_size})
        if as_json:
            print_json(made)
            return
        console().print(made["token"], markup=False)
        stderr().print(
            f"good until {human_time(made['expires_at'])}; its id is {made['jti']}", markup=False
        )


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="A token, its id, or a share's.")],
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Take a token or a share back; it is refused at once."""
    with errors_as_exit_codes():
        jti = _id_of(token)
        call(directory, endpoint, "DELETE", f"/v1/tokens/{quote(jti, safe='')}")
        if as_json:
            print_json({"jti": jti, "revoked": True})
        else:
            console().print(f"token {jti} revoked", markup=False)


@app.command(name="keys")
def signing_keys(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """List the keys whose tokens are good."""
    with errors_as_exit_codes():
        found = call(directory, endpoint, "GET", "/v1/signing-keys")["keys"]
        if as_json:
            for key in found:
                print_json(key)
            return
        rows = [
            [
                key["kid"],
                human_time(key["created_at"]),
                human_time(key["retires_at"]) if key["retires_at"] else "signs now",
            ]
            for key in found
        ]
        print_table(["KEY", "CREATED", "RETIRES"], rows)


@app.command(name="rotate-key")
def rotate_key(
    overlap: Annotated[
        str, typer.Option(help="How long tokens of former keys stay good; 0: not at all.")
    ] = OVERLAP_DEFAULT,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Sign with a new key; tokens and shares of former ones end after the overlap."""
    with errors_as_exit_codes():
        body = {"overlap_s": parse_duration(overlap)}
        made = call(directory, endpoint, "POST", "/v1/signing-keys/rotate", send=body)
        if as_json:
            print_json(made)
        else:
            console().print(f"tokens are signed with {made['kid']} from now on", markup=False)


@app.command(name="set-system")
def set_system(
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", allow_dash=True, help="Holds the token, - is standard input; else made up."
        ),
    ] = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Replace the system token; the former one is refused at once."""
    with errors_as_exit_codes():
        given = "" if file is None else _read(file)
        send = {"token": given} if given else {}
        made = call(directory, endpoint, "PUT", "/v1/system-token", send=send)
        if as_json:
            print_json(made)
        elif given:
            console().print("the system token is the given one now", markup=False)
        else:
            console().print(made["token"], markup=False)
            stderr().print("The token is shown this once; keep it.", markup=False)
        if remember(directory, endpoint, system_token=given or made["token"]):
            stderr().print("cluster.json holds the new token", markup=False)


def _read(file: Path) -> str:
    """Not an argument: these are seen by every user of the machine."""
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    if not text.strip():
        raise UsageError(f"{file} holds no token")
    return text.strip()


def _id_of(text: str) -> str:
    """The id in a token or in the URL of a share, or the text where it is an id itself.

    The store would take back an id that nobody has, so a word that is none must not get there.
    Raises UsageError.
    """
    token = text.partition("/share/")[2].partition("/")[0] or text
    if _MADE_ID.fullmatch(token):
        return token
    try:
        if match := _TOKEN.fullmatch(token):
            raw = match[1].replace("-", "+").replace("_", "/") + "=" * (-len(match[1]) % 4)
            jti = json.loads(base64.b64decode(raw, validate=True))["jti"]
            if _ANY_ID.fullmatch(jti):
                return str(jti)
    except (ValueError, KeyError, TypeError):
        pass  # it only looks like one
    raise UsageError(f"{text[:60]!r} is neither a token nor the id of one")
