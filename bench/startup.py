"""`python -m bench.startup`: CPU seconds that starts cost, as JSON (Linux; medians).

`up` is `ossctl up` of ten processes until it returns: its own seconds and those of the ten.
`raftmeta`, `blobd`, `frontend`: one of them started again beside the others, until it answers
/readyz. `ls`: one `ossctl ls`. User and system time of the processes, never wall time.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from cli.cluster import start_one, stop_all
from cli.local_cluster import LocalCluster, load_required
from cli.local_process import stop

READY_DEADLINE_S = 60


def used_s(pid: int) -> float:
    """CPU seconds of a living process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def command_s(*words: str) -> float:
    """CPU seconds of one `ossctl`; what it starts and leaves running is not in it."""
    process = subprocess.Popen([sys.executable, "-m", "cli", *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"ossctl {words[0]} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def restart_s(cluster: LocalCluster, name: str) -> float:
    """CPU seconds of that node, started again, until it is ready."""
    node = cluster.node(name)
    stop(node["pid"], name)
    start_one(cluster, node, os.environ)
    deadline = time.monotonic() + READY_DEADLINE_S
    while not _is_ready(node.get("api") or node["http"]):
        if time.monotonic() > deadline:
            raise SystemExit(f"{name} is not ready after {READY_DEADLINE_S} s")
        time.sleep(0.02)
    return used_s(node["pid"])


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def one_run() -> dict[str, float]:
    """Every figure once, of a new cluster."""
    folder = Path(tempfile.mkdtemp(prefix="raftoss-bench-"))
    try:
        up = command_s("up", "--detach", "--dir", str(folder / "cluster"))
        cluster = load_required(folder / "cluster")
        try:
            return {
                "up": up + sum(used_s(node["pid"]) for node in cluster.nodes()),
                "ossctl_in_up": up,
                "ls": command_s("ls", "--dir", str(cluster.folder)),
                "raftmeta": restart_s(cluster, "meta-3"),
                "blobd": restart_s(cluster, "blob-6"),
                "frontend": restart_s(cluster, "frontend-1"),
            }
        finally:
            stop_all(cluster)
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Start clusters one after the other, print the medians, clean up."""
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = [one_run() for _ in range(parser.parse_args().runs)]
    medians = {name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]}
    print(json.dumps({"cpu_s": medians, "runs": len(runs)}, indent=1))


if __name__ == "__main__":
    main()
