"""Loans: counted, first come first served, and called back (SAFETY rule 25)."""

import asyncio

import pytest

from osscore.errors import Overloaded
from ossd.lending import Lending, Loan, endless_loan


def lending(total_bytes: int = 100, **more) -> Lending:
    given = {"wait_s": 5.0, "free_bytes": 0, "recall_after_s": 0.0} | more
    return Lending(total_bytes, **given)


async def waits(task: asyncio.Task) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


async def test_the_first_bytes_of_every_body_are_free():
    lent = lending(100, free_bytes=10)
    with lent.lend() as loan:
        assert await loan.grow(10) and not loan.is_recallable
        assert lent.used_bytes == 0
        assert await loan.grow(5) and loan.is_recallable
        assert lent.used_bytes == 5
    assert lent.used_bytes == 0


async def test_who_came_first_is_served_first():
    lent = lending(recall_after_s=60)
    with lent.lend() as holder, lent.lend() as large, lent.lend() as small:
        await holder.grow(80)
        first = asyncio.create_task(large.grow(90))
        assert await waits(first)
        second = asyncio.create_task(small.grow(1))
        assert await waits(second)  # though there is room for it
        assert not small.try_grow(1, share_max=1.0)
        holder.give(80)
        assert await first and await second
        assert lent.used_bytes == 91


async def test_waiting_is_bounded_and_leaves_nothing_taken():
    lent = lending(wait_s=0.01, recall_after_s=60)
    with lent.lend() as holder, lent.lend() as other:
        await holder.grow(100)
        with pytest.raises(Overloaded):
            await other.grow(1)
        assert (lent.used_bytes, lent.waiting_count) == (100, 0)


async def test_one_cancelled_as_it_is_served_gives_back():
    lent = lending(recall_after_s=60)
    with lent.lend() as holder, lent.lend() as other:
        await holder.grow(100)
        task = asyncio.create_task(other.grow(50))
        assert await waits(task)
        holder.give(100)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (lent.used_bytes, other.open_bytes) == (0, 0)


async def test_what_waits_for_a_client_is_recalled_when_others_need_it():
    lent, recalled = lending(), []
    with lent.lend() as idle, lent.lend() as other:
        idle.on_recall = lambda: recalled.append(idle)
        await idle.grow(70)
        assert not recalled  # some headroom is left
        task = asyncio.create_task(other.grow(60))
        assert await waits(task)
        assert recalled == [idle] and idle.is_recalled
        assert not await idle.grow(1), "what is recalled may not grow"
        part = idle.close(70)
        assert not idle.is_recalled and await waits(task)
        part.give()
        part.give()
        assert await task and lent.used_bytes == 60


async def test_recalls_begin_before_all_is_lent():
    lent = lending()
    with lent.lend() as one, lent.lend() as two:
        await one.grow(50)
        await two.grow(20)
        assert lent.recalled_count == 0
        await two.grow(20)
        assert one.is_recalled and not two.is_recalled


async def test_who_waits_to_grow_can_be_recalled_as_well():
    """Two that hold half each and want more: without this they wait for each other."""
    lent = lending()
    with lent.lend() as one, lent.lend() as two:
        await one.grow(37)
        await two.grow(37)
        tasks = [asyncio.create_task(loan.grow(40)) for loan in (one, two)]
        async with asyncio.timeout(5):
            assert await asyncio.gather(*tasks) == [False, False]
            for loan in (one, two):
                loan.give(37)
                assert await loan.grow(60)
                loan.give(60)


async def test_the_oldest_go_first_and_none_that_is_small_before_one_that_is_large():
    lent = lending(1000)
    with lent.lend() as small, lent.lend() as large, lent.lend() as young, lent.lend() as new:
        await small.grow(20)
        await large.grow(300)
        await young.grow(300)
        task = asyncio.create_task(new.grow(400))
        assert await waits(task)
        assert [each.is_recalled for each in (small, large, young)] == [False, True, False]
        large.give(300)
        assert await task


async def test_what_is_closed_comes_back_by_itself_and_nobody_is_recalled_for_it():
    lent = lending()
    with lent.lend() as busy, lent.lend() as idle, lent.lend() as new:
        await busy.grow(60)
        part = busy.close(60)
        await idle.grow(10)
        task = asyncio.create_task(new.grow(40))
        assert await waits(task)
        assert not idle.is_recalled
        part.give()
        assert await task


async def test_the_young_are_left_alone_until_they_are_old():
    lent = lending(recall_after_s=0.05)
    with lent.lend() as slow, lent.lend() as other:
        slow.on_recall = lambda: slow.give(slow.open_bytes)
        await slow.grow(100)
        began_s = asyncio.get_running_loop().time()
        assert await other.grow(100)
        assert asyncio.get_running_loop().time() - began_s >= 0.04


async def test_a_loan_whose_client_is_quick_stays_young():
    lent = lending(recall_after_s=0.0)
    with lent.lend() as quick, lent.lend() as paused, lent.lend() as new:
        await quick.grow(35)
        await paused.grow(35)
        quick.refresh()
        task = asyncio.create_task(new.grow(40))
        assert await waits(task)
        assert paused.is_recalled and not quick.is_recalled
        paused.give(35)
        assert await task


async def recalled(lent: Lending, loan: Loan, other: Loan) -> None:
    """Make it one that was slow before: nothing is lent afterwards."""
    loan.on_recall = lambda: loan.give(loan.open_bytes)
    await loan.grow(lent.total_bytes)
    await other.grow(1)
    other.give(1)
    loan.on_recall = lambda: None
    assert loan.is_behind and not loan.is_recalled and not lent.used_bytes


@pytest.mark.parametrize("is_quick", [False, True])
async def test_a_body_that_was_slow_is_overtaken_until_it_is_quick(is_quick: bool):
    lent = lending()
    with lent.lend() as busy, lent.lend() as slow, lent.lend() as new:
        await recalled(lent, slow, new)
        if is_quick:
            await slow.grow(1)
            slow.close(1).give()  # filled before anybody asked for it
        await busy.grow(100)
        part = busy.close(100)
        tasks = [asyncio.create_task(loan.grow(100)) for loan in (slow, new)]
        assert await waits(tasks[0]) and await waits(tasks[1])
        part.give()
        first, second = (slow, new) if is_quick else (new, slow)
        assert (first.open_bytes, second.open_bytes) == (100, 0)
        first.give(100)
        assert await asyncio.gather(*tasks) == [True, True]


async def test_a_reader_that_takes_what_it_has_is_not_behind_any_more():
    lent = lending()
    with lent.lend() as loan, lent.lend() as other:
        await recalled(lent, loan, other)
        loan.refresh()
        assert not loan.is_behind


async def test_a_body_that_closes_because_it_was_recalled_stays_behind():
    lent = lending()
    with lent.lend() as loan, lent.lend() as other:
        await loan.grow(100)
        task = asyncio.create_task(other.grow(1))
        assert await waits(task) and loan.is_recalled
        loan.close(100).give()
        assert await task and loan.is_behind


async def test_more_than_all_counts_as_all_and_what_is_endless_counts_nothing():
    lent = lending(10)
    with lent.lend() as loan:
        assert await loan.grow(1000)
        assert lent.used_bytes == 10
    assert lent.used_bytes == 0
    free: Loan = endless_loan()
    assert await free.grow(1 << 50) and not free.is_recallable
