"""Rereading: every record of a disk, over and over, at a bounded byte rate.

A shard that fails its checksums, or cannot be read, is reported by MarkBad; it stays
where it is until it has been replaced (SAFETY rule 11). Shards that a reader found
corrupt are reread within seconds. The position is kept on the disk now and then, so a restart
goes on where it stopped rather than at the beginning.
"""

import asyncio
import logging
from dataclasses import dataclass

import msgspec

from blobd.disks import DataDisk
from blobd.record import identity_key
from osscore.errors import CorruptShard, DiskFailing, NoSuchShard, StoreError
from osscore.model import ShardIdentity
from ossd.clock import Clock
from ossd.disk import Disk, read_file, write_file_atomically
from raftmeta.client import MetaClient
from raftmeta.commands import Done, MarkBad, MarkGood

POSITION_NAME = "scrub.json"
PAGE = 256
START_INTERVAL_S = 0.5
SUSPECTS_INTERVAL_S = 2.0
RETRY_S = 5.0
KEEP_POSITION_S = 30.0
READS = 2
"""A shard is bad when it fails this often: a cable may flip a bit that the disk did not."""

log = logging.getLogger(__name__)


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where a disk's scrub stands. `after`: hex of the last identity reread in this pass.

    Times are wall-clock ms, 0 for never: every record was reread between `started_at_ms`
    and `finished_at_ms` of the last complete pass.
    """

    after: str = ""
    pass_started_at_ms: int = 0
    last_started_at_ms: int = 0
    last_finished_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class ScrubSettings:
    """`bytes_per_s`: bound on what the scrub reads of one disk. `rest_s`: rest
    between two passes, so that a small disk is not read without end."""

    bytes_per_s: int
    rest_s: float = 3600.0


class Scrubber:
    """Rereads one disk. `run` never ends; cancel it."""

    def __init__(
        self,
        target: DataDisk,
        *,
        disk: Disk,
        meta: MetaClient,
        clock: Clock,
        settings: ScrubSettings,
    ) -> None:
        self._target = target
        self._disk = disk
        self._meta = meta
        self._clock = clock
        self._settings = settings
        self._position = Position()
        self._kept_at_s = clock.monotonic_s()
        self._reported: set[ShardIdentity] = set()
        self.scrubbed_bytes = 0
        self.bad_count = 0

    @property
    def position(self) -> Position:
        """Where it stands."""
        return self._position

    async def run(self) -> None:
        """Pass after pass; what fails is logged and tried again."""
        while not self._target.number:
            await self._clock.sleep(START_INTERVAL_S)
        self._position = await asyncio.to_thread(self._read_position)
        while True:
            try:
                await self.scrub_suspects()
                await self.scrub_page()
            except (StoreError, OSError) as error:
                log.warning("scrub_paused", extra={"reason": str(error), **self._where()})
                await self._clock.sleep(RETRY_S)

    async def scrub_page(self) -> None:
        """Reread the next page of the inventory; behind the last one, end the pass."""
        if not self._position.pass_started_at_ms:
            await self._move(pass_started_at_ms=self._clock.now_ms())
        after = bytes.fromhex(self._position.after)
        rows = await asyncio.to_thread(self._target.store.inventory, after, PAGE)
        for identity, size_bytes, _ in rows:
            await self.scrub_shard(identity)
            await self._clock.sleep(size_bytes / self._settings.bytes_per_s)
        if len(rows) == PAGE:
            await self._move(after=identity_key(rows[-1][0]).hex())
        else:
            await self._end_pass()

    async def scrub_suspects(self) -> None:
        """Reread what the store knows to be damaged and report it, once for each damage.

        One that has been replaced since by the same bytes is reported good again.
        """
        damaged = set(self._target.store.damaged())
        for identity in damaged - self._reported:
            await self.scrub_shard(identity)
        for identity in self._reported - damaged:
            await self._report_if_good(identity)
        self._reported &= damaged

    async def scrub_shard(self, identity: ShardIdentity) -> None:
        """Reread one shard and report it if it is bad; one deleted meanwhile is skipped.

        Raises StoreError when the report did not arrive.
        """
        store = self._target.store
        for attempt in range(READS):
            try:
                read = await store.get(identity)
            except NoSuchShard:
                return
            except (CorruptShard, DiskFailing) as error:
                if attempt == READS - 1:
                    await self._report(identity, error)
            else:
                self.scrubbed_bytes += len(read.body)
                return

    async def _report(self, identity: ShardIdentity, error: StoreError) -> None:
        self.bad_count += 1
        log.error(
            "shard_bad",
            extra={
                "stripe": identity.stripe.hex(),
                "index": identity.index,
                "gen": identity.gen,
                "reason": error.message,
                **self._where(),
            },
        )
        await self._meta.propose(MarkBad(identity=identity, disk=self._target.number), Done)
        self._reported.add(identity)

    async def _report_if_good(self, identity: ShardIdentity) -> None:
        try:
            await self._target.store.get(identity)
        except (NoSuchShard, CorruptShard, DiskFailing):
            return  # deleted, or still bad and reported as that
        log.info("shard_good_again", extra={"stripe": identity.stripe.hex(), **self._where()})
        await self._meta.propose(MarkGood(identity=identity, disk=self._target.number), Done)

    async def _end_pass(self) -> None:
        await self._move(
            after="",
            pass_started_at_ms=0,
            last_started_at_ms=self._position.pass_started_at_ms,
            last_finished_at_ms=self._clock.now_ms(),
        )
        await self._rest(self._settings.rest_s)

    async def _rest(self, seconds: float) -> None:
        """Wait for the next pass, still looking at suspects."""
        end_s = self._clock.monotonic_s() + seconds
        while (left_s := end_s - self._clock.monotonic_s()) > 0:
            await self._clock.sleep(min(left_s, SUSPECTS_INTERVAL_S))
            await self.scrub_suspects()

    async def _move(self, **changes: object) -> None:
        self._position = msgspec.structs.replace(self._position, **changes)
        now_s = self._clock.monotonic_s()
        if now_s - self._kept_at_s >= KEEP_POSITION_S or not self._position.after:
            self._kept_at_s = now_s
            await asyncio.to_thread(self._keep_position)

    def _read_position(self) -> Position:
        path = self._target.folder / POSITION_NAME
        try:
            return msgspec.json.decode(read_file(self._disk, path), type=Position)
        except (OSError, msgspec.MsgspecError):
            return Position()  # none yet, or not readable: a pass from the start harms nobody

    def _keep_position(self) -> None:
        data = msgspec.json.encode(self._position)
        try:
            write_file_atomically(self._disk, self._target.folder / POSITION_NAME, data)
        except OSError as error:
            # A full or read-only disk is still worth reading; only a restart would notice.
            log.warning("scrub_position_lost", extra={"reason": str(error), **self._where()})

    def _where(self) -> dict[str, object]:
        return {"disk": self._target.number, "folder": str(self._target.folder)}
