"""Which frontend to speak to, and as whom.

First found wins: command-line options; OSS_ENDPOINT or AWS_ENDPOINT_URL with
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; the `cluster.json` of a local cluster
(`--dir`, OSS_DIR, or ./raftoss-data).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cli.output import UsageError

DEFAULT_FOLDER = "raftoss-data"


@dataclass(frozen=True, slots=True)
class Connection:
    """Base URLs of frontends to try in turn, and the credentials."""

    endpoints: tuple[str, ...]
    access_key: str
    secret_key: str


def cluster_folder(directory: Path | None, environ: Mapping[str, str]) -> Path:
    """Where the local cluster lives."""
    return directory or Path(environ.get("OSS_DIR", DEFAULT_FOLDER))


def given(environ: Mapping[str, str], name: str) -> str:
    """The variable `name`, or what the file holds that `name`_FILE points to; empty when
    neither is set. Raises UsageError when both are, or for a file that holds nothing."""
    value, path = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if not path:
        return value
    if value:
        raise UsageError(f"both {name} and {name}_FILE are set; set one of them")
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name}_FILE: {path} cannot be read: {error}") from error
    if not value:
        raise UsageError(f"{name}_FILE: {path} is empty")
    return value


def connect(
    *, endpoint: str | None, directory: Path | None, environ: Mapping[str, str]
) -> Connection:
    """Find a frontend and a key. Raises UsageError that says how to give them."""
    endpoint = endpoint or environ.get("OSS_ENDPOINT") or environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        endpoint = _base_url(endpoint)
    access = environ.get("AWS_ACCESS_KEY_ID") or given(environ, "OSS_ROOT_ACCESS_KEY")
    secret = environ.get("AWS_SECRET_ACCESS_KEY") or given(environ, "OSS_ROOT_SECRET_KEY")
    if directory is None and endpoint and access and secret:
        return Connection((endpoint,), access, secret)
    folder = cluster_folder(directory, environ)
    local = _local(folder / "cluster.json")
    if local is None:
        raise UsageError(
            f"no cluster to speak to: there is no {folder / 'cluster.json'}. Start one with "
            "'ossctl up --detach', or set OSS_ENDPOINT, AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or give --dir."
        )
    endpoints = (endpoint,) if endpoint else local.endpoints
    return Connection(endpoints, local.access_key, local.secret_key)


def _base_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port or a bracket
        is_one = False
    if not is_one or parts.query or parts.fragment:
        raise UsageError(f"the endpoint {text!r} is not of the form http://HOST:PORT")
    return text.rstrip("/")


def local_connection(cluster_json: Path) -> Connection:
    """The frontends and the root key of a local cluster. Raises UsageError."""
    found = _local(cluster_json)
    if found is None:
        raise UsageError(f"there is no {cluster_json}")
    return found


def _local(path: Path) -> Connection | None:
    try:
        found = json.loads(path.read_text())
        return Connection(
            tuple(frontend["api"] for frontend in found["frontends"]),
            found["root_access_key"],
            found["root_secret_key"],
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UsageError(f"{path} cannot be read: {error!r}") from error
