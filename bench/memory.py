"""`python -m bench.memory`: what an idle `ossctl up` cluster occupies, as JSON (Linux).

PSS counts a page shared by n processes as 1/n for each, so the sum is what the machine
really gives.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

from cli.cluster import bring_up, stop_all


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no PSS for process {pid}")


def main() -> None:
    """Start a cluster, let it idle, print, clean up."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--idle-seconds", type=float, default=10)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="raftoss-bench-"))
    cluster, _ = bring_up(folder / "cluster")
    try:
        time.sleep(options.idle_seconds)
        found = {node["id"]: pss_bytes(node["pid"]) / 1e6 for node in cluster.nodes()}
        print(json.dumps({"pss_mb": found, "sum_mb": round(sum(found.values()), 1)}, indent=1))
    finally:
        stop_all(cluster)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
