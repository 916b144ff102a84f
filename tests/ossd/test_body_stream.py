"""The hand-over between a pushing server and a pulling flow."""

import asyncio

import pytest

from osscore.errors import IncompleteBody
from ossd.body_stream import RATE_GRACE_S, BodyStream
from tests.fakes.clock import ManualClock


def stream(clock: ManualClock | None = None, **limits) -> BodyStream:
    limits = {"idle_s": 10.0, "bytes_per_s_min": 0} | limits
    return BodyStream(clock=clock or ManualClock(), **limits)


async def test_at_most_one_piece_waits():
    body = stream()
    await body.feed(b"1")
    feeding = asyncio.create_task(body.feed(b"2"))
    await asyncio.sleep(0)
    assert not feeding.done()
    assert await anext(body) == b"1"
    await feeding
    body.end()
    assert [piece async for piece in body] == [b"2"]
    assert body.received_bytes == 2


async def test_the_end_wakes_a_waiting_flow():
    body = stream()
    reading = asyncio.create_task(anext(body, None))
    await body.wanted.wait()
    body.end()
    assert await reading is None


async def test_a_stopped_flow_frees_the_server():
    body = stream()
    await body.feed(b"1")
    feeding = asyncio.create_task(body.feed(b"2"))
    await asyncio.sleep(0)
    body.stop()
    await feeding
    await body.feed(b"3")


async def test_a_pause_over_the_limit_is_an_incomplete_body():
    with pytest.raises(IncompleteBody, match="came for"):
        await anext(stream(idle_s=0.01))


async def test_a_trickle_is_refused_but_a_slow_flow_is_not_blamed_on_the_client():
    """SAFETY rule 25: a minimum client rate."""
    clock = ManualClock()
    body = stream(clock, bytes_per_s_min=100)
    await body.feed(b"x")
    clock.advance(10 * RATE_GRACE_S)  # the flow was busy elsewhere
    assert await anext(body) == b"x"
    reading = asyncio.create_task(anext(body))
    await asyncio.sleep(0)
    clock.advance(2 * RATE_GRACE_S)  # the flow waited for the client
    await body.feed(b"y")
    with pytest.raises(IncompleteBody, match="slower"):
        await reading
