"""One member of three, whose peers are the test itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from raftmeta.commands import Done
from raftmeta.engine import Engine
from raftmeta.entries import AnyResult
from raftmeta.journal import Journal
from raftmeta.membership import Membership
from raftmeta.messages import AnyMessage, Append, AskPreVote, AskVote, Entry, PreVote, Vote
from raftmeta.settings import JournalSettings, RaftSettings
from tests.fakes.clock import ManualClock
from tests.fakes.disk import SimulatedDisk
from tests.raftmeta.replicas import configuration

FOLDER = Path("/data/journal")
NO_OP = Entry(1, b"\x01")


class RecordingLinks:
    """Implements raftmeta.transport.Links; keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, AnyMessage]] = []
        self.dropped: list[str] = []

    def start(
        self,
        poller: Any,
        *,
        on_message: Callable[[str, AnyMessage], None],
        on_change: Callable[[str, bool], None],
    ) -> None:
        self.deliver = on_message
        for other in ("b", "c"):
            on_change(other, True)

    def send(self, member: str, message: AnyMessage) -> bool:
        self.sent.append((member, message))
        return True

    def has_room(self, member: str) -> bool:
        return True

    def drop(self, member: str) -> None:
        self.dropped.append(member)

    def step(self) -> None:
        """Nothing to connect."""

    def close(self) -> None:
        """Nothing to close."""

    def take(self, kind: type) -> list[Any]:
        """What was sent of that kind since the last look; all else is forgotten."""
        found = [message for _, message in self.sent if isinstance(message, kind)]
        self.sent.clear()
        return found


class CountingMachine:
    """Keeps what is applied."""

    def __init__(self, applied_index: int = 0) -> None:
        self.applied_index = applied_index
        self.blobs: list[bytes] = []

    def apply(self, index: int, blob: bytes) -> list[AnyResult]:
        self.applied_index = index
        self.blobs.append(blob)
        return [Done()]


class LoneEngine:
    """Member `a`; the test speaks for the others."""

    def __init__(
        self,
        *,
        disk: SimulatedDisk | None = None,
        machine: CountingMachine | None = None,
        settings: JournalSettings | None = None,
        members: str = "abc",
    ) -> None:
        self.disk = disk or SimulatedDisk()
        self.clock = ManualClock(monotonic_s=100.0)
        self.links = RecordingLinks()
        self.machine = machine or CountingMachine()
        self.lags = 0
        settings = settings or JournalSettings()
        if not Journal.exists(FOLDER, disk=self.disk):
            Journal.create(FOLDER, disk=self.disk, settings=settings).close()
        self.journal = Journal.open(FOLDER, disk=self.disk, settings=settings)
        addresses = {name: f"{name}:1" for name in members}
        self.membership = Membership("a", configuration(addresses))
        self.engine = Engine(
            membership=self.membership,
            journal=self.journal,
            machine=self.machine,
            links=self.links,
            settings=RaftSettings(),
            monotonic_s=self.clock.monotonic_s,
            jitter=lambda: 0.5,
            on_lag=self._lag,
        )

    def _lag(self) -> None:
        self.lags += 1

    def hear(self, member: str, message: AnyMessage) -> None:
        self.links.deliver(member, message)

    def tick(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.engine.tick(0.0)

    def follow(self, term: int, *entries: Entry, prev: tuple[int, int] = (0, 0)) -> None:
        """Hear entries from leader `b`."""
        self.hear("b", Append(term, *prev, 0, entries))

    def lead(self) -> int:
        """Win an election with the word of just enough others; answers the term."""
        needed = self.membership.others[: self.membership.majority - 1]
        self.tick(2.0)
        asked = self.links.take(AskPreVote)[0]
        for other in needed:
            self.hear(other, PreVote(asked.round, self.engine.core.term))
        self.tick()
        term = self.links.take(AskVote)[0].term
        for other in needed:
            self.hear(other, Vote(term))
        assert self.engine.core.is_leader
        self.links.sent.clear()
        return self.engine.core.term
