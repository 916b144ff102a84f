"""Calling a peer: whole answers, and errors that say whether the request may have run."""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from osscore.errors import (
    DeadlineExceeded,
    EntityTooLarge,
    NoSuchKey,
    OutcomeUnknown,
    PeerUnreachable,
)
from ossd import logs
from ossd.http import Handler, InternalHandler, StreamHandler
from ossd.rpc import AioRpc, check
from tests.ossd.serving import serving, signer, until

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"


@contextlib.asynccontextmanager
async def calling(**options) -> AsyncIterator[AioRpc]:
    rpc = AioRpc(signer=options.pop("signer", None), **options)
    try:
        yield rpc
    finally:
        await rpc.close()


class Peer:
    """A server that treats its n-th request as its script says; keeps what it received."""

    def __init__(self, *script: bytes | None) -> None:
        self.script = list(script)
        self.requests: list[bytes] = []
        self.connections = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.requests.append(await _request(reader))
                answer = self.script.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if not answer.endswith(b"ok"):
                    break
        writer.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.decode("latin1").split("\r\n"):
        name, _, value = line.partition(": ")
        if name.lower() == "content-length":
            length = int(value)
    return head + await reader.readexactly(length)


class Echo(InternalHandler):
    def put(self) -> None:
        self.set_header("X-Seen", self.request.uri or "")
        self.set_header("X-Request-Seen", self.request.headers.get("X-Request-Id", ""))
        self.write(bytes(self.body))


class Odd(Handler):
    body_bytes_max = 10

    async def get(self, what: str) -> None:
        if what == "never":
            await asyncio.Event().wait()
        if what == "error":
            raise NoSuchKey("no such thing")
        if what == "redirect":
            self.redirect("/odd/error")
            return
        self.set_header("Content-Encoding", "gzip")
        self.set_header("Set-Cookie", "a=b")
        self.write(b"not really gzip" if not self.request.headers.get("Cookie") else b"cookie")

    def put(self, what: str) -> None:
        self.write(b"ok")


class Download(StreamHandler):
    async def get(self) -> None:
        self.set_header("Content-Length", 20_000_000)
        for _ in range(20):
            await self.send(bytes(1_000_000))


ROUTES = [(r"/echo.*", Echo), (r"/odd/(.*)", Odd), (r"/download", Download)]


def base(server) -> str:
    return f"http://127.0.0.1:{server.port}"


async def test_a_signed_body_in_pieces_arrives_whole_under_the_exact_target():
    body = [b"one", memoryview(b"two" * 100_000), b"", bytearray(b"three")]
    whole = b"".join(bytes(piece) for piece in body)
    async with serving(ROUTES) as server, calling(signer=signer()) as rpc:
        url = base(server) + "/echo/a%2Fb%20c+d?x=%41&y=a/b"
        reply = check(await rpc.call("PUT", url, body=body, deadline_s=5))
        assert reply.body == whole
        assert reply.headers["x-seen"] == reply.headers["X-SEEN"] == "/echo/a%2Fb%20c+d?x=%41&y=a/b"


async def test_the_request_id_travels_along():
    async with serving(ROUTES) as server, calling(signer=signer()) as rpc:
        token = logs.request_id.set("from-above")
        reply = await rpc.call("PUT", base(server) + "/echo", deadline_s=5)
        logs.request_id.reset(token)
        assert reply.headers["X-Request-Seen"] == "from-above"


async def test_check_raises_the_error_of_the_envelope():
    async with serving(ROUTES) as server, calling() as rpc:
        reply = await rpc.call("GET", base(server) + "/odd/error", deadline_s=5)
        assert reply.status == 404
        with pytest.raises(NoSuchKey, match="no such thing"):
            check(reply)


async def test_nothing_is_done_behind_the_callers_back(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving(ROUTES) as server, calling() as rpc:
        redirect = await rpc.call("GET", base(server) + "/odd/redirect", deadline_s=5)
        assert redirect.status == 302
        for _ in range(2):  # no cookies kept, no proxy, no unpacking
            plain = await rpc.call("GET", base(server) + "/odd/plain", deadline_s=5)
            assert plain.body == b"not really gzip"
        head = await rpc.call("HEAD", base(server) + "/odd/plain", deadline_s=5)
        assert (head.body, head.headers["Content-Length"]) == (b"", "15")


async def test_an_answer_given_before_the_body_was_sent_is_received():
    async with serving(ROUTES) as server, calling() as rpc:
        url = base(server) + "/odd/put"
        for _ in range(5):
            reply = await rpc.call("PUT", url, body=bytes(5_000_000), deadline_s=5)
            with pytest.raises(EntityTooLarge):
                check(reply)
        assert (await rpc.call("PUT", url, body=b"x", deadline_s=5)).body == b"ok"


async def test_no_connection_means_unreachable():
    async with calling(connect_timeout_s=0.2) as rpc:
        for url in ("http://127.0.0.1:1/", "http://no-such-host.invalid/"):
            with pytest.raises(PeerUnreachable):
                await rpc.call("POST", url, deadline_s=5)


async def test_a_host_that_does_not_answer_is_unreachable_after_the_connect_timeout():
    # A listener whose backlog is full drops further connection requests.
    async with _deaf_listener() as url, calling(connect_timeout_s=0.1) as rpc:
        with pytest.raises(PeerUnreachable):
            await rpc.call("POST", url, deadline_s=5)


@contextlib.asynccontextmanager
async def _deaf_listener() -> AsyncIterator[str]:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


async def test_every_call_has_a_deadline():
    async with serving(ROUTES) as server, calling() as rpc:
        with pytest.raises(DeadlineExceeded):
            await rpc.call("GET", base(server) + "/odd/never", deadline_s=0.05)


async def test_a_connection_cut_after_sending_leaves_the_outcome_unknown():
    for script in (None, CUT, b"HTTP/1.1 2", CHUNKED + b"3\r\nabc\r\n"):
        peer = Peer(script)
        async with peer.listening() as url, calling() as rpc:
            with pytest.raises(OutcomeUnknown):
                await rpc.call("POST", url + "/", body=b"x", deadline_s=5)
        assert len(peer.requests) == 1  # and was not repeated


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0 hello\r\n\r\n",
        b"\0" * 100,
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        CHUNKED + b"xyz\r\n",
        CHUNKED + b"1\r\nabc",
        CHUNKED + b"0" * 5000,
    ],
)
async def test_garbage_for_an_answer_leaves_the_outcome_unknown(garbage):
    async with Peer(garbage).listening() as url, calling() as rpc:
        with pytest.raises(OutcomeUnknown):
            await rpc.call("POST", url + "/", body=b"x", deadline_s=5)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
async def test_a_stale_connection_is_not_used_twice_for_what_may_not_run_twice(method):
    peer = Peer(OK, None, OK)
    async with peer.listening() as url, calling() as rpc:
        await rpc.call(method, url + "/", deadline_s=5)
        with pytest.raises(OutcomeUnknown):
            await rpc.call(method, url + "/", deadline_s=5)
    assert len(peer.requests) == 2


@pytest.mark.parametrize(("method", "idempotent"), [("GET", False), ("PUT", True)])
async def test_what_may_run_twice_is_repeated_once_with_a_fresh_signature(method, idempotent):
    peer = Peer(OK, None, OK)
    async with peer.listening() as url, calling(signer=signer()) as rpc:
        for _ in range(2):
            reply = await rpc.call(method, url + "/", body=b"", deadline_s=5, idempotent=idempotent)
            assert reply.body == b"ok"
    assert len(peer.requests) == 3
    assert len(set(peer.requests)) == 3


async def test_two_failures_in_a_row_are_told():
    peer = Peer(None, None, OK)
    async with peer.listening() as url, calling() as rpc:
        with pytest.raises(OutcomeUnknown):
            await rpc.call("GET", url + "/", deadline_s=5)


async def test_unreachable_at_the_second_attempt_does_not_unmake_the_first():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        server.close()  # nobody listens when the second attempt comes
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with calling() as rpc:
        with pytest.raises(OutcomeUnknown):
            await rpc.call("PUT", url, body=b"x", deadline_s=5, idempotent=True)
        with pytest.raises(PeerUnreachable):
            await rpc.call("PUT", url, body=b"x", deadline_s=5, idempotent=True)


async def test_connections_are_kept_and_bounded():
    peer = Peer(*[OK] * 50)
    async with peer.listening() as url, calling(connections_per_peer=3) as rpc:
        calls = [rpc.call("GET", url + "/", deadline_s=5) for _ in range(40)]
        assert {reply.body for reply in await asyncio.gather(*calls)} == {b"ok"}
        await rpc.call("GET", url + "/", deadline_s=5)
    assert peer.connections == 3


async def test_a_cancelled_call_does_not_poison_the_connection():
    async with serving(ROUTES) as server, calling(connections_per_peer=1) as rpc:
        call = asyncio.create_task(rpc.call("GET", base(server) + "/odd/never", deadline_s=5))
        await until(lambda: server.active_count)
        call.cancel()
        await asyncio.wait({call})
        reply = await rpc.call("GET", base(server) + "/odd/plain", deadline_s=5)
        assert reply.body == b"not really gzip"


async def test_a_download_comes_piece_by_piece_and_waits_for_its_sink():
    sizes: list[int] = []
    waiting = 0

    async def sink(piece: bytes) -> None:
        nonlocal waiting
        waiting += 1
        assert waiting == 1
        await asyncio.sleep(0)
        sizes.append(len(piece))
        waiting -= 1

    async with serving(ROUTES) as server, calling() as rpc:
        reply = await rpc.download(base(server) + "/download", sink, deadline_s=20)
        assert (reply.status, reply.body) == (200, b"")
        assert sum(sizes) == 20_000_000
        assert max(sizes) <= 4 << 20
        missing = await rpc.download(base(server) + "/odd/error", sink, deadline_s=5)
        with pytest.raises(NoSuchKey):
            check(missing)
    assert sum(sizes) == 20_000_000


async def test_a_download_fails_as_it_is_cut_or_as_its_sink_does():
    async def full(piece: bytes) -> None:
        raise OSError("disk full")

    async def fine(piece: bytes) -> None:
        pass

    async with serving(ROUTES) as server, calling(connections_per_peer=1) as rpc:
        for _ in range(3):
            with pytest.raises(OSError, match="disk full"):
                await rpc.download(base(server) + "/download", full, deadline_s=5)
    async with Peer(CUT).listening() as url, calling() as rpc:
        with pytest.raises(OutcomeUnknown):
            await rpc.download(url + "/", fine, deadline_s=5)


async def test_a_chunked_answer_is_whole():
    peer = Peer(CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
    async with peer.listening() as url, calling() as rpc:
        assert (await rpc.call("GET", url + "/", deadline_s=5)).body == b"abcde"


async def test_head_and_small_body_leave_together_and_say_no_more_than_needed():
    arrived: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(await reader.read(100_000))
        writer.write(OK)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, calling() as rpc:
        url = f"http://127.0.0.1:{port}/a%2fb?c"
        await rpc.call("PUT", url, body=[b"ab", b"", b"c"], headers={"X-A": "1"}, deadline_s=5)
    (request,) = arrived
    head, _, body = request.partition(b"\r\n\r\n")
    assert body == b"abc"
    assert head.split(b"\r\n")[0] == b"PUT /a%2fb?c HTTP/1.1"
    assert sorted(head.split(b"\r\n")[1:]) == [
        b"Content-Length: 3",
        b"Content-Type: application/octet-stream",
        b"Host: 127.0.0.1:%d" % port,
        b"X-A: 1",
    ]


async def test_a_request_that_would_smuggle_another_is_never_sent():
    async with Peer(OK).listening() as url, calling() as rpc:
        with pytest.raises(ValueError):
            await rpc.call("GET", url + "/", headers={"X-A": "1\r\nX-B: 2"}, deadline_s=5)
        for bad in ("ftp://127.0.0.1/", "127.0.0.1", f"{url}?x", "http:///x"):
            with pytest.raises(ValueError):
                await rpc.call("GET", bad, deadline_s=5)


async def test_a_caller_cancelled_as_its_turn_comes_passes_the_turn_on():
    peer = Peer(*[OK] * 10)
    async with peer.listening() as url, calling(connections_per_peer=1) as rpc:
        calls = [asyncio.create_task(rpc.call("GET", url + "/", deadline_s=5)) for _ in range(6)]
        for one, following in zip(calls[0:6:2], calls[1:6:2], strict=True):
            # In the very turn of the loop in which the next one is woken.
            one.add_done_callback(lambda _, task=following: task.cancel())
        await asyncio.wait(calls)
        assert [call.cancelled() for call in calls] == [False, True] * 3
        assert (await rpc.call("GET", url + "/", deadline_s=5)).body == b"ok"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_an_upload_to_a_peer_that_takes_nothing_leaves_nothing_behind():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        before = open_files()
        async with calling() as rpc:
            with pytest.raises(DeadlineExceeded):
                await rpc.call("PUT", url, body=bytes(30_000_000), deadline_s=0.5)
            await until(lambda: open_files() == before)
            call = asyncio.create_task(rpc.call("PUT", url, body=bytes(30_000_000), deadline_s=30))
            await until(lambda: open_files() > before)
            call.cancel()
            await until(lambda: open_files() == before)


async def test_close_ends_calls_under_way_at_once():
    began = asyncio.Event()

    async def sink(piece: bytes) -> None:
        began.set()

    half = Peer(CUT + b"ok", None)  # says no more, and stays open
    async with serving(ROUTES) as server, half.listening() as url:
        async with calling(connections_per_peer=1) as rpc:
            calls = [
                asyncio.create_task(rpc.call("GET", base(server) + "/odd/never", deadline_s=30)),
                asyncio.create_task(rpc.call("GET", base(server) + "/odd/never", deadline_s=30)),
                asyncio.create_task(rpc.download(url + "/", sink, deadline_s=30)),
            ]
            await until(lambda: server.active_count)
            await began.wait()
        async with asyncio.timeout(5):
            errors = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, OutcomeUnknown) for error in errors)
        with pytest.raises(PeerUnreachable):
            await rpc.call("GET", base(server) + "/odd/plain", deadline_s=5)


async def test_many_calls_some_cancelled_some_late_leave_nothing_behind():
    dice = random.Random(1)
    before = open_files()
    async with serving(ROUTES) as server:
        async with calling(signer=signer(), connections_per_peer=4) as rpc:

            async def one(size: int, deadline_s: float) -> bool:
                body = [bytes(size), b"end"]
                try:
                    reply = await rpc.call(
                        "PUT", base(server) + "/echo", body=body, deadline_s=deadline_s
                    )
                except DeadlineExceeded:
                    return False
                assert (reply.status, len(reply.body)) == (200, size + 3)
                return True

            calls = []
            for _ in range(300):
                size, deadline_s = dice.choice([0, 100, 200_000]), dice.choice([0.01, 30, 30])
                calls.append(asyncio.create_task(one(size, deadline_s)))
                if dice.random() < 0.2:
                    await asyncio.sleep(0)
                    dice.choice(calls).cancel()
            results = await asyncio.gather(*calls, return_exceptions=True)
            failures = [r for r in results if isinstance(r, Exception)]
            assert failures == []
            assert results.count(True) > 100
            assert await one(1_000_000, 30)
        await until(lambda: not server.active_count)
    await until(lambda: len(asyncio.all_tasks()) == 1)
    await until(lambda: open_files() <= before)
