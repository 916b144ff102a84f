"""Rereading: every shard and temp of a disk, over and over, at a bounded byte rate.

A shard that fails its checksums, or cannot be read, is reported by MarkBad; it stays
where it is until it has been replaced (SAFETY rule 11). Shards that a reader found
corrupt are reread within seconds, also while the scrub is paused or rests. Temps have no slot
that could be called bad: what is found of them is logged and counted. Tombstones and footers
are not reread: nothing that is served stands on them, and a rebuild of the index does without.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from blobd.disks import DataDisk
from blobd.record import identity_key, is_temp
from blobd.scrubstate import (
    ScrubState,
    begun,
    ended,
    entered,
    keep_state,
    left_behind,
    left_bytes,
    left_of,
    read_state,
    verified_at_ms,
)
from blobd.volumerecords import Record, Volume
from osscore.errors import CorruptShard, DiskFailing, NoSuchShard, StoreError
from osscore.model import ShardIdentity
from osscore.names import birth_ms
from ossd.clock import Clock
from ossd.disk import Disk
from raftmeta.client import MetaClient
from raftmeta.commands import Done, MarkBad, MarkGood
from raftmeta.upkeep import DiskScrub

PAGE = 64
RECORD_BYTES_MIN = 16 * 1024
"""A record counts as at least so many bytes: seeking and looking up are no less work."""
START_INTERVAL_S = 0.5
SUSPECTS_INTERVAL_S = 2.0
RETRY_S = 5.0
KEEP_STATE_S = 30.0
READS = 2
"""A shard is bad when it fails this often: a cable may flip a bit that the disk did not."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScrubSettings:
    """`bytes_per_s`: bound on what the scrub reads of one disk. `rest_s`: rest
    between two passes, so that a small disk is not read without end."""

    bytes_per_s: int
    rest_s: float = 3600.0


class Scrubber:
    """Rereads one disk. `run` never ends; cancel it.

    Since the daemon started: `scrubbed_bytes`, `bad_count` shards and `bad_temp_count` records
    of temps found bad, each counted once.
    """

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
        self._state = ScrubState()
        self._is_read = asyncio.Event()
        self._kept = self._state
        self._kept_at_s = clock.monotonic_s()
        self._writing = threading.Lock()
        self._rated_since_s = clock.monotonic_s()
        self._rated_bytes = 0
        self._reported: set[ShardIdentity] = set()
        self._unreported: set[ShardIdentity] = set()
        self._bad_temps: set[ShardIdentity] = set()
        self.scrubbed_bytes = 0
        self.bad_count = 0
        self.bad_temp_count = 0

    @property
    def state(self) -> ScrubState:
        """Where it stands."""
        return self._state

    def told(self) -> DiskScrub | None:
        """Where it stands, for heartbeats; None before it knows. Any thread. Raises DiskFailing."""
        if not self._is_read.is_set():
            return None
        state, volumes = self._state, self._target.store.records.volumes()
        times = [state.verified_at_ms.get(volume.name, 0) for volume in volumes]
        verified = [at_ms for at_ms in times if at_ms]
        ago_ms = self._clock.now_ms() - min(verified) if verified else -1
        return DiskScrub(
            is_paused=state.is_paused,
            began_at_ms=state.pass_began_at_ms,
            done_bytes=state.pass_bytes,
            left_bytes=left_bytes(state, volumes),
            bytes_per_s=self._rate(),
            bad=state.pass_bad,
            last_began_at_ms=state.last_began_at_ms,
            last_finished_at_ms=state.last_finished_at_ms,
            last_bytes=state.last_bytes,
            last_bad=state.last_bad,
            unreported=len(self._unreported),
            bad_temps=len(self._bad_temps),
            volumes=len(volumes),
            unverified_volumes=len(volumes) - len(verified),
            oldest_verified_ms_ago=max(0, ago_ms) if verified else -1,
        )

    def verified_ms_ago(self, identities: Sequence[ShardIdentity]) -> list[int]:
        """How long ago each was last reread and good; -1: not since it was written, or unknown.

        Any thread; looks up the index. Raises DiskFailing.
        """
        state, now_ms = self._state, self._clock.now_ms()
        places = self._target.store.records.places(identities)
        found = []
        for identity in identities:
            at_ms = verified_at_ms(state, *places[identity]) if identity in places else 0
            if at_ms <= _born_ms(identity):
                at_ms = 0
            found.append(max(0, now_ms - at_ms) if at_ms else -1)
        return found

    # --- orders ---------------------------------------------------------------------------

    async def begin_now(self) -> int:
        """Begin a whole pass at once, paused or not; answers the ms at which it began.

        A pass with `last_began_at_ms` of this or later is the one asked for.
        """
        await self._is_read.wait()
        volumes = self._target.store.records.volumes()
        going = msgspec.structs.replace(self._state, is_paused=False)
        self._state = begun(going, volumes, self._clock.now_ms())
        self._measure_anew()
        asked_at_ms = self._state.pass_began_at_ms
        await self._keep()
        return asked_at_ms

    async def pause(self) -> None:
        """Reread nothing but suspects until `resume`, restarts included."""
        await self._is_read.wait()
        self._state = msgspec.structs.replace(self._state, is_paused=True)
        await self._keep()

    async def resume(self) -> None:
        """Go on where it was paused."""
        await self._is_read.wait()
        self._state = msgspec.structs.replace(self._state, is_paused=False)
        self._measure_anew()
        await self._keep()

    # --- the work -------------------------------------------------------------------------

    async def run(self) -> None:
        """Pass after pass; what fails is logged and tried again."""
        while not self._target.number:
            await self._clock.sleep(START_INTERVAL_S)
        self._state = await asyncio.to_thread(read_state, self._disk, self._target.folder)
        self._kept = self._state
        self._is_read.set()
        self._measure_anew()
        try:
            while True:
                await self._go_on()
        finally:
            # It is a small file, and nobody waits for a daemon that ends. Also what a thread is
            # writing now, though nobody waits for it any more, is written before this returns.
            self._keep_at_end()

    async def _go_on(self) -> None:
        if not self._target.number:  # not ours to judge any more
            await self._clock.sleep(RETRY_S)
            return
        try:
            await self.scrub_suspects()
            if self._state.is_paused or not self._is_due():
                await self._clock.sleep(self._pause_s())
                return
            await self.scrub_page()
            if self._clock.monotonic_s() - self._kept_at_s >= KEEP_STATE_S:
                await self._keep()
        except (StoreError, OSError) as error:
            log.warning("scrub_paused", extra={"reason": str(error), **self._where()})
            await self._clock.sleep(RETRY_S)

    async def scrub_page(self) -> None:
        """Reread the next records of the pass; begin one that is due, end one that is whole."""
        volume = await self._enter_volume()
        if volume is None:
            return
        store, state = self._target.store, self._state
        page = await asyncio.to_thread(
            store.records.page, volume.number, behind=state.offset, limit=PAGE
        )
        until_s = self._clock.monotonic_s() + SUSPECTS_INTERVAL_S
        for record in page.records:
            await self._scrub_record(record)
            if self._state.volume != volume.name:
                return  # a pass was begun anew meanwhile
            if self._clock.monotonic_s() > until_s:
                return  # look at suspects first
        if self._state.volume != volume.name:
            return
        if page.behind is None:
            self._state = left_behind(self._state)
        else:
            self._state = msgspec.structs.replace(self._state, offset=page.behind)

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
        self._unreported &= damaged

    async def scrub_shard(self, identity: ShardIdentity) -> int:
        """Reread one shard or temp record and report it if it is bad; answers its bytes, 0 for
        one that is bad or was deleted meanwhile.

        Raises StoreError when the report did not arrive.
        """
        store = self._target.store
        for attempt in range(READS):
            try:
                read = await store.get(identity)
            except NoSuchShard:
                return 0
            except (CorruptShard, DiskFailing) as error:
                if attempt == READS - 1:
                    await self._report(identity, error)
            else:
                self.scrubbed_bytes += len(read.body)
                return len(read.body)
        return 0

    async def _scrub_record(self, record: Record) -> None:
        bad_before = self.bad_count + self.bad_temp_count
        volume = self._state.volume
        read_bytes = await self.scrub_shard(record.identity)
        if self._state.volume == volume:
            self._state = msgspec.structs.replace(
                self._state,
                offset=record.offset,
                pass_bytes=self._state.pass_bytes + read_bytes,
                pass_bad=self._state.pass_bad + self.bad_count + self.bad_temp_count - bad_before,
            )
        cost_bytes = max(record.size_bytes, RECORD_BYTES_MIN)
        await self._clock.sleep(cost_bytes / self._settings.bytes_per_s)
        self._rated_bytes += read_bytes

    async def _enter_volume(self) -> Volume | None:
        """The volume to go on with, settled; None: the pass has ended."""
        records = self._target.store.records
        volumes = await asyncio.to_thread(records.volumes)
        if not self._state.pass_began_at_ms:
            self._state = begun(self._state, volumes, self._clock.now_ms())
            self._measure_anew()
        left = left_of(self._state, volumes)
        present = next((volume for volume in left if volume.name == self._state.volume), None)
        if present is not None:
            return present
        if not left:
            self._state = ended(self._state, volumes, self._clock.now_ms())
            await self._keep()
            return None
        self._state = entered(self._state, left[0], self._clock.now_ms())
        await asyncio.to_thread(records.settle)
        return left[0]

    # --- reports --------------------------------------------------------------------------

    async def _report(self, identity: ShardIdentity, error: StoreError) -> None:
        if is_temp(identity_key(identity)):
            if identity not in self._bad_temps:
                self._bad_temps.add(identity)
                self.bad_temp_count += 1
            return  # the store has logged it
        if identity not in self._reported | self._unreported:
            self.bad_count += 1
        self._unreported.add(identity)
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
        self._unreported.discard(identity)
        self._reported.add(identity)

    async def _report_if_good(self, identity: ShardIdentity) -> None:
        try:
            await self._target.store.get(identity)
        except (NoSuchShard, CorruptShard, DiskFailing):
            return  # deleted, or still bad and reported as that
        log.info("shard_good_again", extra={"stripe": identity.stripe.hex(), **self._where()})
        await self._meta.propose(MarkGood(identity=identity, disk=self._target.number), Done)

    # --- inside ---------------------------------------------------------------------------

    def _is_due(self) -> bool:
        return bool(self._state.pass_began_at_ms) or self._rest_s() <= 0

    def _rest_s(self) -> float:
        """What is left of the rest after the last pass; a clock that leaps ends it."""
        rested_s = (self._clock.now_ms() - self._state.last_finished_at_ms) / 1000
        return self._settings.rest_s - rested_s if rested_s >= 0 else 0.0

    def _pause_s(self) -> float:
        if self._state.is_paused:
            return SUSPECTS_INTERVAL_S
        return min(SUSPECTS_INTERVAL_S, max(self._rest_s(), 0.01))

    def _rate(self) -> int:
        """Bytes a second since this pass began, or went on, in this process."""
        passed_s = self._clock.monotonic_s() - self._rated_since_s
        if not self._state.pass_began_at_ms or self._state.is_paused or passed_s <= 0:
            return 0
        return int(self._rated_bytes / passed_s)

    def _measure_anew(self) -> None:
        self._rated_since_s, self._rated_bytes = self._clock.monotonic_s(), 0

    async def _keep(self) -> None:
        self._kept_at_s = self._clock.monotonic_s()
        await asyncio.to_thread(self._write_state)

    def _keep_at_end(self) -> None:
        self._write_state()

    def _write_state(self) -> None:
        with self._writing:
            if self._kept is not self._state:
                self._kept = state = self._state
                keep_state(self._disk, self._target.folder, state)

    def _where(self) -> dict[str, object]:
        return {"disk": self._target.number, "folder": str(self._target.folder)}


def _born_ms(identity: ShardIdentity) -> int:
    """When the shard was written at the earliest, by catalog time; 0: by a task, who knows when."""
    return birth_ms(identity.stripe) if identity.gen == 0 else 0
