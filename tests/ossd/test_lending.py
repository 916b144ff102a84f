"""Loans: counted, called back, and had in turn (SAFETY rule 25)."""

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


async def held_for(loan: Loan, size_bytes: int, seconds: float) -> None:
    """Make its client one whose bytes stay that long."""
    await loan.grow(size_bytes)
    await asyncio.sleep(seconds)
    loan.give(size_bytes)


async def served(lent: Lending, *bodies: Loan) -> list[Loan]:
    """In which order they are, having come in this one while all was lent to somebody else."""
    order: list[Loan] = []

    async def one(loan: Loan) -> None:
        assert await loan.grow(100)
        order.append(loan)
        loan.give(100)

    with lent.lend() as busy:
        await busy.grow(100)
        part = busy.close(100)
        tasks = [asyncio.create_task(one(loan)) for loan in bodies]
        assert all([await waits(task) for task in tasks])
        part.give()
        await asyncio.gather(*tasks)
    return order


async def test_a_body_whose_bytes_stay_long_is_overtaken_by_a_quick_one():
    lent = lending(recall_after_s=60)
    with lent.lend() as slow, lent.lend() as quick, lent.lend() as new:
        await held_for(slow, 50, 0.05)
        await held_for(quick, 50, 0.0)
        assert (await served(lent, slow, quick, new))[2] is slow


async def test_what_waits_for_the_cluster_does_not_count_against_the_client():
    lent = lending(recall_after_s=60)
    with lent.lend() as loan:
        await loan.grow(50)
        part = loan.close(50)
        await asyncio.sleep(0.05)
        part.give()
        assert loan.holding.mean_s < 0.02


async def test_who_waits_for_its_turn_is_not_slow_by_that():
    lent = lending(recall_after_s=60)
    with lent.lend() as busy, lent.lend() as loan:
        await loan.grow(40)
        await busy.grow(60)
        task = asyncio.create_task(loan.grow(10))
        await asyncio.sleep(0.1)
        busy.give(60)
        assert await task and loan.holding.mean_s < 0.02


async def test_who_is_recalled_as_it_waits_keeps_its_place():
    """Else it would be the last again each time that happens, and might never have its turn."""
    lent = lending(recall_after_s=0)
    with lent.lend() as busy, lent.lend() as first, lent.lend() as second:
        await busy.grow(60)
        part = busy.close(60)
        await first.grow(30)
        waiting = asyncio.create_task(first.grow(60))
        await asyncio.sleep(0.05)  # more than its handicap
        behind = asyncio.create_task(second.grow(60))
        assert not await waiting and first.is_recalled
        assert await waits(behind)
        first.give(30)
        again = asyncio.create_task(first.grow(60))
        assert await waits(again) and await waits(behind)
        part.give()
        assert await again and await waits(behind)
        first.give(60)
        assert await behind


async def test_the_slow_are_overtaken_for_a_time_only(monkeypatch):
    monkeypatch.setattr("ossd.lending.HANDICAP_S_MAX", 0.02)
    lent = lending(recall_after_s=60)
    with lent.lend() as slow, lent.lend() as new, lent.lend() as busy:
        await held_for(slow, 50, 0.05)
        await busy.grow(100)
        part = busy.close(100)
        first = asyncio.create_task(slow.grow(100))
        await asyncio.sleep(0.03)
        second = asyncio.create_task(new.grow(100))
        assert await waits(first) and await waits(second)
        part.give()
        assert await first and await waits(second)
        slow.give(100)
        assert await second


async def test_more_than_all_counts_as_all_and_what_is_endless_counts_nothing():
    lent = lending(10)
    with lent.lend() as loan:
        assert await loan.grow(1000)
        assert lent.used_bytes == 10
    assert lent.used_bytes == 0
    free: Loan = endless_loan()
    assert await free.grow(1 << 50) and not free.is_recallable
