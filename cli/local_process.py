"""One daemon of a local cluster as a process of this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from osscore.errors import DeadlineExceeded

STOP_DEADLINE_S = 45.0
"""Longer than any daemon drains."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """How to start one node: `python -P -m ROLE ARGUMENTS`, log to `log`."""

    id: str
    role: str
    arguments: tuple[str, ...]
    log: Path


def start(daemon: Daemon, environ: Mapping[str, str]) -> int:
    """Start it detached from this terminal; answers its pid."""
    daemon.log.parent.mkdir(parents=True, exist_ok=True)
    with daemon.log.open("ab") as log:
        process = subprocess.Popen(
            # -P: names such as `frontend` may also exist in the user's folder.
            [sys.executable, "-P", "-m", daemon.role, *daemon.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            start_new_session=True,
        )
    return process.pid


def is_running(pid: int, node: str) -> bool:
    """Whether `pid` is alive and still is that node, not a later user of the number."""
    if pid <= 0:
        return False
    _reap(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return not Path("/proc/self").exists()  # no /proc here: the number is all we have
    if state in "ZX":
        return False
    # A process that is just being started has no words yet.
    return words == [b""] or node.encode() in words


def stop(pid: int, node: str, *, how: signal.Signals = signal.SIGTERM) -> bool:
    """Signal it and wait until it is gone; False if it was not running.

    Raises DeadlineExceeded when it does not end within STOP_DEADLINE_S.
    """
    if not send(pid, node, how):
        return False
    wait_gone(pid, node)
    return True


def send(pid: int, node: str, how: signal.Signals) -> bool:
    """Signal it; False if it was not running."""
    if not is_running(pid, node):
        return False
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return False  # it ended just now
    return True


def wait_gone(pid: int, node: str) -> None:
    """Wait for a process that was signalled. Raises DeadlineExceeded."""
    deadline = time.monotonic() + STOP_DEADLINE_S
    while is_running(pid, node):
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"{node} (pid {pid}) did not stop within {STOP_DEADLINE_S:.0f} s; "
                f"'ossctl kill {node}' ends it at once."
            )
        time.sleep(0.02)


def last_lines(log: Path, *, lines_max: int = 12) -> str:
    """The end of a log, to show with an error."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines_max:])
    except OSError:
        return ""


def _reap(pid: int) -> None:
    """Collect our own dead child, which would otherwise still look alive."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass  # not a child of this process
