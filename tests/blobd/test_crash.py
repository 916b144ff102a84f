"""The power goes at every operation, and every byte of the tail is cut: what was
acknowledged is there and right, what was deleted stays away, no garbage is served."""

import asyncio
import contextlib
import copy
import itertools
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from blobd.index import IN_MEMORY, remove_index
from blobd.record import record_bytes
from blobd.shardstore import ShardStore, StoreSettings
from osscore.errors import CorruptShard, NoSuchShard, ShardConflict
from tests.blobd.disk_story import (
    body,
    compact_all,
    number_of,
    open_store,
    opened,
    put,
    shard,
    volumes,
)
from tests.fakes.disk import PowerCut, SimulatedDisk, crash_points, run_until_the_cut

T = TypeVar("T")
TINY = StoreSettings(volume_bytes=2048, reserve_volumes=0, reserve_fraction=0.0)


@dataclass
class Witness:
    """What the store has promised so far."""

    stored: set[int] = field(default_factory=set)
    deleted: set[int] = field(default_factory=set)
    unsure: set[int] = field(default_factory=set)
    """Asked for when the power went: either way is right."""

    async def put(self, store: ShardStore, number: int) -> None:
        self.unsure.add(number)
        await put(store, number, 300)
        self.unsure.discard(number)
        self.stored.add(number)

    async def delete(self, store: ShardStore, *numbers: int) -> None:
        self.unsure.update(numbers)
        await store.delete(shard(number) for number in numbers)
        self.unsure.difference_update(numbers)
        self.stored.difference_update(numbers)
        self.deleted.update(numbers)

    async def check(self, store: ShardStore) -> None:
        for number in self.stored - self.unsure:
            assert (await store.get(shard(number))).body == body(number, 300), number
        for number in self.deleted:
            assert store.head(shard(number)) is None, number
        for identity, _, _ in store.inventory(b"", 1000):
            number = number_of(identity)
            assert number in self.stored | self.unsure
            try:
                assert (await store.get(identity)).body == body(number, 300)
            except CorruptShard:
                assert number in self.unsure  # torn, never acknowledged, known to be bad


Story = Callable[[ShardStore, Witness], Awaitable[None]]


async def fill_and_roll(store: ShardStore, witness: Witness) -> None:
    for number in range(12):
        await witness.put(store, number)
    await asyncio.gather(*(witness.put(store, number) for number in range(20, 26)))


async def delete_some(store: ShardStore, witness: Witness) -> None:
    for number in range(10):
        await witness.put(store, number)
    await witness.delete(store, 1, 2, 3)
    await witness.put(store, 30)
    await witness.delete(store, 30, 31)
    await witness.put(store, 32)


async def compact_in_steps(store: ShardStore, witness: Witness) -> None:
    for number in range(14):
        await witness.put(store, number)
    await witness.delete(store, *(number for number in range(14) if number % 4))
    while await store.compact(bytes_max=400):
        pass
    await witness.put(store, 40)
    await witness.delete(store, 0)
    await compact_all(store)


async def restart_in_between(disk: SimulatedDisk, witness: Witness) -> None:
    for first in (0, 100):
        async with opened(disk, settings=TINY) as store:
            for number in range(first, first + 4):
                await witness.put(store, number)
            await witness.delete(store, first)


async def check_and_go_on(
    disk: SimulatedDisk, witness: Witness, *, index_path: Path = IN_MEMORY, remembers: bool = True
) -> None:
    """What a restart finds is right, and stays so when the store is used again.

    `remembers`: nothing was compacted, so every deletion is still remembered.
    """
    async with opened(disk, settings=TINY, index_path=index_path) as store:
        await witness.check(store)
        await witness.put(store, 999)
        for number in witness.deleted if remembers else ():
            with pytest.raises(ShardConflict):
                await put(store, number, 300)
        await compact_all(store)
        await witness.check(store)
    async with opened(disk, settings=TINY) as store:
        await witness.check(store)


def cut_everywhere(
    work: Callable[[SimulatedDisk, Witness], Coroutine[None, None, None]], *, cuts_each: int = 3
) -> Iterator[tuple[SimulatedDisk, Witness]]:
    """Let the power go at each operation of `work`; yields what may be found afterwards."""
    told: list[Witness] = []

    def scenario(disk: SimulatedDisk) -> None:
        told.append(Witness())
        run_until_the_cut(work(disk, told[-1]))

    for _, after in crash_points(scenario, cuts_each=cuts_each):
        yield after, copy.deepcopy(told[-1])


@pytest.mark.parametrize("story", [fill_and_roll, delete_some, compact_in_steps])
def test_power_cut_at_every_operation(story: Story) -> None:
    async def work(disk: SimulatedDisk, witness: Witness) -> None:
        async with opened(disk, settings=TINY) as store:
            await story(store, witness)

    count = 0
    for after, witness in cut_everywhere(work):
        count += 1
        asyncio.run(check_and_go_on(after, witness, remembers=story is not compact_in_steps))
    assert count > 60


def test_no_tombstone_goes_before_its_record_is_durably_gone() -> None:
    """Names removed from a folder vanish in any order unless the folder is synced."""

    async def work(disk: SimulatedDisk, witness: Witness) -> None:
        async with opened(disk, settings=TINY) as store:
            for number in range(10):
                await witness.put(store, number)
            await witness.delete(store, *range(10))
            await compact_all(store)

    for after, witness in cut_everywhere(work, cuts_each=12):
        asyncio.run(check_and_go_on(after, witness, remembers=False))


def test_power_cut_at_every_operation_of_restarts() -> None:
    async def work(disk: SimulatedDisk, witness: Witness) -> None:
        await restart_in_between(disk, witness)

    for after, witness in cut_everywhere(work):
        asyncio.run(check_and_go_on(after, witness))


def test_power_cut_under_an_index_that_survives_it(tmp_path: Path) -> None:
    """The index lies on another disk here, so what it says is older or newer than the
    volumes; whichever it is, it must not matter."""
    paths = (tmp_path / f"{number}.sqlite" for number in itertools.count())
    last: list[Path] = []

    async def work(disk: SimulatedDisk, witness: Witness) -> None:
        last.append(next(paths))
        async with opened(disk, settings=TINY, index_path=last[-1]) as store:
            await compact_in_steps(store, witness)

    for after, witness in cut_everywhere(work, cuts_each=1):
        asyncio.run(check_and_go_on(after, witness, index_path=last[-1], remembers=False))


@pytest.mark.parametrize("tail", [b"", bytes(200), b"\xff" * 200])
def test_volume_cut_at_every_byte_of_its_last_records(tail: bytes) -> None:
    """What is missing is missing; what lies in front of the cut is there and right."""
    disk = SimulatedDisk()
    ends: list[int] = []

    async def write() -> None:
        async with opened(disk) as store:
            for number in range(4):
                await put(store, number, 100)
                ends.append(len(disk.content(volumes(disk)[0])))
            await store.delete([shard(0)])
            ends.append(len(disk.content(volumes(disk)[0])))

    asyncio.run(write())
    path = volumes(disk)[0]
    data = disk.content(path)

    async def check(cut: int) -> None:
        after = SimulatedDisk()
        after.open(path, create=True).pwrite([data[:cut], tail], 0)
        async with opened(after) as store:
            if not ends[4] - 4 <= cut < ends[4]:  # the last four bytes of it are padding
                assert (store.head(shard(0)) is None) == (cut == ends[4])
            for number in (1, 2, 3):
                if cut >= ends[number]:
                    assert (await store.get(shard(number))).body == body(number, 100)
            assert await put(store, 50) is True
        async with opened(after) as store:
            assert (await store.get(shard(50))).body == body(50)

    for cut in range(ends[2], ends[4] + 1):
        asyncio.run(check(cut))


def test_power_cut_in_a_batch_keeps_acknowledged_neighbours() -> None:
    disk = SimulatedDisk()

    async def write() -> None:
        store = open_store(disk)
        for number in range(5):
            await put(store, number)
        disk.cut_after = disk.operation_count + 1  # the write passes, the sync does not
        with pytest.raises(PowerCut):
            await asyncio.gather(*(put(store, number) for number in range(10, 20)))

    run_until_the_cut(write())
    for seed in range(30):

        async def check(after: SimulatedDisk) -> None:
            async with opened(after) as store:
                for number in range(5):
                    assert (await store.get(shard(number))).body == body(number)
                for number in range(10, 20):
                    with contextlib.suppress(NoSuchShard, CorruptShard):
                        assert (await store.get(shard(number))).body == body(number)
                    assert await put(store, number) in (True, False)
                    assert (await store.get(shard(number))).body == body(number)

        asyncio.run(check(disk.power_cut(Random(seed))))


class StoreMachine(RuleBasedStateMachine):
    """The store against a dict, through restarts, power cuts and lost indexes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _loop, _context: None)  # see run_until_the_cut
        self.folder = tempfile.TemporaryDirectory()
        self.index_path = Path(self.folder.name) / "index.sqlite"
        self.disk = SimulatedDisk()
        self.model: dict[int, bytes] = {}
        self.deleted: set[int] = set()
        self.store = self.reopened()

    def reopened(self) -> ShardStore:
        return open_store(self.disk, settings=TINY, index_path=self.index_path)

    def wait(self, work: Coroutine[None, None, T]) -> T:
        return self.loop.run_until_complete(work)

    @rule(number=st.integers(0, 30), size_bytes=st.sampled_from([0, 1, 300, 900]))
    def put(self, number: int, size_bytes: int) -> None:
        if number in self.deleted:
            return
        data = body(number, size_bytes)
        known = self.model.get(number)
        if known is not None and known != data:
            with pytest.raises(ShardConflict):
                self.wait(put(self.store, number, size_bytes))
            return
        assert self.wait(put(self.store, number, size_bytes)) is (known is None)
        self.model[number] = data

    @rule(numbers=st.sets(st.integers(0, 35), max_size=12))
    def delete(self, numbers: set[int]) -> None:
        count = self.wait(self.store.delete(shard(number) for number in numbers))
        assert count == len(numbers & self.model.keys())
        for number in numbers:
            self.model.pop(number, None)
        self.deleted |= numbers

    @rule(bytes_max=st.sampled_from([1, 500, 5000]))
    def compact(self, bytes_max: int) -> None:
        self.wait(self.store.compact(bytes_max=bytes_max))

    @rule(lose_index=st.booleans())
    def restart(self, lose_index: bool) -> None:
        self.wait(self.store.close())
        if lose_index:
            remove_index(self.index_path)
        self.store = self.reopened()

    @rule(seed=st.integers(0, 1000), lose_index=st.booleans())
    def lose_power(self, seed: int, lose_index: bool) -> None:
        self.disk, before = self.disk.power_cut(Random(seed)), self.disk
        before.read_only = True  # what is left of the old process changes nothing
        self.wait(self.store.close())
        if lose_index:
            remove_index(self.index_path)
        self.store = self.reopened()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        rows = self.store.inventory(b"", 100)
        assert [number_of(identity) for identity, _, _ in rows] == sorted(self.model)
        for number, data in self.model.items():
            assert self.wait(self.store.get(shard(number))).body == data
        stats = self.store.stats()
        assert stats.shards == len(self.model)
        assert stats.live_bytes == sum(record_bytes(len(data)) for data in self.model.values())

    def teardown(self) -> None:
        self.wait(self.store.close())
        self.loop.close()
        self.folder.cleanup()


TestStoreAgainstModel = StoreMachine.TestCase
TestStoreAgainstModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
