"""Judging silence (SAFETY rule 23)."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmeta.nodes import DOWN, FORGET_BEATS, SUSPECT, UNKNOWN, UP, NodeWatch, Silence
from raftmeta.upkeep import DiskCensus
from raftmeta.wire import DiskHeartbeat, FrontendHeartbeat, Heartbeat

TICK_S = 0.5


def beat(node: str = "blob-1") -> Heartbeat:
    disk = DiskHeartbeat(uuid=b"u" * 16, capacity_bytes=10, free_bytes=4, writable=True)
    return Heartbeat(node=node, url="http://b1", zone="z", disks=(disk,))


def watch() -> NodeWatch:
    return NodeWatch(heartbeat_s=1.0, tick_s=TICK_S)


def run_ticks(nodes: NodeWatch, *, start_s: float, seconds: float, term: int | None) -> float:
    now_s = start_s
    for _ in range(round(seconds / TICK_S)):
        now_s += TICK_S
        nodes.tick(now_s=now_s, term=term)
    return now_s


def health(nodes: NodeWatch, now_s: float, node: str = "blob-1") -> str:
    return nodes.soft_state(now_s=now_s).nodes[node].health


def test_a_silent_node_is_suspected_after_5_beats_and_down_after_15() -> None:
    nodes = watch()
    nodes.tick(now_s=0, term=1)
    nodes.hear(beat(), now_s=0)
    now_s = run_ticks(nodes, start_s=0, seconds=4.5, term=1)
    assert health(nodes, now_s) == UP
    now_s = run_ticks(nodes, start_s=now_s, seconds=1.5, term=1)
    assert health(nodes, now_s) == SUSPECT
    now_s = run_ticks(nodes, start_s=now_s, seconds=10, term=1)
    assert health(nodes, now_s) == DOWN
    nodes.hear(beat(), now_s=now_s)
    assert health(nodes, now_s) == UP


def test_unconfirmed_ticks_count_nothing() -> None:
    nodes = watch()
    nodes.tick(now_s=0, term=1)
    nodes.hear(beat(), now_s=0)
    now_s = run_ticks(nodes, start_s=0, seconds=60, term=None)
    assert health(nodes, now_s) == UP


def test_a_paused_leader_counts_two_ticks_at_most() -> None:
    nodes = watch()
    nodes.hear(beat(), now_s=0)
    nodes.tick(now_s=0, term=1)
    nodes.tick(now_s=3600, term=1)
    assert health(nodes, 3600) == UP
    now_s = run_ticks(nodes, start_s=3600, seconds=3.5, term=1)
    assert health(nodes, now_s) == UP


def test_silence_restarts_at_zero_on_a_leader_change() -> None:
    nodes = watch()
    nodes.tick(now_s=0, term=1)
    nodes.hear(beat(), now_s=0)
    now_s = run_ticks(nodes, start_s=0, seconds=20, term=1)
    assert health(nodes, now_s) == DOWN
    nodes.tick(now_s=now_s, term=2)
    assert health(nodes, now_s) == UNKNOWN
    now_s = run_ticks(nodes, start_s=now_s, seconds=16, term=2)
    assert health(nodes, now_s) == DOWN


def test_a_new_leader_goes_on_believing_whom_it_heard_just_now() -> None:
    nodes = watch()
    nodes.hear(beat(), now_s=9)
    nodes.tick(now_s=10, term=5)
    assert health(nodes, 10) == UP


def test_a_node_never_heard_of_is_unknown_and_later_down() -> None:
    nodes = watch()
    nodes.expect(["blob-9"])
    nodes.tick(now_s=0, term=1)
    assert health(nodes, 0, "blob-9") == UNKNOWN
    now_s = run_ticks(nodes, start_s=0, seconds=16, term=1)
    assert health(nodes, now_s, "blob-9") == DOWN


def test_disks_are_told_as_last_heard() -> None:
    nodes = watch()
    nodes.hear(beat(), now_s=1)
    known = nodes.soft_state(now_s=2.5, admits_writes=False)
    assert known.nodes["blob-1"].disks[b"u" * 16].free_bytes == 4
    assert known.nodes["blob-1"].last_heartbeat_ms_ago == 1500
    assert not known.admits_writes


DISK = ("blob-1", b"u" * 16)


def expecting() -> NodeWatch:
    nodes = watch()
    nodes.expect(["blob-1"], [DISK])
    nodes.tick(now_s=0, term=1)
    return nodes


def beat_without(uuid: bytes = b"", *, readable: bool = True) -> Heartbeat:
    disks = (
        DiskHeartbeat(uuid=uuid, capacity_bytes=1, free_bytes=1, writable=False, readable=readable),
    )
    return Heartbeat(node="blob-1", url="http://b1", zone="z", disks=disks if uuid else ())


@pytest.mark.parametrize(
    "heartbeat", [None, beat_without(), beat_without(b"u" * 16, readable=False)]
)
def test_a_disk_is_silent_with_its_node_or_when_its_node_beats_without_it(
    heartbeat: Heartbeat | None,
) -> None:
    nodes = expecting()
    nodes.hear(beat(), now_s=0)
    now_s = 0.0
    for _ in range(8):
        now_s = run_ticks(nodes, start_s=now_s, seconds=1, term=1)
        if heartbeat is not None:
            nodes.hear(heartbeat, now_s=now_s)
    silence = nodes.silences()[DISK]
    assert 7 <= silence.silence_s <= 8 and silence.is_heard
    known = nodes.soft_state(now_s=now_s).nodes["blob-1"]
    assert known.silent_disks == {b"u" * 16}
    assert known.health == (SUSPECT if heartbeat is None else UP)
    nodes.hear(beat(), now_s=now_s)
    assert nodes.silences()[DISK] == Silence(0, is_heard=True)
    assert nodes.soft_state(now_s=now_s).nodes["blob-1"].silent_disks == frozenset()


def test_silence_of_a_disk_is_counted_in_confirmed_ticks_only_and_two_tick_lengths_each() -> None:
    nodes = expecting()
    now_s = run_ticks(nodes, start_s=0, seconds=60, term=None)
    assert nodes.silences()[DISK].silence_s == 0
    nodes.tick(now_s=now_s + 3600, term=1)
    assert nodes.silences()[DISK].silence_s == 2 * TICK_S


def test_a_new_leader_counts_a_disks_silence_anew_and_has_not_heard_of_it() -> None:
    nodes = expecting()
    nodes.hear(beat(), now_s=0)
    now_s = run_ticks(nodes, start_s=0, seconds=20, term=1)
    assert nodes.silences()[DISK].silence_s > 15
    nodes.tick(now_s=now_s, term=2)
    assert nodes.silences()[DISK] == Silence(0, is_heard=False)


def test_another_nodes_copy_of_a_disk_does_not_speak_for_it() -> None:
    nodes = expecting()
    now_s = 0.0
    for _ in range(6):
        now_s = run_ticks(nodes, start_s=now_s, seconds=1, term=1)
        nodes.hear(beat("blob-2"), now_s=now_s)
    assert nodes.silences()[DISK].silence_s == 6


def frontends(nodes: NodeWatch, now_s: float) -> dict[str, str]:
    return {each.url: each.health for each in nodes.soft_state(now_s=now_s).frontends}


def test_a_silent_frontend_is_judged_as_a_node_is_and_forgotten_in_the_end() -> None:
    nodes = watch()
    nodes.tick(now_s=0, term=1)
    for url in ("http://f1", "http://f2"):
        nodes.hear(FrontendHeartbeat(frontend="frontend", url=url), now_s=0)
    assert frontends(nodes, 0) == {"http://f1": UP, "http://f2": UP}
    now_s = run_ticks(nodes, start_s=0, seconds=16, term=1)
    assert set(frontends(nodes, now_s).values()) == {DOWN}
    nodes.hear(FrontendHeartbeat(frontend="frontend", url="http://f2"), now_s=now_s)
    assert frontends(nodes, now_s) == {"http://f1": DOWN, "http://f2": UP}
    late_s = FORGET_BEATS + 1.0
    nodes.hear(FrontendHeartbeat(frontend="frontend", url="http://f2"), now_s=late_s)
    assert frontends(nodes, late_s) == {"http://f2": UP}


TICKS = st.lists(
    st.tuples(
        st.floats(min_value=0, max_value=100),
        st.sampled_from([None, 1, 2]),
        st.booleans(),
    ),
    max_size=60,
)


@given(TICKS)
def test_nobody_is_blamed_before_enough_confirmed_ticks(
    ticks: list[tuple[float, int | None, bool]],
) -> None:
    """Down needs at least 15 s in confirmed ticks of one leadership since the last beat."""
    nodes = watch()
    nodes.hear(beat(), now_s=0)
    now_s, confirmed_count, last_term = 0.0, 0, None
    for passed_s, term, heard in ticks:
        now_s += passed_s
        if heard:
            nodes.hear(beat(), now_s=now_s)
            confirmed_count = 0
        nodes.tick(now_s=now_s, term=term)
        if term is not None:
            confirmed_count = confirmed_count + 1 if term == last_term else 0
            last_term = term
        judged = health(nodes, now_s)
        if confirmed_count * 2 * TICK_S < 15:
            assert judged != DOWN
        if confirmed_count * 2 * TICK_S < 5:
            assert judged in (UP, UNKNOWN)


CENSUS = DiskCensus(
    generation=1,
    begun_at_ms=1,
    finished_at_ms=2,
    expected=5,
    present=4,
    missing=1,
    finished_ms_ago=1000,
)


def test_a_census_ages_while_its_node_is_silent() -> None:
    nodes = watch()
    disk = msgspec.structs.replace(beat().disks[0], census=CENSUS)
    nodes.hear(msgspec.structs.replace(beat(), disks=(disk,)), now_s=10)
    soft = nodes.soft_state(now_s=40).nodes["blob-1"].disks[b"u" * 16].census
    assert soft == msgspec.structs.replace(CENSUS, finished_ms_ago=31_000)
    nodes.hear(beat(), now_s=41)
    assert nodes.soft_state(now_s=41).nodes["blob-1"].disks[b"u" * 16].census is None


class DiskHeartbeatBefore(msgspec.Struct, frozen=True, kw_only=True):
    """As nodes sent it that made no census."""

    uuid: bytes
    capacity_bytes: int
    free_bytes: int
    writable: bool
    problem: str = ""


def test_heartbeats_with_and_without_a_census_are_understood_by_both_kinds_of_nodes() -> None:
    before = DiskHeartbeatBefore(uuid=b"u", capacity_bytes=2, free_bytes=1, writable=True)
    now = DiskHeartbeat(uuid=b"u", capacity_bytes=2, free_bytes=1, writable=True, census=CENSUS)
    encode = msgspec.msgpack.encode
    read = msgspec.msgpack.decode(encode(before), type=DiskHeartbeat)
    assert read == msgspec.structs.replace(now, census=None)
    assert msgspec.msgpack.decode(encode(now), type=DiskHeartbeatBefore) == before
