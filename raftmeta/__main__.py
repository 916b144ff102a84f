"""`python -P -m raftmeta`: one metanode. The only place where its parts are bound."""

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from osscore.errors import StoreError
from ossd import logs
from ossd.clock import SystemClock, system_random
from ossd.config import HostPort, load
from ossd.disk import SystemDisk
from ossd.health import health_routes
from ossd.http import serve
from ossd.metrics import Metrics
from ossd.rpc import AioRpc
from ossd.run import EXIT_REFUSED, Stopper, run
from ossd.server import ServerSettings
from ossd.signing import ClusterSecrets, Signer, Verifier
from raftmeta.config import MetaConfig
from raftmeta.forming import Forming, bootstrap_when_possible
from raftmeta.gauges import MetanodeCollector, RaftMetrics
from raftmeta.handlers import routes
from raftmeta.identity import Identity, MetadataFolder
from raftmeta.service import ROLE, Metanode, Seams
from raftmeta.wire import Bootstrap, BootstrapReply, parse_members

DRAIN_S = 5.0
_FLAGS = (
    "id",
    "data",
    "http",
    "raft",
    "raft_bind",
    "url",
    "peers",
    "bootstrap",
    "log_format",
    "log_level",
)


def main(argv: Sequence[str]) -> int:
    """Run until SIGTERM; answers the exit code (`ossd.run`)."""
    try:
        config = _config(argv)
    except StoreError as error:
        sys.stderr.write(f"raftmeta: {error.message}\n")
        return EXIT_REFUSED
    logs.setup(config.log_format, sys.stdout, level=config.log_level)
    return run(lambda stopper: serve_metanode(config, stopper))


def _config(argv: Sequence[str]) -> MetaConfig:
    parser = argparse.ArgumentParser(
        prog="raftmeta", description="A metanode: keeps who has what, replicated by Raft."
    )
    for name in _FLAGS:
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name)
    parser.add_argument("--config", type=Path, help="TOML file")
    flags = vars(parser.parse_args(argv))
    file = flags.pop("config")
    loaded = load(MetaConfig, role=ROLE, argv_flags=flags, environ=os.environ, file=file)
    return loaded.struct.check()


async def serve_metanode(config: MetaConfig, stopper: Stopper) -> None:
    """Bind everything, serve until the stopper says so, and take it down again."""
    clock, disk, metrics = SystemClock(), SystemDisk(), Metrics()
    secrets = ClusterSecrets(
        current=config.cluster_secret, previous=config.cluster_secret_previous or None
    )
    rpc = AioRpc(signer=Signer(secrets, clock, system_random))
    place = HostPort.parse(config.http)
    folder = MetadataFolder.open(
        Path(config.data),
        disk=disk,
        fresh=Identity(id=config.id, raft=config.raft, url=config.base_url(place.port)),
    )
    metanode = Metanode(
        folder,
        Seams(
            config=config,
            clock=clock,
            random=system_random,
            disk=disk,
            rpc=rpc,
            secrets=secrets,
            metrics=RaftMetrics(metrics.registry),
            stopper=stopper,
            version=importlib.metadata.version("raftoss"),
            pid=os.getpid(),
        ),
    )
    metrics.registry.register(
        MetanodeCollector(
            status=metanode.status,
            journal_bytes=metanode.journal_bytes,
            count=metanode.count,
            healing=metanode.healing,
            archive=metanode.archive,
        )
    )
    try:
        await metanode.start()
        server = serve(
            routes(metanode) + health_routes({"raft": metanode.why_not_ready}),
            settings=ServerSettings(
                role=ROLE, clock=clock, metrics=metrics, verifier=Verifier(secrets, clock)
            ),
            address=place.host,
            port=place.port,
        )
        if config.bootstrap:
            stopper.tasks.spawn(_bootstrap(metanode.forming, config), name="bootstrap")
        await stopper.wait()
        await server.stop(grace_s=DRAIN_S)
    finally:
        await stopper.tasks.close()
        await metanode.close()
        await rpc.close()


async def _bootstrap(forming: Forming, config: MetaConfig) -> None:
    request = Bootstrap(
        members=parse_members(config.bootstrap),
        root_access_key=config.root_access_key,
        root_secret_key=config.root_secret_key,
        system_token=config.system_token,
    )
    formed = await bootstrap_when_possible(forming, request, clock=SystemClock())
    if formed is not None:
        _print_generated(request, formed)


def _print_generated(request: Bootstrap, formed: BootstrapReply) -> None:
    """Secrets nobody gave are shown this once, to whoever started the process."""
    given = msgspec.structs.asdict(request)
    for name in ("root_access_key", "root_secret_key", "system_token"):
        if not given[name]:
            sys.stdout.write(f"OSS_{name.upper()}={getattr(formed, name)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
