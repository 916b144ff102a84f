"""Memory that no request waits for (SAFETY rule 26)."""

from osscore.errors import Overloaded
from ossd.budget import ByteBudget
from ossd.clock import Clock

SHARE_MAX = 0.5
"""The part of the memory for bodies that may be in use once background work took its own."""
WAIT_S = 0.05
WAITS_MAX = 100


async def take_spare(budget: ByteBudget, cost_bytes: int, clock: Clock) -> None:
    """Give it back to the budget. Raises Overloaded."""
    for _ in range(WAITS_MAX):
        if budget.try_take(cost_bytes, share_max=SHARE_MAX):
            return
        if not budget.used_bytes and budget.try_take(cost_bytes):
            return  # larger than its share, and nobody is there
        await clock.sleep(WAIT_S)
    raise Overloaded("Requests leave no memory for background work now.")
