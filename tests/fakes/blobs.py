"""Blob daemons in memory, with the interface of `blobd.client.BlobClient`.

Disks come to be when first written to. Faults are sets a test fills: whole daemons by their
url (`refusing`, `stalled`), disks by uuid (`full`), single shards by (uuid, identity)
(`corrupt`: the daemon notices; `lying`: it sends wrong bytes with matching block CRCs).
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from blobd.wire import (
    CensusAsked,
    InventoryPage,
    InventoryRow,
    Rechecked,
    RecheckedShard,
    ScrubObeyed,
    ShardCount,
    ShardOutcome,
    ShardPut,
    SweepPage,
)
from osscore.digests import crc32c
from osscore.errors import (
    BadDigest,
    CorruptShard,
    DeadlineExceeded,
    DiskFull,
    InvalidRange,
    NoSuchShard,
    NoSuchUpload,
    PeerUnreachable,
    ShardConflict,
    StoreError,
)
from osscore.model import BLOCK_BYTES, Coding, ShardIdentity, SlotState
from ossd.disk import Bytes
from raftmeta.client import MetaClient
from raftmeta.commands import Done, MarkBad, MarkGood
from raftmeta.queries import ClusterDescribed, ExpectedSlots, GetCluster, SlotsExpected

Place = tuple[bytes, ShardIdentity]


class FakeBlobs:
    """Any number of daemons; `shards[uuid][identity]` is what lies there."""

    def __init__(self) -> None:
        self.shards: dict[bytes, dict[ShardIdentity, bytes]] = defaultdict(dict)
        self.refusing: set[str] = set()
        self.stalled: set[str] = set()
        self.full: set[bytes] = set()
        self.corrupt: set[Place] = set()
        self.lying: set[Place] = set()
        self.deleted: set[Place] = set()
        self.meta: MetaClient | None = None
        self.hints: list[tuple[bytes, tuple[int, ...]]] = []
        self.sweeps: list[tuple[bytes, str, bool]] = []
        self.asked: list[bytes] = []
        self.orders: list[tuple[bytes, str]] = []
        self.verified_ms_ago: dict[Place, int] = {}
        self.put_count = 0
        self.get_count = 0
        self.batch_sizes: list[int] = []
        self.windows: list[tuple[int, int | None]] = []
        self.stalled_count = 0
        self.fetched_bytes = 0
        self.temps: dict[bytes, list[bytes]] = {}
        self.temp_failures: list[StoreError] = []
        self._stuck: dict[str, list[asyncio.Future[None]]] = defaultdict(list)

    async def get_temp_piece(
        self, url: str, temp: bytes, number: int, *, deadline_s: float
    ) -> bytes:
        """See BlobClient. `temp_failures` are raised first, one a call."""
        await asyncio.sleep(0)
        if self.temp_failures:
            raise self.temp_failures.pop()
        if temp not in self.temps:
            raise NoSuchUpload()
        if number >= len(self.temps[temp]):
            raise NoSuchShard()
        return self.temps[temp][number]

    async def put_shard(
        self,
        url: str,
        disk_uuid: bytes,
        identity: ShardIdentity,
        coding: Coding,
        body: Bytes,
        crc: int,
        *,
        deadline_s: float,
    ) -> None:
        """See BlobClient."""
        await self._reach(url, deadline_s)
        self.put_count += 1
        self._store(disk_uuid, identity, bytes(body), crc)

    async def get_shard(
        self,
        url: str,
        disk_uuid: bytes,
        identity: ShardIdentity,
        *,
        first: int = 0,
        length: int | None = None,
        deadline_s: float,
    ) -> bytes:
        """See BlobClient."""
        assert first % BLOCK_BYTES == 0
        await self._reach(url, deadline_s)
        self.get_count += 1
        self.windows.append((first, length))
        body = self.shards[disk_uuid].get(identity)
        if body is None:
            raise NoSuchShard()
        if (disk_uuid, identity) in self.corrupt:
            raise CorruptShard()
        if (disk_uuid, identity) in self.lying:
            body = bytes([body[0] ^ 1]) + body[1:]
        if first >= len(body):
            raise InvalidRange(size_bytes=len(body))
        window = body[first:] if length is None else body[first : first + length]
        self.fetched_bytes += len(window)
        return window

    async def put_batch(
        self, url: str, puts: Sequence[tuple[ShardPut, bytes]], *, deadline_s: float
    ) -> tuple[ShardOutcome, ...]:
        """See BlobClient."""
        await self._reach(url, deadline_s)
        self.batch_sizes.append(len(puts))
        return tuple(self._outcome(put, body) for put, body in puts)

    async def inventory(
        self,
        url: str,
        disk_uuid: bytes,
        after: str = "",
        limit: int = 1000,
        *,
        deadline_s: float,
    ) -> InventoryPage:
        """All in one page."""
        await self._reach(url, deadline_s)
        found = sorted(self.shards[disk_uuid].items(), key=lambda item: tuple_of(item[0]))
        return InventoryPage(rows=tuple(InventoryRow(i, len(b), crc32c(b)) for i, b in found))

    async def recheck(
        self, url: str, disk_uuid: bytes, rows: Sequence[int], *, deadline_s: float
    ) -> Rechecked:
        """What an owner does: ask the catalog, look, and tell it what differs."""
        await self._reach(url, deadline_s)
        assert self.meta is not None, "who takes hints needs a catalog to report to"
        self.hints.append((disk_uuid, tuple(rows)))
        described = await self.meta.query(GetCluster(), ClusterDescribed)
        numbers = {disk.uuid: disk.disk for node in described.nodes for disk in node.disks}
        number, shards = numbers[disk_uuid], []
        for row in rows:
            query = ExpectedSlots(disk=number, after_row=row - 1, limit=1)
            for slot in (await self.meta.query(query, SlotsExpected)).slots:
                if slot.row != row:
                    continue
                found = self._found((disk_uuid, slot.identity), slot.crc)
                if (found == "good") != (slot.state == SlotState.GOOD):
                    mark = MarkGood if found == "good" else MarkBad
                    await self.meta.propose(mark(identity=slot.identity, disk=number), Done)
                shards.append(RecheckedShard(row, slot.identity, found))
        return Rechecked(shards=tuple(shards))

    async def sweep(
        self, url: str, disk_uuid: bytes, after: str, *, is_dry_run: bool, deadline_s: float
    ) -> SweepPage:
        """A disk without anything to remove, in two pages."""
        await self._reach(url, deadline_s)
        self.sweeps.append((disk_uuid, after, is_dry_run))
        held = list(self.shards[disk_uuid].values())
        count = ShardCount(len(held), sum(map(len, held))) if not after else ShardCount()
        none = ShardCount()
        return SweepPage(
            examined=count,
            young=none,
            kept=count,
            shared=none,
            removed=none,
            next="" if after else "ab",
        )

    async def ask_census(self, url: str, disk_uuid: bytes, *, deadline_s: float) -> CensusAsked:
        """Asked, and noted."""
        await self._reach(url, deadline_s)
        self.asked.append(disk_uuid)
        return CensusAsked(asked_at_ms=1000 + len(self.asked))

    async def order_scrub(
        self, url: str, disk_uuid: bytes, action: str, *, deadline_s: float
    ) -> ScrubObeyed:
        """Told, and noted."""
        await self._reach(url, deadline_s)
        self.orders.append((disk_uuid, action))
        return ScrubObeyed(began_at_ms=1000 if action == "now" else 0)

    async def is_ready(self, url: str, *, deadline_s: float) -> bool:
        """Unless it is refusing or stalled."""
        try:
            await self._reach(url, deadline_s)
        except StoreError:
            return False
        return True

    async def last_verified(
        self,
        url: str,
        disk_uuid: bytes,
        identities: Sequence[ShardIdentity],
        *,
        deadline_s: float,
    ) -> tuple[int, ...]:
        """`verified_ms_ago` of those that are there, -1 of others."""
        await self._reach(url, deadline_s)
        held = self.shards[disk_uuid]
        return tuple(
            self.verified_ms_ago.get((disk_uuid, each), -1) if each in held else -1
            for each in identities
        )

    def recover(self, url: str) -> None:
        """Let a stalled daemon go on, also with what it has been asked already."""
        self.stalled.discard(url)
        for stuck in self._stuck.pop(url, []):
            if not stuck.done():
                stuck.set_result(None)

    def remove(self, place: Place) -> None:
        """Lose one shard, as a bad disk would."""
        del self.shards[place[0]][place[1]]

    def places(self) -> list[Place]:
        """Every shard there is."""
        return [(uuid, identity) for uuid, disk in self.shards.items() for identity in disk]

    async def _reach(self, url: str, deadline_s: float) -> None:
        await asyncio.sleep(0)
        if url in self.refusing:
            raise PeerUnreachable(f"No connection to {url}.")
        if url in self.stalled:
            self.stalled_count += 1
            try:
                async with asyncio.timeout(deadline_s):
                    stuck = asyncio.get_running_loop().create_future()
                    self._stuck[url].append(stuck)
                    await stuck
            except TimeoutError as error:
                raise DeadlineExceeded(f"{url} does not answer.") from error

    def _found(self, place: Place, crc: int) -> str:
        body = self.shards[place[0]].get(place[1])
        if body is None:
            return "missing"
        if place in self.corrupt:
            return "corrupt"
        is_other = place in self.lying or crc32c(body) != crc
        return "other" if is_other else "good"

    def _outcome(self, put: ShardPut, body: bytes) -> ShardOutcome:
        try:
            self._store(put.disk, put.identity, body, put.crc)
        except StoreError as error:
            return ShardOutcome(error=error.code, message=error.message)
        return ShardOutcome()

    def _store(self, uuid: bytes, identity: ShardIdentity, body: bytes, crc: int) -> None:
        if uuid in self.full:
            raise DiskFull()
        if crc32c(body) != crc:
            raise BadDigest()
        if (uuid, identity) in self.deleted:
            raise ShardConflict("That identity was deleted.")
        held = self.shards[uuid].get(identity)
        if held is not None and held != body and (uuid, identity) not in self.corrupt:
            raise ShardConflict()
        self.corrupt.discard((uuid, identity))
        self.shards[uuid][identity] = body


def tuple_of(identity: ShardIdentity) -> tuple[bytes, int, int]:
    """The order of inventories."""
    return identity.stripe, identity.index, identity.gen
