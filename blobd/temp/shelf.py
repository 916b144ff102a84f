"""The temps on one disk. Nothing is kept in memory: what the volumes say is what there is."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import msgspec

from blobd.disks import DataDisk
from blobd.reading import ShardRead
from blobd.record import NO_CODING, identity_key
from blobd.shardstore import DELETES_PER_BATCH
from blobd.temp.records import (
    TYPES,
    Kind,
    TempDone,
    TempHead,
    TempId,
    end_of,
    identity_of,
)
from osscore.digests import crc32c
from osscore.errors import CorruptShard, NoSuchShard
from osscore.model import ShardIdentity
from ossd.disk import Bytes

PAGE = 256
T = TypeVar("T", TempHead, TempDone)


@dataclass(slots=True)
class Traces:
    """Which kinds of records of one temp a disk holds. `has_others`: of a kind this program does
    not know, which a newer one may have written."""

    temp: TempId
    has_head: bool = False
    has_done: bool = False
    has_pieces: bool = False
    has_others: bool = False


class Shelf:
    """Writes, reads and removes the records of temps.

    Every method may raise DiskFailing; those that write also DiskFull, DiskRefused, NotReady.
    """

    def __init__(self, disk: DataDisk) -> None:
        self.disk = disk

    async def put_piece(self, temp: TempId, number: int, body: Bytes, crc: int) -> None:
        """Store piece `number`; durable on return. `crc` is its CRC32C."""
        await self._put(identity_of(temp, Kind.PIECE, number), body, crc)

    async def put_head(self, temp: TempId, head: TempHead) -> None:
        """Make the temp exist; all its pieces must be durable. Durable on return."""
        body = msgspec.msgpack.encode(head)
        await self._put(identity_of(temp, Kind.HEAD), body, crc32c(body))

    async def put_done(self, temp: TempId, done: TempDone) -> None:
        """Remember what became of the temp; durable on return."""
        body = msgspec.msgpack.encode(done)
        await self._put(identity_of(temp, Kind.DONE), body, crc32c(body))

    async def head(self, temp: TempId) -> TempHead | None:
        """The head; None if there is none. Raises CorruptShard."""
        return await self._get(identity_of(temp, Kind.HEAD), TempHead)

    async def done(self, temp: TempId) -> TempDone | None:
        """What became of it; None if that is not known here. Raises CorruptShard."""
        return await self._get(identity_of(temp, Kind.DONE), TempDone)

    def piece_bytes(self, temp: TempId, number: int) -> int:
        """Size of a piece. Raises NoSuchShard, CorruptShard."""
        found = self.disk.store.head(identity_of(temp, Kind.PIECE, number))
        if found is None:
            raise NoSuchShard()
        return found[0]

    async def piece(self, temp: TempId, number: int) -> ShardRead:
        """A whole piece, verified. Raises NoSuchShard, CorruptShard."""
        return await self.disk.store.get(identity_of(temp, Kind.PIECE, number))

    async def remove(self, temp: TempId) -> None:
        """Remove head and pieces; what became of it stays, and what is of no known kind. Durable
        on return.

        The head goes first and by itself: no crash leaves a head whose pieces have gone.
        """
        store = self.disk.writable_store
        await store.delete([identity_of(temp, Kind.HEAD)])
        after = identity_key(identity_of(temp, Kind.PIECE))[:-8]
        while rows := await asyncio.to_thread(self._page, temp, after, DELETES_PER_BATCH):
            await store.delete(rows)
            after = identity_key(rows[-1])

    async def remove_done(self, temp: TempId) -> None:
        """Forget what became of it. Durable on return."""
        await self.disk.writable_store.delete([identity_of(temp, Kind.DONE)])

    def traces(self) -> list[Traces]:
        """Every temp of which this disk holds anything; blocks for a while."""
        found: dict[bytes, Traces] = {}
        after = b""
        while rows := self.disk.store.temp_records(after, PAGE):
            for identity, _ in rows:
                temp = TempId(identity.stripe)
                _note(found.setdefault(temp, Traces(temp)), identity.index)
            after = _behind(rows[-1][0])
        return list(found.values())

    def _page(self, temp: TempId, after: bytes, limit: int) -> list[ShardIdentity]:
        """Pieces; `after` lies behind all other records of the temp that are before them."""

        def mine() -> Iterator[ShardIdentity]:
            for identity, _ in self.disk.store.temp_records(after, limit):
                if TempId(identity.stripe) != temp or identity.index != Kind.PIECE:
                    return
                yield identity

        return list(islice(mine(), limit))

    async def _put(self, identity: ShardIdentity, body: Bytes, crc: int) -> None:
        kind = TYPES[Kind(identity.index)]
        await self.disk.writable_store.put(identity, NO_CODING, crc, body, kind=kind)

    async def _get(self, identity: ShardIdentity, kind: type[T]) -> T | None:
        try:
            read = await self.disk.store.get(identity)
        except NoSuchShard:
            return None
        try:
            return msgspec.msgpack.decode(read.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptShard(f"A {kind.__name__} cannot be read: {error}") from error


def _note(traces: Traces, kind: int) -> None:
    traces.has_head |= kind == Kind.HEAD
    traces.has_done |= kind == Kind.DONE
    traces.has_pieces |= kind == Kind.PIECE
    traces.has_others |= kind > Kind.PIECE


def _behind(last: ShardIdentity) -> bytes:
    """Where to go on looking for traces: more pieces of a temp tell nothing new."""
    temp = TempId(last.stripe)
    if last.index == Kind.PIECE:
        return end_of(temp, Kind.PIECE)
    return end_of(temp) if last.index > Kind.PIECE else identity_key(last)
