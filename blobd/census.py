"""The census: what the catalog expects of a disk against what the disk holds, again and again.

A walk goes page by page through the disk's slots in the catalog and looks each up in the
disk's own index, then through the disk's inventory for shards that are no slots. Every page
is one linearizable read, made before its look-ups: a slot that is good in it and not here was
lost, or deleted meanwhile. What differs is a hint like any other (SAFETY rule 11):
`blobd.recheck` rereads it and alone tells the catalog. A walk that cannot go on, because no
leader answers, goes on later where it stopped; under another generation it begins anew.

Only a finished walk counts, and only for as long as the disk is this daemon's.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from blobd.disks import DataDisk
from blobd.recheck import GOOD, Rechecker
from blobd.record import identity_key
from osscore.errors import RequestError, StoreError
from osscore.model import ShardIdentity, SlotState
from osscore.names import birth_ms
from ossd.clock import Clock
from raftmeta.client import MetaClient, QueryHead
from raftmeta.queries import (
    ClusterDescribed,
    ExpectedSlot,
    ExpectedSlots,
    FindStrays,
    SlotsExpected,
    StraysFound,
)
from raftmeta.upkeep import DiskCensus

PAGE_ROWS = 500
RECHECKS_AT_ONCE = 8
LOOK_S = 0.5
"""How often it looks whether a walk is due."""
RETRY_S = 2.0
AGAIN_S = 2.0
"""Rest after a walk that missed something: somebody is mending it, and people watch."""
REST_FACTOR = 4
"""A disk rests so many times longer than it walked, at least."""

log = logging.getLogger(__name__)

Confirm = Callable[[int, int], Awaitable[None]]
"""Tell the catalog that a disk's census was finished: (disk, generation). Raises StoreError."""


@dataclass(frozen=True, slots=True)
class CensusSettings:
    """`interval_s`: rest between two walks. `slots_per_s`: bound on how fast one goes through
    slots and inventory. `reread_bytes_per_s`: bound on rereading what differs. `grace_s`: how
    long an unnamed shard may still be named."""

    interval_s: float
    grace_s: float
    reread_bytes_per_s: int
    slots_per_s: int = 5000


@dataclass(slots=True)
class _Walk:
    """A walk under way: how far it is, and what it has counted."""

    begun_at_ms: int
    begun_s: float
    generation: int = 0
    after_row: int = 0
    has_slots: bool = False
    """All slots were looked up; the inventory comes next."""
    after_key: bytes = b""
    is_done: bool = False
    expected: int = 0
    present: int = 0
    surplus: int = 0
    young: int = 0


class Census:
    """Walks one disk. `run` never ends; cancel it."""

    def __init__(
        self,
        target: DataDisk,
        *,
        rechecker: Rechecker,
        meta: MetaClient,
        clock: Clock,
        settings: CensusSettings,
        confirm: Confirm | None = None,
    ) -> None:
        self._target = target
        self._rechecker = rechecker
        self._meta = meta
        self._clock = clock
        self._settings = settings
        self._confirm = confirm
        self._walk: _Walk | None = None
        self._last: DiskCensus | None = None
        self._last_s = 0.0
        self._due_s = clock.monotonic_s()
        self._circumstances: tuple[int, str] | None = None
        self.rechecked_count = 0

    @property
    def last(self) -> DiskCensus | None:
        """The last finished walk; None before the first, and once the disk was refused."""
        if self._last is None or not self._target.number:
            return None
        ago_ms = int((self._clock.monotonic_s() - self._last_s) * 1000)
        return msgspec.structs.replace(self._last, finished_ms_ago=max(0, ago_ms))

    @property
    def is_running(self) -> bool:
        """Whether a walk is under way."""
        return self._walk is not None

    def ask(self) -> int:
        """Have a walk begin at once, or after the one under way; answers the present ms.

        A census that began at that time or later is the one asked for.
        """
        self._due_s = self._clock.monotonic_s()
        return self._clock.now_ms()

    def heed(self, described: ClusterDescribed) -> None:
        """Walk at once when the disk came back, or the catalog is of another generation."""
        last = described.generation if self._last is None else self._last.generation
        if self._walk is None and last != described.generation:
            self.ask()
        states = {disk.uuid: disk.state for node in described.nodes for disk in node.disks}
        now = (described.generation, states.get(self._target.uuid, ""))
        if self._circumstances not in (None, now):
            self.ask()
        self._circumstances = now

    async def run(self) -> None:
        """Walk after walk; what fails is logged and tried again where it stopped."""
        while True:
            if not self._target.number:
                self._walk = None  # not, or no longer, ours to judge
            if not self._target.number or (self._walk is None and not self._is_due):
                await self._clock.sleep(LOOK_S)
                continue
            try:
                await self.step()
            except (StoreError, OSError) as error:
                log.warning("census_paused", extra={"reason": str(error), **self._where()})
                await self._clock.sleep(RETRY_S)

    async def step(self) -> None:
        """Take the next page of the walk, or begin one. Raises StoreError; nothing of a page
        is counted then, and taking it again is harmless."""
        if self._walk is None:
            self._due_s = float("inf")
            self._walk = _Walk(self._clock.now_ms(), self._clock.monotonic_s())
        walk = self._walk
        if not walk.has_slots:
            await self._look_up_slots(walk)
        elif not walk.is_done:
            await self._look_through_inventory(walk)
        else:
            await self._finish(walk)

    # --- slots --------------------------------------------------------------------------

    async def _look_up_slots(self, walk: _Walk) -> None:
        query = ExpectedSlots(disk=self._number(), after_row=walk.after_row, limit=PAGE_ROWS)
        head, page = await self._meta.query_with_head(query, SlotsExpected)
        if not self._is_of(walk, head):
            return
        needed = [slot for slot in page.slots if slot.is_needed]
        held = await self._held([slot.identity for slot in needed])
        agreeing = {slot.identity: agrees(slot, held) for slot in needed}
        doubtful = [s for s in needed if agreeing[s.identity] != (s.state == SlotState.GOOD)]
        found = await self._recheck(sorted({slot.row for slot in doubtful}))
        gone = {slot.identity for slot in doubtful} - found.keys()
        good = {identity for identity, what in found.items() if what == GOOD}
        settled = [slot.identity for slot in needed if slot.identity not in gone]
        doubted = {slot.identity for slot in doubtful}
        walk.expected += len(settled)
        walk.present += sum(
            identity in good if identity in doubted else agreeing[identity] for identity in settled
        )
        walk.after_row, walk.has_slots = page.next_row, not page.next_row
        reread_bytes = sum(held.get(identity, (0, 0))[0] for identity in doubted)
        await self._clock.sleep(
            len(page.slots) / self._settings.slots_per_s
            + reread_bytes / self._settings.reread_bytes_per_s
        )

    async def _recheck(self, rows: Sequence[int]) -> Mapping[ShardIdentity, str]:
        """What the owner finds of the slots of these stripes, all reported. One that is not in
        the answer is no slot of this disk any more."""
        turns = asyncio.Semaphore(RECHECKS_AT_ONCE)

        async def recheck(row: int) -> Sequence[tuple[ShardIdentity, str]]:
            async with turns:
                told = await self._rechecker.recheck(self._target.uuid, [row])
            self.rechecked_count += len(told.shards)
            return [(shard.identity, shard.found) for shard in told.shards]

        told = await asyncio.gather(*(recheck(row) for row in rows), return_exceptions=True)
        return dict(pair for pairs in _or_raise(told) for pair in pairs)

    # --- inventory ----------------------------------------------------------------------

    async def _look_through_inventory(self, walk: _Walk) -> None:
        """Count shards that are no slots. They are asked about after they were listed, and
        must be here still after the answer: in between they may be named, moved or deleted."""
        rows = await asyncio.to_thread(self._target.store.inventory, walk.after_key, PAGE_ROWS)
        identities = tuple(identity for identity, _, _ in rows)
        if identities:
            query = FindStrays(disk=self._number(), identities=identities)
            head, strays = await self._meta.query_with_head(query, StraysFound)
            if not self._is_of(walk, head):
                return
            nameable_from_ms = head.catalog_time_ms - int(self._settings.grace_s * 1000)
            here = await self._held(strays.identities)
            young = sum(birth_ms(identity.stripe) >= nameable_from_ms for identity in here)
            walk.young += young
            walk.surplus += len(here) - young
            walk.after_key = identity_key(identities[-1])
        walk.is_done = len(rows) < PAGE_ROWS
        await self._clock.sleep(len(rows) / self._settings.slots_per_s)

    # --- the end ------------------------------------------------------------------------

    async def _finish(self, walk: _Walk) -> None:
        if self._confirm is not None:
            try:
                await self._confirm(self._number(), walk.generation)
            except RequestError:
                # Not this catalog, or not this disk, any more: what was compared says nothing.
                self._walk = None
                self.ask()
                raise
        self._number()
        before, self._last_s = self._last, self._clock.monotonic_s()
        self._last = DiskCensus(
            generation=walk.generation,
            begun_at_ms=walk.begun_at_ms,
            finished_at_ms=self._clock.now_ms(),
            expected=walk.expected,
            present=walk.present,
            missing=walk.expected - walk.present,
            surplus=walk.surplus,
            young=walk.young,
        )
        self._walk = None
        rest_s = AGAIN_S if self._last.missing else self._settings.interval_s
        rest_s = max(rest_s, REST_FACTOR * (self._last_s - walk.begun_s))
        self._due_s = min(self._due_s, self._last_s + rest_s)
        if before is None or before.missing != self._last.missing:
            log.log(
                logging.WARNING if self._last.missing else logging.INFO,
                "census_differs" if self._last.missing else "census_agrees",
                extra={**msgspec.structs.asdict(self._last), **self._where()},
            )

    # --- inside -------------------------------------------------------------------------

    @property
    def _is_due(self) -> bool:
        return self._clock.monotonic_s() >= self._due_s

    def _number(self) -> int:
        """The disk's number. Raises StoreError where the disk is not, or no longer, ours."""
        _ = self._target.writable_store
        return self._target.number

    def _is_of(self, walk: _Walk, head: QueryHead) -> bool:
        """Whether the page belongs to the walk; if not, the walk is dropped and begins anew."""
        self._number()
        self._target.require_generation(head.generation)
        walk.generation = walk.generation or head.generation
        if head.generation != walk.generation:
            self._walk = None
            self.ask()
            return False
        return True

    async def _held(
        self, identities: Sequence[ShardIdentity]
    ) -> Mapping[ShardIdentity, tuple[int, int]]:
        return await asyncio.to_thread(self._target.store.held, identities)

    def _where(self) -> dict[str, object]:
        return {"disk": self._target.number, "folder": str(self._target.folder)}


def agrees(slot: ExpectedSlot, held: Mapping[ShardIdentity, tuple[int, int]]) -> bool:
    """Whether the index knows the shard as the catalog does."""
    size_bytes, crc = held.get(slot.identity, (-1, -1))
    return crc == slot.crc and slot.size_bytes in (-1, size_bytes)


_Pairs = Sequence[tuple[ShardIdentity, str]]


def _or_raise(told: Iterable[_Pairs | BaseException]) -> list[_Pairs]:
    pairs = []
    for each in told:
        if isinstance(each, BaseException):
            raise each
        pairs.append(each)
    return pairs
