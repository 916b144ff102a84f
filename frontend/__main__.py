"""Start a frontend: `python -P -m frontend --id frontend-1 --http HOST:PORT --metanodes URL,...`.

The composition root: the only place of this role that reads the environment, files and
flags, and that binds the machine's own clock, randomness and network.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from blobd.client import BlobClient
from frontend.cluster import ClusterView
from frontend.config import FrontendConfig
from frontend.flows.batches import ShardBatches
from frontend.flows.pace import ReadPace
from frontend.flows.store import FlowSettings, Store
from frontend.heartbeat import be_heard
from frontend.internal import internal_routes
from frontend.meters import FlowMetrics
from frontend.openapi.serving import openapi_routes
from frontend.readiness import Readiness
from frontend.rest.routes import native_routes
from frontend.runs import Runs
from frontend.serving.surface import Surface
from frontend.tickets import Tickets, UploadHandles
from frontend.tokens.routes import token_routes
from osscore.erasure import best_codec
from osscore.errors import StoreError
from osscore.model import STRIPE_BYTES_MAX
from ossd import logs
from ossd.budget import ByteBudget
from ossd.clock import Clock, SystemClock, system_random
from ossd.config import HostPort, advertised_url, load
from ossd.health import health_routes
from ossd.http import serve
from ossd.lending import Lending
from ossd.memory import libc_trim, trim_when_idle, use_one_arena
from ossd.metrics import Metrics
from ossd.rpc import AioRpc
from ossd.run import EXIT_REFUSED, Stopper, run
from ossd.server import ServerSettings
from ossd.signing import ClusterSecrets, Signer, Verifier
from raftmeta.access import Access
from raftmeta.client import MetaClient

_DRAIN_EXTRA_S = 5.0
"""Time, after the requests, to end background work."""

log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run a frontend to its end and give its exit code."""
    flags = vars(_parser().parse_args(argv))
    file = flags.pop("config")
    try:
        config = load(
            FrontendConfig, role="frontend", argv_flags=flags, environ=os.environ, file=file
        ).struct
        config.check()
        secrets = ClusterSecrets(
            current=config.cluster_secret, previous=config.cluster_secret_previous or None
        )
    except StoreError as error:
        sys.stderr.write(f"frontend: {error.message}\n")
        return EXIT_REFUSED
    logs.setup(config.log_format, sys.stdout)
    use_one_arena()
    return run(
        lambda stopper: _live(config, secrets, stopper),
        drain_s=config.drain_s + _DRAIN_EXTRA_S,
        keep_freed_bytes=config.bodies_bytes // 2,
    )


async def _live(config: FrontendConfig, secrets: ClusterSecrets, stopper: Stopper) -> None:
    clock, metrics = SystemClock(), Metrics()
    rpc = AioRpc(signer=Signer(secrets, clock, system_random))
    meta = MetaClient(rpc, config.metanodes, clock=clock, random=system_random)
    store = _store(config, meta, rpc, clock)
    metrics.registry.register(FlowMetrics(store))
    access = Access(meta, store.cluster.described, secrets, clock=clock)
    surface = Surface(
        store=store,
        access=access,
        tickets=Tickets(meta, access, random=system_random),
        handles=UploadHandles(access.vault),
        runs=Runs(access),
        rpc=rpc,
        config=config,
        version=_version(),
        pid=os.getpid(),
    )
    readiness = Readiness(store.cluster, clock)
    where = HostPort.parse(config.http)
    try:
        server = serve(
            [
                *health_routes(readiness.checks()),
                *openapi_routes(partial(_description, surface.version)),
                *internal_routes(store),
                *native_routes(surface),
                *token_routes(surface),
            ],
            settings=ServerSettings(
                role="frontend",
                clock=clock,
                metrics=metrics,
                verifier=Verifier(secrets, clock),
                piece_bytes=STRIPE_BYTES_MAX,
            ),
            address=where.host,
            port=where.port,
        )
        stopper.tasks.spawn(readiness.watch(), name="readiness")
        machine = os.uname().nodename
        heard = be_heard(
            meta,
            frontend=config.id,
            url=advertised_url(config.url, config.http, port=server.port, machine=machine),
            clock=clock,
            heartbeat_s=config.heartbeat_s,
        )
        stopper.tasks.spawn(heard, name="heartbeat")
        trimming = trim_when_idle(store.budget, clock=clock, trim=libc_trim())
        stopper.tasks.spawn(trimming, name="trim")
        log.info("serving", extra={"id": config.id, "address": where.host, "port": server.port})
        await stopper.wait()
        await server.stop(config.drain_s)
        await stopper.tasks.close()
    finally:
        await store.close()
        await meta.close()
        await rpc.close()


def _store(config: FrontendConfig, meta: MetaClient, rpc: AioRpc, clock: Clock) -> Store:
    settings = FlowSettings(
        gc_grace_s=config.gc_grace_s,
        upload_ttl_s=min(config.upload_ttl_s, config.upload_expiry_s),
        object_bytes_max=config.object_bytes_max,
    )
    blobs = BlobClient(rpc)
    return Store(
        meta=meta,
        blobs=blobs,
        cluster=ClusterView(meta, clock=clock),
        codec=best_codec(),
        budget=ByteBudget(config.bodies_bytes // 2, wait_s=config.bodies_wait_s),
        loans=Lending(config.bodies_bytes // 2, wait_s=config.bodies_wait_s),
        batches=ShardBatches(blobs, deadline_s=settings.shard_deadline_s),
        pace=ReadPace(clock),
        clock=clock,
        random=system_random,
        threads=ThreadPoolExecutor(config.threads, thread_name_prefix="codec"),
        settings=settings,
    )


def _description(version: str) -> bytes:
    # A fifth of a frontend's modules, for a page that few ask for.
    from frontend.description import encoded

    return encoded(version)


def _version() -> str:
    try:
        return version("raftoss")
    except PackageNotFoundError:
        return "unknown"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="frontend", description="Serves objects over HTTP.", allow_abbrev=False
    )
    parser.add_argument("--id", help="this process's name")
    parser.add_argument("--http", metavar="HOST:PORT", help="where to listen; port 0: any free")
    parser.add_argument("--url", help="base URL under which others reach this process")
    parser.add_argument("--metanodes", type=_several, metavar="URL,URL", help="the metanodes")
    parser.add_argument("--log-format", choices=("json", "text"))
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file")
    return parser


def _several(text: str) -> list[str]:
    return [part.strip().rstrip("/") for part in text.split(",") if part.strip()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
