"""How long bytes stay, on average."""

import pytest

from ossd.holding import REMEMBERED_BYTES, Holding


def test_the_mean_time_that_bytes_stay():
    holding = Holding()
    assert holding.mean_s == 0
    holding.pass_time(0, 100.0)
    holding.take(100)
    holding.pass_time(100, 102.0)
    assert holding.mean_s == 2
    holding.take(100)
    holding.pass_time(200, 103.0)  # the first for 3 s, the second for 1 s
    assert holding.mean_s == 2
    holding.pass_time(0, 500.0)
    assert holding.mean_s == 2


def test_a_long_body_and_a_short_one_are_told_by_their_pace_and_not_their_size():
    """Held all the time, but each byte for a moment."""
    holding = Holding()
    for second in range(100):
        holding.take(50_000_000)
        holding.pass_time(5_000_000, float(second))
    assert holding.mean_s == pytest.approx(0.1, rel=0.2)


def test_a_client_that_becomes_quick_is_believed_after_some_time():
    holding = Holding()
    holding.take(REMEMBERED_BYTES)
    holding.pass_time(REMEMBERED_BYTES, 8.0)
    for _ in range(10):
        holding.take(REMEMBERED_BYTES)
    assert holding.mean_s < 0.1
