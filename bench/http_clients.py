"""Compare HTTP clients against an ossd server in another process; prints JSON.

    python -m bench.http_clients [--seconds 2] [--rounds 3] [--only NAME,NAME]

small: POST of 200 bytes and an answer as long, 16 at a time. up, down: 1 MiB bodies, 4 at a
time. `client_us` and `server_us` are CPU microseconds a request of either process; on a
machine whose cores all daemons share they matter more than the rates. `rss_mib` is what
importing the client adds to a process that has asyncio and Tornado.
"""

import argparse
import asyncio
import functools
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

SMALL = bytes(200)
LARGE = bytes(1024 * 1024)
SMALL_AT_A_TIME = 16
LARGE_AT_A_TIME = 4


class Client(Protocol):
    """What is compared."""

    async def exchange(self, method: str, url: str, body: bytes) -> int:
        """One request; the answer's body length."""

    async def close(self) -> None:
        """Close connections."""


class OurRpc:
    """ossd.rpc, which is aiohttp with deadlines and errors of ours; unsigned as all others."""

    def __init__(self) -> None:
        from ossd.rpc import AioRpc

        self._rpc = AioRpc(signer=None)

    async def exchange(self, method: str, url: str, body: bytes) -> int:
        """See Client."""
        return len((await self._rpc.call(method, url, body=body, deadline_s=30)).body)

    async def close(self) -> None:
        """See Client."""
        await self._rpc.close()


class AioHttp:
    """aiohttp as its documentation shows it, with larger buffers."""

    def __init__(self) -> None:
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
            read_bufsize=1024 * 1024,
        )

    async def exchange(self, method: str, url: str, body: bytes) -> int:
        """See Client."""
        async with self._session.request(method, url, data=body) as answer:
            return len(await answer.read())

    async def close(self) -> None:
        """See Client."""
        await self._session.close()


class Httpx:
    """httpx over h11."""

    def __init__(self) -> None:
        import httpx

        self._client = httpx.AsyncClient(timeout=30, trust_env=False)

    async def exchange(self, method: str, url: str, body: bytes) -> int:
        """See Client."""
        return len((await self._client.request(method, url, content=body)).content)

    async def close(self) -> None:
        """See Client."""
        await self._client.aclose()


class TornadoSimple:
    """Tornado's own client: a connection per request."""

    def __init__(self) -> None:
        from tornado.simple_httpclient import SimpleAsyncHTTPClient

        self._client = SimpleAsyncHTTPClient(max_clients=64, force_instance=True)

    async def exchange(self, method: str, url: str, body: bytes) -> int:
        """See Client."""
        content = None if method == "GET" else body
        return len((await self._client.fetch(url, method=method, body=content)).body)

    async def close(self) -> None:
        """See Client."""
        self._client.close()


class Urllib3Threads:
    """urllib3 in a thread pool."""

    def __init__(self) -> None:
        urllib3 = importlib.import_module("urllib3")
        self._pool = urllib3.PoolManager(maxsize=64)
        self._threads = ThreadPoolExecutor(SMALL_AT_A_TIME)

    async def exchange(self, method: str, url: str, body: bytes) -> int:
        """See Client."""
        call = functools.partial(self._pool.request, method, url, body=body)
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        return len(answer.data)

    async def close(self) -> None:
        """See Client."""
        self._threads.shutdown()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A client, the package it needs, and the import whose memory is measured."""

    name: str
    needs: str
    module: str
    make: Callable[[], Client]


CANDIDATES = (
    Candidate("ossd.rpc", "ossd", "ossd.exchange", OurRpc),
    Candidate("aiohttp", "aiohttp", "aiohttp", AioHttp),
    Candidate("httpx", "httpx", "httpx", Httpx),
    Candidate("tornado", "tornado", "tornado.simple_httpclient", TornadoSimple),
    Candidate("urllib3-threads", "urllib3", "urllib3", Urllib3Threads),
)


async def serve_forever() -> None:
    """The server under test: unsigned, so that only HTTP is measured."""
    from ossd.clock import SystemClock
    from ossd.http import Handler, serve
    from ossd.memory import keep_freed
    from ossd.metrics import Metrics
    from ossd.server import ServerSettings

    class Exchange(Handler):
        body_bytes_max = 2 * len(LARGE)

        def post(self) -> None:
            """As many bytes as came."""
            self.write(bytes(self.body))

        def put(self) -> None:
            """Takes many, answers few."""
            self.write(b"ok")

        async def get(self) -> None:
            """Takes none, answers many."""
            await self.reply_body(LARGE)

    keep_freed()  # as every daemon does
    settings = ServerSettings(role="bench", clock=SystemClock(), metrics=Metrics())
    server = serve([("/", Exchange)], settings=settings, address="127.0.0.1", port=0)
    print(server.port, flush=True)
    await asyncio.Event().wait()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(
    exchange: Callable[[], Awaitable[int]], at_a_time: int, seconds: float, server_pid: int
) -> dict[str, float]:
    """Rates and CPU of one kind of request."""
    await exchange()
    began, own, peer = time.perf_counter(), time.process_time(), cpu_seconds(server_pid)
    until, done = began + seconds, [0] * at_a_time

    async def worker(index: int) -> None:
        while time.perf_counter() < until:
            await exchange()
            done[index] += 1

    await asyncio.gather(*(worker(index) for index in range(at_a_time)))
    took, count = time.perf_counter() - began, sum(done)
    return {
        "per_s": round(count / took, 1),
        "client_us": round((time.process_time() - own) / count * 1e6, 1),
        "server_us": round((cpu_seconds(server_pid) - peer) / count * 1e6, 1),
    }


async def compare(candidate: Candidate, url: str, seconds: float, pid: int) -> dict[str, Any]:
    """All kinds of request by one client."""
    client = candidate.make()
    results: dict[str, Any] = {}
    for kind, method, body, at_a_time in (
        ("small", "POST", SMALL, SMALL_AT_A_TIME),
        ("up", "PUT", LARGE, LARGE_AT_A_TIME),
        ("down", "GET", b"", LARGE_AT_A_TIME),
    ):
        call = functools.partial(client.exchange, method, url, body)
        results[kind] = await measure(call, at_a_time, seconds, pid)
        if kind != "small":
            results[kind]["mb_per_s"] = round(results[kind]["per_s"] * len(LARGE) / 1e6)
    await client.close()
    return results


def import_mib(module: str) -> float:
    """What importing `module` adds to a process that has asyncio and Tornado."""
    code = (
        "import asyncio, tornado.httpserver, tornado.web, importlib, resource\n"
        "def rss(): return int(open('/proc/self/statm').read().split()[1])\n"
        f"a = rss(); importlib.import_module({module!r}); b = rss()\n"
        "print((b - a) * resource.getpagesize() / 2**20)"
    )
    return round(float(subprocess.check_output([sys.executable, "-c", code])), 1)


def main() -> None:
    """Start the server, measure every client that is installed, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--server", action="store_true")
    given = parser.parse_args()
    if given.server:
        asyncio.run(serve_forever())
        return
    command = [sys.executable, "-m", "bench.http_clients", "--server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/"
        try:
            print(json.dumps(compare_all(url, given, server.pid), indent=2))
        finally:
            server.terminate()


def compare_all(url: str, given: argparse.Namespace, pid: int) -> dict[str, Any]:
    """Best results by client name; "not installed" where it is not.

    Clients take turns, so that a machine busy for a while is busy for all of them.
    """
    results: dict[str, Any] = {}
    for _ in range(given.rounds):
        for each in CANDIDATES:
            if given.only and each.name not in given.only.split(","):
                continue
            if importlib.util.find_spec(each.needs) is None:
                results[each.name] = "not installed"
                continue
            found = asyncio.run(compare(each, url, given.seconds, pid))
            results[each.name] = best(results.get(each.name, {}), found)
    for each in CANDIDATES:
        if isinstance(results.get(each.name), dict):
            results[each.name]["rss_mib"] = import_mib(each.module)
    return results


def best(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The higher rates and the lower costs of two runs."""
    merged = {}
    for kind, values in other.items():
        earlier = one.get(kind, values)
        merged[kind] = {
            name: (min if name.endswith("_us") else max)(value, earlier[name])
            for name, value in values.items()
        }
    return merged


if __name__ == "__main__":
    main()
