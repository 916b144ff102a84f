"""Start a blob daemon: `python -P -m blobd --id blob-1 --data DIR --http HOST:PORT ...`.

The composition root: the only place of this role that reads the environment, files and
flags, and that binds the machine's own clock, randomness, disk and network.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from blobd.config import BlobConfig
from blobd.service import BlobDaemon, World
from osscore.erasure import best_codec
from osscore.errors import StoreError
from ossd import logs
from ossd.clock import SystemClock, system_random
from ossd.config import load
from ossd.disk import SystemDisk
from ossd.memory import use_one_arena
from ossd.rpc import AioRpc
from ossd.run import EXIT_REFUSED, Stopper, run
from ossd.signing import ClusterSecrets, Signer, Verifier

_DRAIN_EXTRA_S = 10.0
"""Time, after the requests, to end background work and to close the disks."""


def main(argv: Sequence[str]) -> int:
    """Run a daemon to its end and give its exit code."""
    flags = vars(_parser().parse_args(argv))
    file = flags.pop("config")
    flags = {name: value for name, value in flags.items() if value is not None}
    try:
        config = load(
            BlobConfig, role="blobd", argv_flags=flags, environ=os.environ, file=file
        ).struct
        config.check()
        secrets = ClusterSecrets(
            current=config.cluster_secret, previous=config.cluster_secret_previous or None
        )
    except StoreError as error:
        sys.stderr.write(f"blobd: {error.message}\n")
        return EXIT_REFUSED
    use_one_arena()
    logs.setup(config.log_format, sys.stdout)
    return run(lambda stopper: _live(config, secrets, stopper), drain_s=_drain_s(config))


async def _live(config: BlobConfig, secrets: ClusterSecrets, stopper: Stopper) -> None:
    clock = SystemClock()
    rpc = AioRpc(signer=Signer(secrets, clock, system_random))
    world = World(
        clock=clock,
        random=system_random,
        disk=SystemDisk(),
        rpc=rpc,
        secrets=secrets,
        verifier=Verifier(secrets, clock),
        pid=os.getpid(),
        host=os.uname().nodename,
        codec=cache(best_codec),
    )
    try:
        await BlobDaemon(config, world).run(stopper)
    finally:
        await rpc.close()


def _drain_s(config: BlobConfig) -> float:
    return config.drain_s + _DRAIN_EXTRA_S


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blobd", description="Keeps shards of objects durable.", allow_abbrev=False
    )
    parser.add_argument("--id", help="this daemon's name in the cluster")
    parser.add_argument(
        "--data", action="append", metavar="DIR", help="data folder; several for several disks"
    )
    parser.add_argument("--http", metavar="HOST:PORT", help="where to listen; port 0: any free")
    parser.add_argument("--url", help="base URL under which others reach this daemon")
    parser.add_argument("--metanodes", type=_several, metavar="URL,URL", help="the metanodes")
    parser.add_argument("--zone", help="failure domain above the node")
    parser.add_argument("--log-format", choices=("json", "text"))
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file")
    return parser


def _several(text: str) -> list[str]:
    return [part.strip().rstrip("/") for part in text.split(",") if part.strip()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
