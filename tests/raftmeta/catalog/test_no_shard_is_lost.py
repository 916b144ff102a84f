"""No living stripe ever loses a shard to collection, and nothing is left behind for ever.

The real catalog beside disks that are plain sets, and every actor as slow and as forgetful as
it may be: writers whose commit comes late or never, uploads and dedup hits that outlive what they
found, readers of what was moved or deleted since, targets that die between the shard and
`MoveSlot`, orders to delete that are obeyed long after they were read, owners that speak up late.
"""

from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from osscore.model import Profile, ShardIdentity, Slot, SlotState, Stripe
from raftmeta.commands import (
    Collected,
    ConfirmTime,
    MarkBad,
    MarkGood,
    SetDiskState,
    TrashDone,
)
from raftmeta.moving import (
    REPAIR,
    CloseTasks,
    MoveSlot,
    OpenTask,
    OpenTasks,
    ReadTasks,
    TaskDraft,
    TasksRead,
)
from raftmeta.queries import (
    FindUnwanted,
    ReadTrash,
    TrashRead,
    Unwanted,
)
from raftmeta.reencoding import REPLICAS, CloseReencodes, Reencode, SetProfile
from tests.raftmeta.catalog import reencoding
from tests.raftmeta.catalog.collection_frontends import (
    CONTENTS,
    DISKS,
    ORDERS,
    PICKS,
    Frontends,
    LongBody,
)
from tests.raftmeta.catalog.harness import GRACE_MS, MINUTE_MS

MEANWHILE = (
    "an hour passes",
    "an hour passes",
    "some minutes pass",
    "a sweep",
    "a sweep",
    "the trash is emptied",
    "it is given up",
    "a late owner",
    "the slot is bad",
    "collection",
)
SOON = (
    "some minutes pass",
    "some minutes pass",
    "a sweep",
    "the trash is emptied",
    "the trash is emptied",
    "collection",
    "collection",
    "an hour passes",
)
WAYS = ("asks", "writes", "short")


@dataclass(frozen=True)
class Order:
    """Shards a disk was told to delete; `rows` to confirm, none for a sweep."""

    disk: int
    identities: frozenset[ShardIdentity]
    rows: tuple[int, ...]


class Collection(Frontends):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Stripe] = []
        self.written: list[OpenTask] = []
        self.orders: list[Order] = []
        self.encoded: list[Reencode] = []
        self.bytes_of: dict[int, int] = {}

    @initialize(orders=st.lists(st.permutations(DISKS), min_size=2, max_size=3), old=st.booleans())
    def some_objects(self, orders: list[list[int]], old: bool) -> None:
        for number, order in enumerate(orders):
            self.write_shards(10 + number, order, (0, 1, 2))
            self.commit(f"kept-{number}", 0)
        if old:
            self.wait(61)

    def any_stripe(self, pick: int) -> Stripe | None:
        found = self.stripes()
        return found[pick % len(found)] if found else None

    @rule(pick=PICKS, index=st.integers(0, 2))
    def a_late_shard_arrives(self, pick: int, index: int) -> None:
        stripe = self.any_stripe(pick)
        if stripe is not None:
            slot = stripe.slots[index]
            if slot.state is SlotState.MISSING:
                self.disks[slot.disk].put(ShardIdentity(stripe.stripe, index, slot.gen))

    # --- readers that put back what they found missing ------------------------------------------

    @rule(pick=PICKS)
    def look(self, pick: int) -> None:
        stripe = self.any_stripe(pick)
        if stripe is not None:
            self.seen = [*self.seen[-3:], stripe]

    @rule(pick=PICKS, index=st.integers(0, 2))
    def write_back(self, pick: int, index: int) -> None:
        if self.seen:
            stripe = self.seen[pick % len(self.seen)]
            slot = stripe.slots[index]
            self.disks[slot.disk].put(ShardIdentity(stripe.stripe, index, slot.gen))

    # --- owners -----------------------------------------------------------------------------

    @rule(pick=PICKS, index=st.integers(0, 2), fails=st.booleans(), is_late=st.booleans())
    def owner_rereads(self, pick: int, index: int, fails: bool, is_late: bool) -> None:
        late = self.seen[pick % len(self.seen)] if self.seen else None
        stripe = late if is_late else self.any_stripe(pick)
        if stripe is None:
            return
        slot = stripe.slots[index]
        identity = ShardIdentity(stripe.stripe, index, slot.gen)
        is_there = identity in self.disks[slot.disk].shards
        mark = MarkGood if is_there and not fails else MarkBad
        self.driver.run(mark(identity=identity, disk=slot.disk))

    @rule(disk=st.sampled_from([4, 5]), state=st.sampled_from(["in", "in", "draining", "lost"]))
    def disk_changes(self, disk: int, state: str) -> None:
        self.driver.run(SetDiskState(disk=disk, state=state))

    # --- moves --------------------------------------------------------------------------------

    @rule(pick=PICKS, index=st.integers(0, 2), disk=st.sampled_from(DISKS))
    def plan(self, pick: int, index: int, disk: int) -> None:
        stripe = self.any_stripe(pick)
        if stripe is not None:
            slot = stripe.slots[index]
            draft = TaskDraft(stripe.row, index, slot.gen, slot.disk, disk, REPAIR)
            self.driver.run(OpenTasks(tasks=(draft,)))

    @rule(pick=PICKS)
    def target_writes(self, pick: int) -> None:
        tasks = self.tasks()
        if tasks:
            task = tasks[pick % len(tasks)]
            identity = ShardIdentity(task.stripe.stripe, task.index, task.task)
            if self.disks[task.target].put(identity):
                self.written.append(task)

    @rule(pick=PICKS)
    def target_reports(self, pick: int) -> None:
        if self.written:
            task = self.written.pop(pick % len(self.written))
            self.driver.run(MoveSlot(task=task.task))

    @rule(pick=PICKS)
    def leader_gives_up(self, pick: int) -> None:
        tasks = self.tasks()
        if tasks:
            self.driver.run(CloseTasks(tasks=(tasks[pick % len(tasks)].task,)))

    @rule(
        pick=PICKS,
        index=st.integers(0, 2),
        disk=st.sampled_from(DISKS),
        meanwhile=st.lists(st.sampled_from(MEANWHILE), min_size=3, max_size=6),
    )
    def move_slowly(self, pick: int, index: int, disk: int, meanwhile: list[str]) -> None:
        """A whole move, with things that happen between its steps."""
        before, between, after = meanwhile[:1], meanwhile[1:2], meanwhile[2:]
        self.let_happen(before, pick, index)
        self.look(pick)
        self.begin_to_read(pick)
        self.plan(pick, index, disk)
        self.let_happen(between, pick, index)
        for _ in self.tasks():
            self.target_writes(pick)
        self.let_happen(after, pick, index)
        while self.written:
            self.target_reports(pick)
        self.let_happen(["the trash is emptied"], pick, index)

    @rule(
        pick=PICKS,
        way=st.sampled_from(WAYS),
        is_early=st.booleans(),
        meanwhile=st.lists(st.sampled_from(SOON), min_size=4, max_size=8),
    )
    def share_slowly(self, pick: int, way: str, is_early: bool, meanwhile: list[str]) -> None:
        """A body finds its bytes in an object that goes away before (`is_early`) or after they
        are named, and that somebody reads on; with things that happen between the steps."""
        version = self.some_version(pick)
        if version is None or not self.named[version]:
            return
        self.hold_version(version)
        self.reads.append((self.now_ms, self.find(*version).segments[0].stripe))
        body = self.begun("b")
        self.find_twin(body, way, self.named[version][0])
        if is_early:
            self.delete(*version)
        self.let_happen(meanwhile[:2], pick, 0)
        if way == "short":
            self.commit("b", len(self.uncommitted) - 1)
        else:
            self.name_next(body, twice=True)
        self.delete(*version)
        self.let_happen(meanwhile[2:5], pick, 1)
        self.end(body)
        self.let_happen(meanwhile[5:], pick, 2)

    @rule(
        content=CONTENTS,
        order=ORDERS,
        meanwhile=st.lists(st.sampled_from(MEANWHILE), min_size=2, max_size=4),
    )
    def commit_slowly(self, content: int, order: list[int], meanwhile: list[str]) -> None:
        """A writer stands still between its shards and its commit."""
        self.write_shards(content, order, (0, 1, 2))
        draft = self.uncommitted[-1]
        self.let_happen(meanwhile, content, 0)
        self.commit("a", self.uncommitted.index(draft))

    def find_twin(self, body: LongBody, way: str, content: int) -> None:
        """By asking for it, or only once its own shards are written."""
        if way == "asks":
            self.ask(body, content)
        elif way == "writes":
            body.written.append(self.stored(content, list(DISKS), (0, 1, 2)))
        else:
            self.uncommitted.append(self.stored(content, list(DISKS), (0, 1, 2)))

    def let_happen(self, what: list[str], pick: int, index: int) -> None:
        for each in what:
            if each == "an hour passes":
                self.wait(61)
            elif each == "some minutes pass":
                self.wait(9)
            elif each == "a sweep":
                for disk in DISKS:
                    self.ask_what_is_unwanted(disk, keeps=False)
            elif each == "the trash is emptied":
                for disk in DISKS:
                    self.read_trash(disk, keeps=False)
            elif each == "it is given up":
                self.leader_gives_up(pick)
            elif each == "a late owner":
                self.owner_rereads(pick, index, fails=False, is_late=True)
            elif each == "the slot is bad":
                self.owner_rereads(pick, index, fails=True, is_late=False)
            else:
                self.collect()

    def tasks(self) -> list[OpenTask]:
        found: list[OpenTask] = []
        for disk in DISKS:
            read = self.driver.ask(ReadTasks(target=disk))
            assert isinstance(read, TasksRead)
            found += read.tasks
        return found

    # --- encoding anew ------------------------------------------------------------------------

    @rule(profile=st.sampled_from(reencoding.PROFILES), reencodes=st.booleans())
    def set_profile(self, profile: Profile, reencodes: bool) -> None:
        self.driver.run(SetProfile(bucket="bucket", profile=profile, reencodes=reencodes))

    @rule(pick=PICKS, is_of_job=st.booleans())
    def plan_reencode(self, pick: int, is_of_job: bool) -> None:
        stripe = self.any_stripe(pick)
        if stripe is not None:
            job = next((j for j in reencoding.listed(self.driver).jobs if is_of_job), None)
            profile = job.profile if job else stripe.profile
            reencoding.opened(self.driver, stripe, profile, job.job if job else REPLICAS)

    @rule(pick=PICKS, order=st.permutations(DISKS), stores=st.sampled_from([5, 5, 5, 2]))
    def worker_writes(self, pick: int, order: list[int], stores: int) -> None:
        """All shards, or some before it dies or gives up."""
        tasks = reencoding.tasks_of(self.driver)
        if not tasks:
            return
        task = tasks[pick % len(tasks)]
        # It must be able to read the stripe as it is.
        good = [slot for slot in task.stripe.slots if slot.state is SlotState.GOOD]
        if len(good) < task.stripe.coding.data_count:
            return
        count = task.profile.shard_count
        draft = reencoding.anew(
            self.driver, task, tuple(order), missing=tuple(range(stores, count))
        )
        for slot in draft.slots[:stores]:
            assert self.disks[slot.disk].put(ShardIdentity(draft.stripe, slot.index, 0))
        self.encoded.append(Reencode(task=task.task, draft=draft))

    @rule(pick=PICKS, repeats=st.booleans())
    def worker_reports(self, pick: int, repeats: bool) -> None:
        if self.encoded:
            command = self.encoded[pick % len(self.encoded)]
            self.driver.run(command)
            if not repeats:
                self.encoded.remove(command)

    @rule()
    def leader_gives_all_encoding_up(self) -> None:
        tasks = tuple(task.task for task in reencoding.listed(self.driver).tasks)
        self.driver.run(CloseReencodes(tasks=tasks))

    @rule(
        pick=PICKS,
        index=st.integers(0, 2),
        order=st.permutations(DISKS),
        profile=st.sampled_from(reencoding.PROFILES),
        meanwhile=st.lists(st.sampled_from(MEANWHILE), min_size=3, max_size=6),
    )
    def reencode_slowly(
        self, pick: int, index: int, order: list[int], profile: Profile, meanwhile: list[str]
    ) -> None:
        """A whole stripe encoded anew, with things that happen between the steps."""
        self.set_profile(profile, reencodes=True)
        self.look(pick)
        self.begin_to_read(pick)
        self.plan_reencode(pick, is_of_job=True)
        self.let_happen(meanwhile[:1], pick, index)
        self.worker_writes(pick, order, stores=5)
        self.let_happen(meanwhile[1:3], pick, index)
        self.worker_reports(pick, repeats=False)
        self.let_happen(meanwhile[3:], pick, index)

    # --- collection -----------------------------------------------------------------------------

    @rule(disk=st.sampled_from(DISKS), keeps=st.booleans())
    def read_trash(self, disk: int, keeps: bool) -> None:
        read = self.driver.ask(ReadTrash(disk=disk))
        assert isinstance(read, TrashRead)
        order = Order(
            disk,
            frozenset(row.identity for row in read.rows),
            tuple(row.row for row in read.rows),
        )
        self.take_order(order, keeps=keeps)

    @rule(disk=st.sampled_from(DISKS), keeps=st.booleans())
    def ask_what_is_unwanted(self, disk: int, keeps: bool) -> None:
        self.take_order(self.sweep_order(disk), keeps=keeps)

    def sweep_order(self, disk: int) -> Order:
        held = tuple(self.disks[disk].shards)
        unwanted = self.driver.ask(FindUnwanted(disk=disk, grace_ms=GRACE_MS, identities=held))
        assert isinstance(unwanted, Unwanted)
        return Order(disk, frozenset(unwanted.identities), ())

    def take_order(self, order: Order, *, keeps: bool) -> None:
        if keeps:
            self.orders.append(order)
        else:
            self.obey_order(order)

    @rule(pick=PICKS, confirms=st.booleans())
    def obey(self, pick: int, confirms: bool) -> None:
        if self.orders:
            self.obey_order(self.orders.pop(pick % len(self.orders)), confirms=confirms)

    def obey_order(self, order: Order, *, confirms: bool = True) -> None:
        self.disks[order.disk].delete(set(order.identities))
        if confirms and order.rows:
            self.driver.run(TrashDone(disk=order.disk, rows=order.rows))

    @rule()
    def collect(self) -> None:
        self.driver.collect()

    @rule(minutes=st.sampled_from([1, 11, 31, 61]))
    def wait(self, minutes: int) -> None:
        self.driver.pass_time(minutes * MINUTE_MS)

    @rule()
    def daemons_die(self) -> None:
        self.orders.clear()
        self.written.clear()

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def every_good_slot_has_its_shard(self) -> None:
        for stripe in self.stripes():
            for slot in stripe.slots:
                if slot.state is SlotState.GOOD:
                    identity = ShardIdentity(stripe.stripe, slot.index, slot.gen)
                    assert identity in self.disks[slot.disk].shards, (stripe.row, slot)

    @invariant()
    def a_stripe_keeps_its_bytes(self) -> None:
        for stripe in self.stripes():
            assert self.bytes_of.setdefault(stripe.row, stripe.stored_crc) == stripe.stored_crc

    @rule()
    def in_the_end_nothing_is_left_behind(self) -> None:
        self.frontends_die()
        self.daemons_die()
        self.encoded.clear()
        self.leader_gives_all_encoding_up()
        self.driver.run(ConfirmTime())
        for _ in range(3):
            for task in self.tasks():
                self.driver.run(CloseTasks(tasks=(task.task,)))
            self.driver.pass_time(2 * GRACE_MS)
            while self.driver.collect() != Collected():
                pass
            for disk in DISKS:
                read = self.driver.ask(ReadTrash(disk=disk))
                assert isinstance(read, TrashRead)
                rows = tuple(row.row for row in read.rows)
                self.obey_order(Order(disk, frozenset(r.identity for r in read.rows), rows))
                self.obey_order(self.sweep_order(disk))
        stripes = self.stripes()
        wanted = {place for stripe in stripes for place in places(stripe)}
        damaged = {s.stripe for s in stripes if any(t.state is not SlotState.GOOD for t in s.slots)}
        left = {
            (disk, identity)
            for disk, found in self.disks.items()
            for identity in found.shards
            if identity.stripe not in damaged  # what it may still adopt stays (SAFETY rule 3)
        }
        assert left <= wanted


def places(stripe: Stripe) -> list[tuple[int, ShardIdentity]]:
    """Where the shards of a stripe belong."""

    def place(slot: Slot) -> tuple[int, ShardIdentity]:
        return slot.disk, ShardIdentity(stripe.stripe, slot.index, slot.gen)

    return [place(slot) for slot in stripe.slots]


TestCollection = Collection.TestCase
TestCollection.settings = settings(
    max_examples=80,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
