"""The server, by raw sockets: what it answers to good, bad, slow and vanishing clients."""

import asyncio
import json
import logging

import pytest

from osscore.errors import InvalidRange, NoSuchKey, NotLeader, Overloaded, StoreError
from ossd import logs
from ossd.http import Handler, InternalHandler, StreamHandler, serve
from tests.ossd.exchanges import code, put, request
from tests.ossd.serving import raw, serving, settings, signer, until


class Echo(Handler):
    api = "echo"
    body_bytes_max = 1000

    def get(self, *_: str) -> None:
        self.write(b"got")

    def post(self, *_: str) -> None:
        self.write(bytes(self.body))


class Failing(Handler):
    def get(self, kind: str) -> None:
        errors = {
            "bug": RuntimeError("secret detail"),
            "key": NoSuchKey(),
            "range": InvalidRange(size_bytes=7),
            "busy": Overloaded(),
            "leader": NotLeader(leader_url="http://x"),
        }
        raise errors[kind]


class Large(Handler):
    async def get(self) -> None:
        await self.reply_body([b"a" * 10, memoryview(b"b" * 300_000), b"", bytearray(b"c" * 5)])


class Form(Handler):
    def post(self) -> None:
        self.reply_json({"a": self.get_argument("a"), "q": self.get_argument("q")})


class Internal(InternalHandler):
    body_bytes_max = 100_000
    ran = 0

    def put(self) -> None:
        Internal.ran += 1
        self.write(bytes(self.body))


ROUTES = [
    (r"/echo(?:/(.*))?", Echo),
    (r"/fail/(.*)", Failing),
    (r"/large", Large),
    (r"/form", Form),
    (r"/internal", Internal),
]


async def test_get_and_head_differ_by_the_body_alone():
    async with serving(ROUTES) as server, raw(server) as client:
        await client.send(request("GET /echo"))
        status, headers, body = await client.answer()
        assert (status, body) == (200, b"got")
        assert "etag" not in headers
        await client.send(request("HEAD /echo") + request("GET /echo"))
        status, headers = await client.head()
        assert (status, headers["content-length"]) == (200, "3")
        assert (await client.answer())[2] == b"got"  # nothing of HEAD's body came between


async def test_a_request_id_is_taken_over_or_made():
    async with serving(ROUTES) as server, raw(server) as client:
        await client.send(request("GET /echo", "X-Request-Id: abc-1"))
        assert (await client.answer())[1]["x-request-id"] == "abc-1"
        await client.send(request("GET /echo", "X-Request-Id: not ok!"))
        assert len((await client.answer())[1]["x-request-id"]) == 16


async def test_an_unknown_path_gives_an_envelope_with_the_request_id():
    async with serving(ROUTES) as server, raw(server) as client:
        await client.send(request("GET /nope", "X-Request-Id: r1"))
        status, headers, body = await client.answer()
        assert (status, headers["content-type"]) == (404, "application/json")
        assert json.loads(body)["error"]["request_id"] == "r1"
        assert code(body) == "NotFound"


async def test_a_missing_verb_gives_405_and_says_what_is_allowed():
    async with serving(ROUTES) as server, raw(server) as client:
        for method in ("DELETE", "PATCH", "BREW"):
            await client.send(request(f"{method} /echo"))
            status, headers, body = await client.answer()
            assert (status, headers["allow"], code(body)) == (
                405,
                "GET, HEAD, POST",
                "MethodNotAllowed",
            )


async def test_errors_carry_their_headers_and_keep_the_connection():
    async with serving(ROUTES) as server, raw(server) as client:
        for kind, status, header in (
            ("key", 404, None),
            ("range", 416, ("content-range", "bytes */7")),
            ("busy", 503, ("retry-after", "1")),
            ("leader", 421, ("retry-after", "1")),
        ):
            await client.send(request(f"GET /fail/{kind}"))
            found, headers, _ = await client.answer()
            assert found == status
            assert "connection" not in headers
            if header:
                assert headers[header[0]] == header[1]


async def test_a_bug_is_logged_once_and_not_told_to_the_caller(caplog):
    async with serving(ROUTES) as server, raw(server) as client:
        await client.send(request("GET /fail/bug"))
        status, _, body = await client.answer()
    assert (status, code(body)) == (500, "StoreError")
    assert b"secret detail" not in body
    lines = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [line.getMessage() for line in lines] == ["request_failed"]


async def test_large_bodies_are_sent_in_order():
    async with serving(ROUTES) as server, raw(server) as client:
        await client.send(request("GET /large"))
        _, _, body = await client.answer()
        assert body == b"a" * 10 + b"b" * 300_000 + b"c" * 5


async def test_headers_and_a_small_body_leave_in_one_segment():
    async with serving(ROUTES) as server, raw(server) as client:
        await client.send(request("POST /echo", "Content-Length: 900", body=b"x" * 900))
        first = await client.reader.read(65536)
        assert first.endswith(b"x" * 900)


async def test_form_fields_become_arguments():
    async with serving(ROUTES) as server, raw(server) as client:
        kind = "Content-Type: application/x-www-form-urlencoded"
        await client.send(request("POST /form?q=2", kind, "Content-Length: 3", body=b"a=1"))
        assert json.loads((await client.answer())[2]) == {"a": "1", "q": "2"}


async def test_invalid_utf8_in_an_argument_is_the_callers_mistake():
    async with serving(ROUTES) as server, raw(server) as client:
        await client.send(request("GET /fail/%ff"))
        status, _, body = await client.answer()
        assert (status, code(body)) == (400, "InvalidArgument")


async def test_requests_are_counted_by_api_method_and_code():
    own = settings()
    async with serving(ROUTES, metrics=own.metrics) as server, raw(server) as client:
        for line in ("GET /echo", "GET /echo", "DELETE /echo"):
            await client.send(request(line))
            await client.answer()
    text = own.metrics.text().decode()
    assert 'oss_request_seconds_count{api="echo",code="200",method="GET"} 2.0' in text
    assert 'oss_request_seconds_count{api="echo",code="405",method="DELETE"} 1.0' in text


# --- bodies ----------------------------------------------------------------------------------


async def test_a_declared_body_over_the_limit_is_refused_before_it_is_sent():
    async with serving(ROUTES) as server, raw(server) as client:
        await client.send(request("POST /echo", "Content-Length: 1001", "Expect: 100-continue"))
        status, _, body = await client.answer()
        assert (status, code(body)) == (413, "EntityTooLarge")
        assert await client.rest() == b""


async def test_a_chunked_body_over_the_limit_is_refused_while_it_comes():
    async with serving(ROUTES, linger_s=0.05) as server, raw(server) as client:
        await client.send(request("POST /echo", "Transfer-Encoding: chunked"))
        await client.send(b"3e9\r\n" + b"x" * 1001 + b"\r\n")
        status, headers, body = await client.answer()
        assert (status, code(body), headers["connection"]) == (413, "EntityTooLarge", "close")
        assert await client.rest() == b""


async def test_a_chunked_body_within_the_limit_is_whole():
    async with serving(ROUTES) as server, raw(server) as client:
        await client.send(request("POST /echo", "Transfer-Encoding: chunked"))
        await client.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert (await client.answer())[2] == b"abcde"


async def test_100_continue_is_answered_for_a_wanted_body():
    async with serving(ROUTES) as server, raw(server) as client:
        await client.send(request("POST /echo", "Content-Length: 2", "Expect: 100-continue"))
        status, _ = await client.head()
        assert status == 100
        await client.send(b"ab")
        assert (await client.answer())[2] == b"ab"


async def test_what_follows_a_body_longer_than_declared_is_no_part_of_it():
    async with serving(ROUTES) as server, raw(server) as client:
        await client.send(request("POST /echo", "Content-Length: 2", body=b"abGARBAGE\r\n\r\n"))
        assert (await client.answer())[2] == b"ab"
        assert b"400" in await client.rest()


async def test_a_body_that_never_comes_is_given_up():
    async with serving(ROUTES, body_timeout_s=0.05) as server, raw(server) as client:
        await client.send(request("POST /echo", "Content-Length: 2", body=b"a"))
        assert await client.rest() == b""


async def test_headers_that_never_end_are_given_up():
    async with serving(ROUTES, idle_s=0.05) as server, raw(server) as client:
        await client.send(b"GET /echo HTTP/1.1\r\nX: ")
        assert await client.rest() == b""


async def test_headers_over_the_limit_close_the_connection():
    async with serving(ROUTES) as server, raw(server) as client:
        await client.send(b"GET /echo HTTP/1.1\r\nX: " + b"y" * 70_000)
        assert b"200" not in await client.rest()


async def test_garbage_is_dropped_and_logged_once_per_peer(caplog):
    caplog.set_level(logging.INFO)
    async with serving(ROUTES) as server:
        for garbage in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"? ? ?\r\n\r\n"):
            async with raw(server) as client:
                await client.send(garbage)
                await client.rest()
        async with raw(server) as client:
            await client.send(request("GET /echo"))
            assert (await client.answer())[0] == 200
    lines = [record for record in caplog.records if record.name.startswith("tornado")]
    assert [line.getMessage() for line in lines] == ["malformed_request"]
    assert lines[0].peer == "127.0.0.1"
    assert lines[0].exc_info is None


async def test_smuggling_by_two_lengths_is_refused():
    async with serving(ROUTES) as server:
        for headers in (
            ("Content-Length: 2", "Transfer-Encoding: chunked"),
            ("Content-Length: 2", "Content-Length: 3"),
            ("Content-Length: -1",),
            ("Content-Length: 2x",),
            ("Content-Length: " + "9" * 5000,),
        ):
            async with raw(server) as client:
                await client.send(request("POST /echo", *headers, body=b"ab"))
                assert b"HTTP/1.1 200" not in await client.rest()


# --- internal requests -----------------------------------------------------------------------


async def test_a_signed_request_runs_once_and_its_replay_never():
    async with serving(ROUTES) as server, raw(server) as client:
        signed = signer().headers("PUT", "/internal", b"abc")
        lines = [f"{name}: {value}" for name, value in signed.items()]
        before = Internal.ran
        for expected in (200, 401):
            await client.send(request("PUT /internal", "Content-Length: 3", *lines, body=b"abc"))
            assert (await client.answer())[0] == expected
        assert Internal.ran == before + 1


async def test_an_unsigned_request_is_refused_before_its_body_is_read():
    async with serving(ROUTES) as server, raw(server) as client:
        await client.send(put("/internal", 50_000, "Expect: 100-continue"))
        status, _, body = await client.answer()
        assert (status, code(body)) == (401, "Unauthenticated")


async def test_a_changed_body_is_refused_before_the_verb_runs():
    async with serving(ROUTES) as server, raw(server) as client:
        signed = signer().headers("PUT", "/internal", b"abc")
        lines = [f"{name}: {value}" for name, value in signed.items()]
        before = Internal.ran
        await client.send(request("PUT /internal", "Content-Length: 3", *lines, body=b"abd"))
        assert (await client.answer())[0] == 401
        assert Internal.ran == before


async def test_without_a_verifier_nothing_internal_answers():
    async with serving(ROUTES, verifier=None) as server, raw(server) as client:
        signed = signer().headers("PUT", "/internal", b"")
        lines = [f"{name}: {value}" for name, value in signed.items()]
        await client.send(request("PUT /internal", "Content-Length: 0", *lines))
        assert (await client.answer())[0] == 401


# --- streams ---------------------------------------------------------------------------------


async def test_stop_lets_requests_end_and_accepts_no_more():
    gate = asyncio.Event()

    class Slow(Handler):
        async def get(self) -> None:
            await gate.wait()
            self.write(b"done")

    async with serving([("/", Slow)]) as server, raw(server) as client:
        await client.send(request("GET /"))
        await until(lambda: server.active_count)
        stopping = asyncio.create_task(server.stop(10))
        await asyncio.sleep(0)
        refused = False
        try:
            async with raw(server):
                pass
        except ConnectionError:
            refused = True
        gate.set()
        assert (await client.answer())[2] == b"done"
        await stopping
        assert refused


async def test_stop_cuts_what_outlasts_the_grace():
    class Endless(Handler):
        async def get(self) -> None:
            await asyncio.Event().wait()

    async with serving([("/", Endless)]) as server, raw(server) as client:
        await client.send(request("GET /"))
        await until(lambda: server.active_count)
        await server.stop(0.05)
        assert await client.rest() == b""


async def test_stop_waits_for_a_verb_whose_client_has_left():
    gate, ended = asyncio.Event(), asyncio.Event()

    class Working(Handler):
        async def post(self) -> None:
            await gate.wait()
            ended.set()

    own = settings()
    async with serving([("/", Working)], metrics=own.metrics) as server:
        async with raw(server) as client:
            await client.send(request("POST /", "Content-Length: 0"))
            await until(lambda: server.active_count == 2)
        await until(lambda: 'code="499"' in own.metrics.text().decode())
        stopping = asyncio.create_task(server.stop(10))
        asyncio.get_running_loop().call_later(0.02, gate.set)
        await stopping
        assert ended.is_set()


async def test_connections_beyond_the_bound_are_closed_and_make_no_difference_later():
    async with serving(ROUTES, connections_max=2) as server:
        async with raw(server) as first, raw(server) as second, raw(server) as third:
            assert await third.rest() == b""
            for client in (first, second):
                await client.send(request("GET /echo"))
                assert (await client.answer())[0] == 200
        for _ in range(5):
            async with raw(server) as client:
                await client.send(request("GET /echo", "Connection: close"))
                assert (await client.answer())[0] == 200
                await client.rest()


async def test_the_request_id_is_in_the_log_lines_of_the_verb(caplog):
    seen: list[str] = []

    class Logging(StreamHandler):
        def get(self) -> None:
            seen.append(logs.request_id.get())

    async with serving([("/", Logging)]) as server, raw(server) as client:
        await client.send(request("GET /", "X-Request-Id: q-1"))
        await client.answer()
    assert seen == ["q-1"]


async def test_a_port_in_use_is_an_error_that_names_it():
    async with serving(ROUTES) as server:
        with pytest.raises(StoreError, match=str(server.port)):
            serve(ROUTES, settings=settings(), address="127.0.0.1", port=server.port)
