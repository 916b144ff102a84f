"""The leader's archive of the catalog at blob daemons (ADR 20): applied log entries, a piece a
second at most, and from time to time a snapshot, so that a replay stays short.

Entries are sent only once they are applied, so they are committed, and the same whoever leads:
a deposed leader that still sends can only repeat what is there. Nothing waits for the archive.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from osscore.errors import (
    Corrupt,
    DiskFailing,
    DiskFull,
    DiskRefused,
    NoSuchNode,
    StaleOrder,
    StoreError,
)
from ossd.clock import Clock
from raftmeta.archive.pieces import ArchivedEntry, SnapshotName, pack_piece
from raftmeta.archive.wire import SNAPSHOT_PIECE_BYTES, ArchiveHeld, Forget
from raftmeta.archived import ArchiveState
from raftmeta.archived import Keeper as KeeperShown
from raftmeta.snapshots import PackedBackup
from raftmeta.stewards.archiveseams import ArchivingSeams
from raftmeta.stewards.keepers import (
    COPIES_MIN,
    Held,
    Keeper,
    Place,
    candidates,
    choose,
    copies_wanted,
    held_of,
    living,
)

PAUSE_S = 1.0
LOOK_S = 5.0
"""Between two looks at which disks may keep the archive."""
SURVEY_S = 60.0
"""Between two questions what they keep: files may be lost behind the leader's back."""
SETTLE_S = 5.0
"""So long a new leader waits for all nodes to be heard before it makes do with fewer."""
REFUSED_S = 60.0
"""A disk that says it can keep nothing, or has not done so for as long, is passed over then."""
PIECE_BYTES = 1024 * 1024
PIECES_PER_STEP = 64
SNAPSHOT_LOG_BYTES_MIN = 8 * 1024 * 1024
"""Less log than this is no reason for a snapshot, nor is less than the last one's size."""
SNAPSHOT_PAUSE_S = 5.0
SNAPSHOT_PAUSE_FACTOR = 20
"""After a snapshot that took t: none for 20 t, so that at most a twentieth of the time goes
into them, however disks come and go."""

UNABLE = (DiskFull, DiskFailing, DiskRefused, NoSuchNode)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Chosen:
    """What is known of this generation of the catalog. `possible`: on how many nodes an archive
    can lie now, `wanted` at most."""

    generation: int = 0
    wanted: int = COPIES_MIN
    possible: int = 0
    keepers: dict[bytes, Keeper] = field(default_factory=dict)


class Archiving:
    """One steward. `state` may be looked at any time."""

    def __init__(self, seams: ArchivingSeams, clock: Clock) -> None:
        self._seams = seams
        self._clock = clock
        self._chosen = _Chosen()
        self._began_s = self._caught_up_s = clock.monotonic_s()
        self._looked_s: float | None = None
        self._surveyed_s: float | None = None
        self._refused_until_s: dict[bytes, float] = {}
        self._snapshot: asyncio.Task[None] | None = None
        self._not_before_s = 0.0
        self._problems: dict[str, str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    await self.step()
                    self._note("step", "")
                except (StoreError, OSError) as error:
                    self._note("step", str(error))
                await self._clock.sleep(PAUSE_S)
        finally:
            if self._snapshot is not None:
                self._snapshot.cancel()
                await asyncio.wait({self._snapshot})

    async def step(self) -> None:
        """Look, send what was applied, begin a snapshot if it is due."""
        if self._snapshot is not None and self._snapshot.done():
            self._snapshot.result()
            self._snapshot = None
        now_s = self._clock.monotonic_s()
        if self._looked_s is None or now_s - self._looked_s >= LOOK_S:
            await self._look(now_s)
        await self._ship()
        if self._snapshot is None and self._is_snapshot_due():
            self._snapshot = asyncio.create_task(self.snapshot(), name="archive-snapshot")

    # --- who keeps it -------------------------------------------------------------------

    async def _look(self, now_s: float) -> None:
        described = self._seams.described()
        if described.generation != self._chosen.generation:
            self._chosen = _Chosen(generation=described.generation)
        chosen = self._chosen
        chosen.wanted = copies_wanted(described.nodes, await self._seams.profiles())
        refused = {uuid for uuid, until_s in self._refused_until_s.items() if until_s > now_s}
        found = candidates(described.nodes, refused)
        for place in found:
            if place.uuid in chosen.keepers:
                chosen.keepers[place.uuid].place = place  # its daemon may have moved
        chosen.possible = min(chosen.wanted, len({each.node for each in found}))
        if chosen.possible < chosen.wanted and now_s - self._began_s < SETTLE_S:
            return
        self._looked_s = now_s
        is_due = self._surveyed_s is None or now_s - self._surveyed_s >= SURVEY_S
        is_gone = not chosen.keepers.keys() <= {each.uuid for each in found}
        # Not beside a snapshot: it goes to those that were chosen when it began.
        if (is_due or is_gone or len(chosen.keepers) < chosen.possible) and self._snapshot is None:
            await self._survey(found)
            self._surveyed_s = now_s

    async def _survey(self, found: Sequence[Place]) -> None:
        """Ask all what they keep, and choose. A keeper that does not answer just now is believed
        to have what it had: to begin another costs a snapshot, and it has the time of a restart."""
        before = self._chosen.keepers
        held = {uuid: keeper.held for uuid, keeper in before.items()} | await self._ask(found)
        answering = [
            place for place in found if place.uuid in held and not held[place.uuid].problem_there
        ]
        reaches = {uuid: each.reach for uuid, each in held.items()}
        self._chosen.keepers = {
            place.uuid: Keeper(
                place,
                held[place.uuid],
                failing_s=before[place.uuid].failing_s if place.uuid in before else None,
            )
            for place in choose(answering, reaches, before.keys(), self._chosen.wanted)
        }
        self._note("keepers", "" if answering else "no blob daemon can keep it")

    async def _ask(self, asked: Sequence[Place]) -> dict[bytes, Held]:
        """What each of those disks keeps of this generation, if its daemon answers."""

        async def one(url: str) -> ArchiveHeld:
            try:
                return await self._seams.client.held(url)
            except StoreError:
                return ArchiveHeld(disks=())

        answers = await asyncio.gather(*(one(url) for url in {place.url for place in asked}))
        found = {
            disk.disk: held_of(disk, self._chosen.generation)
            for answer in answers
            for disk in answer.disks
        }
        uuids = {place.uuid for place in asked}
        return {uuid: held for uuid, held in found.items() if uuid in uuids}

    # --- the log ------------------------------------------------------------------------

    async def _ship(self) -> None:
        """Send what was applied to all that lack it, each from where it is."""
        applied_index, read_s = self._seams.applied_index(), self._clock.monotonic_s()
        failed: set[bytes] = set()
        for _ in range(PIECES_PER_STEP):
            waiting: dict[int, list[Keeper]] = {}
            for uuid, keeper in self._chosen.keepers.items():
                first = keeper.next_index
                if first is not None and first <= applied_index and uuid not in failed:
                    waiting.setdefault(first, []).append(keeper)
            for first, keepers in waiting.items():
                failed |= await self._ship_piece(first, keepers)
            if not waiting:
                break
        if self.archived_index >= applied_index:
            self._caught_up_s = read_s

    async def _ship_piece(self, first: int, keepers: Sequence[Keeper]) -> set[bytes]:
        """One piece from `first` on; answers which disks are not to be sent more now."""
        try:
            found = await self._seams.read_log(first, PIECE_BYTES)
        except Corrupt as error:
            found = None  # only a snapshot leads past that entry
            log.error("archive_log_unreadable", extra={"index": first, "reason": error.message})
        if not found:
            for keeper in keepers:
                keeper.is_cut_off, keeper.begins_behind = True, None
            return set()
        entries = [ArchivedEntry(each.index, each.term, each.body) for each in found]
        piece = await asyncio.to_thread(pack_piece, entries)
        last = entries[-1].index
        are_kept = await asyncio.gather(
            *(self._send_piece(keeper, first, last, piece) for keeper in keepers)
        )
        return {k.place.uuid for k, is_kept in zip(keepers, are_kept, strict=True) if not is_kept}

    async def _send_piece(self, keeper: Keeper, first: int, last: int, piece: bytes) -> bool:
        held, begins = keeper.held, keeper.begins
        try:
            end = await self._seams.client.append(
                keeper.place.url, keeper.place.uuid, self._chosen.generation, piece, begins=begins
            )
        except StoreError as error:
            self._failed(keeper, error)
            return False
        keeper.failing_s, held.problem = None, ""
        if end != last:
            # Another leader was quicker, or the disk lost some: it is asked what is there.
            held.problem = f"its log ends at {end}"
            self._surveyed_s = self._looked_s = None
            return False
        held.run = first if begins else held.run
        held.end, keeper.begins_behind = end, None
        held.log_bytes += len(piece)
        return True

    def _failed(self, keeper: Keeper, error: StoreError) -> None:
        """One that cannot keep it is passed over for a while; one that is only not reached has
        the time that a restart takes."""
        if isinstance(error, StaleOrder):
            raise error
        now_s = self._clock.monotonic_s()
        keeper.held.problem = error.message
        if keeper.failing_s is None:
            keeper.failing_s = now_s
        if isinstance(error, UNABLE) or now_s - keeper.failing_s >= REFUSED_S:
            self._refused_until_s[keeper.place.uuid] = now_s + REFUSED_S
            keeper.failing_s = None
            self._looked_s = None

    # --- snapshots ----------------------------------------------------------------------

    def _is_snapshot_due(self) -> bool:
        keepers = self._chosen.keepers.values()
        if not keepers or self._clock.monotonic_s() < self._not_before_s:
            return False
        if not any(keeper.needs_snapshot for keeper in keepers):
            longest = max((k.held for k in keepers), key=lambda held: held.log_bytes)
            if longest.log_bytes < max(SNAPSHOT_LOG_BYTES_MIN, longest.snapshot_bytes):
                return False
        may_copy = self._seams.may_copy()
        self._note("snapshot", "" if may_copy else "no room for a copy of the catalog")
        return may_copy

    async def snapshot(self) -> None:
        """Send a new snapshot to all keepers, and let go what it makes needless."""
        began_s = self._clock.monotonic_s()
        try:
            async with self._seams.packed() as packed:
                await self._send_snapshot(packed)
            self._note("snapshot", "")
        except (StoreError, OSError) as error:
            self._note("snapshot", str(error))
        now_s = self._clock.monotonic_s()
        pause_s = max(SNAPSHOT_PAUSE_S, SNAPSHOT_PAUSE_FACTOR * (now_s - began_s))
        self._not_before_s = now_s + pause_s

    async def _send_snapshot(self, packed: PackedBackup) -> None:
        manifest = packed.manifest
        name = SnapshotName(manifest.generation, manifest.applied_index, packed.blake3)
        keepers = list(self._chosen.keepers.values())
        for keeper in keepers:
            if keeper.next_index is None:
                # While it is sent, this leader's log is, too: it may be cut before the end.
                keeper.begins_behind = name.index
        going_on = keepers
        for offset in range(0, packed.size_bytes, SNAPSHOT_PIECE_BYTES):
            data = await asyncio.to_thread(packed.file.pread, SNAPSHOT_PIECE_BYTES, offset)
            going_on = await self._at_each(
                going_on, partial(self._send_snapshot_piece, name, offset, data)
            )
        done = await self._at_each(going_on, partial(self._finish_snapshot, name))
        for keeper in done:
            held = keeper.held
            held.snapshot, held.snapshot_bytes, held.log_bytes = name, packed.size_bytes, 0
            keeper.is_cut_off = False
        count = {"index": name.index, "bytes": packed.size_bytes, "copies": len(done)}
        log.info("archive_snapshot", extra=count)
        await self._forget(name)
        self._surveyed_s = self._looked_s = None

    async def _send_snapshot_piece(
        self, name: SnapshotName, offset: int, data: bytes, place: Place
    ) -> None:
        client = self._seams.client
        await client.send_snapshot(place.url, place.uuid, name, offset, data)

    async def _finish_snapshot(self, name: SnapshotName, place: Place) -> None:
        await self._seams.client.finish_snapshot(place.url, place.uuid, name)

    async def _at_each(
        self, keepers: Sequence[Keeper], work: Callable[[Place], Awaitable[None]]
    ) -> list[Keeper]:
        """Side by side; answers those that did it."""

        async def one(keeper: Keeper) -> bool:
            try:
                await work(keeper.place)
            except StoreError as error:
                keeper.begins_behind = None
                self._failed(keeper, error)
                return False
            return True

        are_done = await asyncio.gather(*map(one, keepers))
        return [keeper for keeper, is_done in zip(keepers, are_done, strict=True) if is_done]

    async def _forget(self, name: SnapshotName) -> None:
        """Older ones go only once as many disks keep the new one as keep an older, or as many as
        are wanted; those of earlier generations only once this one is adopted: until then a
        person may find that it was the wrong one to restore."""
        described = self._seams.described()
        asked = living(described.nodes)
        found = await self._ask(asked)
        having_it = [uuid for uuid, held in found.items() if held.snapshot == name]
        having_older = [
            uuid for uuid, held in found.items() if held.older or held.snapshot not in (None, name)
        ]
        if len(having_it) < max(1, min(self._chosen.wanted, len(having_older))):
            return
        order = Forget(
            generation=name.generation,
            index=name.index,
            snapshot=str(name),
            spares_earlier=described.deletion.frozen,
        )
        for place in asked:
            if place.uuid in found:  # also where a snapshot that was never finished lies
                try:
                    await self._seams.client.forget(place.url, place.uuid, order)
                except StoreError as error:
                    log.info("archive_not_forgotten", extra={"reason": error.message})

    # --- how far it is ------------------------------------------------------------------

    @property
    def archived_index(self) -> int:
        """Up to here the catalog is in as many whole archives as there can be now."""
        reached = sorted((k.held.reach for k in self._chosen.keepers.values()), reverse=True)
        needed = max(1, self._chosen.possible)
        return reached[needed - 1] if len(reached) >= needed else 0

    @property
    def state(self) -> ArchiveState:
        """For people."""
        archived_index, applied_index = self.archived_index, self._seams.applied_index()
        keepers = [keeper for _, keeper in sorted(self._chosen.keepers.items())]
        newest = max((k.held for k in keepers), key=lambda held: held.reach, default=Held())
        lag_s = self._clock.monotonic_s() - self._caught_up_s
        return ArchiveState(
            archived_index=archived_index,
            applied_index=applied_index,
            lag_ms=0 if archived_index >= applied_index else round(lag_s * 1000),
            copies=sum(keeper.held.reach >= archived_index > 0 for keeper in keepers),
            copies_wanted=self._chosen.wanted,
            keepers=tuple(map(_shown, keepers)),
            snapshot_index=newest.snapshot.index if newest.snapshot else 0,
            snapshot_bytes=newest.snapshot_bytes,
            log_bytes=newest.log_bytes,
            problem="; ".join(filter(None, self._problems.values())),
        )

    def _note(self, about: str, problem: str) -> None:
        if problem and problem != self._problems.get(about):
            log.warning("archiving_waits", extra={"reason": problem})
        self._problems[about] = problem


def _shown(keeper: Keeper) -> KeeperShown:
    return KeeperShown(
        node=keeper.place.node,
        disk=keeper.place.uuid.hex(),
        end=keeper.held.end,
        is_whole=keeper.held.is_whole,
        problem=keeper.held.problem,
    )
