"""Commands that start, stop and show clusters."""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import api, local_cluster, local_process
from cli.archived import archive_line
from cli.censuses import census_lines
from cli.connection import Connection, cluster_folder, connect
from cli.local_cluster import Counts, LocalCluster
from cli.output import (
    ExitCode,
    UsageError,
    console,
    errors_as_exit_codes,
    fail,
    human_bytes,
    print_json,
    print_table,
    stderr,
)
from osscore.errors import DeadlineExceeded, PeerUnreachable, StoreError, Unavailable

READY_DEADLINE_S = 60.0
Dir = Annotated[Path | None, typer.Option("--dir", help="Folder of the local cluster.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Endpoint = Annotated[str | None, typer.Option("--endpoint", help="Base URL of a frontend.")]
Node = Annotated[str, typer.Argument(help="Id of a node, such as meta-1, blob-3, frontend-1.")]


def up(
    directory: Dir = None,
    metanodes: Annotated[int | None, typer.Option(min=1, help="How many (new: 3).")] = None,
    blobs: Annotated[int | None, typer.Option(min=1, help="How many (new: 6).")] = None,
    frontends: Annotated[int | None, typer.Option(min=1, help="How many (new: 1).")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when ready.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a whole cluster on this machine; ready means writable."""
    with errors_as_exit_codes():
        folder = cluster_folder(directory, os.environ)
        cluster, is_new = bring_up(folder, metanodes=metanodes, blobs=blobs, frontends=frontends)
        _announce(cluster, is_new=is_new, as_json=as_json)
        if not detach:
            _stay(cluster)


def down(directory: Dir = None, as_json: AsJson = False) -> None:
    """Stop every process of the local cluster; the data stays."""
    with errors_as_exit_codes():
        cluster = local_cluster.load_required(cluster_folder(directory, os.environ))
        stopped = stop_all(cluster)
        if as_json:
            print_json({"stopped": stopped})
        else:
            said = f"{len(stopped)} processes stopped" if stopped else "nothing was running"
            console().print(f"{said}; the data stays in {cluster.folder}", markup=False)


def start(node: Node, directory: Dir = None, as_json: AsJson = False) -> None:
    """Start one node of the local cluster again."""
    with errors_as_exit_codes():
        cluster = local_cluster.load_required(cluster_folder(directory, os.environ))
        found = cluster.node(node)
        is_started = start_one(cluster, found, os.environ)
        if is_started:
            cluster.save()
        wait_live(cluster, [found])
        if as_json:
            print_json({"id": node, "pid": found["pid"], "started": is_started})
        else:
            said = "runs" if is_started else "was running already"
            console().print(f"{node} {said} (pid {found['pid']})", markup=False)


def stop(node: Node, directory: Dir = None, as_json: AsJson = False) -> None:
    """Stop one node gently; it drains first."""
    _signal(node, directory, signal.SIGTERM, "stopped", as_json=as_json)


def kill(node: Node, directory: Dir = None, as_json: AsJson = False) -> None:
    """End one node at once with SIGKILL, as a crash would."""
    _signal(node, directory, signal.SIGKILL, "killed", as_json=as_json)


def status(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Show every node of the cluster and how it is."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        try:
            found = api.run(connection, lambda a: a.json("GET", "/v1/cluster"))
        except Unavailable as error:
            raise _with_idle_nodes(error, connection, directory) from error
        if as_json:
            print_json(found)
        else:
            _print_status(found)


def _with_idle_nodes(
    error: Unavailable, connection: Connection, directory: Path | None
) -> Unavailable:
    """The error, and which nodes of a local cluster do not run."""
    cluster = local_cluster.load(cluster_folder(directory, os.environ))
    if cluster is None or connection.endpoints != tuple(f["api"] for f in cluster.frontends):
        return error  # a cluster elsewhere was asked
    idle = [n["id"] for n in cluster.nodes() if not local_process.is_running(n["pid"], n["id"])]
    if not idle:
        return error
    reason = error.message.partition(";")[0]
    return Unavailable(f"{reason}; not running: {', '.join(idle)} ('ossctl up' starts them)")


def _print_status(found: dict[str, Any]) -> None:
    rows = [
        [n["id"], n["state"], n.get("url", ""), str(n.get("term", "")), str(n["applied_index"])]
        for n in found["metanodes"]
    ]
    print_table(["METANODE", "STATE", "URL", "TERM", "INDEX"], rows)
    console().print()
    rows = []
    for node in found["blobs"]:
        free = sum(disk["free_bytes"] for disk in node["disks"])
        capacity = sum(disk["capacity_bytes"] for disk in node["disks"])
        problems = "; ".join(disk["problem"] for disk in node["disks"] if disk["problem"])
        if node["disks"] and all(disk["state"] == "removed" for disk in node["disks"]):
            problems = "its disks were removed: it may be stopped"
        rows.append(
            [
                node["id"],
                node["state"],
                node["url"],
                node["zone"],
                human_bytes(free),
                human_bytes(capacity),
                problems,
            ]
        )
    print_table(["BLOB DAEMON", "STATE", "URL", "ZONE", "FREE", "CAPACITY", "PROBLEM"], rows)
    for line in census_lines(found["blobs"]):
        console().print(line, markup=False)
    if line := archive_line(found["archive"]):
        console().print(line, markup=False)
    _print_deletion(found)


def _print_deletion(found: dict[str, Any]) -> None:
    """Only what is out of the ordinary: a restored catalog that nobody has adopted yet."""
    deletion = found["deletion"]
    if not deletion["frozen"]:
        return
    console().print(
        f"\nDeletion is frozen: the catalog was restored (generation {found['generation']}). "
        f"{deletion['disks_confirmed']} of {deletion['disks']} disks have a finished census; "
        "'ossctl meta adopt' lets it go on.",
        markup=False,
    )


def _signal(
    name: str, directory: Path | None, how: signal.Signals, done: str, *, as_json: bool
) -> None:
    with errors_as_exit_codes():
        cluster = local_cluster.load_required(cluster_folder(directory, os.environ))
        node = cluster.node(name)
        was_running = local_process.stop(node["pid"], name, how=how)
        if as_json:
            print_json({"id": name, done: was_running})
        else:
            console().print(f"{name} {done if was_running else 'was not running'}", markup=False)


def bring_up(
    folder: Path,
    *,
    metanodes: int | None = None,
    blobs: int | None = None,
    frontends: int | None = None,
) -> tuple[LocalCluster, bool]:
    """Make or load the cluster of a folder, start what does not run, return once it can be
    written to; also whether it is new. What was started is stopped again on a failure."""
    # From the choice of ports until they are bound nobody else may choose.
    with local_cluster.turn():
        cluster = local_cluster.load(folder)
        is_new = cluster is None
        if cluster is None:
            counts = Counts(metanodes or 3, blobs or 6, frontends or 1)
            cluster = local_cluster.create(folder, counts, os.environ)
        else:
            counts = Counts(
                metanodes or len(cluster.metanodes),
                blobs or len(cluster.blobs),
                frontends or len(cluster.frontends),
            )
            local_cluster.grow(cluster, counts)
        started = start_all(cluster)
        try:
            wait_live(cluster, list(cluster.nodes()))
        except BaseException:
            _end(started)
            raise
    try:
        wait_ready(cluster)
    except BaseException:
        _end(started)
        raise
    return cluster, is_new


def _end(nodes: list[dict[str, Any]]) -> None:
    for node in nodes:
        local_process.send(node["pid"], node["id"], signal.SIGTERM)


def start_all(cluster: LocalCluster) -> list[dict[str, Any]]:
    """Start every node that does not run; answers them. Raises UsageError when a port is
    taken."""
    nodes = list(cluster.nodes())
    idle = [n for n in nodes if not local_process.is_running(n["pid"], n["id"])]
    for node in idle:
        for name in ("http", "raft", "api"):
            if name in node and not local_cluster.port_is_free(node[name]):
                raise UsageError(
                    f"port {node[name].rpartition(':')[2]} of {node['id']} is in use by "
                    "another program; stop that one first"
                )
    # Saved before the first start: ports and secrets must survive a crash of `up` itself.
    cluster.save()
    try:
        for node in idle:
            start_one(cluster, node, os.environ)
            cluster.save()
    except BaseException:
        _end(idle)
        raise
    return idle


def start_one(
    cluster: LocalCluster, node: dict[str, Any], environ: Mapping[str, str], *, forms: bool = True
) -> bool:
    """Start a node unless it runs; whether it did not. `forms` False: a metanode that waits
    empty instead of forming a new cluster. The caller saves the cluster."""
    if local_process.is_running(node["pid"], node["id"]):
        return False
    daemon = cluster.daemon(node, forms=forms)
    node["pid"] = local_process.start(daemon, cluster.environ(environ))
    return True


def stop_all(cluster: LocalCluster) -> list[str]:
    """Stop frontends, then blob daemons, then metanodes; each may drain. Answers who ran."""
    stopped = []
    for group in (cluster.frontends, cluster.blobs, cluster.metanodes):
        running = [n for n in group if local_process.send(n["pid"], n["id"], signal.SIGTERM)]
        for node in running:
            local_process.wait_gone(node["pid"], node["id"])
            stopped.append(node["id"])
    return stopped


def wait_ready(cluster: LocalCluster) -> None:
    """Until every frontend says it can write and every blob daemon is up."""
    deadline = time.monotonic() + READY_DEADLINE_S
    with stderr().status("starting the cluster"):
        wait_live(cluster, list(cluster.nodes()))
        while True:
            missing = _not_ready(cluster)
            if not missing:
                return
            _check_alive(cluster, list(cluster.nodes()))
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"not ready after {READY_DEADLINE_S:.0f} s: {missing}; "
                    f"logs are in {cluster.folder / 'logs'}"
                )
            time.sleep(0.05)


def _not_ready(cluster: LocalCluster) -> str:
    """What is still missing, empty when all is well."""
    for frontend in cluster.frontends:
        code, text = _http_get(frontend["api"] + "/readyz?verbose")
        if code != 200:
            return f"{frontend['id']} answers {text.strip() or code}"
    connection = Connection(
        tuple(f["api"] for f in cluster.frontends),
        cluster.root_access_key,
        cluster.root_secret_key,
    )
    try:
        found = api.run(connection, lambda a: a.json("GET", "/v1/cluster"))
    except StoreError as error:
        return error.message
    living = {node["id"] for node in found["blobs"] if node["state"] == "up"}
    absent = [blob["id"] for blob in cluster.blobs if blob["id"] not in living]
    return f"waiting for {', '.join(absent)}" if absent else ""


def wait_live(cluster: LocalCluster, nodes: list[dict[str, Any]]) -> None:
    """Until every process answers /livez."""
    deadline = time.monotonic() + READY_DEADLINE_S
    for node in nodes:
        url = node.get("api") or node["http"]
        while _http_get(url + "/livez")[0] != 200:
            _check_alive(cluster, [node])
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"{node['id']} does not answer at {url}")
            time.sleep(0.05)


def _check_alive(cluster: LocalCluster, nodes: list[dict[str, Any]]) -> None:
    for node in nodes:
        if not local_process.is_running(node["pid"], node["id"]):
            log = cluster.daemon(node).log
            raise Unavailable(
                f"{node['id']} ended; its log {log} says:\n{local_process.last_lines(log)}"
            )


def _http_get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError:
        return 0, ""


def _announce(cluster: LocalCluster, *, is_new: bool, as_json: bool) -> None:
    if as_json:
        print_json(json.loads((cluster.folder / "cluster.json").read_text()))
        return
    out = console()
    out.print(
        f"ready: {len(cluster.metanodes)} metanodes, {len(cluster.blobs)} blob daemons, "
        f"{len(cluster.frontends)} frontends in {cluster.folder}",
        markup=False,
    )
    out.print(f"  API         {cluster.frontends[0]['api']}", markup=False)
    if is_new:
        out.print(f"  access key  {cluster.root_access_key}", markup=False)
        out.print(f"  secret key  {cluster.root_secret_key}", markup=False)
        out.print(
            f"  (kept in {cluster.folder / 'cluster.json'}; shown only this once)", markup=False
        )
    option = (
        ""
        if cluster.folder == cluster_folder(None, {}).absolute()
        else (f" --dir {cluster.folder}")
    )
    out.print(f"  try         ossctl put README.md{option} && ossctl ls{option}", markup=False)


def _stay(cluster: LocalCluster) -> None:
    """Hold the terminal until Ctrl-C or SIGTERM, then stop everything."""
    console().print("Ctrl-C stops it; the data stays.", markup=False)
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass
    try:
        stop_all(cluster)
    except PeerUnreachable as error:
        fail(ExitCode.FAILURE, error.message)
