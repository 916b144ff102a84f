"""`python -m tests.slow`: 200 slow clients at once, while a normal one measures.

Uploads at 100 kB/s for 60 s, downloads that take nothing for 60 s, one of each kind that
pauses for 150 s, then 200 fast uploads at once. Prints one JSON report: what the normal
client saw before and meanwhile, and the frontend's memory against its bound. Exits 1 when a
slow client failed, the normal one was held up, or the memory was over its bound. Linux.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli import local_cluster, local_process
from cli.cluster import bring_up, stop_all
from cli.connection import local_connection
from cli.local_cluster import LocalCluster
from cli.output import UsageError
from osscore.errors import StoreError
from tests.big.room import peak_bytes
from tests.interruption import Interrupted, ignore_interruptions, interruptible
from tests.slow import crowd
from tests.slow.clients import Pace, SlowFailed
from tests.slow.measuring import measuring, normal_session
from tests.slow.usual import SMALL_GET, SMALL_PUT, Usual, UsualFailed
from tests.slow.ways import Server

MIB = 1 << 20
ALLOWANCE_BYTES = 640 * 1024
"""Most that a connection may hold beside what is counted: a piece each way that a client who
was quick keeps waiting (512 KiB), and the connection itself (docs/adr/0011)."""
SLOWER_MAX = 3.0
SLACK_MS = 250.0
"""On two shared cores that also play 200 clients."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.slow", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="connections at once")
    parser.add_argument("--bytes-per-s", type=int, default=100_000, help="of a slow upload")
    parser.add_argument("--seconds", type=float, default=60, help="of the slow clients")
    parser.add_argument("--long-pause", type=float, default=150, help="seconds, one of each kind")
    parser.add_argument("--large-mib", type=int, default=64, help="the normal client's object")
    parser.add_argument("--fast-mib", type=int, default=16, help="each of the fast uploads")
    parser.add_argument("--bodies-mib", type=int, default=256, help="the frontend's bound")
    parser.add_argument("--slack-ms", type=float, default=SLACK_MS, help="beside three times")
    parser.add_argument("--small-slack-ms", type=float, default=SLACK_MS, help="of 4 KiB")
    parser.add_argument("--minutes-max", type=int, default=20)
    return parser.parse_args()


@dataclass(slots=True)
class Story:
    """What is done to one cluster, and what was seen."""

    cluster: LocalCluster
    options: argparse.Namespace
    violations: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def _pid(self) -> int:
        return int(self.cluster.frontends[0]["pid"])

    async def tell(self) -> None:
        """All of it."""
        connection = local_connection(self.cluster.folder / "cluster.json")
        async with normal_session(connection) as session:
            api = str(self.cluster.frontends[0]["api"])
            server = Server(session, api, str(self.cluster.blobs[0]["http"]))
            large_bytes = self.options.large_mib * MIB
            async with measuring(self.cluster.folder, large=large_bytes, rounds=4) as normal:
                quiet = await normal.end()
            self.figures["idle_peak_mib"] = round(peak_bytes(self._pid) / MIB)
            await self._slow(server, quiet)
            await self._fast(server)
            async with session.get(f"{api}/metrics") as answer:
                self.figures["recalled"] = metric(await answer.text(), "oss_recalled_loans_total")

    async def _slow(self, server: Server, quiet: Usual) -> None:
        options = self.options
        pace = Pace(
            bytes_per_s=options.bytes_per_s, upload_s=options.seconds, pause_s=options.seconds
        )
        long_pause = Pace(
            bytes_per_s=options.bytes_per_s, upload_s=options.seconds, pause_s=options.long_pause
        )
        stored = await crowd.store_for_readers(server, sizes=(3000, 5 * MIB, crowd.LONG_BYTES))
        under_way = crowd.many(server, stored, pace, options.count)
        under_way += crowd.each_kind(server, stored, long_pause)
        _say(f"{len(under_way)} slow clients")
        slow = asyncio.ensure_future(crowd.failures(under_way))
        async with measuring(self.cluster.folder, large=options.large_mib * MIB) as normal:
            # When the pauses end all go on at full speed: that is no slow client any more.
            await asyncio.wait({slow}, timeout=0.9 * options.seconds)
            crowded = await normal.end()
        self.violations += await slow
        self.figures["quiet_ms"], self.figures["crowded_ms"] = (
            quiet.medians_ms(),
            crowded.medians_ms(),
        )
        self.figures["crowded_worst_ms"] = crowded.worst_ms()
        self.violations += judge_speed(
            quiet.medians_ms(),
            crowded.medians_ms(),
            slack_ms=options.slack_ms,
            small_slack_ms=options.small_slack_ms,
        )
        self._judge_memory("slow", len(under_way))

    async def _fast(self, server: Server) -> None:
        count = self.options.count
        _say(f"{count} fast uploads")
        began_s = time.monotonic()
        self.violations += await crowd.failures(
            crowd.many_fast(server, count, size_bytes=self.options.fast_mib * MIB)
        )
        self.figures["fast_seconds"] = round(time.monotonic() - began_s, 1)
        self._judge_memory("fast", count)

    def _judge_memory(self, label: str, connections: int) -> None:
        """The peak against what is counted, what each connection may, and an idle process."""
        found_mib = round(peak_bytes(self._pid) / MIB)
        counted_mib = self.options.bodies_mib * (1 + KEPT_SHARE)
        bound_mib = round(counted_mib + connections * ALLOWANCE_BYTES / MIB + BARE_MIB)
        self.figures[f"{label}_peak_mib"] = found_mib
        self.figures[f"{label}_bound_mib"] = bound_mib
        if found_mib > bound_mib:
            self.violations.append(f"{label}: the frontend took {found_mib} MiB, not {bound_mib}")


KEPT_SHARE = 0.5
"""Freed memory that a frontend keeps while it is busy, of what bodies may hold."""
BARE_MIB = 100
"""The process itself: its code, threads, and room that its allocator cannot reuse."""


def metric(text: str, name: str) -> int:
    """The value of a metric without labels."""
    values = dict(line.rsplit(" ", 1) for line in text.splitlines())
    return int(float(values[name]))


def judge_speed(
    quiet: dict[str, float],
    crowded: dict[str, float],
    *,
    slack_ms: float = SLACK_MS,
    small_slack_ms: float = SLACK_MS,
) -> list[str]:
    """Complaints about what became too slow for a normal client. Small bodies need no memory
    that others hold, so they are held to a slack of their own."""
    slack = {SMALL_PUT: small_slack_ms, SMALL_GET: small_slack_ms}
    return [
        f"{kind} took {crowded[kind]} ms beside slow clients and {before} ms without"
        for kind, before in quiet.items()
        if crowded[kind] > SLOWER_MAX * before + slack.get(kind, slack_ms)
    ]


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The report."""
    os.environ["OSS_BODIES_BYTES"] = str(options.bodies_mib * MIB)
    _say("starting the cluster")
    cluster, _ = bring_up(folder / "cluster")
    story = Story(cluster, options)
    asyncio.run(story.tell())
    return {**story.figures, "violations": story.violations}


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
    """Run, judge, print, clean up; the exit status."""
    options = arguments()
    if not Path("/proc/self/status").exists():
        _say("slow: needs Linux, where /proc tells what memory a process took")
        return 2
    with interruptible(seconds_max=60 * options.minutes_max):
        folder = Path(tempfile.mkdtemp(prefix="raftoss-slow-"))
        try:
            report = run(folder, options)
        except (SlowFailed, UsualFailed, StoreError, UsageError, OSError, Interrupted) as error:
            _say(f"slow: {error}")
            return 1
        finally:
            clear(folder)
    print(json.dumps(report, indent=1))
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
