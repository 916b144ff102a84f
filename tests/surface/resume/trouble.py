"""Connections cut at random points, and processes killed at such points now and then."""

import http.client
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from tests.surface.cluster import SurfaceStore
from tests.surface.processes import peaks_mib

SELF = "this program"
KILLS_SHARE = 0.4
"""So many interruptions are a kill -9 instead of a cut, while there are kills left."""


class Cut(Exception):
    """This connection ends here, in the middle."""


BROKEN = (Cut, OSError, http.client.HTTPException)
"""How a request ends that did not get through."""


@dataclass
class Trouble:
    """Interruptions left to make, at points that a seed decides."""

    store: SurfaceStore
    random: Random
    cuts_left: int = 0
    kills_left: int = 0
    cuts: int = 0
    kills: int = 0
    peaks: dict[str, float] = field(default_factory=dict)
    _dead: list[str] = field(default_factory=list)

    def allow(self, *, cuts: int, kills: int) -> None:
        """So many for what comes next."""
        self.cuts_left, self.kills_left = cuts, kills
        self.cuts = self.kills = 0

    def disturbed(self, pieces: Iterator[bytes], size_bytes: int, node: str) -> Iterator[bytes]:
        """The same pieces, of so many bytes in all; somewhere within them Cut is raised, or
        `node` killed, as long as there is trouble left."""
        more = self.cuts_left + self.kills_left
        at = self.random.randrange(size_bytes) if more and size_bytes else None
        passed = 0
        for piece in pieces:
            if at is not None and passed + len(piece) > at:
                yield piece[: at - passed]
                self.strike(node)
                yield piece[at - passed :]
                at = None
            else:
                yield piece
            passed += len(piece)

    def strike(self, node: str) -> None:
        """Kill the node, or raise Cut."""
        wants_kill = self.kills_left and self.random.random() < KILLS_SHARE
        if wants_kill or not self.cuts_left:
            self.kills_left -= 1
            self.kills += 1
            self.note_peaks()
            self.store.kill(node)
            self._dead.append(node)
            return
        self.cuts_left -= 1
        self.cuts += 1
        raise Cut()

    def heal(self) -> None:
        """Start again what was killed."""
        while self._dead:
            self.store.ossctl("start", self._dead.pop())

    def note_peaks(self) -> None:
        """The most memory each process ever took, those about to be killed included."""
        for name, peak in peaks_mib({**self.store.running(), SELF: os.getpid()}).items():
            self.peaks[name] = max(peak, self.peaks.get(name, 0.0))
