"""A whole cluster in one thread: virtual time, a hostile network, disks that lose power.

One seed decides everything, so a failing run can be repeated. The cluster checks while it
runs: one leader a term, equal entries at equal indexes, nothing acknowledged is ever
missing, reads see every write acknowledged before they began; a new leader has all that was
committed, and its members differ from the committed ones by at most one.
"""

import contextlib
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from osscore.errors import MetanodeRemoved, StoreError
from raftmeta.commands import Done
from raftmeta.engine import Applied, Engine
from raftmeta.entries import AnyResult, Batch, Entry
from raftmeta.journal import Journal
from raftmeta.members import Member, SetMembers
from raftmeta.membership import (
    MEMBERS,
    Change,
    Configuration,
    Membership,
    members_of,
)
from raftmeta.settings import JournalSettings, RaftSettings
from tests.fakes.disk import PowerCut, SimulatedDisk
from tests.raftmeta.simulated_network import Network, SimulatedLinks

TICK_S = 0.02
SETTINGS = RaftSettings(
    journal=JournalSettings(segment_bytes=600, cut_bytes=1500, keep_bytes=700, cache_bytes=400)
)
DATA = Path("/data")


class Broken(AssertionError):
    """The cluster broke a promise."""


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

    def configuration(self) -> Configuration:
        """What the catalog's table of members would say."""
        return configuration_in(self.applied, self.cluster.founders)

    def checkpoint(self) -> int:
        self.durable_count = len(self.applied)
        return self.applied_index

    def lose_power(self, rng: random.Random) -> None:
        del self.applied[rng.randint(self.durable_count, len(self.applied)) :]


@dataclass
class Machinery:
    """One machine: disk, catalog, and the process while it runs."""

    id: str
    disk: SimulatedDisk
    machine: Machine
    folder: Path
    journal: Journal | None = None
    engine: Engine | None = None
    membership: Membership | None = None
    paused_until_s: float = 0.0
    asked_s: float = 0.0
    lagging: bool = False
    wiped: bool = False
    removed: bool = False

    @property
    def is_learner(self) -> bool:
        """Runs, but does not count by its own log."""
        return (
            self.engine is not None
            and self.membership is not None
            and (not self.membership.is_voter)
        )


class Cluster:
    """Members, network, clients and the judge."""

    def __init__(self, seed: int, member_count: int = 3, spare_count: int = 0) -> None:
        self.rng = random.Random(seed)
        self.network = Network(self.rng)
        self.committed: dict[int, bytes] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.leaders: dict[int, str] = {}
        self.reads = 0
        self.installs = 0
        self._numbers = itertools.count()
        self.changes: list[Configuration] = []
        self.given_away = 0
        names = [f"m{at}" for at in range(1, member_count + spare_count + 1)]
        self.founders = tuple(
            Member(id=name, raft=f"{name}:1", url=f"http://{name}") for name in names[:member_count]
        )
        self.members: dict[str, Machinery] = {}
        for name in names[:member_count]:
            disk = SimulatedDisk(directories=(DATA,))
            folder = DATA / "state-1"
            Journal.create(folder, disk=disk, settings=SETTINGS.journal, random=self.rng.randbytes)
            self.members[name] = Machinery(name, disk, Machine(self, name), folder)
        for name in names[member_count:]:
            disk = SimulatedDisk(directories=(DATA,))
            self.members[name] = Machinery(
                name, disk, Machine(self, name), DATA / "state-1", wiped=True
            )
        for name in names[:member_count]:
            self.start(name)

    # --- life and death -----------------------------------------------------------------

    def start(self, name: str) -> None:
        member = self.members[name]
        if member.engine is None and not member.wiped and not member.removed:
            self._guarded(name, lambda: self._start(self.members[name]))

    def _start(self, member: Machinery) -> None:
        member.journal = Journal.open(
            member.folder,
            disk=member.disk,
            settings=SETTINGS.journal,
            random=self.rng.randbytes,
        )
        member.lagging = False
        member.membership = Membership(member.id, member.machine.configuration())
        member.engine = Engine(
            membership=member.membership,
            journal=member.journal,
            machine=member.machine,
            links=SimulatedLinks(member.id, tuple(self.members), self.network),
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
        member.removed = False

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
            self._guarded(name, lambda m=member: self._note_leader(m))
            if member.lagging or member.wiped:
                self._install(member)
            else:
                self._announce(member)

    def _paused(self, name: str) -> bool:
        return self.members[name].paused_until_s > self.network.now_s

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except PowerCut:
            self.cut_power(name)

    def _note_leader(self, member: Machinery) -> None:
        if member.engine is not None and member.engine.core.is_leader:
            term = member.engine.core.term
            if term not in self.leaders:
                self._judge_new_leader(member, term)
            if self.leaders.setdefault(term, member.id) != member.id:
                raise Broken(f"{self.leaders[term]} and {member.id} both lead term {term}")

    def _judge_new_leader(self, member: Machinery, term: int) -> None:
        """It has all that was committed before, and its members are those or one apart."""
        assert member.journal is not None and member.membership is not None
        if term < max(self.leaders, default=0) or not self.committed:
            return
        last = max(self.committed)
        if member.journal.last_index < last:
            raise Broken(f"{member.id} leads term {term} without committed entry {last}")
        if last > member.journal.base_index:
            found = member.journal.entries(last, bytes_max=1, count_max=1)[0].body[1:]
            if found != self.committed[last]:
                raise Broken(f"{member.id} leads term {term} with another entry {last}")
        before = {each.id for each in self.committed_configuration().members}
        now = {each.id for each in member.membership.latest.members}
        if len(before ^ now) > 1:
            raise Broken(f"{member.id} leads {now}, committed are {before}")

    def committed_configuration(self) -> Configuration:
        """The members after the last change that anybody ever applied."""
        return configuration_in(sorted(self.committed.items()), self.founders)

    # --- what the daemon does about members -------------------------------------------------

    def _reaches(self, one: str, other: str) -> bool:
        return not self.network.cut & {(one, other), (other, one)}

    def _announce(self, member: Machinery) -> None:
        """One who does not count, or hears nobody, asks the leader for the log each second."""
        engine, membership = member.engine, member.membership
        if engine is None or membership is None or self._paused(member.id):
            return
        counts = membership.is_voter
        if (counts and engine.silence_s < 3.0) or member.asked_s + 1.0 > self.network.now_s:
            return
        member.asked_s = self.network.now_s
        me = Member(id=member.id, raft=f"{member.id}:1", url=f"http://{member.id}")
        since = membership.latest.index if counts else None
        for leader in self.working_leaders():
            if not self._reaches(member.id, leader.id):
                continue
            try:
                leader.engine.changing.admit(me, counted_since=since)
            except MetanodeRemoved:
                self.kill(member.id)
                member.removed = True
                return
            except StoreError:
                continue

    def working_leaders(self) -> list[Any]:
        """Whoever believes to lead and is not paused."""
        return [
            member
            for member in self.members.values()
            if member.engine is not None
            and member.engine.core.is_leader
            and not self._paused(member.id)
        ]

    def change(self, change: Change) -> list[Applied | StoreError]:
        """Propose a change wherever somebody believes to lead; the outcomes as they come."""
        outcomes: list[Applied | StoreError] = []

        def done(outcome: Applied | StoreError) -> None:
            outcomes.append(outcome)
            if isinstance(outcome, Applied):
                members = members_of(MEMBERS + self.committed[outcome.index])
                assert members is not None
                self.changes.append(Configuration(outcome.index, members))

        for leader in self.working_leaders():
            leader.engine.propose_change(change, wrapped, done)
        return outcomes

    def give_away(self, to: str = "") -> None:
        """Every leader gives its place away."""

        def done(error: StoreError | None) -> None:
            self.given_away += error is None

        for leader in self.working_leaders():
            leader.engine.changing.give_away(to, done)

    def leader(self) -> Any:
        """The leader of the highest term, once there is one that has committed."""
        for _ in range(1000):
            for found in self.working_leaders():
                core = found.engine.core
                if core.term == max(self.leaders) and core.applied_index >= core.no_op_index:
                    return found
            self.step()
        raise Broken(f"nobody leads: {self._describe()}")

    def _install(self, member: Machinery) -> None:
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

            def copy(index: int | None, source: Machinery = source, term: int = term) -> None:
                if index is not None and member.wiped:
                    self._take_copy(member, source, term)

            if member.asked_s + 1.0 < self.network.now_s:
                member.asked_s = self.network.now_s
                with contextlib.suppress(StoreError):  # a member that lost its disk
                    me = Member(id=member.id, raft=f"{member.id}:1", url=f"http://{member.id}")
                    other.engine.changing.admit(me, counted_since=None)
                other.engine.confirm_read(copy, excluding=member.id)

    def _take_copy(self, member: Machinery, source: Machinery, term: int) -> None:
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

            def done(index: int | None, member: Machinery = member, before: int = before) -> None:
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
        counted = {each.id for each in self.committed_configuration().members}
        for member in (self.members[name] for name in counted):
            held = dict(member.machine.applied)
            for blob, index in self.acknowledged.items():
                if held.get(index) != blob:
                    raise Broken(f"{member.id} lost {blob!r}, acknowledged at {index}")

    def _equal(self) -> bool:
        counted = {each.id for each in self.committed_configuration().members}
        states = [self.members[name].machine.applied for name in sorted(counted)]
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
                f"lagging {member.lagging}, wiped {member.wiped}, removed {member.removed}, "
                f"members {member.membership and [m.id for m in member.membership.latest.members]}"
            )
        return "; ".join(parts)


def configuration_in(
    applied: Sequence[tuple[int, bytes]], founders: tuple[Member, ...]
) -> Configuration:
    """The members as of these entries, oldest first."""
    for index, blob in reversed(applied):
        if not blob.startswith(b"w"):
            members = members_of(MEMBERS + blob)
            assert members is not None
            return Configuration(index, members)
    return Configuration(0, founders)


def wrapped(members: tuple[Member, ...]) -> bytes:
    """The batch that records members."""
    entry = Entry(session=0, seq=0, command=SetMembers(members=members))
    return msgspec.msgpack.encode(Batch(time_ms=0, entries=(entry,)))
