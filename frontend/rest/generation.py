"""The catalog as a whole: `/v1/meta/backup` and `/v1/meta/adopt` (docs/adr/0016)."""

import msgspec

from frontend.rest.handler import NativeHandler
from frontend.rest.metanodes import read_metanodes
from osscore.errors import NoLeader
from ossd.rpc import check
from raftmeta.commands import Done
from raftmeta.generations import AdoptGeneration, DeletionState
from raftmeta.wire import BACKUP

BACKUP_TYPE = "application/zstd"
BACKUP_DEADLINE_S = 6 * 3600.0


class Adoption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/meta/adopt`. `force`: also without a census of every disk."""

    force: bool = False


class BackupHandler(NativeHandler):
    """`/v1/meta/backup`: the catalog as one file, consistent at one index."""

    async def get(self) -> None:
        """Passed on from the leader as it comes; whoever reads it checks it by its manifest."""
        await self.note(await self.administer("meta.backup"))
        url = await self._leader() + BACKUP
        self.set_header("Content-Type", BACKUP_TYPE)
        self.set_header("Cache-Control", "no-store")
        check(await self.surface.rpc.download(url, self.send, deadline_s=BACKUP_DEADLINE_S))

    async def head(self, *_: str, **__: str) -> None:
        """The same without the work."""
        await self.administer("meta.backup")
        self.set_header("Content-Type", BACKUP_TYPE)

    async def _leader(self) -> str:
        metanodes = await read_metanodes(self.surface.rpc, self.store.meta.urls)
        url = next((each.url for each in metanodes if each.state == "leader"), None)
        if url is None:
            raise NoLeader()
        return url


class AdoptHandler(NativeHandler):
    """`/v1/meta/adopt`: deletion may go on under the catalog that was restored."""

    async def post(self) -> None:
        """Which generation that is. Refused while disks have no census, unless forced."""
        note = await self.administer("meta.adopt")
        wanted = await self.read_json(Adoption)
        described = (await self.store.cluster.refresh()).described
        note = msgspec.structs.replace(
            note,
            target=described.cluster_id.hex(),
            detail=f"generation={described.generation} force={wanted.force}",
        )
        command = AdoptGeneration(generation=described.generation, force=wanted.force)
        await self.store.meta.propose(command, Done, audit=note)
        described = (await self.store.cluster.refresh()).described
        self.reply_json(
            {"generation": described.generation, "deletion": shown_deletion(described.deletion)}
        )


def shown_deletion(state: DeletionState) -> dict[str, object]:
    """Whether shards may be deleted, as `/v1/cluster` tells it."""
    return {
        "frozen": state.frozen,
        "restored_at_ms": state.restored_at_ms or None,
        "disks": state.disk_count,
        "disks_confirmed": state.confirmed_count,
        "disks_unconfirmed": list(state.unconfirmed),
    }
