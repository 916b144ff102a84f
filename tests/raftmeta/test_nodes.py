"""Judging silence (SAFETY rule 23)."""

from hypothesis import given
from hypothesis import strategies as st

from raftmeta.nodes import DOWN, SUSPECT, UNKNOWN, UP, NodeWatch
from raftmeta.wire import DiskHeartbeat, Heartbeat

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
