import asyncio

import pytest

from blobd.budget import ByteBudget
from osscore.errors import Overloaded


def test_bodies_beyond_the_budget_wait_and_then_are_refused():
    async def story() -> None:
        budget = ByteBudget(100, wait_s=0.05)
        await budget.take(80)
        with pytest.raises(Overloaded):
            await budget.take(30)
        assert budget.used_bytes == 80

    asyncio.run(story())


def test_a_waiter_goes_on_once_room_is_given_back_and_small_ones_do_not_overtake_it():
    async def story() -> None:
        budget = ByteBudget(100, wait_s=5)
        await budget.take(80)
        large = asyncio.create_task(budget.take(90))
        await asyncio.sleep(0)
        small = asyncio.create_task(budget.take(10))
        await asyncio.sleep(0)
        assert not large.done() and not small.done()
        budget.give(80)
        await asyncio.gather(large, small)
        assert budget.used_bytes == 100

    asyncio.run(story())


def test_a_cancelled_waiter_leaves_its_place():
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


def test_one_body_larger_than_the_budget_takes_all_of_it():
    async def story() -> None:
        budget = ByteBudget(100, wait_s=5)
        await budget.take(500)
        assert budget.used_bytes == 100
        budget.give(500)
        assert budget.used_bytes == 0

    asyncio.run(story())
