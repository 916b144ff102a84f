"""`python -m tests.surface.fuzz --requests 20000 --seed 1`: anything, at every door.

Makes a cluster of `ossctl up` with two frontends, shoots, prints one JSON report and exits 1
when an answer was 500 or the like, a process died, a log has a traceback, memory grew past
its bound, or the store did not work afterwards. Linux.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from tests.interruption import Interrupted, ignore_interruptions, interruptible
from tests.surface.cluster import SurfaceStore
from tests.surface.fuzz.campaign import Campaign


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.surface.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peak-mib-max", type=float, default=300)
    parser.add_argument("--minutes-max", type=int, default=30)
    return parser.parse_args()


def main() -> int:
    """Start, shoot, judge, print, clean up; the exit status."""
    options = arguments()
    with interruptible(seconds_max=60 * options.minutes_max):
        folder = Path(tempfile.mkdtemp(prefix="raftoss-fuzz-"))
        store = SurfaceStore(folder / "cluster")
        try:
            store.create("--frontends", "2")
            campaign = Campaign(store, options.requests, options.seed, options.peak_mib_max)
            report = campaign.run()
        except (Interrupted, AssertionError, OSError) as error:
            sys.stderr.write(f"fuzz: {error}\n")
            return 1
        finally:
            ignore_interruptions()
            store.end()
            shutil.rmtree(folder)
    print(json.dumps(report, indent=1))
    return 1 if report["violations_count"] else 0


if __name__ == "__main__":
    sys.exit(main())
