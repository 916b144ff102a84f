"""Streamed bodies, by raw sockets: back-pressure, early answers, clients that vanish."""

import asyncio
import json

from osscore.errors import NoSuchKey
from ossd.http import StreamHandler
from tests.ossd.exchanges import Streaming, code, put, request
from tests.ossd.serving import raw, serving, settings, until


def streaming(seen: dict) -> list:
    return [(r"/stream/(.*)", Streaming, {"seen": seen})]


async def test_a_stream_is_pulled_whole_and_the_connection_is_kept():
    async with serving(streaming({})) as server, raw(server) as client:
        for size in (0, 1, 3_000_000):
            await client.send(put("/stream/ok", size) + bytes(size))
            status, headers, body = await client.answer()
            assert (status, json.loads(body)) == (200, {"bytes": size})
            assert "connection" not in headers


async def test_a_chunked_stream_is_pulled_whole():
    async with serving(streaming({})) as server, raw(server) as client:
        await client.send(request("PUT /stream/ok", "Transfer-Encoding: chunked"))
        await client.send(b"3\r\nabc\r\n0\r\n\r\n")
        assert json.loads((await client.answer())[2]) == {"bytes": 3}


async def test_a_flow_that_refuses_answers_before_the_body_is_asked_for():
    async with serving(streaming({})) as server, raw(server) as client:
        await client.send(put("/stream/refuse", 1 << 40, "Expect: 100-continue"))
        status, _, body = await client.answer()
        assert (status, code(body)) == (404, "NoSuchKey")
        assert await client.rest() == b""


async def test_an_error_while_the_body_comes_is_answered_early_and_closes():
    async with serving(streaming({}), linger_s=0.1) as server, raw(server) as client:
        await client.send(put("/stream/early", 1 << 40) + bytes(200_000))
        status, headers, body = await client.answer()
        assert (status, code(body), headers["connection"]) == (404, "NoSuchKey", "close")
        assert await client.rest() == b""


async def test_the_early_answer_is_not_lost_by_what_the_client_still_sends():
    async with serving(streaming({})) as server, raw(server) as client:
        await client.send(put("/stream/early", 40_000_000))
        for _ in range(40):
            await client.send(bytes(1_000_000))
        status, _, body = await client.answer()
        assert (status, code(body)) == (404, "NoSuchKey")


async def test_a_refusal_in_the_middle_of_a_large_body_leaves_the_client_as_much_time():
    limits = {"linger_s": 30, "linger_bytes": 8_500_000}
    async with serving(streaming({}), **limits) as server, raw(server) as client:
        await client.send(put("/stream/late", 17_000_000))
        for _ in range(17):
            await client.send(bytes(1_000_000))
        status, _, body = await client.answer()
        assert (status, code(body)) == (404, "NoSuchKey")


async def test_a_refused_client_that_never_stops_is_cut():
    limits = {"linger_s": 30, "linger_bytes": 8 << 20}
    async with serving(streaming({}), **limits) as server, raw(server) as client:
        await client.send(put("/stream/early", 1 << 40))
        sent = 0
        try:
            while sent < 64 << 20:
                await client.send(bytes(1 << 20))
                sent += 1 << 20
        except ConnectionError:
            pass
        assert sent < 64 << 20


async def test_a_client_that_leaves_cancels_the_flow():
    seen: dict = {}
    own = settings()
    async with serving(streaming(seen), metrics=own.metrics) as server:
        async with raw(server) as client:
            await client.send(put("/stream/ok", 1 << 30) + bytes(300_000))
            await until(lambda: seen.get("bytes") == 300_000)
        await until(lambda: seen["task"].cancelled())
    assert 'code="499"' in own.metrics.text().decode()


async def test_a_client_that_leaves_during_a_download_cancels_the_flow():
    seen: dict = {}
    async with serving(streaming(seen)) as server:
        async with raw(server) as client:
            await client.send(request("GET /stream/ok"))
            assert (await client.head())[0] == 200
        await until(lambda: seen["task"].done())
    assert seen["sent"] < 49


async def test_an_error_in_the_middle_of_a_download_cuts_the_connection():
    async with serving(streaming({})) as server, raw(server) as client:
        await client.send(request("GET /stream/broken"))
        await client.head()
        assert len(await client.rest()) < 50_000_000


async def test_a_slow_flow_slows_the_client():
    seen: dict = {"gate": asyncio.Event()}
    size = 200_000_000
    async with serving(streaming(seen)) as server, raw(server) as client:
        client.writer.transport.set_write_buffer_limits(high=0)
        sending = asyncio.create_task(client.send(put("/stream/blocked", size) + bytes(size)))
        await until(lambda: seen.get("bytes"))
        done, _ = await asyncio.wait({sending}, timeout=0.2)
        assert not done  # it waits for the flow, which has one piece of the 200 MB
        assert seen["bytes"] < 5_000_000
        seen["gate"].set()
        assert json.loads((await client.answer())[2]) == {"bytes": size}
        await sending


async def test_a_slow_client_slows_the_flow():
    seen: dict = {}
    async with serving(streaming(seen)) as server, raw(server) as client:
        await client.send(request("GET /stream/ok"))
        await client.head()
        await until(lambda: "sent" in seen)
        stopped_at = -1
        while stopped_at != seen["sent"]:
            stopped_at = seen["sent"]
            await asyncio.sleep(0.05)
        assert stopped_at < 40
        async with asyncio.timeout(10):
            assert len(await client.reader.readexactly(50_000_000)) == 50_000_000


async def test_a_client_that_takes_nothing_is_cut():
    seen: dict = {}
    async with serving(streaming(seen), write_stall_s=0.05) as server, raw(server) as client:
        await client.send(request("GET /stream/ok"))
        await client.head()
        await until(lambda: seen.get("sent", 0) > 0)
        await asyncio.sleep(0.2)
        assert len(await client.rest()) < 50_000_000


async def test_a_client_that_stops_sending_gets_an_error():
    limits = {"body_idle_s": 0.05, "linger_s": 0.05}
    async with serving(streaming({}), **limits) as server, raw(server) as client:
        await client.send(put("/stream/ok", 1 << 30) + bytes(10))
        status, _, body = await client.answer()
        assert (status, code(body)) == (400, "IncompleteBody")


async def test_a_get_on_a_stream_handler_without_body_keeps_the_connection():
    class Small(StreamHandler):
        async def get(self) -> None:
            await asyncio.sleep(0)
            self.write(b"ok")

        async def delete(self) -> None:
            raise NoSuchKey

    async with serving([("/", Small)]) as server, raw(server) as client:
        for _ in range(2):
            await client.send(request("GET /"))
            assert (await client.answer())[2] == b"ok"
            await client.send(request("DELETE /"))
            assert (await client.answer())[0] == 404


# --- stopping --------------------------------------------------------------------------------
