"""`ossctl put` of a long file: a real frontend behind a connection that keeps breaking."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import Result

from cli import resuming
from cli.output import ExitCode
from cli.target import Target
from cli.transfer import Upload
from tests.cli.runner import ossctl
from tests.frontend.harness import ROOT, random_bytes
from tests.frontend.rest.serving import Api, run

MIB = 1 << 20
BODY = random_bytes(7 * MIB, seed=7)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the file in it, and a state folder of its own."""
    monkeypatch.setattr(resuming, "RESUMABLE_BYTES_MIN", MIB)
    monkeypatch.setattr(resuming, "_PAUSE_S_MAX", 0.05)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in list(os.environ):
        if name.startswith(("OSS_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "long").write_bytes(BODY)
    return tmp_path


class Proxy:
    """Passes bytes on to a port; each connection carries at most so many to it, then breaks.
    After `ends_at` bytes in all it breaks every connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.limits: list[int] = []
        self.carried = 0
        self.break_count = 0
        self.ends_at = 1 << 60

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.carried >= self.ends_at:
            writer.transport.abort()
            return
        there, out = await asyncio.open_connection("127.0.0.1", self.port)
        back = asyncio.create_task(_copy(there, writer))
        left = self.limits.pop(0) if self.limits else 1 << 60
        while left > 0 and (piece := await reader.read(min(left, 64 * 1024))):
            out.write(piece)
            await out.drain()
            self.carried += len(piece)
            left = min(left - len(piece), self.ends_at - self.carried)
        if left <= 0:
            self.break_count += 1
            writer.transport.abort()
            out.transport.abort()
        await back
        out.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(64 * 1024):
            writer.write(piece)
            await writer.drain()
        writer.close()
    except ConnectionError:
        pass


async def put(endpoint: str, *words: str) -> Result:
    return await asyncio.to_thread(
        ossctl, endpoint, "put", *words, access_key=ROOT[0], secret_key=ROOT[1]
    )


async def stored(api: Api, name: str = "long") -> bytes:
    return (await api("GET", f"/objects/{name}")).body


def remembered(here: Path) -> list[Path]:
    return list((here / "state" / "ossctl" / "uploads").glob("*"))


def test_a_long_file_survives_breaks_and_sends_little_again(here: Path) -> None:
    async def story(api: Api) -> None:
        proxy = Proxy(api.port)
        proxy.limits = [2 * MIB, MIB, 3 * MIB, 10_000, 2 * MIB]
        async with proxy.listening() as endpoint:
            result = await put(endpoint, "long")
        assert result.exit_code == ExitCode.OK, result.output
        assert "version 1" in result.output
        assert await stored(api) == BODY
        assert proxy.break_count >= 3
        assert proxy.carried < 3 * len(BODY)  # what was on its way at a break goes again
        assert remembered(here) == []

    run(here / "world", story)


def test_the_same_command_again_goes_on_where_it_stopped(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "_FRUITLESS_MAX", 2)

    async def story(api: Api) -> None:
        proxy = Proxy(api.port)
        proxy.ends_at = 4 * MIB
        async with proxy.listening() as endpoint:
            first = await put(endpoint, "long")
            assert first.exit_code == ExitCode.UNAVAILABLE
            assert "goes on where this one stopped" in first.output
            (kept,) = remembered(here)
            assert kept.stat().st_mode & 0o077 == 0
            before, proxy.ends_at = proxy.carried, 1 << 60
            second = await put(endpoint, "long")
        assert second.exit_code == ExitCode.OK, second.output
        assert proxy.carried - before < len(BODY) - 2 * MIB
        assert await stored(api) == BODY
        assert remembered(here) == []

    run(here / "world", story)


def test_known_content_is_not_sent(here: Path) -> None:
    async def story(api: Api) -> None:
        proxy = Proxy(api.port)
        async with proxy.listening() as endpoint:
            await put(endpoint, "long")
            before = proxy.carried
            result = await put(endpoint, "long", "again")
        assert result.exit_code == ExitCode.OK
        assert proxy.carried - before < 10_000
        assert await stored(api, "again") == BODY

    run(here / "world", story)


def test_a_handle_that_is_worth_nothing_any_more_is_no_obstacle(here: Path) -> None:
    async def story(api: Api) -> None:
        upload = hashlib.sha256(BODY).digest()
        memory = resuming._Memory(
            here / "state" / "ossctl" / "uploads",
            Upload(here / "long", Target("objects", "long")),
        )
        memory.keep(upload, "A" * 43)
        result = await put(f"http://127.0.0.1:{api.port}", "long")
        assert result.exit_code == ExitCode.OK, result.output
        assert await stored(api) == BODY

    run(here / "world", story)


def test_options_reach_the_object(here: Path) -> None:
    async def story(api: Api) -> None:
        endpoint = f"http://127.0.0.1:{api.port}"
        result = await put(endpoint, "long", "--content-type", "video/x", "--profile", "2+1")
        assert result.exit_code == ExitCode.OK, result.output
        answer = await api("GET", "/objects/long")
        assert answer.headers["Content-Type"] == "video/x"
        assert len((await api("GET", "/locate/long")).json) == 3

    run(here / "world", story)


def test_a_file_that_grows_meanwhile_is_stored_as_it_was(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = resuming._sha256

    def then_grow(descriptor: int) -> tuple[bytes, int]:
        found = hashed(descriptor)
        with (here / "long").open("ab") as file:
            file.write(b"more")
        return found

    monkeypatch.setattr(resuming, "_sha256", then_grow)

    async def story(api: Api) -> None:
        result = await put(f"http://127.0.0.1:{api.port}", "long")
        assert result.exit_code == ExitCode.OK, result.output
        assert await stored(api) == BODY

    run(here / "world", story)


def test_a_file_that_changes_meanwhile_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = resuming._sha256

    def then_change(descriptor: int) -> tuple[bytes, int]:
        found = hashed(descriptor)
        (here / "long").write_bytes(bytes(len(BODY)))
        return found

    monkeypatch.setattr(resuming, "_sha256", then_change)

    async def story(api: Api) -> None:
        result = await put(f"http://127.0.0.1:{api.port}", "long")
        assert result.exit_code == ExitCode.FAILURE
        assert (await api("GET", "/objects/long")).status == 404

    run(here / "world", story)
