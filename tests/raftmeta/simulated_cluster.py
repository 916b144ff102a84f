"""A whole cluster in one thread: virtual time, a hostile network, disks that lose power.

One seed decides everything, so a failing run can be repeated. The cluster checks while it
runs: one leader a term, equal entries at equal indexes, nothing acknowledged is ever
missing, reads see every write acknowledged before they began.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from osscore.errors import StoreError
from raftmeta.commands import AnyResult, Done
from raftmeta.engine import Applied, Engine
from raftmeta.journal import Journal
from raftmeta.messages import AnyMessage
from raftmeta.settings import JournalSettings, RaftIdentity, RaftSettings
from tests.fakes.disk import PowerCut, SimulatedDisk

TICK_S = 0.02
SETTINGS = RaftSettings(
    journal=JournalSettings(segment_bytes=600, cut_bytes=1500, keep_bytes=700, cache_bytes=400)
)
DATA = Path("/data")
MISFORTUNES = (
    *("partition", "one_way", "heal", "weather", "kill", "power", "power_at", "all_power"),
    *("pause", "start", "start", "start", "cut_logs", "wipe"),
)


class Broken(AssertionError):
    """The cluster broke a promise."""


class Network:
    """Carries encoded messages with delay; loses, doubles and reorders them if told to."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now_s = 1000.0
        self.loss = 0.0
        self.doubling = 0.0
        self.delay_max_s = 0.01
        self.cut: set[tuple[str, str]] = set()  # (from, to)
        self._order = itertools.count()
        self._queue: list[tuple[float, int, str, str, bytes]] = []
        self.receivers: dict[str, Callable[[str, AnyMessage], None]] = {}
        self._decoder = msgspec.msgpack.Decoder(AnyMessage)

    def monotonic_s(self) -> float:
        return self.now_s

    def send(self, source: str, target: str, message: AnyMessage) -> None:
        copies = 1 + (self.rng.random() < self.doubling)
        for _ in range(copies):
            if (source, target) in self.cut or self.rng.random() < self.loss:
                continue
            at_s = self.now_s + self.rng.random() * self.delay_max_s
            data = msgspec.msgpack.encode(message)
            heapq.heappush(self._queue, (at_s, next(self._order), source, target, data))

    def due(self) -> list[tuple[str, str, AnyMessage]]:
        found = []
        while self._queue and self._queue[0][0] <= self.now_s:
            _, _, source, target, data = heapq.heappop(self._queue)
            if (source, target) not in self.cut:
                found.append((source, target, self._decoder.decode(data)))
        return found

    def forget(self, source: str, target: str) -> None:
        """What is on the way from source to target is lost."""
        self._queue = [item for item in self._queue if (item[2], item[3]) != (source, target)]
        heapq.heapify(self._queue)


class SimulatedLinks:
    """Implements raftmeta.transport.Links."""

    def __init__(self, member: str, others: tuple[str, ...], network: Network) -> None:
        self._member = member
        self._others = others
        self._network = network

    def start(
        self,
        poller: Any,
        *,
        on_message: Callable[[str, AnyMessage], None],
        on_change: Callable[[str, bool], None],
    ) -> None:
        self._network.receivers[self._member] = on_message
        for other in self._others:
            on_change(other, True)

    def send(self, member: str, message: AnyMessage) -> bool:
        self._network.send(self._member, member, message)
        return True

    def has_room(self, member: str) -> bool:
        return True

    def drop(self, member: str) -> None:
        self._network.forget(member, self._member)

    def step(self) -> None:
        """Nothing to connect."""

    def close(self) -> None:
        self._network.receivers.pop(self._member, None)


@dataclass
class Machine:
    """A catalog whose last transactions a power cut may take, back to a checkpoint."""

    cluster: "Cluster"
    member: str
    applied: list[tuple[int, bytes]] = field(default_factory=list)
    durable_count: int = 0

    @property
    def applied_index(self) -> int:
        return self.applied[-1][0] if self.applied else 0

    def apply(self, index: int, blob: bytes) -> list[AnyResult]:
        if index <= self.applied_index:
            raise Broken(f"{self.member} applies {index} after {self.applied_index}")
        known = self.cluster.committed.setdefault(index, blob)
        if known != blob:
            raise Broken(f"{self.member} applies another entry {index} than others did")
        self.applied.append((index, blob))
        return [Done()]

    def checkpoint(self) -> int:
        self.durable_count = len(self.applied)
        return self.applied_index

    def lose_power(self, rng: random.Random) -> None:
        del self.applied[rng.randint(self.durable_count, len(self.applied)) :]


@dataclass
class Member:
    """One machine: disk, catalog, and the process while it runs."""

    id: str
    disk: SimulatedDisk
    machine: Machine
    folder: Path
    journal: Journal | None = None
    engine: Engine | None = None
    paused_until_s: float = 0.0
    asked_s: float = 0.0
    lagging: bool = False
    wiped: bool = False


class Cluster:
    """Members, network, clients and the judge."""

    def __init__(self, seed: int, member_count: int = 3) -> None:
        self.rng = random.Random(seed)
        self.network = Network(self.rng)
        self.committed: dict[int, bytes] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.leaders: dict[int, str] = {}
        self.reads = 0
        self.installs = 0
        self._numbers = itertools.count()
        names = [f"m{at}" for at in range(1, member_count + 1)]
        self.addresses = dict.fromkeys(names, "simulated:1")
        self.members: dict[str, Member] = {}
        for name in names:
            disk = SimulatedDisk(directories=(DATA,))
            folder = DATA / "state-1"
            Journal.create(folder, disk=disk, settings=SETTINGS.journal, random=self.rng.randbytes)
            member = Member(name, disk, Machine(self, name), folder)
            self.members[name] = member
            self.start(name)

    # --- life and death -----------------------------------------------------------------

    def start(self, name: str) -> None:
        if self.members[name].engine is None and not self.members[name].wiped:
            self._guarded(name, lambda: self._start(self.members[name]))

    def _start(self, member: Member) -> None:
        member.journal = Journal.open(
            member.folder,
            disk=member.disk,
            settings=SETTINGS.journal,
            random=self.rng.randbytes,
        )
        member.lagging = False
        identity = RaftIdentity(member.id, self.addresses, "simulated:1", b"c" * 16)
        member.engine = Engine(
            identity=identity,
            journal=member.journal,
            machine=member.machine,
            links=SimulatedLinks(member.id, identity.others, self.network),
            settings=SETTINGS,
            monotonic_s=self.network.monotonic_s,
            jitter=self.rng.random,
            on_lag=lambda: setattr(member, "lagging", True),
        )

    def kill(self, name: str) -> None:
        """kill -9: what the process wrote stays, what it held is gone."""
        member = self.members[name]
        member.engine = member.journal = None
        member.disk.cut_after = None
        self.network.receivers.pop(name, None)
        for other in self.members:
            self.network.forget(other, name)

    def cut_power(self, name: str) -> None:
        self.kill(name)
        member = self.members[name]
        member.disk = member.disk.power_cut(self.rng)
        member.machine.lose_power(self.rng)

    def wipe(self, name: str) -> None:
        """The disk is replaced by an empty one; the member is joining until installed."""
        self.kill(name)
        member = self.members[name]
        member.disk = SimulatedDisk(directories=(DATA,))
        member.machine = Machine(self, name)
        member.wiped = True

    # --- time ---------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        until_s = self.network.now_s + seconds
        while self.network.now_s < until_s:
            self.step()

    def step(self) -> None:
        self.network.now_s += TICK_S * self.rng.uniform(0.5, 1.5)
        for source, target, message in self.network.due():
            receiver = self.network.receivers.get(target)
            if receiver is not None and not self._paused(target):
                self._guarded(target, lambda r=receiver, s=source, m=message: r(s, m))
            elif receiver is not None and self.rng.random() < 0.9:
                self.network.send(source, target, message)  # waits in the socket
        for name in self.rng.sample(sorted(self.members), len(self.members)):
            member = self.members[name]
            if member.engine is not None and not self._paused(name):
                self._guarded(name, lambda m=member: m.engine.tick(0.0))
            self._note_leader(member)
            if member.lagging or member.wiped:
                self._install(member)

    def _paused(self, name: str) -> bool:
        return self.members[name].paused_until_s > self.network.now_s

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except PowerCut:
            self.cut_power(name)

    def _note_leader(self, member: Member) -> None:
        if member.engine is not None and member.engine.core.is_leader:
            term = member.engine.core.term
            if self.leaders.setdefault(term, member.id) != member.id:
                raise Broken(f"{self.leaders[term]} and {member.id} both lead term {term}")

    def _install(self, member: Member) -> None:
        """What the daemon does: fetch a copy from a leader.

        A voter that fell behind takes it as it is: all in it is committed. A member that
        lost its disk takes it only from a leader confirmed without it.
        """
        if self._paused(member.id):
            return
        for other in self.members.values():
            if other is member or other.engine is None or not other.engine.core.is_leader:
                continue
            source, term = other, other.engine.core.term
            if not member.wiped:
                self._take_copy(member, source, term)
                return

            def copy(index: int | None, source: Member = source, term: int = term) -> None:
                if index is not None and member.wiped:
                    self._take_copy(member, source, term)

            if member.asked_s + 1.0 < self.network.now_s:
                member.asked_s = self.network.now_s
                other.engine.confirm_read(copy, excluding=member.id)

    def _take_copy(self, member: Member, source: Member, term: int) -> None:
        assert source.journal is not None
        entries = list(source.machine.applied)
        if not entries or entries[-1][0] <= member.machine.applied_index:
            return
        base_index = entries[-1][0]
        base_term = source.journal.term_at(base_index)
        if base_term is None:
            return
        old = member.journal
        voted_for: str | None = source.id
        if old is not None and old.term >= term:
            term, voted_for = old.term, old.voted_for
        if old is not None and old.term_at(base_index) == base_term:
            return  # it has caught up by itself
        self.kill(member.id)
        member.folder = DATA / f"state-{next(self._numbers) + 2}"
        fresh = Journal.create(
            member.folder,
            disk=member.disk,
            base_index=base_index,
            base_term=base_term,
            term=term,
            voted_for=voted_for,
            settings=SETTINGS.journal,
            random=self.rng.randbytes,
        )
        fresh.close()
        member.machine.applied = entries
        member.machine.durable_count = len(entries)
        member.wiped = member.lagging = False
        self.installs += 1
        self.start(member.id)

    # --- clients --------------------------------------------------------------------------

    def write(self) -> None:
        """Propose something new wherever somebody believes to lead."""
        for member in self.members.values():
            if member.engine is None or not member.engine.core.is_leader or self._paused(member.id):
                continue
            blob = b"w%d" % next(self._numbers) + b"." * self.rng.randint(0, 120)

            def done(outcome: Applied | StoreError, blob: bytes = blob) -> None:
                if isinstance(outcome, Applied):
                    if self.committed.get(outcome.index) != blob:
                        raise Broken(f"{blob!r} acknowledged at {outcome.index}, not applied there")
                    self.acknowledged[blob] = outcome.index

            member.engine.propose(blob, done)

    def read(self) -> None:
        """A linearizable read wherever somebody believes to lead."""
        for member in self.members.values():
            if member.engine is None or not member.engine.core.is_leader or self._paused(member.id):
                continue
            before = max(self.acknowledged.values(), default=0)

            def done(index: int | None, member: Member = member, before: int = before) -> None:
                if index is None:
                    return
                self.reads += 1
                if member.machine.applied_index < before:
                    raise Broken(
                        f"{member.id} read at {member.machine.applied_index} "
                        f"what was acknowledged at {before}"
                    )

            member.engine.confirm_read(done)

    def cut_logs(self) -> None:
        for member in self.members.values():
            if member.engine is not None and not self._paused(member.id):
                durable_index = member.machine.checkpoint()
                self._guarded(member.id, lambda m=member, d=durable_index: m.engine.cut_log(d))

    # --- the verdict ----------------------------------------------------------------------

    def heal(self) -> None:
        self.network.cut.clear()
        self.network.loss = self.network.doubling = 0.0
        self.network.delay_max_s = 0.01
        for member in self.members.values():
            member.disk.cut_after = None
            if not member.wiped:
                member.paused_until_s = 0.0
            self.start(member.id)

    def settle(self, within_s: float = 60.0) -> None:
        """All up, all equal, nothing acknowledged missing; else Broken."""
        self.heal()
        until_s = self.network.now_s + within_s
        goal = len(self.acknowledged) + 1
        while self.network.now_s < until_s:
            self.run(0.5)
            if len(self.acknowledged) < goal:
                self.write()
            elif self._equal():
                break
        else:
            raise Broken(f"the cluster did not settle: {self._describe()}")
        for member in self.members.values():
            held = dict(member.machine.applied)
            for blob, index in self.acknowledged.items():
                if held.get(index) != blob:
                    raise Broken(f"{member.id} lost {blob!r}, acknowledged at {index}")

    def _equal(self) -> bool:
        states = [member.machine.applied for member in self.members.values()]
        return all(state == states[0] for state in states) and states[0][-1][0] >= max(
            self.acknowledged.values()
        )

    def _describe(self) -> str:
        parts = []
        for member in self.members.values():
            core = None if member.engine is None else member.engine.core
            parts.append(
                f"{member.id} at {member.machine.applied_index}, "
                f"term {core and core.term}, leader {core and core.leader_id}, "
                f"lagging {member.lagging}, wiped {member.wiped}"
            )
        return "; ".join(parts)


def chaos(cluster: Cluster, rounds: int, *, wipes: bool = False) -> None:
    """Misfortune at random, with clients at work all the while."""
    rng = cluster.rng
    for _ in range(rounds):
        cluster.run(rng.uniform(0.02, 0.4))
        for _ in range(rng.randint(0, 4)):
            cluster.write()
        cluster.read()
        if rng.random() < 0.5:
            _misfortune(cluster, wipes=wipes)


def _misfortune(cluster: Cluster, *, wipes: bool) -> None:
    rng, network = cluster.rng, cluster.network
    names = sorted(cluster.members)
    name = rng.choice(names)
    kind = rng.choice(MISFORTUNES)
    if kind == "partition":
        side = set(rng.sample(names, rng.randint(1, len(names) - 1)))
        network.cut = {(a, b) for a in names for b in names if (a in side) != (b in side)}
    elif kind == "one_way":
        network.cut.add((name, rng.choice(names)))
    elif kind == "heal":
        network.cut.clear()
    elif kind == "weather":
        network.loss = rng.choice((0.0, 0.0, 0.05, 0.3))
        network.doubling = rng.choice((0.0, 0.2))
        network.delay_max_s = rng.choice((0.001, 0.01, 0.05, 0.3))
    elif kind == "kill":
        cluster.kill(name)
    elif kind == "power":
        cluster.cut_power(name)
    elif kind == "power_at":
        disk = cluster.members[name].disk
        disk.cut_after = disk.operation_count + rng.randint(0, 12)
    elif kind == "all_power":
        for each in names:
            if not cluster.members[each].wiped:
                cluster.cut_power(each)
    elif kind == "pause":
        cluster.members[name].paused_until_s = max(
            cluster.members[name].paused_until_s, network.now_s + rng.uniform(0.1, 3.0)
        )
    elif kind == "start":
        for each in names:
            cluster.start(each)
    elif kind == "cut_logs":
        cluster.cut_logs()
    elif kind == "wipe" and wipes and not any(m.wiped for m in cluster.members.values()):
        cluster.wipe(name)
