"""A body on its way in: whole, hashed, in flat memory, and never in another's way."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from hashlib import sha256
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blobd.temp.intake import Intake
from blobd.temp.records import PIECE_BYTES_MAX, TempId, temp_id
from osscore.digests import crc32c
from osscore.errors import DiskFull, Overloaded
from ossd.budget import ByteBudget
from ossd.disk import Bytes

KIB, MIB = 1024, 1024 * 1024
TEMP = temp_id(bytes(10))


class Pieces:
    """A shelf that remembers what it was given, and how much was held meanwhile."""

    def __init__(self, budget: ByteBudget) -> None:
        self.pieces: list[bytes] = []
        self.held_bytes: list[int] = []
        self.room = 1 << 60
        self._budget = budget

    async def put_piece(self, temp: TempId, number: int, body: Bytes, crc: int) -> None:
        assert (temp, number, crc) == (TEMP, len(self.pieces), crc32c(body))
        self.held_bytes.append(self._budget.used_bytes)
        await asyncio.sleep(0)
        self.room -= len(body)
        if self.room < 0:
            raise DiskFull()
        self.pieces.append(bytes(body))


def intake(budget: ByteBudget) -> tuple[Intake, Pieces]:
    shelf: Any = Pieces(budget)
    return Intake(shelf, TEMP, budget), shelf


async def arriving(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for each in pieces:
        yield each


def cut(body: bytes, size_bytes: int) -> list[bytes]:
    return [body[at : at + size_bytes] for at in range(0, len(body), size_bytes)]


@given(st.lists(st.integers(1, 300_000), max_size=60), st.integers(2, 64))
@settings(max_examples=60, deadline=None)
def test_any_cut_of_a_body_gives_the_same_bytes(sizes: list[int], budget_mib: int) -> None:
    async def story() -> None:
        body = Random(1).randbytes(sum(sizes))
        ends = [sum(sizes[:n]) for n in range(len(sizes) + 1)]
        budget = ByteBudget(budget_mib * MIB, wait_s=1)
        it, shelf = intake(budget)
        parts = [body[a:b] for a, b in pairwise(ends)]
        received = await it.receive(arriving(parts))
        assert b"".join(shelf.pieces) == body
        assert received.size_bytes == len(body)
        assert received.sha256 == sha256(body).digest()
        assert received.piece_count == len(shelf.pieces)
        assert all(0 < len(each) <= PIECE_BYTES_MAX for each in shelf.pieces)
        assert max(shelf.held_bytes, default=0) <= budget_mib * MIB
        assert budget.used_bytes == 0

    asyncio.run(story())


def test_pieces_are_large_where_there_is_room_and_memory_is_flat() -> None:
    async def story() -> None:
        budget = ByteBudget(64 * MIB, wait_s=1)
        it, shelf = intake(budget)
        received = await it.receive(arriving(cut(bytes(40 * MIB), MIB)))
        assert [len(each) for each in shelf.pieces] == [PIECE_BYTES_MAX] * 10
        assert received.piece_count == 10
        assert max(shelf.held_bytes) == 2 * PIECE_BYTES_MAX

    asyncio.run(story())


def test_uploads_that_stand_still_leave_half_of_the_budget_and_let_others_pass() -> None:
    async def story() -> None:
        budget = ByteBudget(16 * MIB, wait_s=1)
        never = asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield bytes(MIB)
            await never.wait()

        held = [intake(budget) for _ in range(20)]
        tasks = [asyncio.create_task(it.receive(stuck())) for it, _ in held]
        async with asyncio.timeout(10):
            while sum(len(b"".join(s.pieces)) for _, s in held) < 20 * 3 * MIB - 8 * MIB:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            it, _ = intake(budget)
            received = await it.receive(arriving(cut(bytes(5 * MIB), 64 * KIB)))
        assert received.size_bytes == 5 * MIB
        assert budget.used_bytes <= 8 * MIB
        assert budget.try_take(8 * MIB)
        budget.give(8 * MIB)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert budget.used_bytes == 0

    asyncio.run(story())


def test_a_budget_that_stays_taken_is_an_overload_and_nothing_stays_held() -> None:
    async def story() -> None:
        budget = ByteBudget(4 * MIB, wait_s=0.05)
        await budget.take(4 * MIB)
        it, _ = intake(budget)
        with pytest.raises(Overloaded):
            await it.receive(arriving([b"x"]))
        budget.give(4 * MIB)
        assert budget.used_bytes == 0

    asyncio.run(story())


def test_a_full_disk_ends_it_and_nothing_stays_held() -> None:
    async def story() -> None:
        budget = ByteBudget(64 * MIB, wait_s=1)
        it, shelf = intake(budget)
        shelf.room = 6 * MIB
        with pytest.raises(DiskFull):
            await it.receive(arriving(cut(bytes(20 * MIB), MIB)))
        assert budget.used_bytes == 0

    asyncio.run(story())
