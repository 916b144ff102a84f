"""The store of one disk: what is put comes back, what is deleted does not."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from blobd.index import FLUSH_ROWS, IN_MEMORY
from blobd.record import identity_key
from blobd.shardstore import ShardStore, StoreSettings
from osscore.digests import crc32c
from osscore.errors import (
    BadDigest,
    CorruptShard,
    DiskFailing,
    InvalidRange,
    NoSuchShard,
    NotReady,
    ShardConflict,
)
from osscore.model import BLOCK_BYTES, Coding, CodingKind, ShardIdentity
from osscore.names import StripeId
from ossd.clock import SystemClock
from ossd.disk import SystemDisk

CODING = Coding(CodingKind.REED_SOLOMON, 4, 2)
SETTINGS = StoreSettings(volume_bytes=1024 * 1024)


def shard(number: int, *, gen: int = 0) -> ShardIdentity:
    return ShardIdentity(StripeId(number.to_bytes(16, "big")), number % 6, gen)


def body(number: int, size_bytes: int = 1000) -> bytes:
    pattern = f"<{number}>".encode()
    return (pattern * (size_bytes // len(pattern) + 1))[:size_bytes]


async def put(store: ShardStore, identity: ShardIdentity, data: bytes) -> bool:
    return await store.put(identity, CODING, crc32c(data), data)


@asynccontextmanager
async def opened(
    directory: Path, *, settings: StoreSettings = SETTINGS, index_path: Path | None = None
) -> AsyncIterator[ShardStore]:
    store = ShardStore.open(
        directory,
        disk=SystemDisk(),
        clock=SystemClock(),
        settings=settings,
        index_path=index_path,
    )
    try:
        yield store
    finally:
        await store.close()


def run(story: Callable[[], object]) -> None:
    asyncio.run(story())  # type: ignore[arg-type]


async def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(2000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to be")


def lose_index(directory: Path) -> None:
    for path in directory.glob("index.sqlite*"):
        path.unlink()


def lose_volumes(directory: Path) -> None:
    for path in directory.glob("*.volume"):
        path.unlink()


def flip_bit_of(directory: Path, needle: bytes, *, at: int = 0) -> None:
    """Flip a bit inside the only volume that holds `needle`."""
    for path in directory.glob("*.volume"):
        data = bytearray(path.read_bytes())
        found = data.find(needle)
        if found >= 0:
            data[found + at] ^= 0x10
            path.write_bytes(data)
            return
    raise AssertionError("no volume holds those bytes")


@pytest.mark.parametrize("size_bytes", [0, 1, 7, 8, 4096, 65535, 65536, 65537, 200_000])
def test_shard_comes_back_and_survives_a_restart(tmp_path: Path, size_bytes: int) -> None:
    async def story() -> None:
        data = body(1, size_bytes)
        async with opened(tmp_path) as store:
            assert await put(store, shard(1), data) is True
            read = await store.get(shard(1))
            assert (read.body, read.crc, read.size_bytes) == (data, crc32c(data), size_bytes)
            assert store.head(shard(1)) == (size_bytes, crc32c(data))
        async with opened(tmp_path) as store:
            assert (await store.get(shard(1))).body == data

    run(story)


def test_same_shard_again_is_no_change_and_another_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as store:
            assert await put(store, shard(1), body(1)) is True
            assert await put(store, shard(1), body(1)) is False
            with pytest.raises(ShardConflict):
                await put(store, shard(1), body(2))
            assert (await store.get(shard(1))).body == body(1)
            assert await put(store, shard(1, gen=7), body(2)) is True

    run(story)


def test_concurrent_puts_of_one_identity_agree_on_one_body(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as store:
            tries = [put(store, shard(1), body(n % 2)) for n in range(8)]
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
            assert outcomes.count(True) == 1
            assert outcomes.count(False) == 3
            assert sum(isinstance(found, ShardConflict) for found in outcomes) == 4

    run(story)


def test_body_that_is_not_what_its_crc_says_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as store:
            with pytest.raises(BadDigest):
                await store.put(shard(1), CODING, 1, b"other bytes")
            outcomes = await store.put_many(
                [(shard(2), CODING, 1, b"x"), (shard(3), CODING, crc32c(b"y"), b"y")]
            )
            assert isinstance(outcomes[0], BadDigest)
            assert outcomes[1] is True

    run(story)


@pytest.mark.parametrize("with_index", [True, False])
def test_deleted_identity_never_returns(tmp_path: Path, with_index: bool) -> None:
    async def story() -> None:
        async with opened(tmp_path) as store:
            await put(store, shard(1), body(1))
            assert await store.delete([shard(1), shard(2)]) == 1
            assert await store.delete([shard(1), shard(2)]) == 0
        if not with_index:
            lose_index(tmp_path)
        async with opened(tmp_path) as store:
            assert store.head(shard(1)) is None
            with pytest.raises(NoSuchShard):
                await store.get(shard(1))
            for known_or_not in (shard(1), shard(2)):
                with pytest.raises(ShardConflict):
                    await put(store, known_or_not, body(1))
            assert store.inventory(b"", 10) == []

    run(story)


def test_index_is_rebuilt_from_the_volumes_alone(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as store:
            for number in range(50):
                await put(store, shard(number), body(number, 60_000))
            await store.delete(shard(number) for number in range(0, 50, 3))
            expected = store.inventory(b"", 100)
            assert store.stats().volumes > 2
        lose_index(tmp_path)
        async with opened(tmp_path) as store:
            assert store.inventory(b"", 100) == expected
            for identity, _, _ in expected:
                number = int.from_bytes(identity.stripe, "big")
                assert (await store.get(identity)).body == body(number, 60_000)

    run(story)


@pytest.mark.parametrize("garbage", [b"not a database" * 1000, b""])
def test_corrupt_index_is_rebuilt(tmp_path: Path, garbage: bytes) -> None:
    async def story() -> None:
        async with opened(tmp_path) as store:
            await put(store, shard(1), body(1))
        lose_index(tmp_path)
        (tmp_path / "index.sqlite").write_bytes(garbage)
        async with opened(tmp_path) as store:
            assert (await store.get(shard(1))).body == body(1)

    run(story)


def test_index_of_another_time_is_rebuilt(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as store:
            await put(store, shard(1), body(1))
        old_index = (tmp_path / "index.sqlite").read_bytes()
        lose_volumes(tmp_path)
        async with opened(tmp_path) as store:
            assert store.inventory(b"", 10) == []
            await put(store, shard(2), body(2))
        (tmp_path / "index.sqlite").write_bytes(old_index)
        async with opened(tmp_path) as store:
            assert [row[0] for row in store.inventory(b"", 10)] == [shard(2)]

    run(story)


def test_index_row_that_names_a_wrong_place_is_no_damage_and_rebuilt(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as store:
            await put(store, shard(1), body(1))
            await put(store, shard(2), body(2))
        with contextlib.closing(sqlite3.connect(tmp_path / "index.sqlite")) as index:
            index.execute("UPDATE shards SET offset = offset + 8")
            index.commit()
        async with opened(tmp_path) as store:
            with pytest.raises(DiskFailing):
                await store.get(shard(1))
            assert store.damaged() == []
            with pytest.raises(DiskFailing):
                await put(store, shard(3), body(3))
            assert "index" in store.stats().problem
        async with opened(tmp_path) as store:
            assert (await store.get(shard(1))).body == body(1)
            assert await put(store, shard(3), body(3)) is True

    run(story)


def test_index_that_breaks_while_open_stops_writing_and_is_rebuilt(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as store:
            await put(store, shard(1), body(1))
        async with opened(tmp_path) as store:
            with contextlib.closing(sqlite3.connect(tmp_path / "index.sqlite")) as index:
                index.execute("DROP TABLE shards")
                index.commit()
            for look_up in (store.get(shard(1)), put(store, shard(2), body(2))):
                with pytest.raises(DiskFailing):
                    await look_up
        async with opened(tmp_path) as store:
            assert (await store.get(shard(1))).body == body(1)
            assert await put(store, shard(2), body(2)) is True

    run(story)


def test_flipped_bit_is_detected_reported_and_replaceable(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as store:
            await put(store, shard(1), body(1))
            await put(store, shard(2), body(2))
        flip_bit_of(tmp_path, body(1), at=500)
        async with opened(tmp_path) as store:
            with pytest.raises(CorruptShard):
                await store.get(shard(1))
            assert store.damaged() == [shard(1)]
            with pytest.raises(CorruptShard):
                store.head(shard(1))
            assert [row[0] for row in store.inventory(b"", 9)] == [shard(1), shard(2)]
            assert (await store.get(shard(2))).body == body(2)
            assert await put(store, shard(1), body(1)) is True
            assert store.damaged() == []
        lose_index(tmp_path)
        async with opened(tmp_path) as store:
            assert (await store.get(shard(1))).body == body(1)

    run(story)


def test_put_over_a_rotten_shard_nobody_read_yet_replaces_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as store:
            await put(store, shard(1), body(1))
        flip_bit_of(tmp_path, body(1), at=3)
        async with opened(tmp_path) as store:
            assert await put(store, shard(1), body(2)) is True
            assert (await store.get(shard(1))).body == body(2)

    run(story)


def test_range_reads_verify_and_give_only_what_was_asked(tmp_path: Path) -> None:
    async def story() -> None:
        data = bytes(range(251)) * 1000
        async with opened(tmp_path) as store:
            await put(store, shard(1), data)
            read = await store.get(shard(1), first=BLOCK_BYTES, length=BLOCK_BYTES + 10)
            assert read.body == data[BLOCK_BYTES : 2 * BLOCK_BYTES + 10]
            cut = read.body[:BLOCK_BYTES], read.body[BLOCK_BYTES:]
            assert read.block_crcs == tuple(crc32c(part) for part in cut)
            read = await store.get(shard(1), first=3 * BLOCK_BYTES, length=10**9)
            assert read.body == data[3 * BLOCK_BYTES :]
            for first, length in ((1, 5), (4 * BLOCK_BYTES, 1), (0, 0), (-BLOCK_BYTES, 5)):
                with pytest.raises(InvalidRange):
                    await store.get(shard(1), first=first, length=length)

    run(story)


def test_good_blocks_of_a_damaged_shard_are_still_served(tmp_path: Path) -> None:
    async def story() -> None:
        data = body(1, 4 * BLOCK_BYTES)
        async with opened(tmp_path) as store:
            await put(store, shard(1), data)
        flip_bit_of(tmp_path, data, at=2 * BLOCK_BYTES + 5)
        async with opened(tmp_path) as store:
            with pytest.raises(CorruptShard):
                await store.get(shard(1))
            with pytest.raises(CorruptShard):
                await store.get(shard(1), first=2 * BLOCK_BYTES, length=1)
            assert (await store.get(shard(1), length=2 * BLOCK_BYTES)).body == data[
                : 2 * BLOCK_BYTES
            ]
            assert (await store.get(shard(1), first=3 * BLOCK_BYTES)).body == data[
                3 * BLOCK_BYTES :
            ]

    run(story)


def test_inventory_pages_are_ordered_full_and_complete(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path, index_path=IN_MEMORY) as store:
            for number in (5, 3, 9, 1, 7, 2, 8):
                await put(store, shard(number), body(number))
            await store.delete([shard(3), shard(8)])
            found, after = [], b""
            while page := store.inventory(after, 2):
                assert len(page) == 2 or page[-1][0] == shard(9)
                found += [identity for identity, _, _ in page]
                after = identity_key(page[-1][0])
            assert found == [shard(n) for n in (1, 2, 5, 7, 9)]

    run(story)


def test_index_rows_do_not_pile_up_in_memory(tmp_path: Path) -> None:
    async def story() -> None:
        items = [(shard(number), CODING, crc32c(b"x"), b"x") for number in range(FLUSH_ROWS)]
        async with opened(tmp_path) as store:
            assert await store.put_many(items) == [True] * FLUSH_ROWS
            with contextlib.closing(sqlite3.connect(tmp_path / "index.sqlite")) as index:
                await eventually(
                    lambda: index.execute("SELECT COUNT(*) FROM shards").fetchone()[0] == FLUSH_ROWS
                )
            assert len(store.inventory(b"", 10_000)) == FLUSH_ROWS

    run(story)


def test_closed_store_refuses_and_closes_twice(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as store:
            await put(store, shard(1), body(1))
            await store.close()
            with pytest.raises(NotReady):
                await put(store, shard(2), body(2))

    run(story)
