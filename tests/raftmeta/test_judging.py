"""Which disks are lost, which are back, and when nobody may be judged (SAFETY rule 23)."""

import asyncio
import logging
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmeta.commands import Done
from raftmeta.healing import JudgeDisk
from raftmeta.nodes import DiskKey, Silence
from raftmeta.queries import DiskInfo, NodeInfo
from raftmeta.stewards.judging import Judgement, Judging, Limits, judge
from tests.fakes.clock import ManualClock

LIMITS = Limits(suspect_s=5, down_s=15, lost_s=600)
HEARD, LONG, SHORT = Silence(0, True), Silence(601, True), Silence(6, True)


def node(number: int, *states: str, zone: str = "", problem: str = "") -> NodeInfo:
    """Node n has disks 10n, 10n + 1, ..."""
    disks = tuple(
        DiskInfo(
            disk=10 * number + offset,
            uuid=bytes([number, offset]),
            state=state,
            capacity_bytes=1,
            free_bytes=1,
            writable=True,
            problem=problem,
        )
        for offset, state in enumerate(states or ("in",))
    )
    return NodeInfo(
        node=f"blob-{number}",
        url="",
        zone=zone,
        health="up",
        last_heartbeat_ms_ago=0,
        disks=disks,
    )


def silences(nodes: list[NodeInfo], those: Mapping[int, Silence]) -> dict[DiskKey, Silence]:
    """As heard, but for these disks."""
    return {
        (each.node, disk.uuid): those.get(disk.disk, HEARD) for each in nodes for disk in each.disks
    }


def judged(nodes: list[NodeInfo], those: Mapping[int, Silence], **more: object) -> Judgement:
    return judge(nodes, silences(nodes, those), limits=LIMITS, **more)  # type: ignore[arg-type]


SIX = [node(number) for number in range(1, 7)]


def test_a_disk_is_lost_after_the_delay_and_not_before() -> None:
    assert judged(SIX, {10: Silence(599, True)}) == Judgement()
    assert judged(SIX, {10: Silence(600, True)}) == Judgement(lost=(10,))
    assert judged(SIX, {10: Silence(600, False)}) == Judgement(lost=(10,))


def test_one_disk_of_a_node_that_beats_on_is_lost_alone() -> None:
    nodes = [node(1, "in", "in"), *SIX[1:]]
    assert judged(nodes, {11: LONG}).lost == (11,)


def test_a_draining_disk_is_lost_too_and_a_removed_one_is_not() -> None:
    nodes = [node(1, "draining", "removed", "lost"), *SIX[1:]]
    assert judged(nodes, {10: LONG, 11: LONG, 12: LONG}).lost == (10,)


def test_a_lost_disk_is_back_once_its_node_reports_it() -> None:
    nodes = [node(1, "lost"), *SIX[1:]]
    assert judged(nodes, {10: LONG}) == Judgement()
    assert judged(nodes, {10: HEARD}) == Judgement(back=(10,))


def test_silence_that_a_new_leader_has_not_counted_yet_brings_nobody_back() -> None:
    nodes = [node(1, "lost"), *SIX[1:]]
    assert judged(nodes, {10: Silence(0, False)}) == Judgement()
    assert judge(nodes, {}, limits=LIMITS) == Judgement()


def test_a_disk_with_a_problem_stays_lost() -> None:
    nodes = [node(1, "lost", problem="an older copy"), *SIX[1:]]
    assert judged(nodes, {10: HEARD}) == Judgement()


def test_with_too_many_silent_nodes_nobody_is_lost_but_those_heard_are_back() -> None:
    nodes = [*SIX, node(7, "lost")]
    found = judged(nodes, {10: LONG, 20: SHORT, 30: SHORT})
    assert (found.lost, found.back) == ((), (70,))
    assert "3 of 7 nodes" in found.alarm and "blob-1, blob-2, blob-3" in found.alarm
    assert judged(nodes, {10: LONG, 20: SHORT}) == Judgement(lost=(10,), back=(70,))


@pytest.mark.parametrize(
    ("count", "most"), [(2, 1), (3, 1), (5, 1), (6, 2), (8, 2), (12, 3), (40, 10)]
)
def test_a_quarter_of_the_nodes_or_the_parity_may_be_lost_at_once(count: int, most: int) -> None:
    nodes = [node(number) for number in range(1, count + 1)]
    for silent in range(1, count + 1):
        found = judged(nodes, {10 * number: LONG for number in range(1, silent + 1)})
        assert len(found.lost) == (silent if silent <= most else 0)
        assert bool(found.alarm) == (silent > most)


def test_two_silent_zones_are_a_broken_network() -> None:
    nodes = [node(number, zone=f"z{(number + 1) // 2}") for number in range(1, 41)]
    assert judged(nodes, {10: LONG, 20: LONG}).lost == (10, 20)
    assert judged(nodes, {10: LONG, 30: LONG, 50: LONG}).lost == (10, 30, 50)
    found = judged(nodes, {10: LONG, 20: LONG, 30: LONG, 40: LONG})
    assert found.lost == () and "z1, z2" in found.alarm


def test_nodes_without_a_zone_are_no_zone() -> None:
    nodes = [node(number, zone="z" if number == 1 else "") for number in range(1, 7)]
    assert judged(nodes, {10: LONG, 20: LONG}).lost == (10, 20)


def test_what_has_been_rebuilt_elsewhere_is_no_silence_any_more() -> None:
    nodes = [node(1, "lost"), node(2, "lost"), *[node(n) for n in range(3, 9)]]
    those = {10: LONG, 20: LONG, 30: LONG}
    assert judged(nodes, those).alarm
    assert judged(nodes, those, repaired={10, 20}).lost == (30,)
    assert judged(nodes, those, repaired={10}).lost == (30,)


def test_a_rebuilt_disk_does_not_make_its_beating_node_silent() -> None:
    nodes = [node(1, "lost", "in"), node(2, "lost", "in"), *[node(n) for n in range(3, 9)]]
    those = {10: LONG, 20: LONG, 30: LONG}
    assert judged(nodes, those).alarm
    assert judged(nodes, those, repaired={10, 20}) == Judgement(lost=(30,))


def test_short_silence_of_many_is_no_alarm_yet() -> None:
    assert judged(SIX, {10: SHORT, 20: SHORT, 30: SHORT}) == Judgement()


@given(
    states=st.lists(
        st.sampled_from(["in", "draining", "lost", "removed"]), min_size=1, max_size=12
    ),
    data=st.data(),
)
def test_only_the_long_silent_are_lost_and_only_the_heard_are_back(
    states: list[str], data: st.DataObject
) -> None:
    nodes = [node(number, state) for number, state in enumerate(states, 1)]
    those = {
        10 * number: Silence(
            data.draw(st.sampled_from([0, 4, 6, 14, 16, 599, 600, 900])), data.draw(st.booleans())
        )
        for number in range(1, len(states) + 1)
    }
    found = judged(nodes, those)
    by_disk = {10 * number: state for number, state in enumerate(states, 1)}
    for disk in found.lost:
        assert by_disk[disk] in ("in", "draining") and those[disk].silence_s >= 600
    for disk in found.back:
        assert by_disk[disk] == "lost" and those[disk].is_heard and those[disk].silence_s < 5
    assert not (found.alarm and found.lost)


class Bench:
    """A steward over nodes the test changes."""

    def __init__(self) -> None:
        self.nodes = list(SIX)
        self.those: dict[int, Silence] = {}
        self.repaired: set[int] = set()
        self.proposed: list[JudgeDisk] = []
        self.steward = Judging(
            nodes=lambda: self.nodes,
            silences=lambda: silences(self.nodes, self.those),
            is_repaired=self._is_repaired,
            propose=self._propose,
            clock=ManualClock(),
            limits=LIMITS,
        )

    async def _is_repaired(self, disk: int) -> bool:
        return disk in self.repaired

    async def _propose(self, command: JudgeDisk) -> Done:
        self.proposed.append(command)
        return Done()


def test_the_steward_proposes_what_it_judges_and_tells_an_alarm_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.those = {10: LONG}
    asyncio.run(bench.steward.step())
    assert bench.proposed == [JudgeDisk(disk=10, is_lost=True)]
    bench.those = {10: LONG, 20: LONG, 30: LONG}
    caplog.clear()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            asyncio.run(bench.steward.step())
    assert len(bench.proposed) == 1 and "3 of 6" in bench.steward.alarm
    assert [r.message for r in caplog.records] == ["too_many_silent"]
    bench.nodes = [node(1, "lost"), node(2, "lost"), *[node(n) for n in range(3, 8)]]
    bench.repaired = {10}
    asyncio.run(bench.steward.step())
    assert bench.steward.alarm == "" and bench.proposed[1:] == [JudgeDisk(disk=30, is_lost=True)]
