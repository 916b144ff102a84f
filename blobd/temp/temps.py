"""The temps of a daemon: on which disk a new one goes, where one is found, when one ends.

A temp ends when it was taken in, deleted, or has expired. What a crash left (pieces without
a head, a body whose outcome is known) goes with the next sweep.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blobd.disks import DataDisk, Disks
from blobd.shardstore import StoreStats
from blobd.temp.records import RANDOM_BYTES, TempDone, TempHead, TempId, temp_id
from blobd.temp.shelf import Shelf, Traces
from osscore.errors import CorruptShard, DiskFull, NoSuchUpload, NotReady, StoreError
from ossd.clock import Clock, RandomBytes

SWEEP_INTERVAL_S_MAX = 60.0
_SWEEP_INTERVAL_S_MIN = 0.2
AHEAD_MS_MAX = 900_000
"""The catalog's time moves every ten minutes at least (raftmeta/stewards/timekeeping.py)."""

log = logging.getLogger(__name__)


_UNKNOWN = (
    "This daemon has no such upload: it was given up, has expired, or another daemon took it."
    " Only the daemon that took it knows it."
)
_NOT_OURS = "This is no id that a blob daemon gave: what a frontend took, ask a frontend for."


@dataclass(frozen=True, slots=True)
class FoundTemp:
    """A temp that exists (`head`), or what became of it (`done`); never neither."""

    temp: TempId
    shelf: Shelf
    head: TempHead | None
    done: TempDone | None

    @property
    def content(self) -> TempHead | TempDone:
        """Either, for what both tell: name, size, SHA-256."""
        found = self.done or self.head
        assert found is not None
        return found


class Temps:
    """All temps here. Use from one event loop; `run` sweeps for ever, `close` at the end.

    `now_ms` judges expiry. It must never leap ahead of the catalog's time: a daemon's wrong
    clock would remove what somebody was promised.
    """

    def __init__(
        self,
        disks: Disks,
        *,
        clock: Clock,
        now_ms: Callable[[], int],
        random: RandomBytes,
        expiry_s: float,
    ) -> None:
        self._disks = disks
        self._clock = clock
        self.now_ms = now_ms
        self._random = random
        self._expiry_ms = round(expiry_s * 1000)
        self._busy: Counter[TempId] = Counter()
        self._unreadable_since_s: dict[TempId, float] = {}
        self._removing: set[asyncio.Task[None]] = set()

    def fresh_id(self) -> TempId:
        """An id that nothing has."""
        return temp_id(self._random(RANDOM_BYTES))

    def expiry_ms(self) -> int:
        """When a temp that is made now, or done now, is forgotten."""
        return self.now_ms() + self._expiry_ms

    async def roomiest(self, size_bytes: int) -> Shelf:
        """The disk with most room for a body of that size (0: of any).

        Raises DiskFull, or why no disk can be written to: NotReady, DiskFailing, DiskRefused.
        """
        if not self._disks.is_open:
            raise NotReady("The disks are being opened.")
        best: tuple[int, DataDisk] | None = None
        obstacle: StoreError = NotReady("This daemon has no disk.")
        for disk in self._disks:
            try:
                stats = await asyncio.to_thread(disk.writable_store.stats)
            except StoreError as error:
                obstacle = error
                continue
            if best is None or _room_bytes(stats) > best[0]:
                best = _room_bytes(stats), disk
        if best is None:
            raise obstacle
        if best[0] <= size_bytes:
            raise DiskFull(f"No disk of this daemon has room for {size_bytes} bytes.")
        return Shelf(best[1])

    async def find(self, temp: TempId | None) -> FoundTemp:
        """A temp, or what became of it.

        Raises NoSuchUpload: unknown, deleted, expired. CorruptShard; and the reason why a
        disk could not be asked, if no other has it.
        """
        if not self._disks.is_open:
            raise NotReady("The disks are being opened.")
        obstacle: StoreError = NoSuchUpload(_UNKNOWN if temp is not None else _NOT_OURS)
        for disk in self._disks if temp is not None else ():
            assert temp is not None
            shelf = Shelf(disk)
            try:
                # In this order: what became of it is written before the head goes.
                head = await shelf.head(temp)
                done = await shelf.done(temp)
            except StoreError as error:
                obstacle = error
                continue
            if head is not None or done is not None:
                return self._unexpired(FoundTemp(temp, shelf, head, done))
        raise obstacle

    @contextmanager
    def busy(self, temp: TempId) -> Iterator[None]:
        """While inside, the sweep leaves that temp alone, expired or not."""
        self._busy[temp] += 1
        try:
            yield
        finally:
            self._busy[temp] -= 1
            if not self._busy[temp]:
                del self._busy[temp]

    def is_busy(self, temp: TempId) -> bool:
        """Whether it is being written or taken in."""
        return temp in self._busy

    def drop(self, shelf: Shelf, temp: TempId) -> None:
        """Remove what an upload that failed has left, beside everything else."""
        task = asyncio.create_task(self._drop(shelf, temp), name="drop-temp")
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)

    async def run(self) -> None:
        """Sweep now and then, for ever; cancel it."""
        interval_s = max(self._expiry_ms / 10_000, _SWEEP_INTERVAL_S_MIN)
        while True:
            await self._clock.sleep(min(interval_s, SWEEP_INTERVAL_S_MAX))
            await self.sweep()

    async def sweep(self) -> None:
        """Remove what has ended, on every disk that may be written to."""
        for disk in self._disks:
            if not disk.number:
                continue
            try:
                shelf = Shelf(disk)
                for traces in await asyncio.to_thread(shelf.traces):
                    await self._sweep_one(shelf, traces)
            except (StoreError, OSError) as error:
                where = {"folder": str(disk.folder), "reason": str(error)}
                log.warning("temp_sweep_paused", extra=where)

    async def close(self) -> None:
        """Wait for what is being removed."""
        if self._removing:
            await asyncio.wait(self._removing)

    # --- inside --------------------------------------------------------------------------

    async def _sweep_one(self, shelf: Shelf, traces: Traces) -> None:
        temp = traces.temp
        if self.is_busy(temp):
            return
        try:
            done = await shelf.done(temp) if traces.has_done else None
            # Asked again: it may have been finished since its traces were seen.
            head = await shelf.head(temp)
        except CorruptShard:
            await self._sweep_unreadable(shelf, temp)
            return
        if self.is_busy(temp):
            return  # since then somebody confirms it
        if done is None and head is not None:
            if head.expires_at_ms > self.now_ms():
                return
            log.info("temp_expired", extra={"temp": temp.hex(), "size_bytes": head.size_bytes})
        # Pieces without a head are what a crash left, unless a newer program keeps them by
        # records of a kind that this one cannot read.
        if traces.has_head or (traces.has_pieces and not traces.has_others):
            await shelf.remove(temp)
        if done is not None and done.expires_at_ms <= self.now_ms():
            await shelf.remove_done(temp)

    async def _sweep_unreadable(self, shelf: Shelf, temp: TempId) -> None:
        """A head torn by a crash, or rotten: nobody can tell when it expires, so it gets a
        whole life from when it was first seen so."""
        now_s = self._clock.monotonic_s()
        since_s = self._unreadable_since_s.setdefault(temp, now_s)
        if now_s - since_s >= self._expiry_ms / 1000:
            await shelf.remove(temp)
            await shelf.remove_done(temp)
            del self._unreadable_since_s[temp]

    async def _drop(self, shelf: Shelf, temp: TempId) -> None:
        with self.busy(temp):
            try:
                await shelf.remove(temp)
            except (StoreError, OSError) as error:
                # It has no head: the sweep finds it.
                log.warning("temp_left", extra={"temp": temp.hex(), "reason": str(error)})

    def _unexpired(self, found: FoundTemp) -> FoundTemp:
        if self.is_busy(found.temp):
            return found
        ends = [each.expires_at_ms for each in (found.head, found.done) if each is not None]
        if max(ends) <= self.now_ms():
            raise NoSuchUpload()
        return found


def time_near(catalog_time_ms: Callable[[], int], clock: Clock) -> Callable[[], int]:
    """This machine's time, but never further ahead of the catalog's than an idle catalog
    may lie behind."""
    return lambda: min(clock.now_ms(), catalog_time_ms() + AHEAD_MS_MAX)


def _room_bytes(stats: StoreStats) -> int:
    return stats.free_bytes if stats.writable else 0
