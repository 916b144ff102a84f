"""Hedges are few (SAFETY rule 26)."""

from frontend.flows.pace import ReadPace
from tests.fakes.clock import ManualClock


def test_at_most_one_hedge_in_twenty_reads() -> None:
    pace = ReadPace(ManualClock())
    for _ in range(10_000):
        with pace.reading("node"):
            pass
        pace.take_hedge({"node"})
    assert 400 <= pace.hedge_count <= 510


def test_no_hedge_to_a_node_that_has_a_queue() -> None:
    pace = ReadPace(ManualClock())
    readings = [pace.reading("busy") for _ in range(8)]
    for each in readings:
        each.__enter__()
    assert not pace.take_hedge({"idle", "busy"})
    assert pace.take_hedge({"idle"})


def test_delay_follows_the_95th_percentile() -> None:
    clock = ManualClock()
    pace = ReadPace(clock)
    for number in range(128):
        with pace.reading("node"):
            clock.advance(0.2 if number % 10 == 0 else 0.01)
    assert 0.3 < pace.hedge_delay_s < 0.5
