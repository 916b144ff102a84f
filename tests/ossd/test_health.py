"""The four paths that every role answers without a signature."""

from ossd.health import health_routes
from ossd.rpc import AioRpc
from tests.ossd.serving import serving


async def get(server, path):
    rpc = AioRpc(signer=None)
    try:
        return await rpc.call("GET", f"http://127.0.0.1:{server.port}{path}", deadline_s=5)
    finally:
        await rpc.close()


async def test_ready_when_all_checks_pass():
    routes = health_routes({"disk": lambda: None, "quorum": lambda: None})
    async with serving(routes) as server:
        assert (await get(server, "/readyz")).body == b"ready\n"
        verbose = await get(server, "/readyz?verbose")
        assert verbose.body == b"[ok] disk\n[ok] quorum\nready\n"


async def test_not_ready_says_why_and_when_to_ask_again_while_it_lives_on():
    routes = health_routes({"disk": lambda: None, "quorum": lambda: "no leader"})
    async with serving(routes) as server:
        reply = await get(server, "/readyz")
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert b"[failed] quorum: no leader\n" in reply.body
        for path in ("/livez", "/healthz"):
            assert (await get(server, path)).status == 200


async def test_metrics_include_the_process_and_the_requests():
    async with serving(health_routes({})) as server:
        await get(server, "/livez")
        reply = await get(server, "/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    for name in (
        b"process_cpu_seconds_total",
        b"process_resident_memory_bytes",
        b'oss_request_seconds_count{api="health",code="200",method="GET"}',
    ):
        assert name in reply.body
