"""A catalog with a planner on it, nodes whose health the test turns, and targets that obey."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from osscore.model import Coding, Profile, Slot, SlotState, Stripe, StripeDraft, reed_solomon
from raftmeta.catalog.soft import DiskSoft, NodeSoft, SoftState
from raftmeta.commands import Command, CreateBucket, DiskReport, Done, RegisterNode
from raftmeta.entries import Entry
from raftmeta.moving import (
    CountDamagedObjects,
    DamagedObjectsCounted,
    ListTasks,
    MoveSlot,
    OpenTasks,
    ReadTasks,
    SlotMoved,
    StripesPlanned,
    TaskInfo,
    TasksListed,
    TasksOpened,
    TasksRead,
)
from raftmeta.queries import (
    CatalogCounted,
    ClusterDescribed,
    CountCatalog,
    GetCluster,
    ListStripes,
    StripesListed,
)
from raftmeta.questions import AnyQuery
from raftmeta.stewards.healing import Healing, HealingSeams
from tests.fakes.clock import ManualClock
from tests.raftmeta.catalog.harness import CLUSTER, START_MS, Driver, disk_uuid, form_command

A = TypeVar("A")
GIB = 1 << 30


class Stage:
    """`opened`: how many tasks each OpenTasks opened."""

    def __init__(self, folder: Path) -> None:
        self.driver = Driver(folder / "catalog.sqlite")
        self.driver.run(form_command())
        self.driver.run(CreateBucket(bucket="bucket"))
        self.clock = ManualClock(now_ms=START_MS)
        self.nodes: dict[str, list[int]] = {}
        self.soft: dict[int, DiskSoft] = {}
        self.silent: set[int] = set()
        self.opened: list[int] = []
        self.contents = 0
        self.steward = self.new_leader()

    def new_leader(self) -> Healing:
        """A planner that knows nothing yet."""
        seams = HealingSeams(
            described=self.described,
            count=lambda: self._answer(CountCatalog(), CatalogCounted),
            read=lambda query: self._answer(query, StripesPlanned),
            look_up=lambda query: self._answer(query, StripesPlanned),
            list_tasks=lambda query: self._answer(query, TasksListed),
            count_objects=lambda: self._answer(CountDamagedObjects(), DamagedObjectsCounted),
            open_tasks=self._open,
            close_tasks=self._propose,
        )
        self.steward = Healing(seams, self.clock)
        return self.steward

    # --- the nodes ----------------------------------------------------------------------

    def add_node(self, *capacities: int, zone: str = "") -> str:
        """A node with a disk of each capacity; disks are numbered from 1 on."""
        node = f"blob-{len(self.nodes) + 1}"
        first = len(self.soft) + 1
        numbers = list(range(first, first + len(capacities)))
        reports = tuple(
            DiskReport(uuid=disk_uuid(number), epoch=0, capacity_bytes=capacity)
            for number, capacity in zip(numbers, capacities, strict=True)
        )
        self.driver.run(
            RegisterNode(
                node=node, url=f"http://{node}", zone=zone, cluster_id=CLUSTER, disks=reports
            )
        )
        self.nodes[node] = numbers
        for report, number in zip(reports, numbers, strict=True):
            self.soft[number] = DiskSoft(report.capacity_bytes, report.capacity_bytes, True)
        return node

    def soft_state(self) -> SoftState:
        """As the leader's watch would tell it."""
        return SoftState(
            nodes={
                node: NodeSoft(
                    url="",
                    health="down" if self.silent >= set(disks) else "up",
                    last_heartbeat_ms_ago=0,
                    disks={disk_uuid(n): self.soft[n] for n in disks},
                    silent_disks=frozenset(disk_uuid(n) for n in disks if n in self.silent),
                )
                for node, disks in self.nodes.items()
            }
        )

    def described(self) -> ClusterDescribed:
        """Nodes as the catalog and the watch have them."""
        answer = self.driver.ask(GetCluster(), soft=self.soft_state())
        assert isinstance(answer, ClusterDescribed)
        return answer

    def counted(self) -> CatalogCounted:
        """Totals."""
        answer = self.driver.ask(CountCatalog())
        assert isinstance(answer, CatalogCounted)
        return answer

    # --- the stripes --------------------------------------------------------------------

    def put(
        self,
        disks: Sequence[int],
        *,
        profile: Profile,
        coding: Coding | None = None,
        missing: Sequence[int] = (),
        shard_bytes: int = 500,
    ) -> int:
        """An object of one stripe with shard i on disks[i]; answers its row."""
        self.contents += 1
        code = coding or reed_solomon(profile)
        draft = StripeDraft(
            stripe=self.driver.new_id(),
            profile=profile,
            domain=b"",
            digest=self.contents.to_bytes(32, "big"),
            plain_bytes=1000,
            stored_bytes=1000,
            stored_crc=0,
            frames=(),
            coding=code,
            shard_bytes=shard_bytes,
            shard_crcs=tuple(range(code.shard_count)),
            slots=tuple(
                Slot(i, 0, disk, SlotState.MISSING if i in missing else SlotState.GOOD)
                for i, disk in enumerate(disks)
            ),
        )
        result = self.driver.put(f"k{self.contents}", draft)
        assert type(result).__name__ == "ObjectPut", result
        return self.stripes()[-1].row

    def stripes(self) -> list[Stripe]:
        """All living ones by row."""
        found: list[Stripe] = []
        after = 0
        while True:
            page = self.driver.ask(ListStripes(after_row=after, limit=1000))
            assert isinstance(page, StripesListed)
            found += page.stripes
            if not page.next_row:
                return found
            after = page.next_row

    def stripe(self, row: int) -> Stripe:
        """The one of that row."""
        return next(each for each in self.stripes() if each.row == row)

    def disks_of(self, row: int) -> list[int]:
        """Where its shards lie."""
        return [slot.disk for slot in self.stripe(row).slots]

    # --- the work -----------------------------------------------------------------------

    def tasks(self) -> list[TaskInfo]:
        """All open ones."""
        listed = self.driver.ask(ListTasks())
        assert isinstance(listed, TasksListed) and not listed.next
        return list(listed.tasks)

    def plan(self, rounds: int = 1) -> None:
        """Rounds of the planner, a second apart."""
        for _ in range(rounds):
            self.clock.advance(60)
            asyncio.run(self._round())

    async def _round(self) -> None:
        await self.steward.round()

    def work(self) -> Counter[int]:
        """Every target that is heard does all it has to; shards written by each."""
        done: Counter[int] = Counter()
        for disk in self.soft:
            tasks = self.driver.ask(ReadTasks(target=disk, limit=256))
            assert isinstance(tasks, TasksRead)
            for task in () if disk in self.silent else tasks.tasks:
                moved = self.driver.run(MoveSlot(task=task.task))
                assert isinstance(moved, SlotMoved)
                done[disk] += moved.moved
        return done

    def heal(self, rounds_max: int = 50) -> int:
        """Plan and work until there is nothing to do; how many shards were written."""
        done = 0
        for _ in range(rounds_max):
            self.plan()
            if not self.tasks():
                self.plan(2)  # the walk after the last task finds what is left
            if not self.tasks():
                return done
            done += self.work().total()
        raise AssertionError(f"still at work after {rounds_max} rounds: {self.tasks()[:3]}")

    async def _answer(self, query: AnyQuery, kind: type[A]) -> A:
        answer = self.driver.ask(query, soft=self.soft_state())
        assert isinstance(answer, kind), answer
        return answer

    async def _propose(self, command: Command) -> Done:
        self.driver.now_ms = max(self.driver.now_ms + 10, self.clock.now_ms())
        (result,) = self.driver.apply(Entry(0, 0, command))  # type: ignore[arg-type]
        assert isinstance(result, Done), result
        return result

    async def _open(self, command: OpenTasks) -> TasksOpened:
        self.driver.now_ms = max(self.driver.now_ms + 10, self.clock.now_ms())
        (result,) = self.driver.apply(Entry(0, 0, command))
        assert isinstance(result, TasksOpened), result
        self.opened.append(result.opened)
        return result


def replaced(soft: DiskSoft, **changes: object) -> DiskSoft:
    """The same disk in another state."""
    fields = {name: getattr(soft, name) for name in DiskSoft.__slots__}
    return DiskSoft(**{**fields, **changes})  # type: ignore[arg-type]
