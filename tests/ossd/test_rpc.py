"""Calling a peer: whole answers, and errors that say whether the request may have run."""

import asyncio
import contextlib
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
        self.write(self.body)


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
    import socket

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
    for script in (None, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"HTTP/1.1 2"):
        peer = Peer(script)
        async with peer.listening() as url, calling() as rpc:
            with pytest.raises(OutcomeUnknown):
                await rpc.call("POST", url + "/", body=b"x", deadline_s=5)
        assert len(peer.requests) == 1  # and was not repeated


async def test_garbage_for_an_answer_leaves_the_outcome_unknown():
    for garbage in (b"SSH-2.0 hello\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 100):
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


async def test_a_chunked_answer_is_whole():
    peer = Peer(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    )
    async with peer.listening() as url, calling() as rpc:
        assert (await rpc.call("GET", url + "/", deadline_s=5)).body == b"abcde"
