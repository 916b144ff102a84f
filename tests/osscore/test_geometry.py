"""Every byte of a range lies in exactly one slice, window or frame."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osscore import compression
from osscore.erasure import shard_bytes
from osscore.errors import InvalidRange
from osscore.geometry import StripeSlice, frame_span, shard_windows, slices
from osscore.model import BLOCK_BYTES, FRAME_BYTES, Profile, reed_solomon, replicas

PROFILES = ["1+1", "2+1", "3+2", "4+2", "6+3", "16+8"]
CODINGS = st.sampled_from([reed_solomon(Profile.parse(p)) for p in PROFILES] + [replicas(3)])


@st.composite
def ranges(draw, size_max: int):
    """A size and a range inside it."""
    size_bytes = draw(st.integers(1, size_max))
    first = draw(st.integers(0, size_bytes - 1))
    return size_bytes, first, draw(st.integers(first, size_bytes - 1))


@given(case=ranges(10_000), stripe_bytes=st.integers(1, 3_000))
def test_slices_cover_the_range_once_and_in_order(case, stripe_bytes):
    size_bytes, first, last = case
    covered = []
    for piece in slices(size_bytes, stripe_bytes, first, last):
        assert piece.length > 0
        assert piece.offset + piece.length <= stripe_bytes
        start = piece.index * stripe_bytes + piece.offset
        covered.extend(range(start, start + piece.length))
    assert covered == list(range(first, last + 1))


def test_slices_of_an_example():
    assert slices(100, 40, 30, 99) == [
        StripeSlice(index=0, offset=30, length=10),
        StripeSlice(index=1, offset=0, length=40),
        StripeSlice(index=2, offset=0, length=20),
    ]


OUTSIDE = [(-1, 5), (5, 4), (0, 10), (10, 10)]


@pytest.mark.parametrize(("first", "last"), OUTSIDE)
def test_a_range_outside_is_refused_with_the_size(first, last):
    with pytest.raises(InvalidRange) as raised:
        slices(10, 4, first, last)
    assert raised.value.size_bytes == 10
    with pytest.raises(InvalidRange):
        shard_windows(replicas(2), shard_bytes=10, stored_bytes=10, first=first, last=last)
    with pytest.raises(InvalidRange):
        frame_span((5,), plain_bytes=10, first=first, last=last)


@given(coding=CODINGS, case=ranges(3_000_000))
def test_windows_cover_exactly_the_range(coding, case):
    stored_bytes, first, last = case
    size = shard_bytes(stored_bytes, coding)
    position = first
    for window in shard_windows(
        coding, shard_bytes=size, stored_bytes=stored_bytes, first=first, last=last
    ):
        assert window.index < coding.data_count
        assert window.take > 0
        assert window.index * size + window.first + window.skip == position
        assert window.skip + window.take <= window.length
        position += window.take
    assert position == last + 1


@given(coding=CODINGS, case=ranges(3_000_000))
def test_windows_end_on_block_borders_and_fetch_no_block_in_vain(coding, case):
    stored_bytes, first, last = case
    size = shard_bytes(stored_bytes, coding)
    for window in shard_windows(
        coding, shard_bytes=size, stored_bytes=stored_bytes, first=first, last=last
    ):
        end = window.first + window.length
        assert window.first % BLOCK_BYTES == 0
        assert end == size or (end % BLOCK_BYTES == 0 and end < size)
        assert window.skip < BLOCK_BYTES
        assert window.length - window.skip - window.take < BLOCK_BYTES


@given(case=ranges(5 * FRAME_BYTES), data=st.data())
def test_a_frame_span_holds_the_range(case, data):
    plain_bytes, first, last = case
    count = -(-plain_bytes // FRAME_BYTES)
    frames = data.draw(st.lists(st.integers(1, 300_000), min_size=count, max_size=count))
    span = frame_span(frames, plain_bytes=plain_bytes, first=first, last=last)
    begin = first // FRAME_BYTES
    assert span.frames == tuple(frames[begin : begin + len(span.frames)])
    assert span.stored_first == sum(frames[:begin])
    assert span.stored_last - span.stored_first + 1 == sum(span.frames)
    assert begin * FRAME_BYTES + span.skip == first
    assert span.take == last - first + 1
    assert span.skip < FRAME_BYTES
    assert 0 <= span.plain_bytes - span.skip - span.take < FRAME_BYTES


@given(case=ranges(3 * FRAME_BYTES))
@settings(max_examples=30, deadline=None)
def test_a_frame_span_of_a_real_stripe_decompresses_to_the_range(case):
    plain_bytes, first, last = case
    plain = (b"%09d," * (plain_bytes // 10 + 1) % tuple(range(plain_bytes // 10 + 1)))[:plain_bytes]
    packed = compression.compress(plain)
    if not packed.frames:
        return
    span = frame_span(packed.frames, plain_bytes=plain_bytes, first=first, last=last)
    fetched = packed.stored[span.stored_first : span.stored_last + 1]
    opened = compression.decompress(fetched, span.frames, span.plain_bytes)
    assert opened[span.skip : span.skip + span.take] == plain[first : last + 1]
