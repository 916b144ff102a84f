"""`GET /openapi.json` on a real socket."""

import asyncio
import threading
from pathlib import Path

import pytest

from frontend.openapi.serving import Written
from tests.frontend.rest.serving import DESCRIPTION, Api, run


def test_the_description_is_open_to_anybody(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        answer = await api("GET", "/openapi.json", auth=None)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.json == DESCRIPTION.document
        assert (await api("HEAD", "/openapi.json", auth=None)).body == b""
        assert (await api("PUT", "/openapi.json", data=b"{}")).status == 405

    run(tmp_path, story)


def test_the_description_is_written_once_beside_the_loop_and_when_asked_for() -> None:
    threads: list[int] = []

    def write() -> bytes:
        threads.append(threading.get_ident())
        return b"{}"

    async def story() -> None:
        written = Written(write)
        assert threads == []
        left = asyncio.create_task(written.body())
        await asyncio.sleep(0)
        left.cancel()  # a client that goes takes nothing from the others
        assert await asyncio.gather(written.body(), written.body()) == [b"{}", b"{}"]
        assert await written.body() == b"{}"

    asyncio.run(story())
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_a_description_that_cannot_be_written_fails_whoever_asks() -> None:
    def write() -> bytes:
        raise ValueError("described twice")

    async def story() -> None:
        written = Written(write)
        for _ in range(2):
            with pytest.raises(ValueError, match="twice"):
                await written.body()

    asyncio.run(story())
