"""Catalog time keeps up with the clocks, and a jump is confirmed only by a majority of them."""

import asyncio
from collections.abc import Sequence

import pytest

from raftmeta.commands import Collect, ConfirmTime
from raftmeta.stewards.timekeeping import AGREEMENT_MS, BEAT_MS, Timekeeping
from tests.fakes.clock import ManualClock


def propose_of_one_step(
    *, catalog_behind_ms: int, jumped: bool, others_ahead_ms: Sequence[int | None]
) -> list[Collect | ConfirmTime]:
    """What one step proposes when the other clocks differ from ours by so much."""
    clock = ManualClock()
    proposed: list[Collect | ConfirmTime] = []

    async def propose(command: Collect | ConfirmTime) -> None:
        proposed.append(command)

    async def other_clocks_ms() -> list[int | None]:
        return [None if each is None else clock.now_ms() + each for each in others_ahead_ms]

    steward = Timekeeping(
        catalog_time_ms=lambda: clock.now_ms() - catalog_behind_ms,
        has_jumped=lambda: jumped,
        other_clocks_ms=other_clocks_ms,
        propose=propose,
        clock=clock,
        grace_ms=1000,
    )
    asyncio.run(steward.step())
    return proposed


def test_hours_of_quiet_never_look_like_a_jump() -> None:
    found = propose_of_one_step(catalog_behind_ms=BEAT_MS + 1, jumped=False, others_ahead_ms=[0, 0])
    assert found == [Collect(grace_ms=1000)]


def test_a_busy_cluster_needs_no_extra_entry() -> None:
    assert not propose_of_one_step(catalog_behind_ms=100, jumped=False, others_ahead_ms=[0, 0])


@pytest.mark.parametrize("others", [[0, 0], [0, None], [AGREEMENT_MS, -3 * AGREEMENT_MS]])
def test_a_majority_of_clocks_confirms_a_jump(others: list[int | None]) -> None:
    found = propose_of_one_step(catalog_behind_ms=0, jumped=True, others_ahead_ms=others)
    assert found == [ConfirmTime()]


@pytest.mark.parametrize(
    "others", [[None, None], [-2 * AGREEMENT_MS, None], [-7_200_000, -7_200_000]]
)
def test_a_leader_whose_clock_runs_away_confirms_nothing(others: list[int | None]) -> None:
    assert not propose_of_one_step(catalog_behind_ms=0, jumped=True, others_ahead_ms=others)
