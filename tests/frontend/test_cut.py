"""Cutting bodies while the memory they share is short.

The schedules below are small models of a process: many bodies, some of whose clients stop
for good, one lending, one work budget. Whatever the order of events, no more is lent than
there is, every body whose client goes on is stored whole, and nothing is left taken.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontend.flows.cut import Cutter
from ossd.body_stream import SMALL_PIECE_BYTES, BodyStream
from ossd.budget import ByteBudget
from ossd.lending import Lending, Loan
from tests.fakes.clock import ManualClock
from tests.frontend.harness import random_bytes

STRIPE = 40
ENDLESS = 1 << 40


@dataclass(frozen=True)
class Client:
    """Sends `size_bytes` in pieces of `piece_bytes`, after so many turns each; after
    `stops_at` bytes nothing more comes, and the connection stays."""

    size_bytes: int
    piece_bytes: int
    turns: int
    stops_at: int | None


@dataclass
class Process:
    """What bodies share, and the most that was ever lent."""

    loans: Lending
    work: ByteBudget
    peak_bytes: int = 0

    def look(self) -> None:
        """Note what is lent now."""
        self.peak_bytes = max(self.peak_bytes, self.loans.used_bytes)


clients = st.builds(
    Client,
    size_bytes=st.integers(0, 5 * STRIPE),
    piece_bytes=st.integers(1, 60),
    turns=st.integers(0, 3),
    stops_at=st.none() | st.integers(0, 3 * STRIPE),
)


def cutter(body: AsyncIterator[bytes], loan: Loan, **more: int) -> Cutter:
    given = {"stripe_bytes": STRIPE, "object_bytes_max": ENDLESS} | more
    return Cutter(body, loan=loan, **given)


async def sent(client: Client, content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, client.size_bytes, client.piece_bytes):
        for _ in range(client.turns):
            await asyncio.sleep(0)
        if client.stops_at is not None and at >= client.stops_at:
            await asyncio.get_running_loop().create_future()
        yield content[at : at + client.piece_bytes]


async def upload(process: Process, client: Client, content: bytes) -> bytes:
    """As a long body: each stripe is worked on, then given back. Two may be under way."""
    stored: list[bytes] = []
    with process.loans.lend() as loan:
        cut = cutter(sent(client, content), loan)
        try:
            while plain := await cut.next():
                process.look()
                part = loan.close(len(plain))
                async with process.work.hold(2 * len(plain)):
                    await asyncio.sleep(0)
                stored.append(bytes(plain))
                part.give()
        finally:
            await cut.close()
    return b"".join(stored)


@settings(max_examples=150, deadline=None)
@given(
    sending=st.lists(clients, min_size=1, max_size=8),
    total_bytes=st.integers(STRIPE, 4 * STRIPE),
    free_bytes=st.integers(0, 10),
)
def test_no_schedule_lends_too_much_or_keeps_a_body_that_comes_from_ending(
    sending: list[Client], total_bytes: int, free_bytes: int
) -> None:
    async def story() -> None:
        loans = Lending(total_bytes, wait_s=5, free_bytes=free_bytes, recall_after_s=0)
        process = Process(loans, ByteBudget(2 * STRIPE, wait_s=5))
        tasks: dict[asyncio.Task[bytes], bytes | None] = {}
        for number, client in enumerate(sending):
            content = random_bytes(client.size_bytes, number)
            ends = client.stops_at is None or client.stops_at >= client.size_bytes
            task = asyncio.create_task(upload(process, client, content))
            tasks[task] = content if ends else None
        ending = {task: content for task, content in tasks.items() if content is not None}
        async with asyncio.timeout(4):
            got = await asyncio.gather(*ending)
        assert got == list(ending.values())
        assert process.peak_bytes <= total_bytes
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert (loans.used_bytes, process.work.used_bytes) == (0, 0)

    asyncio.run(story())


async def test_a_paused_body_gives_what_it_holds_as_a_short_stripe_and_goes_on_later() -> None:
    loans, gate = Lending(100, wait_s=5, free_bytes=0, recall_after_s=0), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"a" * 30
        await gate.wait()
        yield b"b" * 30

    with loans.lend() as loan, loans.lend() as other:
        cut = cutter(body(), loan)
        coming = asyncio.create_task(cut.next())
        await asyncio.sleep(0)
        assert not coming.done()
        growing = asyncio.create_task(other.grow(90))
        assert await coming == b"a" * 30
        loan.close(30).give()
        assert await growing
        other.give(90)
        gate.set()
        for rest in (10, 20):  # the stripe ends where it would have, so what follows is as ever
            assert await cut.next() == b"b" * rest
            loan.close(rest).give()
        assert await cut.next() == b""


async def test_nobody_is_cut_short_while_there_is_room() -> None:
    loans = Lending(4 * STRIPE, wait_s=5, free_bytes=0, recall_after_s=0)
    client = Client(size_bytes=3 * STRIPE, piece_bytes=7, turns=2, stops_at=None)
    sizes = []
    with loans.lend() as loan:
        cut = cutter(sent(client, bytes(client.size_bytes)), loan)
        while plain := await cut.next():
            sizes.append(len(plain))
            loan.close(len(plain)).give()
    assert sizes == [STRIPE] * 3


MIB = 1 << 20


def stream() -> BodyStream:
    return BodyStream(clock=ManualClock(), idle_s=100.0, bytes_per_s_min=0)


async def feed(body: BodyStream, size_bytes: int) -> None:
    """As the server does, which never reads more than it may."""
    assert size_bytes <= body.piece_bytes_max
    await body.feed(bytes(size_bytes))


async def test_room_for_a_large_piece_is_lent_before_it_is_read_and_only_to_a_quick_client() -> (
    None
):
    loans, body = Lending(16 * MIB, wait_s=5), stream()
    with loans.lend() as loan:
        cut = cutter(body, loan, stripe_bytes=8 * MIB, declared_bytes=8 * MIB)
        coming = asyncio.create_task(cut.next())
        await body.wanted.wait()
        feeding = asyncio.create_task(feed(body, 1000))
        await feeding
        assert (loan.open_bytes, body.piece_bytes_max) == (1000, SMALL_PIECE_BYTES)
        await feed(body, SMALL_PIECE_BYTES)
        rest = 8 * MIB - SMALL_PIECE_BYTES - 1000
        assert loan.open_bytes == 8 * MIB and body.piece_bytes_max == rest
        await feed(body, MIB)  # less than there was room for
        assert loan.open_bytes == 8 * MIB
        body.on_pause()
        assert loan.open_bytes == 1000 + SMALL_PIECE_BYTES + MIB
        assert body.piece_bytes_max == SMALL_PIECE_BYTES
        body.end()
        assert len(await coming) == loan.open_bytes


async def test_a_client_that_has_paused_earns_its_room_anew() -> None:
    """One that sends in bursts would else have room for a whole stripe after each."""
    loans, body = Lending(16 * MIB, wait_s=5), stream()
    with loans.lend() as loan:
        cut = cutter(body, loan, stripe_bytes=8 * MIB, declared_bytes=8 * MIB)
        coming = asyncio.create_task(cut.next())
        await body.wanted.wait()
        await feed(body, SMALL_PIECE_BYTES)
        body.on_pause()
        came_bytes = 0
        while came_bytes + SMALL_PIECE_BYTES < 8 * MIB:
            room_bytes = body.piece_bytes_max
            assert room_bytes == min(
                max(SMALL_PIECE_BYTES, came_bytes), 8 * MIB - SMALL_PIECE_BYTES - came_bytes
            )
            feeding = asyncio.create_task(feed(body, room_bytes))
            came_bytes += room_bytes
            await asyncio.wait({feeding, coming}, return_when=asyncio.FIRST_COMPLETED)
        assert len(await coming) == loan.open_bytes == 8 * MIB
        body.stop()
        await feeding


async def test_a_recall_does_not_take_the_room_from_under_a_piece_that_is_being_read() -> None:
    loans, body = Lending(16 * MIB, wait_s=5, recall_after_s=0), stream()
    with loans.lend() as loan, loans.lend() as other:
        cut = cutter(body, loan, stripe_bytes=8 * MIB, declared_bytes=8 * MIB)
        coming = asyncio.create_task(cut.next())
        await body.wanted.wait()
        await feed(body, SMALL_PIECE_BYTES)
        growing = asyncio.create_task(other.grow(12 * MIB))
        await asyncio.sleep(0)
        assert loan.is_recalled and not coming.done() and not growing.done()
        await_next = asyncio.create_task(feed(body, 5 * MIB))
        assert len(await coming) == 5 * MIB + SMALL_PIECE_BYTES
        assert loans.used_bytes <= 16 * MIB
        loan.close(loan.open_bytes).give()
        assert await growing
        body.stop()
        await await_next


async def test_of_unknown_length_a_quick_body_is_lent_whole_stripes_until_that_is_recalled() -> (
    None
):
    loans, body = Lending(16 * MIB, wait_s=5, recall_after_s=0), stream()
    with loans.lend() as loan, loans.lend() as other:
        cut = cutter(body, loan, stripe_bytes=8 * MIB)
        coming = asyncio.create_task(cut.next())
        await body.wanted.wait()
        sent = 0
        while sent < MIB + SMALL_PIECE_BYTES:
            await feed(body, SMALL_PIECE_BYTES)
            sent += SMALL_PIECE_BYTES
        assert loan.open_bytes == 8 * MIB
        growing = asyncio.create_task(other.grow(10 * MIB))
        assert len(await coming) == sent == loan.open_bytes
        loan.close(sent).give()
        assert await growing
        body.stop()


@pytest.mark.parametrize("declared", [True, False])
async def test_small_bodies_are_never_lent_anything(declared: bool) -> None:
    loans, body = Lending(0, wait_s=0.01), stream()
    with loans.lend() as loan:
        size_bytes = SMALL_PIECE_BYTES
        known = {"declared_bytes": size_bytes} if declared else {}
        cut = cutter(body, loan, stripe_bytes=8 * MIB, **known)
        coming = asyncio.create_task(cut.next())
        await body.wanted.wait()
        await feed(body, size_bytes)
        body.end()
        assert len(await coming) == size_bytes


async def test_once_it_is_closed_nobody_reads_the_body_and_it_can_be_closed() -> None:
    loans = Lending(100, wait_s=5, free_bytes=0, recall_after_s=0)

    async def sending() -> AsyncGenerator[bytes, None]:
        yield b"a" * 30
        await asyncio.get_running_loop().create_future()

    with loans.lend() as loan, loans.lend() as other:
        body = sending()
        cut = cutter(body, loan)
        coming = asyncio.create_task(cut.next())
        await asyncio.sleep(0)
        growing = asyncio.create_task(other.grow(90))
        assert await coming == b"a" * 30  # recalled: the piece behind it is still awaited
        await cut.close()
        await body.aclose()
        loan.give(30)
        assert await growing


async def test_once_it_is_closed_its_room_is_given_back_and_the_server_has_none() -> None:
    loans, body = Lending(16 * MIB, wait_s=5), stream()
    with loans.lend() as loan:
        cut = cutter(body, loan, stripe_bytes=8 * MIB, declared_bytes=8 * MIB)
        coming = asyncio.create_task(cut.next())
        await body.wanted.wait()
        await feed(body, SMALL_PIECE_BYTES)
        assert loan.open_bytes == 8 * MIB
        coming.cancel()
        await asyncio.wait({coming})
        await cut.close()
        assert (loan.open_bytes, body.piece_bytes_max) == (SMALL_PIECE_BYTES, SMALL_PIECE_BYTES)
    body.on_pause()  # the server reads the rest of a refused body, and its client pauses
    assert loans.used_bytes == 0
