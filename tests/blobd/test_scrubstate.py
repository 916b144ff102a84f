"""Where the scrub stands, whatever happens to clocks, volumes and the process meanwhile."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from blobd.scrubstate import (
    ScrubState,
    begun,
    ended,
    entered,
    left_behind,
    left_bytes,
    left_of,
)
from blobd.volumerecords import Volume

HOUR_MS = 3_600_000


def volume(number: int, *, size_bytes: int = 1000, live_bytes: int = 500) -> Volume:
    return Volume(f"{number:08x}-aa", number, size_bytes, live_bytes)


def restarted(state: ScrubState) -> ScrubState:
    return msgspec.json.decode(msgspec.json.encode(state), type=ScrubState)


def test_the_bytes_on_the_disk() -> None:
    state = entered(begun(ScrubState(), [volume(1), volume(2)], 100), volume(2), 130)
    text = (
        b'{"verified_at_ms":{"00000002-aa":130},"volume":"","offset":-1,"volume_began_at_ms":0,'
        b'"pass_began_at_ms":100,"pass_last":2,"pass_bytes":0,"pass_bad":0,"last_began_at_ms":0,'
        b'"last_finished_at_ms":0,"last_bytes":0,"last_bad":0,"is_paused":false}'
    )
    assert msgspec.json.encode(left_behind(state)) == text


def test_what_is_left_shrinks_within_a_volume() -> None:
    state = entered(begun(ScrubState(), [volume(1), volume(2)], 100), volume(1), 100)
    assert left_bytes(state, [volume(1), volume(2)]) == 1000
    half = msgspec.structs.replace(state, offset=500)
    assert left_bytes(half, [volume(1), volume(2)]) == 750
    assert left_bytes(ScrubState(), [volume(1)]) == 0


def test_a_time_that_has_not_come_yet_is_not_believed() -> None:
    state = ScrubState(verified_at_ms={volume(1).name: 50, volume(2).name: 10 * HOUR_MS})
    anew = begun(state, [volume(1), volume(2)], 100)
    assert (anew.verified_at_ms, anew.pass_began_at_ms) == ({volume(1).name: 50}, 100)
    assert left_of(anew, [volume(1), volume(2)]) == [volume(2), volume(1)]


def test_what_is_written_during_a_pass_does_not_prolong_it() -> None:
    state = begun(ScrubState(), [volume(1)], 100)
    state = left_behind(entered(state, volume(1), 100))
    assert left_of(state, [volume(1), volume(2)]) == []


steps = st.lists(
    st.one_of(
        st.just(("reread", 0)),
        st.just(("restart", 0)),
        st.just(("write", 0)),
        st.tuples(st.just("compact"), st.integers(0, 9)),
        st.tuples(st.just("leap"), st.integers(-2 * HOUR_MS, 2 * HOUR_MS)),
        st.just(("now", 0)),
    ),
    max_size=40,
)


@given(steps=steps)
def test_a_whole_pass_has_reread_every_volume_it_began_with(steps: list[tuple[str, int]]) -> None:
    now_ms, top = 10 * HOUR_MS, 4
    volumes = {number: volume(number) for number in range(1, top + 1)}
    reread: set[int] = set()
    state = begun(ScrubState(), list(volumes.values()), now_ms)

    def go_on() -> None:
        """One volume to its end, or the pass."""
        nonlocal state
        left = left_of(state, volumes.values())
        if not left:
            due = {n for n in volumes if n <= state.pass_last}
            assert due <= reread
            began = state.pass_began_at_ms
            state = ended(state, volumes.values(), now_ms)
            assert all(state.verified_at_ms[volumes[n].name] >= began for n in due)
            assert set(state.verified_at_ms) <= {v.name for v in volumes.values()}
            reread.clear()
            state = begun(state, list(volumes.values()), now_ms)
            assert len(left_of(state, volumes.values())) == len(volumes)
            return
        assert left[0].number not in reread, "reread twice in a pass"
        state = left_behind(entered(state, left[0], now_ms))
        reread.add(left[0].number)

    for what, amount in steps:
        now_ms += 7
        if what == "reread":
            go_on()
        elif what == "restart":
            state = restarted(state)
        elif what == "write":
            top += 1
            volumes[top] = volume(top)
        elif what == "compact" and len(volumes) > 1:
            volumes.pop(sorted(volumes)[amount % len(volumes)])
        elif what == "leap":
            now_ms = max(HOUR_MS, now_ms + amount)
        elif what == "now":
            reread.clear()
            state = begun(state, list(volumes.values()), now_ms)
    for _ in range(2 * len(volumes) + 2):  # and from anywhere a pass comes to its end
        go_on()
