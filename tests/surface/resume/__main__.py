"""`python -m tests.surface.resume --size 1GiB`: every way in and out, interrupted and gone on.

Makes a cluster of `ossctl up` with two frontends, moves one body through each way with
connections cut at random points and processes killed -9, and fetches it in the same trouble.
Prints one JSON report; exits 1 when a byte differs or a process took too much memory. Linux.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from tests.big.content import Content, parse_size
from tests.interruption import Interrupted, ignore_interruptions, interruptible
from tests.surface import tokens
from tests.surface.cluster import SurfaceStore
from tests.surface.resume.downloads import fetch
from tests.surface.resume.trouble import Trouble
from tests.surface.resume.uploads import WAYS, Journey, NotTaken

FROM_THE_START = ("put", "single", "temp-frontend", "temp-blob-daemon")
"""Ways whose bodies begin anew after each interruption: they meet fewer."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.surface.resume", description=__doc__)
    parser.add_argument("--size", type=parse_size, default=1 << 30, help="1GiB, 24MiB, bytes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cuts", type=int, default=6, help="of each body, each way")
    parser.add_argument("--kills", type=int, default=2, help="of each body, each way")
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--peak-mib-max", type=float, default=300)
    parser.add_argument("--minutes-max", type=int, default=40)
    return parser.parse_args()


def move(store: SurfaceStore, way: str, number: int, options: argparse.Namespace) -> Any:
    """One body in and out; what happened, and what was wrong."""
    trouble = Trouble(store, Random(f"{options.seed} {way}"))
    # Bodies of their own: what the store knows already would not have to be brought.
    content = Content(size_bytes=options.size, seed=options.seed * 100 + number)
    journey = Journey(store, trouble, content, f"resume/{way}")
    fewer = 3 if way in FROM_THE_START else 1
    trouble.allow(cuts=options.cuts // fewer, kills=options.kills)
    began_s = time.monotonic()
    source = WAYS[way](journey)
    up = _told(trouble, began_s) | {"requests": journey.requests, "sent": journey.sent_bytes}
    trouble.allow(cuts=options.cuts, kills=options.kills)
    began_s = time.monotonic()
    found = fetch(source, content, trouble)
    down = _told(trouble, began_s)
    trouble.note_peaks()
    wrong = [] if found == journey.sha256 else [f"{way}: other bytes came out"]
    if source.anonymous:
        tokens.data(tokens.remove(store, journey.sha256))
    else:
        wrong += [] if len(store.versions(journey.name)) == 1 else [f"{way}: several versions"]
        store.remove_for_good(journey.name)
    doors = sorted(journey.doors)
    return {"doors": doors, "up": up, "down": down, "peaks": trouble.peaks, "wrong": wrong}


def _told(trouble: Trouble, began_s: float) -> dict[str, Any]:
    seconds = round(time.monotonic() - began_s, 1)
    return {"seconds": seconds, "cuts": trouble.cuts, "kills": trouble.kills}


def run(store: SurfaceStore, options: argparse.Namespace) -> dict[str, Any]:
    """The report."""
    peaks: dict[str, float] = {}
    violations: list[str] = []
    moved = {}
    for number, way in enumerate(options.ways):
        try:
            found = move(store, way, number, options)
        except (NotTaken, AssertionError) as error:
            violations.append(f"{way}: {error!r}")
            store.revive()
            continue
        sys.stderr.write(f"{way}: up {found['up']}, down {found['down']}\n")
        violations += found["wrong"]
        moved[way] = {key: found[key] for key in ("doors", "up", "down")}
        for name, peak in found["peaks"].items():
            peaks[name] = max(peak, peaks.get(name, 0.0))
    violations += [
        f"{name} took {peak} MiB, more than {options.peak_mib_max:g}"
        for name, peak in peaks.items()
        if peak > options.peak_mib_max
    ]
    return {
        "size_bytes": options.size,
        "seed": options.seed,
        "ways": moved,
        "peak_mib": peaks,
        "violations": violations,
    }


def main() -> int:
    """Start, move, judge, print, clean up; the exit status."""
    options = arguments()
    with interruptible(seconds_max=60 * options.minutes_max):
        folder = Path(tempfile.mkdtemp(prefix="raftoss-resume-"))
        store = SurfaceStore(folder / "cluster")
        try:
            store.create("--frontends", "2")
            report = run(store, options)
        except (Interrupted, AssertionError, OSError) as error:
            sys.stderr.write(f"resume: {error}\n")
            return 1
        finally:
            ignore_interruptions()
            store.end()
            shutil.rmtree(folder)
    print(json.dumps(report, indent=1))
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
