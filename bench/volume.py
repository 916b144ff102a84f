"""How fast one disk takes in and gives back shards.

    python -m bench.volume DIRECTORY [--waiters 64] [--seconds 3]

Small: durable 4 KiB puts by that many waiters. Large: durable 1 MiB puts. Then verified
reads of both. The directory should lie on the disk in question; what is written is removed.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from blobd.record import digest
from blobd.shardstore import ShardStore, StoreSettings
from osscore.model import Coding, CodingKind, ShardIdentity
from osscore.names import StripeId
from ossd.clock import SystemClock, system_random
from ossd.disk import SystemDisk

CODING = Coding(CodingKind.REED_SOLOMON, 4, 2)


def identity(number: int, size_bytes: int) -> ShardIdentity:
    """The `number`-th shard of the run with bodies of that size."""
    return ShardIdentity(StripeId(number.to_bytes(12, "big") + size_bytes.to_bytes(4, "big")), 0, 0)


async def rate(
    act: Callable[[int], Awaitable[object]], *, waiters: int, seconds: float, count_max: int
) -> tuple[int, float]:
    """Let `waiters` loop over numbers; answers how many acts were done and the seconds."""
    numbers = iter(range(count_max))
    started = time.perf_counter()
    done = 0

    async def work() -> None:
        nonlocal done
        for number in numbers:
            await act(number)
            done += 1
            if time.perf_counter() - started > seconds:
                return

    await asyncio.gather(*(work() for _ in range(waiters)))
    return done, time.perf_counter() - started


async def measure(store: ShardStore, size_bytes: int, waiters: int, seconds: float) -> None:
    """Print the rates of puts and gets with bodies of that size."""
    body = system_random(size_bytes)
    crc, _ = digest(body)

    async def put(number: int) -> None:
        await store.put(identity(number, size_bytes), CODING, crc, body)

    async def get(number: int) -> None:
        await store.get(identity(number, size_bytes))

    # A few GiB are enough to see; more would only fill the disk.
    count_max = 3 * 1024**3 // size_bytes
    done, taken_s = await rate(put, waiters=waiters, seconds=seconds, count_max=count_max)
    report("put", size_bytes, waiters, done, taken_s)
    done, taken_s = await rate(get, waiters=waiters, seconds=seconds, count_max=done)
    report("get", size_bytes, waiters, done, taken_s)


def report(what: str, size_bytes: int, waiters: int, done: int, taken_s: float) -> None:
    """One line of the result."""
    megabytes = done * size_bytes / taken_s / 1e6
    print(
        f"{what} {size_bytes // 1024:5d} KiB, {waiters} waiters: "
        f"{done / taken_s:10,.0f}/s {megabytes:8,.0f} MB/s"
    )


async def run(directory: Path, waiters: int, seconds: float) -> None:
    """Both sizes in a store of its own, removed afterwards."""
    folder = Path(tempfile.mkdtemp(dir=directory, prefix="bench-volume-"))
    try:
        store = ShardStore.open(
            folder, disk=SystemDisk(), clock=SystemClock(), settings=StoreSettings()
        )
        try:
            await measure(store, 4096, waiters, seconds)
            await measure(store, 1024 * 1024, waiters, seconds)
        finally:
            await store.close()
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--waiters", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.directory, arguments.waiters, arguments.seconds))


if __name__ == "__main__":
    main()
