"""The hand-over between a pushing server and a pulling flow."""

import asyncio

import pytest

from osscore.errors import IncompleteBody
from ossd.body_stream import BodyStream, Parcel
from tests.fakes.clock import ManualClock


def stream(clock: ManualClock | None = None, **limits) -> BodyStream:
    limits = {"idle_s": 10.0, "bytes_per_s_min": 0} | limits
    return BodyStream(clock=clock or ManualClock(), **limits)


async def test_no_piece_is_read_before_the_flow_has_asked_for_it():
    body = stream()
    reading = asyncio.create_task(anext(body))
    await body.wanted.wait()
    feeding = asyncio.create_task(body.feed(b"1"))
    assert await reading == b"1"
    await asyncio.sleep(0)
    assert not feeding.done()
    reading = asyncio.create_task(anext(body))
    await feeding
    feeding = asyncio.create_task(body.feed(b"2"))
    assert await reading == b"2"
    reading = asyncio.create_task(anext(body, None))
    await feeding
    body.end()
    assert await reading is None
    assert body.received_bytes == 2


async def test_what_was_handed_over_is_kept_alive_by_nobody_but_the_flow():
    body, buffer = stream(), bytearray(b"piece")
    parcel = Parcel(memoryview(buffer))  # as Tornado keeps it until the next has come
    feeding = asyncio.create_task(body.feed(parcel))
    assert bytes(await anext(body)) == b"piece"
    buffer.clear()  # raises BufferError while any view of it is alive
    assert len(parcel) == 5
    body.stop()
    await feeding


async def test_the_end_wakes_a_waiting_flow():
    body = stream()
    reading = asyncio.create_task(anext(body, None))
    await body.wanted.wait()
    body.end()
    assert await reading is None


async def test_a_stopped_flow_frees_the_server():
    body = stream()
    feeding = asyncio.create_task(body.feed(b"1"))
    await asyncio.sleep(0)
    assert not feeding.done()
    body.stop()
    await feeding
    await body.feed(b"3")


async def test_a_pause_over_the_limit_is_an_incomplete_body():
    with pytest.raises(IncompleteBody, match="came for"):
        await anext(stream(idle_s=0.01))


async def test_a_trickle_is_refused_but_a_slow_flow_is_not_blamed_on_the_client():
    """SAFETY rule 25: a minimum client rate."""
    clock = ManualClock()
    body = stream(clock, bytes_per_s_min=100, idle_s=10.0)
    feeding = asyncio.create_task(body.feed(b"x"))
    await asyncio.sleep(0)
    clock.advance(100)  # the flow was busy elsewhere
    assert await anext(body) == b"x"
    for waited_s in (9, 12):  # the flow waited for the client: a pause is free, two are not
        reading = asyncio.create_task(anext(body))
        await feeding
        clock.advance(waited_s)
        feeding = asyncio.create_task(body.feed(b"y"))
        if waited_s == 9:
            assert await reading == b"y"
    with pytest.raises(IncompleteBody, match="slower"):
        await reading
    body.stop()
    await feeding
