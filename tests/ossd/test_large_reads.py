"""Large bodies come in large pieces from a fast client, and at once from a slow one."""

import asyncio
import hashlib
import json
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ossd.http import Handler, StreamHandler
from tests.ossd.exchanges import put
from tests.ossd.serving import raw, serving, until

PIECE = 1 << 20


class Pieces(StreamHandler):
    """Notes the sizes of the pieces as they come; answers size and hash."""

    def initialize(self, seen: dict) -> None:
        self.seen = seen

    async def put(self) -> None:
        self.seen.update(task=asyncio.current_task(), sizes=[])
        self.body_stream.piece_bytes_max = PIECE
        digest = hashlib.sha256()
        async for piece in self.body_stream:
            self.seen["sizes"].append(len(piece))
            self.body_stream.piece_bytes_max = PIECE - sum(self.seen["sizes"]) % PIECE
            digest.update(piece)
        self.reply_json([sum(self.seen["sizes"]), digest.hexdigest()])


class Whole(Handler):
    """Takes a whole body; answers whether it came in one piece, and its hash."""

    body_bytes_max = 4 * PIECE

    def put(self) -> None:
        self.reply_json([type(self.body).__name__, hashlib.sha256(self.body).hexdigest()])


def pieces(seen: dict) -> list:
    return [("/", Pieces, {"seen": seen})]


def ends(sizes: list[int]) -> list[int]:
    return [sum(sizes[: count + 1]) for count in range(len(sizes))]


async def test_pieces_of_a_fast_client_end_where_they_are_asked_to():
    seen: dict = {}
    body = random.Random(1).randbytes(5 * PIECE + 77)
    async with serving(pieces(seen), piece_bytes=PIECE) as server, raw(server) as client:
        for _ in range(2):
            await client.send(put("/", len(body)) + body)
            answer = json.loads((await client.answer())[2])
            assert answer == [len(body), hashlib.sha256(body).hexdigest()]
            for border in range(PIECE, len(body), PIECE):
                assert border in ends(seen["sizes"])
            assert len(seen["sizes"]) < 30


@pytest.mark.parametrize("piece_bytes", [PIECE, 8 * PIECE])
@pytest.mark.parametrize("tail_bytes", [1, 70_000, 2 * PIECE])
async def test_what_a_pausing_client_sent_is_given_on_while_it_pauses(
    piece_bytes: int, tail_bytes: int
):
    seen: dict = {}
    body = random.Random(3).randbytes(9 * PIECE)
    pauses = (3 * PIECE, 3 * PIECE + 300_000, 3 * PIECE + 300_001, len(body) - tail_bytes)
    async with serving(pieces(seen), piece_bytes=piece_bytes) as server, raw(server) as client:
        for _ in range(2):
            sent, head = 0, put("/", len(body))
            for pause in pauses:
                await client.send(head + body[sent:pause])
                sent, head = pause, b""
                await until(lambda due=sent: sum(seen.get("sizes", ())) == due)
            await client.send(body[sent:])
            answer = json.loads((await client.answer())[2])
            assert answer == [len(body), hashlib.sha256(body).hexdigest()]
            seen.clear()


@pytest.mark.parametrize("sent_bytes", [2 * PIECE + 1, 4 * PIECE - 1])
async def test_a_fast_client_that_vanishes_within_a_piece_is_noticed(sent_bytes: int):
    seen: dict = {}
    async with serving(pieces(seen), piece_bytes=PIECE) as server:
        async with raw(server) as client:
            await client.send(put("/", 100 * PIECE) + bytes(sent_bytes))
            await until(lambda: sum(seen.get("sizes", ())) >= 2 * PIECE)
        await until(lambda: seen["task"].cancelled())


async def test_after_a_large_body_a_small_request_on_the_same_connection_is_seen():
    seen: dict = {}
    async with serving(pieces(seen), piece_bytes=PIECE) as server, raw(server) as client:
        for size in (3 * PIECE, 0, 1, 70_000, 2 * PIECE, 5):
            await client.send(put("/", size) + bytes(size))
            assert json.loads((await client.answer())[2])[0] == size


async def test_a_whole_piece_is_waited_for_however_slow():
    body = random.Random(2).randbytes(2 * PIECE + 5)
    whole = {"piece_bytes": 4 * PIECE, "whole_pieces": True}
    async with serving([("/", Whole)], **whole) as server, raw(server) as client:
        head = put("/", len(body))
        for start, end, pause_s in ((0, 10, 0.1), (10, 200_000, 0.1), (200_000, len(body), 0)):
            await client.send(head + body[start:end])
            head = b""
            await asyncio.sleep(pause_s)
        answer = json.loads((await client.answer())[2])
        assert answer == ["memoryview", hashlib.sha256(body).hexdigest()]


async def test_who_pulls_a_body_hears_from_a_slow_client_where_others_want_whole_pieces():
    seen: dict = {}
    whole = {"piece_bytes": 4 * PIECE, "whole_pieces": True}
    async with serving(pieces(seen), **whole) as server, raw(server) as client:
        await client.send(put("/", 2 * PIECE) + bytes(200_000))
        await until(lambda: sum(seen.get("sizes", ())) == 200_000)
        await client.send(bytes(2 * PIECE - 200_000))
        assert json.loads((await client.answer())[2])[0] == 2 * PIECE


async def test_a_client_that_vanishes_within_a_whole_piece_leaves_nothing_under_way():
    whole = {"piece_bytes": 4 * PIECE, "whole_pieces": True}
    async with serving([("/", Whole)], **whole) as server:
        async with raw(server) as client:
            await client.send(put("/", 2 * PIECE) + bytes(PIECE + 7))
            await until(lambda: server.active_count == 1)
        await until(lambda: server.active_count == 0)


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    size=st.integers(0, 3_000_000),
    cuts=st.lists(st.integers(0, 3_000_000), max_size=6),
    pause=st.sampled_from([0, 0, 0.001, 0.06]),
    whole=st.booleans(),
)
def test_every_byte_comes_in_order_however_it_is_sent(
    size: int, cuts: list[int], pause: float, whole: bool
):
    body = random.Random(size).randbytes(size)
    borders = sorted({0, size, *(cut for cut in cuts if cut < size)})

    async def story() -> None:
        how = {"piece_bytes": PIECE, "whole_pieces": whole}
        async with serving(pieces({}), **how) as server, raw(server) as client:
            await client.send(put("/", size))
            for start, end in pairwise(borders):
                await client.send(body[start:end])
                await asyncio.sleep(pause)
            answer = json.loads((await client.answer())[2])
            assert answer == [size, hashlib.sha256(body).hexdigest()]

    asyncio.run(story())
