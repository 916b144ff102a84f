"""The list of deliberate breakages fits the code it breaks."""

import pytest

from tests.torture.breakages import BREAKAGES, Breakage, misfits


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.claim)
def test_every_breakage_still_finds_what_it_breaks(breakage: Breakage) -> None:
    assert misfits(breakage) == []
