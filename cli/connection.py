"""Which frontend to speak to, and as whom.

First found wins: command-line options; OSS_ENDPOINT or AWS_ENDPOINT_URL with
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; the `cluster.json` of a local cluster
(`--dir`, OSS_DIR, or ./raftoss-data).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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


def connect(
    *, endpoint: str | None, directory: Path | None, environ: Mapping[str, str]
) -> Connection:
    """Find a frontend and a key. Raises UsageError that says how to give them."""
    endpoint = endpoint or environ.get("OSS_ENDPOINT") or environ.get("AWS_ENDPOINT_URL")
    access = environ.get("AWS_ACCESS_KEY_ID") or environ.get("OSS_ROOT_ACCESS_KEY") or ""
    secret = environ.get("AWS_SECRET_ACCESS_KEY") or environ.get("OSS_ROOT_SECRET_KEY") or ""
    if directory is None and endpoint and access and secret:
        return Connection((endpoint.rstrip("/"),), access, secret)
    folder = cluster_folder(directory, environ)
    local = _local(folder / "cluster.json")
    if local is None:
        raise UsageError(
            f"no cluster to speak to: there is no {folder / 'cluster.json'}. Start one with "
            "'ossctl up --detach', or set OSS_ENDPOINT, AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or give --dir."
        )
    endpoints = (endpoint.rstrip("/"),) if endpoint else local.endpoints
    return Connection(endpoints, local.access_key, local.secret_key)


def local_connection(cluster_json: Path) -> Connection:
    """The frontends and the root key of a local cluster. Raises UsageError."""
    found = _local(cluster_json)
    if found is None:
        raise UsageError(f"there is no {cluster_json}")
    return found


def _local(path: Path) -> Connection | None:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    return Connection(
        tuple(frontend["api"] for frontend in found["frontends"]),
        found["root_access_key"],
        found["root_secret_key"],
    )
