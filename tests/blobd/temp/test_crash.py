"""The power goes at every operation: an acknowledged temp is there whole, one that was let go
does not come back, and what became of one is never forgotten."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import pytest

from blobd.shardstore import StoreSettings
from blobd.temp.records import Kind
from blobd.temp.shelf import Shelf
from osscore.errors import CorruptShard
from tests.blobd.disk_story import compact_all
from tests.blobd.temp.shelf_story import (
    check_whole,
    done,
    opened_shelf,
    put_pieces,
    put_temp,
    temp,
)
from tests.fakes.disk import SimulatedDisk, crash_points, run_until_the_cut

TINY = StoreSettings(volume_bytes=2048, reserve_volumes=0, reserve_fraction=0.0)
PIECES = 3


@dataclass
class Witness:
    """What was promised so far; `unsure`: asked for when the power went."""

    whole: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    never: set[int] = field(default_factory=set)
    unsure: set[int] = field(default_factory=set)

    async def post(self, shelf: Shelf, number: int) -> None:
        self.unsure.add(number)
        await put_temp(shelf, number, PIECES)
        self.unsure.discard(number)
        self.whole.add(number)

    async def break_off(self, shelf: Shelf, number: int) -> None:
        self.never.add(number)
        await put_pieces(shelf, number, PIECES)

    async def settle(self, shelf: Shelf, number: int) -> None:
        """Done, then gone."""
        await shelf.put_done(temp(number), done(number))
        self.done.add(number)
        await self.remove(shelf, number)

    async def remove(self, shelf: Shelf, number: int) -> None:
        self.whole.discard(number)
        self.unsure.add(number)
        await shelf.remove(temp(number))
        self.unsure.discard(number)
        self.gone.add(number)

    async def check(self, shelf: Shelf) -> None:
        for number in self.whole:
            await check_whole(shelf, number, PIECES)
        for number in self.done:
            assert await shelf.done(temp(number)) == done(number)
        for number in self.gone | self.never:
            assert await shelf.head(temp(number)) is None, number
        for number in self.unsure:
            await self._check_unsure(shelf, number)
        assert shelf.disk.store.inventory(b"", 100) == []

    async def _check_unsure(self, shelf: Shelf, number: int) -> None:
        """It exists whole or not at all, however much of it is left."""
        try:
            found = await shelf.head(temp(number))
        except CorruptShard:
            return  # torn, and never acknowledged
        if found is not None:
            await check_whole(shelf, number, PIECES)


Story = Callable[[Shelf, Witness], Awaitable[None]]


async def arrive(shelf: Shelf, witness: Witness) -> None:
    for number in range(4):
        await witness.post(shelf, number)
    await witness.break_off(shelf, 10)
    await asyncio.gather(*(witness.post(shelf, number) for number in range(20, 24)))


async def end(shelf: Shelf, witness: Witness) -> None:
    for number in range(5):
        await witness.post(shelf, number)
    await witness.settle(shelf, 1)
    await witness.remove(shelf, 2)
    await witness.settle(shelf, 3)
    await witness.post(shelf, 7)


async def end_and_compact(shelf: Shelf, witness: Witness) -> None:
    for number in range(6):
        await witness.post(shelf, number)
    await witness.break_off(shelf, 10)
    for number in (0, 2, 3, 5):
        await witness.settle(shelf, number)
    await shelf.remove(temp(10))
    while await shelf.disk.store.compact(bytes_max=700):
        pass
    await witness.post(shelf, 11)


def cut_everywhere(story: Story, *, cuts_each: int = 2) -> Iterator[tuple[SimulatedDisk, Witness]]:
    told: list[Witness] = []

    async def work(disk: SimulatedDisk) -> None:
        async with opened_shelf(disk, settings=TINY) as shelf:
            await story(shelf, told[-1])

    def scenario(disk: SimulatedDisk) -> None:
        told.append(Witness())
        run_until_the_cut(work(disk))

    for _, after in crash_points(scenario, cuts_each=cuts_each):
        yield after, copy.deepcopy(told[-1])


@pytest.mark.parametrize("story", [arrive, end, end_and_compact])
def test_power_cut_at_every_operation(story: Story) -> None:
    async def go_on(disk: SimulatedDisk, witness: Witness) -> None:
        async with opened_shelf(disk, settings=TINY) as shelf:
            await witness.check(shelf)
            await witness.post(shelf, 999)
            await compact_all(shelf.disk.store)
            await witness.check(shelf)
        async with opened_shelf(disk, settings=TINY) as shelf:
            await witness.check(shelf)

    count = 0
    for after, witness in cut_everywhere(story):
        count += 1
        asyncio.run(go_on(after, witness))
    assert count > 60


def test_removing_a_head_and_its_pieces_at_once_would_be_caught() -> None:
    """The order that `Shelf.remove` keeps is what the checks above depend on."""

    async def hasty(shelf: Shelf, witness: Witness) -> None:
        await witness.post(shelf, 1)
        witness.whole.discard(1)
        witness.unsure.add(1)
        records = [identity for identity, _ in shelf.disk.store.temp_records(b"", 100)]
        records.sort(key=lambda identity: -identity.index)
        assert records[-1].index == Kind.HEAD
        await shelf.disk.store.delete(records)

    async def check(disk: SimulatedDisk, witness: Witness) -> None:
        async with opened_shelf(disk, settings=TINY) as shelf:
            await witness.check(shelf)

    failures = 0
    for after, witness in cut_everywhere(hasty, cuts_each=20):
        try:
            asyncio.run(check(after, witness))
        except Exception:  # noqa: BLE001 - whichever way it shows
            failures += 1
    assert failures > 0
