"""What tests of one disk's temps share: a shelf on a simulated disk, temps to put on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from blobd.index import IN_MEMORY
from blobd.shardstore import ShardStore, StoreSettings
from blobd.temp.records import TempDone, TempHead, TempId, temp_id
from blobd.temp.shelf import Shelf
from osscore.digests import crc32c
from tests.blobd.disk_story import SMALL, opened
from tests.fakes.disk import SimulatedDisk

EXPIRES_AT_MS = 1_750_000_100_000


@dataclass
class BareDisk:
    """A disk that is in, around a store."""

    store: ShardStore

    @property
    def writable_store(self) -> ShardStore:
        return self.store


def shelf_of(store: ShardStore) -> Shelf:
    disk: Any = BareDisk(store)
    return Shelf(disk)


def temp(number: int) -> TempId:
    """The temp that tests call `number`."""
    return temp_id(number.to_bytes(10, "big"))


def piece(number: int, piece_number: int, size_bytes: int = 300) -> bytes:
    """Bytes that occur nowhere else."""
    return Random(number * 1000 + piece_number).randbytes(size_bytes)


def head(number: int, piece_count: int, *, expires_at_ms: int = EXPIRES_AT_MS) -> TempHead:
    whole = b"".join(piece(number, n) for n in range(piece_count))
    return TempHead(
        name=f"temp {number}",
        access_key="someone",
        size_bytes=len(whole),
        sha256=sha256(whole).digest(),
        piece_count=piece_count,
        created_at_ms=1_750_000_000_000,
        expires_at_ms=expires_at_ms,
    )


def done(number: int, *, expires_at_ms: int = EXPIRES_AT_MS) -> TempDone:
    return TempDone(
        name=f"temp {number}",
        number=number,
        version_id=f"{number:016x}",
        size_bytes=1,
        sha256=bytes(32),
        expires_at_ms=expires_at_ms,
    )


async def put_pieces(shelf: Shelf, number: int, piece_count: int) -> None:
    for n in range(piece_count):
        data = piece(number, n)
        await shelf.put_piece(temp(number), n, data, crc32c(data))


async def put_temp(
    shelf: Shelf, number: int, piece_count: int, *, expires_at_ms: int = EXPIRES_AT_MS
) -> None:
    """A whole temp."""
    await put_pieces(shelf, number, piece_count)
    await shelf.put_head(temp(number), head(number, piece_count, expires_at_ms=expires_at_ms))


async def check_whole(shelf: Shelf, number: int, piece_count: int) -> None:
    """The temp is there, every byte of it."""
    found = await shelf.head(temp(number))
    assert found is not None and found.piece_count == piece_count, number
    for n in range(piece_count):
        assert shelf.piece_bytes(temp(number), n) == 300
        assert (await shelf.piece(temp(number), n)).body == piece(number, n), (number, n)


@asynccontextmanager
async def opened_shelf(
    disk: SimulatedDisk, *, settings: StoreSettings = SMALL, index_path: Path = IN_MEMORY
) -> AsyncIterator[Shelf]:
    async with opened(disk, settings=settings, index_path=index_path) as store:
        yield shelf_of(store)
