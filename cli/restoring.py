"""Restoring a backup at the metanodes themselves, by the cluster secret."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from cli import local_cluster
from cli.cluster import start_one, wait_live
from cli.connection import cluster_folder, given
from cli.local_cluster import LocalCluster
from cli.output import UsageError
from cli.progress import Tally
from osscore.errors import Corrupt, InvalidArgument, StoreError, Unavailable

if TYPE_CHECKING:
    from ossd.rpc import AioRpc
    from ossd.signing import ClusterSecrets
    from raftmeta.backup.verification import Verified
    from raftmeta.members import Member

T = TypeVar("T")
PIECE_BYTES = 4 * 1024 * 1024
PIECE_DEADLINE_S = 60.0
RESTORE_DEADLINE_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where to restore. `cluster`: the local one these metanodes belong to."""

    members: "tuple[Member, ...]"
    secrets: "ClusterSecrets"
    cluster: LocalCluster | None = None

    def check_secret(self, verified: "Verified") -> None:
        """Raises UsageError unless the secret opens what the backup has sealed."""
        from raftmeta.client import unwrap_catalog_key

        try:
            unwrap_catalog_key(self.secrets, verified.facts.catalog_key_wrapped)
        except Corrupt as error:
            raise UsageError(
                "the cluster secret is not that of the cluster this backup was made of; "
                "OSS_CLUSTER_SECRET_PREVIOUS may give one before"
            ) from error


def find_place(texts: list[str], directory: Path | None, environ: Mapping[str, str]) -> Place:
    """The metanodes named, with the secret of the environment, or those of the local cluster.
    Raises UsageError."""
    from ossd.signing import ClusterSecrets
    from raftmeta.members import Member
    from raftmeta.wire import parse_members

    if texts:
        secret = given(environ, "OSS_CLUSTER_SECRET")
        if not secret:
            raise UsageError("metanodes are spoken to by the cluster secret: OSS_CLUSTER_SECRET")
        previous = given(environ, "OSS_CLUSTER_SECRET_PREVIOUS") or None
        try:
            members = parse_members(tuple(texts))
        except InvalidArgument as error:
            raise UsageError(error.message) from error
        return Place(members, ClusterSecrets(current=secret, previous=previous))
    cluster = local_cluster.load_required(cluster_folder(directory, environ))
    return Place(
        tuple(Member(id=m["id"], raft=m["raft"], url=m["http"]) for m in cluster.metanodes),
        ClusterSecrets(current=(cluster.folder / "secret").read_text().strip(), previous=None),
        cluster,
    )


def start_metanodes(place: Place, environ: Mapping[str, str]) -> None:
    """Start those of a local cluster that do not run, so that they wait empty."""
    if place.cluster is None:
        return
    for node in place.cluster.metanodes:
        start_one(place.cluster, node, environ, forms=False)
    place.cluster.save()
    wait_live(place.cluster, place.cluster.metanodes)


def statuses(place: Place) -> dict[str, str]:
    """What each metanode says it is; 'down' where it does not answer."""
    from raftmeta.client import read_status

    async def ask(rpc: "AioRpc", member: "Member") -> tuple[str, str]:
        try:
            return member.id, (await read_status(rpc, member.url)).state
        except Unavailable:
            return member.id, "down"
        except StoreError as error:
            return member.id, f"not known: {error.message}"

    async def ask_all(rpc: "AioRpc") -> dict[str, str]:
        return dict(await asyncio.gather(*(ask(rpc, member) for member in place.members)))

    return _run(place, ask_all)


def restore_into(place: Place, verified: "Verified", file: Path, line: Tally) -> dict[str, Any]:
    """Send the backup to the first metanode and have it form the cluster. Raises what that
    answers; the same call goes on after a failure."""
    import msgspec

    from ossd.rpc import check
    from raftmeta.client import read_status
    from raftmeta.wire import RESTORE, Restore, RestoreReply

    async def work(rpc: "AioRpc") -> dict[str, Any]:
        first = place.members[0]
        # One that is a voter already goes on with the restore it had begun.
        if (await read_status(rpc, first.url)).state == "empty":
            with file.open("rb") as source:
                await _send(rpc, first.url, source, line)
        request = Restore(members=place.members, blake3=bytes.fromhex(verified.manifest.blake3))
        body = msgspec.msgpack.encode(request)
        answer = check(
            await rpc.call("POST", first.url + RESTORE, body=body, deadline_s=RESTORE_DEADLINE_S)
        )
        reply = msgspec.msgpack.decode(answer.body, type=RestoreReply)
        return {"cluster_id": reply.cluster_id.hex(), "generation": reply.generation}

    return _run(place, work)


async def _send(rpc: "AioRpc", url: str, source: BinaryIO, line: Tally) -> None:
    import msgspec

    from ossd.rpc import check
    from raftmeta.wire import RESTORE_PIECE, RestorePiece

    total_bytes = os.fstat(source.fileno()).st_size
    while data := source.read(PIECE_BYTES):
        piece = RestorePiece(offset=source.tell() - len(data), data=data)
        body = msgspec.msgpack.encode(piece)
        check(await rpc.call("POST", url + RESTORE_PIECE, body=body, deadline_s=PIECE_DEADLINE_S))
        line.show(source.tell(), total_bytes, "sending the backup")


def _run(place: Place, work: "Callable[[AioRpc], Awaitable[T]]") -> T:
    return with_rpc(place.secrets, work)


def with_rpc(secrets: "ClusterSecrets", work: "Callable[[AioRpc], Awaitable[T]]") -> T:
    """Run what speaks to daemons by the cluster secret; answers what it does."""
    from ossd.clock import SystemClock, system_random
    from ossd.rpc import AioRpc
    from ossd.signing import Signer

    async def main() -> T:
        rpc = AioRpc(signer=Signer(secrets, SystemClock(), system_random))
        try:
            return await work(rpc)
        finally:
            await rpc.close()

    return asyncio.run(main())
