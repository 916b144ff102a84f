"""What must not happen while anything at all is sent to a store."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.local import wait_for
from tests.surface.cluster import SurfaceStore
from tests.surface.fuzz.shots import Shot
from tests.surface.processes import descriptors, peaks_mib
from tests.surface.raw import RawAnswer

MIB = 1 << 20
BUSY = (503, 507)
"""The only failures of the store that a request may meet."""
BUSY_SHARE_MAX = 0.02
VIOLATIONS_SHOWN_MAX = 20
DESCRIPTORS_MORE_MAX = 60
SILENCE_BYTES_MAX = 60_000
"""A longer request may be refused, and cut off, before it is all sent."""


@dataclass
class Judge:
    """Counts answers; collects complaints. Many threads may tell it."""

    statuses: Counter[int] = field(default_factory=Counter)
    doors: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    violations_count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, door: str, shot: Shot, answer: RawAnswer | None) -> None:
        """One shot and what came of it; None: neither an answer nor an end in time."""
        with self._lock:
            status = answer.status if answer is not None else -1
            self.statuses[status] += 1
            self.doors[door] += 1
            if answer is not None and status >= 500 and status not in BUSY:
                self._complain(f"{door} answered {status} {answer.body[:300]!r}", shot)
            elif shot.must_answer and len(shot.sent) <= SILENCE_BYTES_MAX and status <= 0:
                self._complain(f"{door} did not answer ({status})", shot)

    def complain(self, text: str) -> None:
        """Something that is no answer."""
        with self._lock:
            self.violations_count += 1
            if len(self.violations) < VIOLATIONS_SHOWN_MAX:
                self.violations.append(text)

    def _complain(self, text: str, shot: Shot) -> None:
        self.violations_count += 1
        if len(self.violations) < VIOLATIONS_SHOWN_MAX:
            self.violations.append(f"{text} to {shot.sent[:600]!r}")

    def check_busy(self) -> None:
        """A healthy store is seldom too busy."""
        busy, count = sum(self.statuses[code] for code in BUSY), self.statuses.total()
        if busy > max(5, BUSY_SHARE_MAX * count):
            self.complain(f"{busy} of {count} answers were 503 or 507")


@dataclass(frozen=True)
class Before:
    """The processes of a store when the shots began."""

    pids: dict[str, int]
    descriptors: dict[str, int]
    log_sizes: dict[Path, int]


def look(store: SurfaceStore) -> Before:
    """How the processes are now."""
    pids = store.running()
    return Before(pids, descriptors(pids), store.log_sizes())


def check_after(store: SurfaceStore, before: Before, judge: Judge, *, peak_mib_max: float) -> Any:
    """Complain about what the shots have done; answers the peaks."""
    pids = store.running()
    if pids != before.pids:
        judge.complain(f"processes were {before.pids}, are {pids}")
        return {}
    for node, lines in store.logged_since(before.log_sizes).items():
        for line in lines:
            if "Traceback" in line or '"exception"' in line:
                judge.complain(f"{node} logged {line[:2000]}")
                break
    found = peaks_mib(pids)
    for name, peak in found.items():
        if peak > peak_mib_max:
            judge.complain(f"{name} took {peak} MiB, more than {peak_mib_max:g}")
    try:
        wait_for(
            lambda: all(
                count <= before.descriptors[name] + DESCRIPTORS_MORE_MAX
                for name, count in descriptors(pids).items()
            ),
            what="connections to be let go",
        )
    except AssertionError as error:
        judge.complain(f"{error}: {before.descriptors} became {descriptors(pids)}")
    return found
