"""A whole cluster on this machine: its folder, its ports, its processes.

Folder D: `cluster.json` (for people and programs, mode 0600), `local.json` (what a later
`up` or `start` needs besides), `secret` (the cluster secret, 0600), `logs/`, and one data
folder per metanode and blob daemon.
"""

import fcntl
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.connection import given
from cli.local_process import Daemon
from cli.output import UsageError

HOST = "127.0.0.1"
OTHER_PORTS = range(10_000, 32_768)
"""Below what systems give to outgoing connections: one of those would hold the port of a node
that is down, and a later `up` must find it free."""
KEPT_ENVIRONMENT = (
    "OSS_REPAIR_DELAY_S",
    "OSS_GC_GRACE_S",
    "OSS_UPLOAD_EXPIRY_S",
    "OSS_TEMP_EXPIRY_S",
    "OSS_LIFECYCLE_DAY_S",
    "OSS_HEARTBEAT_S",
    "OSS_SCRUB_BYTES_PER_S",
    "OSS_REPAIR_BYTES_PER_S",
    "OSS_VOLUME_BYTES",
)
"""Settings of `up` that later `start`s of single nodes must share."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of each role."""

    metanodes: int
    blobs: int
    frontends: int


@dataclass(slots=True)
class LocalCluster:
    """The content of `cluster.json` and `local.json`; `save` writes both."""

    folder: Path
    frontends: list[dict[str, Any]]
    metanodes: list[dict[str, Any]]
    blobs: list[dict[str, Any]]
    root_access_key: str
    root_secret_key: str
    system_token: str
    environment: dict[str, str] = field(default_factory=dict)

    def nodes(self) -> Iterator[dict[str, Any]]:
        """Every node, in the order in which to start them."""
        yield from self.metanodes
        yield from self.blobs
        yield from self.frontends

    def node(self, name: str) -> dict[str, Any]:
        """The node of that id. Raises UsageError that lists the ids there are."""
        for node in self.nodes():
            if node["id"] == name:
                return node
        known = ", ".join(node["id"] for node in self.nodes())
        raise UsageError(f"there is no node {name!r}; this cluster has {known}")

    def save(self) -> None:
        """Write both files so that a crash leaves the old or the new."""
        _write(
            self.folder / "cluster.json",
            {
                "frontends": self.frontends,
                "metanodes": self.metanodes,
                "blobs": self.blobs,
                "root_access_key": self.root_access_key,
                "root_secret_key": self.root_secret_key,
                "system_token": self.system_token,
            },
        )
        _write(self.folder / "local.json", {"environment": self.environment})

    def daemon(self, node: Mapping[str, Any], *, forms: bool = True) -> Daemon:
        """How to start that node. `forms` False: a metanode that waits for a restore."""
        role = next(
            role
            for role, group in (
                ("raftmeta", self.metanodes),
                ("blobd", self.blobs),
                ("frontend", self.frontends),
            )
            if node in group
        )
        return Daemon(
            id=node["id"],
            role=role,
            arguments=tuple(self._arguments(role, node, forms=forms)),
            log=self.folder / "logs" / f"{node['id']}.log",
        )

    def _arguments(self, role: str, node: Mapping[str, Any], *, forms: bool) -> Iterator[str]:
        yield from ("--id", node["id"])
        yield from ("--http", _address(node["api" if role == "frontend" else "http"]))
        if role == "raftmeta":
            members = (f"{m['id']}={m['raft']}={m['http']}" for m in self.metanodes)
            yield from ("--data", node["data"], "--raft", node["raft"])
            yield from ("--peers", ",".join(m["http"] for m in self.metanodes))
            if forms and node is self.metanodes[0]:
                yield from ("--bootstrap", ",".join(members))
            return
        if role == "blobd":
            yield from ("--data", node["data"])
        yield from ("--metanodes", ",".join(m["http"] for m in self.metanodes))

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment of every daemon: what `up` was given, and the secrets."""
        secret = {
            "OSS_CLUSTER_SECRET": (self.folder / "secret").read_text().strip(),
            "OSS_ROOT_ACCESS_KEY": self.root_access_key,
            "OSS_ROOT_SECRET_KEY": self.root_secret_key,
            "OSS_SYSTEM_TOKEN": self.system_token,
        }
        # A role refuses a setting that it is given in both its forms.
        passed = {k: v for k, v in environ.items() if k.removesuffix("_FILE") not in secret}
        kept = {
            name: value
            for name, value in self.environment.items()
            if name not in passed and f"{name}_FILE" not in passed
        }
        return {**passed, **kept, **secret}


@contextmanager
def turn() -> Iterator[None]:
    """Wait until no other `up` of this user chooses ports: a port that is free now may be
    taken by the time its daemon starts."""
    path = Path(tempfile.gettempdir()) / f"raftoss-up-{os.getuid()}.lock"
    descriptor = _lock(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path) -> int:
    """A locked descriptor of the file that has this name now: whoever held it before us
    removed the name before the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass  # removed meanwhile: another file will get the name
        os.close(descriptor)


def load(folder: Path) -> LocalCluster | None:
    """The cluster of a folder, None where there is none. Raises UsageError if unreadable."""
    path = folder / "cluster.json"
    try:
        found = json.loads(path.read_text())
        kept = json.loads((folder / "local.json").read_text())
        return LocalCluster(folder=folder, environment=kept["environment"], **found)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged: {error!r}") from error


def load_required(folder: Path) -> LocalCluster:
    """The cluster of a folder. Raises UsageError that says how to make one."""
    cluster = load(folder)
    if cluster is None:
        raise UsageError(f"there is no cluster in {folder}; start one with 'ossctl up'")
    return cluster


def create(folder: Path, counts: Counts, environ: Mapping[str, str]) -> LocalCluster:
    """Lay out a new cluster: folders, ports, secrets. Starts nothing."""
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(path.name not in ("secret", "logs") for path in folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no cluster; choose another --dir")
    secret = given(environ, "OSS_CLUSTER_SECRET") or secrets.token_urlsafe(32)
    _write_text(folder / "secret", secret)
    cluster = LocalCluster(
        folder=folder,
        frontends=[],
        metanodes=[],
        blobs=[],
        root_access_key=given(environ, "OSS_ROOT_ACCESS_KEY") or _access_key(),
        root_secret_key=given(environ, "OSS_ROOT_SECRET_KEY") or secrets.token_urlsafe(30),
        system_token=given(environ, "OSS_SYSTEM_TOKEN") or secrets.token_urlsafe(30),
        environment={name: value for name in KEPT_ENVIRONMENT if (value := given(environ, name))},
    )
    grow(cluster, counts)
    return cluster


def grow(cluster: LocalCluster, counts: Counts) -> None:
    """Add nodes up to `counts`; what exists stays. Raises UsageError for fewer nodes, or
    for another number of metanodes than the cluster was formed with."""
    have = Counts(len(cluster.metanodes), len(cluster.blobs), len(cluster.frontends))
    if have.metanodes and counts.metanodes != have.metanodes:
        raise UsageError(f"this cluster was formed with {have.metanodes} metanodes")
    if counts.blobs < have.blobs or counts.frontends < have.frontends:
        raise UsageError(
            f"this cluster has {have.blobs} blob daemons and {have.frontends} frontends; "
            "'up' starts more, never fewer"
        )
    meta = [9101 + 10 * (n - 1) for n in range(have.metanodes + 1, counts.metanodes + 1)]
    blob = [9200 + n for n in range(have.blobs + 1, counts.blobs + 1)]
    api = [9001 + 10 * (n - 1) for n in range(have.frontends + 1, counts.frontends + 1)]
    ports = _Ports([port for base in meta for port in (base, base + 1)] + blob + api)
    for base in meta:
        cluster.metanodes.append(_metanode(cluster, ports.take(base), ports.take(base + 1)))
    for base in blob:
        name = f"blob-{len(cluster.blobs) + 1}"
        cluster.blobs.append(
            {
                "id": name,
                "http": f"http://{HOST}:{ports.take(base)}",
                "pid": 0,
                "data": str(cluster.folder / name),
            }
        )
    for base in api:
        name = f"frontend-{len(cluster.frontends) + 1}"
        url = f"http://{HOST}:{ports.take(base)}"
        cluster.frontends.append({"id": name, "api": url, "s3": None, "pid": 0})


def _metanode(cluster: LocalCluster, http: int, raft: int) -> dict[str, Any]:
    name = f"meta-{len(cluster.metanodes) + 1}"
    return {
        "id": name,
        "http": f"http://{HOST}:{http}",
        "raft": f"{HOST}:{raft}",
        "pid": 0,
        "data": str(cluster.folder / name),
    }


class _Ports:
    """The default ports if all of them are free, else any free ones; never one twice."""

    def __init__(self, defaults: list[int]) -> None:
        self._defaults_free = all(_free_port(port) for port in defaults)
        self._taken: set[int] = set()

    def take(self, default: int) -> int:
        """A port nobody listens on. Raises UsageError when there is none."""
        if self._defaults_free:
            return default
        for _ in range(500):
            found = secrets.choice(OTHER_PORTS)
            if found not in self._taken and _free_port(found):
                self._taken.add(found)
                return found
        raise UsageError("no free TCP port on this machine")


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return 0
        return int(probe.getsockname()[1])


def port_is_free(address: str) -> bool:
    """Whether the port of 'http://host:port' or 'host:port' can be bound now."""
    return _free_port(int(address.rpartition(":")[2])) != 0


def _address(url: str) -> str:
    return url.removeprefix("http://")


def _access_key() -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    return "".join(secrets.choice(alphabet) for _ in range(20))


def _write(path: Path, value: object) -> None:
    _write_text(path, json.dumps(value, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
