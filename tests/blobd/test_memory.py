import asyncio

from blobd.budget import ByteBudget
from blobd.memory import INTERVAL_S, libc_trim, trim_when_idle
from tests.blobd.parts import run, until
from tests.fakes.clock import ManualClock


def test_memory_is_given_back_once_after_each_burst_and_never_during_one():
    async def story() -> None:
        clock, budget = ManualClock(), ByteBudget(100, wait_s=1)
        trims: list[float] = []
        task = asyncio.create_task(
            trim_when_idle(budget, clock=clock, trim=lambda: trims.append(clock.monotonic_s()))
        )

        async def pass_intervals(count: int) -> None:
            for _ in range(count):
                await until(lambda: clock.sleeper_count == 1)
                clock.advance(INTERVAL_S)
            await until(lambda: clock.sleeper_count == 1)

        await pass_intervals(3)
        assert trims == []
        await budget.take(10)
        await pass_intervals(3)
        assert trims == []
        budget.give(10)
        await pass_intervals(3)
        assert len(trims) == 1
        task.cancel()

    run(story)


def test_the_c_library_can_be_asked():
    libc_trim()()
