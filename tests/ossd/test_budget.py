"""The byte budget of a process (SAFETY rule 25)."""

import asyncio

import pytest

from osscore.errors import Overloaded
from ossd.budget import ByteBudget


def test_who_came_first_is_served_first() -> None:
    async def story() -> None:
        budget, order = ByteBudget(10, wait_s=5), []

        async def taker(name: str, size_bytes: int) -> None:
            async with budget.hold(size_bytes):
                order.append(name)

        await budget.take(8)
        large = asyncio.create_task(taker("large", 9))
        await asyncio.sleep(0)
        small = asyncio.create_task(taker("small", 1))
        await asyncio.sleep(0)
        assert not budget.try_take(1)  # surplus is what nobody waits for
        budget.give(8)
        await asyncio.gather(large, small)
        assert (order, budget.used_bytes) == (["large", "small"], 0)

    asyncio.run(story())


def test_waiting_is_bounded_and_leaves_nothing_taken() -> None:
    async def story() -> None:
        budget = ByteBudget(10, wait_s=0.01)
        await budget.take(10)
        with pytest.raises(Overloaded):
            await budget.take(1)
        waiting = asyncio.create_task(budget.take(5))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        budget.give(10)
        assert budget.used_bytes == 0

    asyncio.run(story())


def test_one_cancelled_as_it_is_served_gives_back() -> None:
    async def story() -> None:
        budget = ByteBudget(10, wait_s=5)
        await budget.take(10)
        waiting = asyncio.create_task(budget.take(5))
        await asyncio.sleep(0)
        budget.give(10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert budget.used_bytes == 0

    asyncio.run(story())


def test_more_than_all_counts_as_all() -> None:
    async def story() -> None:
        budget = ByteBudget(10, wait_s=5)
        async with budget.hold(1000):
            assert budget.used_bytes == 10
        assert budget.used_bytes == 0

    asyncio.run(story())


def test_bodies_beyond_the_budget_wait_and_then_are_refused() -> None:
    async def story() -> None:
        budget = ByteBudget(100, wait_s=0.05)
        await budget.take(80)
        with pytest.raises(Overloaded):
            await budget.take(30)
        assert budget.used_bytes == 80

    asyncio.run(story())


def test_a_cancelled_waiter_leaves_its_place() -> None:
    async def story() -> None:
        budget = ByteBudget(100, wait_s=5)
        await budget.take(80)
        gone = asyncio.create_task(budget.take(90))
        await asyncio.sleep(0)
        behind = asyncio.create_task(budget.take(20))
        await asyncio.sleep(0)
        gone.cancel()
        await behind
        budget.give(80)
        budget.give(20)
        assert budget.used_bytes == 0

    asyncio.run(story())
