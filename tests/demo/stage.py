"""Where the demo plays: a cluster in a folder of its own, and words for who watches."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from cli import local_cluster, local_process
from cli.api import authorization
from cli.connection import local_connection
from tests.interruption import ignore_interruptions

T = TypeVar("T")
FOREIGN = ("OSS_", "AWS_")
"""Variables of whoever runs the demo that would lead to another cluster."""
DOWN_S = 15.0
GIVE_WAY_S = 5.0
WAIT_S = 20.0
INDENT = "   "


class StepFailed(Exception):
    """Something the demo promises to show did not happen."""


def title(number: int, text: str) -> None:
    """The headline of a step."""
    _write(f"\n{_bold(f'{number}. {text}')}\n")


def say(text: str) -> None:
    """Explain, in lines that are short enough to read."""
    for line in text.splitlines():
        _write(textwrap.fill(line, 96, initial_indent=INDENT, subsequent_indent=INDENT) + "\n")


def hold(is_true: bool, claim: str) -> None:
    """Say that a claim holds. Raises StepFailed when it does not."""
    if not is_true:
        raise StepFailed(f"this does not hold: {claim}")
    _write(f"{INDENT}ok: {claim}\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()  # `ossctl` writes to the same terminal


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


class Stage:
    """A folder, the cluster in it, and the `ossctl` that drives it."""

    def __init__(self, folder: Path, ossctl: str) -> None:
        self.folder = folder
        self._ossctl = ossctl
        self._cluster = folder / "cluster"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
        self._environment = {**kept, "OSS_DIR": str(self._cluster)}

    def ossctl(self, *words: str) -> str:
        """Show a command, run it, show what it says; answers that. Raises StepFailed."""
        _write(f"{INDENT}{_bold('$ ' + shlex.join(['ossctl', *words]))}\n")
        output = self.ossctl_quietly(*words)
        _write(textwrap.indent(output, INDENT))
        return output

    def ossctl_quietly(self, *words: str) -> str:
        """Run a command; answers what it says. Raises StepFailed."""
        # In a session of its own: Ctrl-C comes to the demo alone, which passes it on.
        with subprocess.Popen(
            [self._ossctl, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=self._environment,
            cwd=self.folder,
            start_new_session=True,
            text=True,
        ) as process:
            try:
                output, _ = process.communicate()
            except BaseException:
                _end(process)
                raise
        if process.returncode:
            raise StepFailed(f"'ossctl {words[0]}' ended with status {process.returncode}")
        return output

    def ask(self, path: str) -> Any:
        """The JSON a frontend answers."""
        connection = local_connection(self._cluster / "cluster.json")
        request = urllib.request.Request(
            connection.endpoints[0] + path, headers=authorization(connection)
        )
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return json.load(answer)

    def stat(self, name: str) -> dict[str, Any]:
        """What is known of an object's current version."""
        found: dict[str, Any] = json.loads(self.ossctl_quietly("stat", name, "--json"))
        return found

    def locate(self, name: str) -> list[dict[str, Any]]:
        """Each stripe of an object's current version: its id, length, shard -> host:port."""
        found: dict[str, Any] = self.ask(f"/locate/{quote(name)}?all=1")
        return list(found["stripes"])

    def census(self) -> dict[str, Any]:
        """Counts of the catalog."""
        found: dict[str, Any] = wait_for(
            lambda: self.ask("/v1/cluster")["census"], "a census of the catalog"
        )
        return found

    def leader(self) -> str:
        """The metanode that leads."""

        def find() -> str | None:
            nodes = self.ask("/v1/cluster")["metanodes"]
            return next((node["id"] for node in nodes if node["state"] == "leader"), None)

        return wait_for(find, "a leader of the metanodes")

    def blobs(self) -> dict[str, str]:
        """host:port -> id of each blob daemon."""
        cluster = local_cluster.load_required(self._cluster)
        return {node["http"].removeprefix("http://"): node["id"] for node in cluster.blobs}

    def volume_bytes(self) -> int:
        """What all blob daemons keep on their disks, by the sizes of the files."""
        cluster = local_cluster.load_required(self._cluster)
        folders = [Path(node["data"]) / "volumes" for node in cluster.blobs]
        files = [path for folder in folders for path in folder.iterdir()]
        return sum(path.stat().st_size for path in files if not path.name.startswith("index."))

    def running(self) -> list[str]:
        """Ids of the nodes whose processes live."""
        return [node["id"] for node in self._living()]

    def _living(self) -> list[dict[str, Any]]:
        cluster = local_cluster.load(self._cluster)
        nodes = list(cluster.nodes()) if cluster else []
        return [node for node in nodes if local_process.is_running(node["pid"], node["id"])]

    def clear(self) -> None:
        """End what still runs, gently if it can be, and remove the folder."""
        ignore_interruptions()
        if self._living():
            say("Stopping everything.")
            try:
                subprocess.run(
                    [self._ossctl, "down"],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    timeout=DOWN_S,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired):
                pass  # then not gently
        for node in self._living():
            local_process.stop(node["pid"], node["id"], how=signal.SIGKILL)
        shutil.rmtree(self.folder)


def wait_for(find: Callable[[], T | None], what: str) -> T:
    """The first true value of `find()`. Raises StepFailed when none comes in time."""
    deadline_s = time.monotonic() + WAIT_S
    while not (found := find()):
        if time.monotonic() > deadline_s:
            raise StepFailed(f"waited {WAIT_S:.0f} s in vain for {what}")
        time.sleep(0.1)
    return found


def _end(process: subprocess.Popen[str]) -> None:
    """Interrupt it, as Ctrl-C would; it may clean up, but not for long."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GIVE_WAY_S)
    except subprocess.TimeoutExpired:
        process.kill()
