"""`python -m tests.big`: an object of 5 GiB in and out, by `ossctl` and by plain HTTP.

Prints one JSON report: speeds, and the most memory each process ever had resident. Exits 1
when a byte differs, or a process took more than it may. Linux.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli import local_cluster, local_process
from cli.cluster import bring_up, stop_all
from cli.local_cluster import LocalCluster
from cli.output import UsageError
from osscore.errors import StoreError
from tests.big.content import Content, parse_size
from tests.big.room import NoRoom, check_room, peak_bytes
from tests.big.transfers import TransferFailed, Transfers
from tests.interruption import Interrupted, ignore_interruptions, interruptible

MIB = 1 << 20
BORDERS = (1 << 31, 1 << 32)
"""Where a number of 31 or 32 bits would end."""
SELF = "this program"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.big", description=__doc__)
    parser.add_argument("--size", type=parse_size, default=5 << 30, help="5GiB, 300MiB, bytes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peak-mib-max", type=float, default=300)
    parser.add_argument("--minutes-max", type=int, default=40)
    parser.add_argument(
        "--ossctl", default=str(Path(sys.executable).with_name("ossctl")), help="the command"
    )
    return parser.parse_args()


def move(transfers: Transfers) -> list[str]:
    """Everything in and out; answers what came out wrong."""
    content = transfers.content
    expected = content.sha256()
    steps: tuple[Callable[[], str], ...] = (
        transfers.put_by_ossctl,
        transfers.get_by_ossctl,
        transfers.put_by_http,
        transfers.get_by_http,
    )
    violations = []
    for step in steps:
        found = step()
        if found != expected:
            violations.append(f"{step.__name__}: SHA-256 {found}, not {expected}")
        _say(f"{step.__name__}: {list(transfers.speeds.values())[-1]}")
    for first, last in ranges(content.size_bytes):
        if not transfers.range_is_right(first, last):
            violations.append(f"the range {first} to {last} has other bytes")
    return violations


def ranges(size_bytes: int) -> list[tuple[int, int]]:
    """First and last byte of ranges worth a look: around each border, and the end."""
    around = [(at - MIB - 1, at + MIB) for at in BORDERS if at + MIB < size_bytes]
    return [*around, (max(0, size_bytes - MIB - 1), size_bytes - 1)]


def peaks(cluster: LocalCluster, transfers: Transfers) -> dict[str, int]:
    """Process -> its peak in bytes. Raises RuntimeError when a daemon has ended."""
    daemons = {node["id"]: peak_bytes(node["pid"]) for node in cluster.nodes()}
    own = {SELF: peak_bytes(os.getpid())}
    return {**daemons, **transfers.client_peaks_bytes, **own}


def judge(found: dict[str, int], *, peak_mib_max: float) -> list[str]:
    """Complaints about processes that took too much."""
    return [
        f"{name} took {size_bytes / MIB:.1f} MiB, more than {peak_mib_max:g}"
        for name, size_bytes in found.items()
        if size_bytes > peak_mib_max * MIB
    ]


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The report."""
    check_room(folder, options.size)
    _say("starting the cluster")
    cluster, _ = bring_up(folder / "cluster")
    content = Content(size_bytes=options.size, seed=options.seed)
    transfers = Transfers(cluster.folder, options.ossctl, content)
    violations = move(transfers)
    found = peaks(cluster, transfers)
    violations += judge(found, peak_mib_max=options.peak_mib_max)
    return {
        "size_bytes": options.size,
        "seed": options.seed,
        "transfers": transfers.speeds,
        "peak_mib": {name: round(size_bytes / MIB, 1) for name, size_bytes in found.items()},
        "peak_mib_max": options.peak_mib_max,
        "violations": violations,
    }


def clear(folder: Path) -> None:
    """End what still runs, gently if it can be, and remove the folder."""
    ignore_interruptions()
    cluster = local_cluster.load(folder / "cluster")
    if cluster is not None:
        try:
            stop_all(cluster)
        except StoreError as error:
            _say(error.message)
        for node in cluster.nodes():
            local_process.stop(node["pid"], node["id"], how=signal.SIGKILL)
    shutil.rmtree(folder)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> int:
    """Move, judge, print, clean up; the exit status."""
    options = arguments()
    if not Path("/proc/self/status").exists():
        _say("big: needs Linux, where /proc tells what memory a process took")
        return 2
    with interruptible(seconds_max=60 * options.minutes_max):
        folder = Path(tempfile.mkdtemp(prefix="raftoss-big-"))
        try:
            report = run(folder, options)
        except (NoRoom, TransferFailed, StoreError, UsageError, OSError, Interrupted) as error:
            _say(f"big: {error}")
            return 1
        finally:
            clear(folder)
    print(json.dumps(report, indent=1))
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
