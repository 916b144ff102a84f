"""What the tests of http and rpc share: a server on a loopback port and raw sockets to it."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from ossd.clock import SystemClock, system_random
from ossd.http import serve
from ossd.metrics import Metrics
from ossd.server import Server, ServerSettings
from ossd.signing import ClusterSecrets, Signer, Verifier

SECRETS = ClusterSecrets(current="a secret of the tests")
DEADLINE_S = 10.0


def settings(**changes: Any) -> ServerSettings:
    clock = SystemClock()
    base = ServerSettings(
        role="test", clock=clock, metrics=Metrics(), verifier=Verifier(SECRETS, clock)
    )
    return dataclasses.replace(base, **changes)


def signer() -> Signer:
    return Signer(SECRETS, SystemClock(), system_random)


@contextlib.asynccontextmanager
async def serving(routes: Sequence[Any], **changes: Any) -> AsyncIterator[Server]:
    server = serve(routes, settings=settings(**changes), address="127.0.0.1", port=0)
    try:
        yield server
    finally:
        await server.stop(0)


class Raw:
    """A client that sends exactly the bytes it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and lower-case headers of the next answer."""
        async with asyncio.timeout(DEADLINE_S):
            text = await self.reader.readuntil(b"\r\n\r\n")
        lines = text.decode("latin1").split("\r\n")
        fields = (line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value for name, value in fields}

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next whole answer with a Content-Length."""
        status, headers = await self.head()
        async with asyncio.timeout(DEADLINE_S):
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return status, headers, body

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read()


@contextlib.asynccontextmanager
async def raw(server: Server) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds; fail after the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  conditions of any kind, none has an event
            await asyncio.sleep(0.005)
