"""A frontend is heard by the metanodes, and says where it is reached."""

import asyncio
from pathlib import Path

import pytest

from frontend.heartbeat import be_heard
from ossd.clock import system_random
from ossd.config import advertised_url
from raftmeta.client import MetaClient
from raftmeta.wire import FrontendHeartbeat
from tests.blobd.parts import until
from tests.fakes.clock import ManualClock
from tests.fakes.meta import URLS, CatalogRpc


def test_every_metanode_hears_a_frontend_each_period(tmp_path: Path) -> None:
    async def story() -> None:
        clock = ManualClock()
        rpc = CatalogRpc(tmp_path, clock)
        meta = MetaClient(rpc, URLS, clock=clock, random=system_random)
        task = asyncio.create_task(
            be_heard(meta, frontend="f-1", url="http://f1:9001", clock=clock, heartbeat_s=1.0)
        )
        try:
            await until(lambda: len(rpc.frontend_heartbeats) == len(URLS))
            clock.advance(1.0)
            await until(lambda: len(rpc.frontend_heartbeats) == 2 * len(URLS))
        finally:
            task.cancel()
            await meta.close()
        expected = FrontendHeartbeat(frontend="f-1", url="http://f1:9001")
        assert set(rpc.frontend_heartbeats) == {expected}

    asyncio.run(story())


@pytest.mark.parametrize(
    ("configured", "http", "url"),
    [
        ("", "127.0.0.1:0", "http://127.0.0.1:4711"),
        ("", ":9001", "http://machine:4711"),
        ("", "0.0.0.0:9001", "http://machine:4711"),
        ("", "[::]:9001", "http://machine:4711"),
        ("", "[::1]:9001", "http://[::1]:4711"),
        ("https://store.example/", "127.0.0.1:0", "https://store.example"),
    ],
)
def test_others_are_told_an_address_they_can_use(configured: str, http: str, url: str) -> None:
    assert advertised_url(configured, http, port=4711, machine="machine") == url
