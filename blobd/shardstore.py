"""One disk: shards put durably, given back verified, deleted for good.

The story of a PUT: digest the body, queue it (`groupcommit`), decide and write in the
disk's one thread (`commit`), answer after the sync. The story of a GET: look up (`index`),
read (`reading`), verify, answer.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from blobd.appender import Appender
from blobd.commit import Committer, Delete, Outcome, Put, Roll
from blobd.compaction import Compactor
from blobd.groupcommit import GroupCommit
from blobd.index import FLUSH_ROWS, Index, IndexUnusable, Location, State
from blobd.reading import ShardRead, Span, read_span, span
from blobd.record import (
    KEYS_END,
    TEMP_MARK,
    RecordType,
    digest,
    identity_key,
    is_temp,
    key_identity,
)
from blobd.recovery import Recovery, matches, open_index, renewed_index
from blobd.room import Room, StoreSettings, StoreStats
from blobd.volume import lists
from blobd.volumefiles import VolumeFiles, VolumeGone
from blobd.volumerecords import VolumeRecords
from osscore.errors import (
    BadDigest,
    CorruptShard,
    DiskFailing,
    NoSuchShard,
    StoreError,
)
from osscore.model import Coding, ShardIdentity
from ossd.clock import Clock, RandomBytes, system_random
from ossd.disk import Bytes, Disk

log = logging.getLogger(__name__)

__all__ = ["ShardRead", "ShardStore", "StoreSettings", "StoreStats"]

INLINE_BYTES_MAX = 64 * 1024
"""Larger reads and digests leave the event loop for a thread."""
DELETES_PER_BATCH = 1000
DAMAGED_MAX = 10_000
_LOOKUPS_MAX = 5
_T = TypeVar("_T")


class ShardStore:
    """The shards of one data folder. Async methods belong to one event loop."""

    def __init__(
        self,
        files: VolumeFiles,
        index: Index,
        appender: Appender,
        *,
        room: Room,
        clock: Clock,
        settings: StoreSettings,
        on_damage: Callable[[ShardIdentity], None] | None = None,
    ) -> None:
        self.records = VolumeRecords(files, index, guarded=self._guarded)
        self._files = files
        self._index = index
        self._appender = appender
        self._room = room
        self._clock = clock
        self._settings = settings
        self._on_damage = on_damage
        self._damaged: OrderedDict[bytes, None] = OrderedDict.fromkeys(index.damaged(DAMAGED_MAX))
        self._pool = ThreadPoolExecutor(settings.read_threads, thread_name_prefix="volume-reader")
        committer = Committer(files, index, appender, room=room, clock=clock)
        self._group = GroupCommit(
            committer.commit,
            batch_bytes_max=min(settings.batch_bytes_max, room.volume_bytes),
            after_batch=self._after_batch,
        )
        self._compactor = Compactor(
            files, index, room=room, settings=settings, note_damage=self._note_damage
        )
        self._compacting = asyncio.Lock()
        self._flush: asyncio.Task[None] | None = None
        self._flush_timer: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        disk: Disk,
        clock: Clock,
        settings: StoreSettings,
        index_path: Path | None = None,
        random: RandomBytes = system_random,
        on_damage: Callable[[ShardIdentity], None] | None = None,
    ) -> "ShardStore":
        """Open the volumes in `directory`, made if need be. Blocks; cuts nothing.

        `index_path`: default `directory`/index.sqlite; `blobd.index.IN_MEMORY` for none.
        `on_damage` is told, in any thread, of each shard found damaged. Raises OSError if
        the folder or a volume in it cannot be read.
        """
        if not disk.exists(directory):
            disk.make_directory(directory)
            disk.sync_directory(directory.parent)
        files = VolumeFiles(disk, directory)
        files.discover()
        room = Room(disk, directory, settings)
        path = index_path if index_path is not None else directory / "index.sqlite"
        index, problem = _recovered(files, path, clock)
        appender = Appender(
            files, disk=disk, clock=clock, random=random, volume_bytes=room.volume_bytes
        )
        appender.problem = problem
        return cls(
            files,
            index,
            appender,
            room=room,
            clock=clock,
            settings=settings,
            on_damage=on_damage,
        )

    async def put(
        self,
        identity: ShardIdentity,
        coding: Coding,
        crc: int,
        body: Bytes,
        *,
        kind: RecordType = RecordType.SHARD,
    ) -> bool:
        """Store a record; durable on return. True: it is new, False: the same was there.

        A stored shard that fails its own checksum is replaced. `body` must not change until
        then, even if the caller is cancelled. Raises BadDigest unless `crc` is the CRC32C
        of `body`, ShardConflict (another one is there, or it was deleted), DiskFull,
        DiskFailing, NotReady.
        """
        if len(body) <= INLINE_BYTES_MAX:
            digests = digest(body)
        else:
            digests = await self._in_thread(digest, body)
        operation = _checked(identity, coding, crc, body, digests)._replace(type=kind)
        (outcome,) = await self._group.submit((operation,))
        if isinstance(outcome, StoreError):
            raise outcome
        self._damaged.pop(operation.key, None)
        return outcome

    async def put_many(
        self, items: Sequence[tuple[ShardIdentity, Coding, int, Bytes]]
    ) -> list[bool | StoreError]:
        """Store several shards by one write and one sync; each has its own outcome."""
        outcomes: list[bool | StoreError] = [False] * len(items)
        operations: dict[int, Put] = {}
        digests = await self._in_thread(_digest_all, [body for _, _, _, body in items])
        for at, (identity, coding, crc, body) in enumerate(items):
            try:
                operations[at] = _checked(identity, coding, crc, body, digests[at])
            except StoreError as error:
                outcomes[at] = error
        if operations:
            answers = await self._group.submit(tuple(operations.values()))
            for at, answer in zip(operations, answers, strict=True):
                outcomes[at] = answer
                if not isinstance(answer, StoreError):
                    self._damaged.pop(operations[at].key, None)
        return outcomes

    async def get(
        self, identity: ShardIdentity, *, first: int = 0, length: int | None = None
    ) -> ShardRead:
        """Bytes of a shard from `first`, which lies on a 64 KiB border; each block verified.

        A damaged shard still gives those ranges whose blocks are good. Raises NoSuchShard,
        CorruptShard, InvalidRange, DiskFailing (the disk could not read it).
        """
        key = identity_key(identity)
        for _ in range(_LOOKUPS_MAX):
            location = self._live(key)
            wanted = span(location.size_bytes, first, length)
            try:
                if wanted.blocks_end - wanted.first <= INLINE_BYTES_MAX:
                    return self._read(key, location, wanted)
                return await self._in_thread(self._read, key, location, wanted)
            except VolumeGone:
                continue  # compaction moved it between look-up and read
        self._note_damage(key, location)
        raise CorruptShard("The volume of a stored shard is gone.")

    def head(self, identity: ShardIdentity) -> tuple[int, int] | None:
        """Size and CRC32C of a shard, not read; None if it is not here.

        Raises CorruptShard if it is known to be damaged.
        """
        try:
            location = self._live(identity_key(identity))
        except NoSuchShard:
            return None
        if location.state == State.DAMAGED:
            raise CorruptShard("The stored shard is known to be damaged.")
        return location.size_bytes, location.crc

    def held(self, identities: Sequence[ShardIdentity]) -> dict[ShardIdentity, tuple[int, int]]:
        """Size and CRC32C of those that are here and not known to be damaged, by the index.

        Nothing is read. Raises DiskFailing.
        """
        rows = self._guarded(self._index.find_many, [identity_key(each) for each in identities])
        return {
            key_identity(key): (row.size_bytes, row.crc)
            for key, row in rows.items()
            if row.state == State.LIVE
        }

    async def delete(self, identities: Iterable[ShardIdentity]) -> int:
        """Delete for good; durable on return. Answers how many were here.

        Unknown identities are remembered as deleted too. Raises DiskFull, DiskFailing.
        """
        operations = [Delete(identity_key(identity)) for identity in identities]
        count = 0
        for at in range(0, len(operations), DELETES_PER_BATCH):
            part = operations[at : at + DELETES_PER_BATCH]
            outcomes = await self._group.submit(part)
            count += _count_or_raise(outcomes)
            for operation in part:
                self._damaged.pop(operation.key, None)
        return count

    def inventory(self, after: bytes, limit: int) -> list[tuple[ShardIdentity, int, int]]:
        """Up to `limit` shards as (identity, size, crc) in order of (stripe, index, gen).

        `after`: `identity_key` of the last one seen, b"" at first. Fewer than `limit` only
        at the end. Damaged shards are listed: they are here until replaced or deleted.
        """
        rows = self._guarded(self._index.page, after, limit)
        return [(key_identity(key), row.size_bytes, row.crc) for key, row in rows]

    def temp_records(self, after: bytes, limit: int) -> list[tuple[ShardIdentity, int]]:
        """The same of the records of temps, as (identity, size): no inventory shows them."""
        first = max(after, TEMP_MARK)
        rows = self._guarded(partial(self._index.page, before=KEYS_END), first, limit)
        return [(key_identity(key), row.size_bytes) for key, row in rows]

    def damaged(self) -> list[ShardIdentity]:
        """Shards known to be damaged and neither replaced nor deleted, 10,000 at most."""
        return [key_identity(key) for key in list(self._damaged)]

    def stats(self) -> StoreStats:
        """The disk at a glance; cheap, but it asks the file system for its room."""
        try:
            free_bytes = max(0, self._room.writable_bytes())
            capacity_bytes, problem = self._room.total_bytes(), self.problem
        except OSError as error:
            free_bytes = capacity_bytes = 0
            problem = self.problem or f"its room could not be asked for: {error.strerror}"
        uses = list(self._index.use.values())
        infos = list(self._files.infos.values())
        return StoreStats(
            capacity_bytes=capacity_bytes,
            free_bytes=free_bytes,
            used_bytes=sum(info.size_bytes for info in infos),
            live_bytes=sum(use.live_bytes for use in uses),
            temp_bytes=sum(use.temp_bytes for use in uses),
            shards=sum(use.shard_count for use in uses),
            volumes=len(infos),
            writable=not problem and free_bytes > 0,
            problem=problem,
            damaged=len(self._damaged),
        )

    @property
    def problem(self) -> str:
        """Why this disk takes no writes until its daemon restarts; empty: it does."""
        return self._appender.problem

    async def compact(self, *, bytes_max: int) -> int:
        """One step of giving dead space back, copying about `bytes_max` at most.

        Answers bytes moved, at least 1 if anything was done; 0: there is nothing to do.
        Raises DiskFull, DiskFailing.
        """
        async with self._compacting:
            if self.problem or self._closed:
                return 0
            active = self._appender.active
            try:
                victim = await self._in_thread(self._compactor.victim, active)
            except IndexUnusable as error:
                raise self._condemn_index(str(error)) from error
            if victim is None:
                return 0
            number = victim.name.number
            try:
                return await self._compact(number, bytes_max)
            except OSError as error:
                self._compactor.give_up(number, error)
                raise DiskFailing("A volume could not be compacted.") from error
            except IndexUnusable as error:
                raise self._condemn_index(str(error)) from error

    async def close(self) -> None:
        """Finish what was submitted, seal, flush the index and let everything go."""
        if self._closed:
            return
        self._closed = True
        active = self._appender.active
        if active is not None and not self.problem:
            await self._group.submit((Roll(active.name.number),))
        await self._group.close()
        for task in (self._flush_timer, self._flush):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        async with self._compacting:
            await self._in_thread(self._flush_index)
        self._pool.shutdown()
        self._appender.close()
        self._files.close()
        self._index.close()

    # --- inside ------------------------------------------------------------------------

    def _live(self, key: bytes) -> Location:
        location = self._guarded(self._index.find, key)
        if location is None or location.state == State.DELETED:
            raise NoSuchShard()
        return location

    def _read(self, key: bytes, location: Location, wanted: Span) -> ShardRead:
        try:
            with self._files.reading(location.volume) as (file, salt):
                return read_span(file, salt, key=key, location=location, wanted=wanted)
        except CorruptShard:
            self._doubt_index(key, location)
            self._note_damage(key, location)
            raise
        except OSError as error:
            self._note_damage(key, location)
            raise DiskFailing(f"A shard could not be read: {error.strerror}") from error

    def _doubt_index(self, key: bytes, location: Location) -> None:
        """Ask the volume's own list before a shard is called damaged: the index may be wrong.

        Raises DiskFailing if it is; the next start rebuilds it.
        """
        with self._files.reading(location.volume) as (file, salt):
            listed = lists(file, salt, key, location.offset)
        if not listed:
            raise self._condemn_index("it names a place where its shard is not")

    def _condemn_index(self, reason: str) -> StoreError:
        """Stop writing by an index that cannot be trusted, and have it rebuilt at the start."""
        try:
            self._index.condemn()
        except OSError as error:
            log.error("index_not_removed", extra={"reason": str(error)})
        return self._appender.stop(f"its index is wrong: {reason}; a restart rebuilds it")

    def _note_damage(self, key: bytes, location: Location) -> None:
        """Remember and report a shard whose record is not what it should be; any thread."""
        if location.state == State.LIVE and not self._index.swap(
            key, location, location._replace(state=State.DAMAGED)
        ):
            return  # replaced, moved or deleted meanwhile
        if is_temp(key):
            # No slot names it: nobody can be told but the one who asks for it.
            log.error("temp_damaged", extra={"temp": key_identity(key).stripe.hex()})
            return
        if key in self._damaged:
            return
        self._damaged[key] = None
        if len(self._damaged) > DAMAGED_MAX:
            self._damaged.popitem(last=False)
        identity = key_identity(key)
        log.error(
            "shard_damaged",
            extra={
                "stripe": identity.stripe.hex(),
                "shard": identity.index,
                "gen": identity.gen,
                "volume": location.volume,
                "offset": location.offset,
            },
        )
        if self._on_damage is not None:
            self._on_damage(identity)

    async def _compact(self, number: int, bytes_max: int) -> int:
        active = self._appender.active
        if active is not None and active.name.number == number:
            _count_or_raise(await self._group.submit((Roll(number),)))
        plan = await self._in_thread(self._compactor.plan, number, bytes_max)
        if plan.moves:
            _count_or_raise(await self._group.submit(plan.moves))
        await self._in_thread(self._compactor.finish, plan)
        return max(1, sum(move.size_bytes for move in plan.moves))

    def _after_batch(self) -> None:
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if self._index.fresh_count >= FLUSH_ROWS and (self._flush is None or self._flush.done()):
            self._flush = loop.create_task(self._in_thread(self._flush_index))
        if self._flush_timer is None or self._flush_timer.done():
            self._flush_timer = loop.create_task(self._flush_later())

    async def _flush_later(self) -> None:
        await self._clock.sleep(self._settings.flush_s)
        await self._in_thread(self._flush_index)

    def _flush_index(self) -> None:
        if not self._index.dirty:
            return
        try:
            self._index.flush()
        except IndexUnusable as error:
            # Nothing is lost: the rows stay in memory, and the volumes hold them all.
            log.error("index_not_flushed", extra={"reason": str(error)})

    def _guarded(self, look_up: Callable[..., _T], *arguments: object) -> _T:
        try:
            return look_up(*arguments)
        except IndexUnusable as error:
            raise self._condemn_index(str(error)) from error

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, partial(work, *arguments)
        )


_Digests = tuple[int, tuple[int, ...]]


def _digest_all(bodies: Sequence[Bytes]) -> list[_Digests]:
    return [digest(body) for body in bodies]


def _checked(
    identity: ShardIdentity, coding: Coding, crc: int, body: Bytes, digests: _Digests
) -> Put:
    """Raises BadDigest."""
    found, block_crcs = digests
    if found != crc:
        raise BadDigest("The shard does not have the CRC32C it was sent with.")
    return Put(identity_key(identity), coding, body, crc, block_crcs)


def _count_or_raise(outcomes: Iterable[Outcome]) -> int:
    count = 0
    for outcome in outcomes:
        if isinstance(outcome, StoreError):
            raise outcome
        count += outcome
    return count


def _recovered(files: VolumeFiles, path: Path, clock: Clock) -> tuple[Index, str]:
    """The index brought up to the volumes, and why the disk cannot be written, if so."""
    index = open_index(path)
    if matches(index, files):
        try:
            recovery = Recovery(files, index, clock=clock)
            recovery.run()
            return index, recovery.problem
        except IndexUnusable as error:
            log.warning("index_unusable", extra={"reason": str(error)})
    log.warning("index_rebuilt", extra={"volumes": len(files.infos)})
    index.close()
    index = renewed_index(path)
    recovery = Recovery(files, index, clock=clock)
    recovery.run()
    return index, recovery.problem
