"""What the tests of one disk share: a store on a simulated disk, shards to put into it."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from blobd.index import IN_MEMORY
from blobd.shardstore import ShardStore, StoreSettings
from osscore.digests import crc32c
from osscore.model import Coding, CodingKind, ShardIdentity
from osscore.names import StripeId
from tests.fakes.clock import ManualClock
from tests.fakes.disk import Fault, Operation, SimulatedDisk

FOLDER = Path("/data")
CODING = Coding(CodingKind.REED_SOLOMON, 4, 2)
SMALL = StoreSettings(volume_bytes=16 * 1024, reserve_volumes=0, reserve_fraction=0.0)


def shard(number: int, *, gen: int = 0) -> ShardIdentity:
    """The identity that tests call `number`."""
    return ShardIdentity(StripeId(number.to_bytes(16, "big")), number % 6, gen)


def number_of(identity: ShardIdentity) -> int:
    """Inverse of shard."""
    return int.from_bytes(identity.stripe, "big")


def body(number: int, size_bytes: int = 1000) -> bytes:
    """Bytes that occur nowhere else."""
    return Random(number).randbytes(size_bytes)


async def put(store: ShardStore, number: int, size_bytes: int = 1000) -> bool:
    """Put shard `number` with its body."""
    data = body(number, size_bytes)
    return await store.put(shard(number), CODING, crc32c(data), data)


async def compact_all(store: ShardStore, *, bytes_max: int = 4096) -> None:
    """Compact until nothing is left to do; fails the test if that never comes."""
    for _ in range(10_000):
        if not await store.compact(bytes_max=bytes_max):
            return
    raise AssertionError("compaction never ends")


def open_store(
    disk: SimulatedDisk, *, settings: StoreSettings = SMALL, index_path: Path = IN_MEMORY
) -> ShardStore:
    """The store of the simulated folder; salts are the same in every run."""
    random = Random(disk.operation_count)
    return ShardStore.open(
        FOLDER,
        disk=disk,
        clock=ManualClock(),
        settings=settings,
        index_path=index_path,
        random=random.randbytes,
    )


@asynccontextmanager
async def opened(
    disk: SimulatedDisk, *, settings: StoreSettings = SMALL, index_path: Path = IN_MEMORY
) -> AsyncIterator[ShardStore]:
    """The same, closed afterwards unless the power went."""
    store = open_store(disk, settings=settings, index_path=index_path)
    try:
        yield store
    except Exception:
        await store.close()
        raise
    await store.close()


def run(story: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run one story on an event loop of its own."""
    asyncio.run(story())


def failing(kind: str, error: int = errno.EIO, *, suffix: str = "") -> Fault:
    """A fault: operations of that kind fail, on paths that end so."""

    def fault(operation: Operation) -> int | None:
        matches = operation.kind == kind and operation.path.name.endswith(suffix)
        return error if matches else None

    return fault


def volumes(disk: SimulatedDisk) -> list[Path]:
    """The volume files there are, oldest first."""
    return [FOLDER / name for name in disk.names(FOLDER) if name.endswith(".volume")]
