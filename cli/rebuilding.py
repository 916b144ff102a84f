"""Making a backup of what blob daemons hold of a lost catalog, by the cluster secret (ADR 20)."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli import local_cluster
from cli.cluster import start_one, wait_live
from cli.connection import cluster_folder, given
from cli.output import UsageError
from cli.progress import Tally
from cli.restoring import with_rpc
from osscore.errors import CorruptCatalog
from ossd.clock import SystemClock
from ossd.disk import SystemDisk

if TYPE_CHECKING:
    from ossd.rpc import AioRpc
    from ossd.signing import ClusterSecrets
    from raftmeta.archive.chains import Chain
    from raftmeta.archive.gathering import Found
    from raftmeta.backup.container import Manifest


@dataclass(frozen=True, slots=True)
class Daemons:
    """The blob daemons to ask, and the secret they are spoken to by."""

    urls: tuple[str, ...]
    secrets: "ClusterSecrets"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The backup that was made, and what of."""

    manifest: "Manifest"
    chain: "Chain"
    found: "Found"

    @property
    def is_short(self) -> bool:
        """Whether something newer was seen that nothing leads to."""
        return self.found.newest_seen > self.chain.end


def find_daemons(urls: list[str], directory: Path | None, environ: Mapping[str, str]) -> Daemons:
    """The daemons named, with the secret of the environment, or those of the local cluster, which
    are started if they do not run. Raises UsageError."""
    from ossd.signing import ClusterSecrets

    if urls:
        secret = given(environ, "OSS_CLUSTER_SECRET")
        if not secret:
            raise UsageError("blob daemons are spoken to by the cluster secret: OSS_CLUSTER_SECRET")
        previous = given(environ, "OSS_CLUSTER_SECRET_PREVIOUS") or None
        bases = tuple(dict.fromkeys(url.rstrip("/") for url in urls))
        if not all(url.startswith(("http://", "https://")) for url in bases):
            raise UsageError("--blob is a daemon's base URL, such as http://10.0.0.2:9201")
        return Daemons(bases, ClusterSecrets(current=secret, previous=previous))
    cluster = local_cluster.load_required(cluster_folder(directory, environ))
    for node in cluster.blobs:
        start_one(cluster, node, environ)
    cluster.save()
    wait_live(cluster, cluster.blobs)
    secret = (cluster.folder / "secret").read_text().strip()
    return Daemons(
        tuple(node["http"] for node in cluster.blobs),
        ClusterSecrets(current=secret, previous=None),
    )


def rebuild_to(
    file: Path, daemons: Daemons, *, generation: int | None, accepts_gap: bool, line: Tally
) -> Rebuilt:
    """Write a backup of the furthest catalog that the daemons hold, to a new file.

    Raises what `gathering` and `replay` do; CorruptCatalog for a gap that is not accepted.
    """
    from raftmeta.archive.client import ArchiveClient
    from raftmeta.archive.gathering import Gathering, best_whole, find
    from raftmeta.archive.replay import make_backup

    disk = SystemDisk()
    with tempfile.TemporaryDirectory(prefix=".ossctl-", dir=file.absolute().parent) as folder:
        work = Path(folder)

        async def gather(rpc: "AioRpc") -> "tuple[Found, Chain, Path]":
            client = ArchiveClient(rpc)
            found = await find(client, daemons.urls, generation)
            gathering = Gathering(client, found, work=work, disk=disk)
            line.show(0, None, f"fetching from {len(found.sources)} disks")
            await gathering.fetch_logs()
            return found, *(await best_whole(gathering, found))

        found, chain, snapshot = with_rpc(daemons.secrets, gather)
        if found.newest_seen > chain.end and not accepts_gap:
            raise CorruptCatalog(_gap(found, chain))
        manifest = make_backup(
            snapshot,
            chain,
            file,
            work=work,
            disk=disk,
            made_at_ms=SystemClock().now_ms(),
            program=_version(),
            progress=lambda index, last: line.show(
                index - chain.snapshot.index, last - chain.snapshot.index, "applying the log"
            ),
        )
        return Rebuilt(manifest, chain, found)


def _gap(found: "Found", chain: "Chain") -> str:
    said = (
        f"the archive has a gap: entries lead up to {chain.end}, then some are missing before "
        f"{found.newest_seen}, the last one seen; --accept-gap takes the catalog as of "
        f"{chain.end}"
    )
    reasons = [*found.damage, *(f"{url} does not answer" for url in found.silent)]
    return "; ".join([said, *reasons])


def _version() -> str:
    from importlib.metadata import version

    return version("raftoss")
