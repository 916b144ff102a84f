"""What is damaged: walks over all stripes with too few shards, most urgent first.

One walk goes over the stripes of lost disks, which may be millions; the other over what is
missing or bad, which is soon done and begun again, so that new damage never waits for the end of
the first. Rows are kept in buckets by urgency and read again when their turn comes, so nothing is
planned from what was true a while ago. What could not be dealt with, the next walk finds.
"""

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from ossd.clock import Clock
from raftmeta.moving import DamagedStripes, PlannedStripe, StripesOfDisk, StripesPlanned
from raftmeta.stewards.fleet import Fleet
from raftmeta.stewards.repairs import damaged_slots, urgency
from raftmeta.stewards.turns import in_turns

PAGE_STRIPES = 500
ROWS_MAX = 200_000
"""Kept in one bucket; a later walk finds the others."""
REST_S_MIN, REST_S_MAX = 1.0, 10.0
"""Between dealing with what one walk found and the next: as long as that took, within these."""
PATIENCE_S = 30.0
"""A walk over what is missing or bad is begun again after so long, though rows of it are left."""

Urgency = tuple[int, int]
Source = StripesOfDisk | DamagedStripes
ReadPage = Callable[[Source], Awaitable[StripesPlanned]]


@dataclass(slots=True)
class Found:
    """What a walk has seen. See HealingState."""

    missing: Counter[int] = field(default_factory=Counter)
    unreadable: int = 0
    repair_bytes: int = 0

    def __add__(self, other: "Found") -> "Found":
        return Found(
            self.missing + other.missing,
            self.unreadable + other.unreadable,
            self.repair_bytes + other.repair_bytes,
        )


class Walk:
    """One walk after another over the same sources, and the rows that the present one found."""

    def __init__(self, clock: Clock, *, counts: Callable[[PlannedStripe, Source], bool]) -> None:
        """`counts`: whether this source is the one to count a stripe in."""
        self._clock = clock
        self._counts = counts
        self._sources: deque[Source] = deque()
        self._found = Found()
        self._last: Found | None = None
        self._began_s = clock.monotonic_s()
        self._rests_until_s: float | None = self._began_s
        self.buckets: dict[Urgency, deque[int]] = {}

    @property
    def is_whole(self) -> bool:
        """Whether one has come to its end."""
        return self._last is not None

    @property
    def shown(self) -> Found:
        """The last whole walk's findings, or those so far before the first."""
        return self._found if self._last is None else self._last

    def is_due(self, *, patience_s: float = float("inf")) -> bool:
        """Whether the next may begin: it has ended, and its rows are dealt with, or `patience_s`
        have passed since it began."""
        now_s = self._clock.monotonic_s()
        if self._sources:
            return False
        if any(self.buckets.values()):
            return now_s >= self._began_s + patience_s
        if self._rests_until_s is None:
            took_s = now_s - self._began_s
            self._rests_until_s = now_s + min(max(REST_S_MIN, took_s), REST_S_MAX)
        return now_s >= self._rests_until_s

    def begin(self, sources: Iterable[Source], *, is_other: bool = False) -> None:
        """Forget what the last has left over. `is_other`: what it found does not count."""
        self._sources = deque(sources)
        self._found = Found()
        self.buckets = {}
        self._began_s = self._clock.monotonic_s()
        self._rests_until_s = None
        if is_other:
            self._last = None
        if not self._sources:
            self._last = self._found

    async def advance(self, read: ReadPage, fleet: Fleet, *, pages_max: int) -> int:
        """Go on by so many pages at most; how many it were. Raises StoreError."""
        pages = 0
        while self._sources and pages < pages_max:
            source = self._sources[0]
            page = await read(source)
            async for stripe in in_turns(page.stripes):
                self._note(stripe, fleet, is_counted=self._counts(stripe, source))
            self._sources.popleft()
            if page.next_row:
                self._sources.appendleft(_behind(source, page.next_row))
            elif not self._sources:
                self._last = self._found
            pages += 1
        return pages

    def keep(self, planned: PlannedStripe, fleet: Fleet) -> None:
        """Put its row behind its like."""
        bucket = self.buckets.setdefault(urgency(planned.stripe, fleet), deque())
        if len(bucket) < ROWS_MAX:
            bucket.append(planned.stripe.row)

    def _note(self, planned: PlannedStripe, fleet: Fleet, *, is_counted: bool) -> None:
        damaged = damaged_slots(planned.stripe, fleet)
        if not damaged:
            return
        is_readable = urgency(planned.stripe, fleet)[0] >= 0
        if is_counted:
            self._found.missing[len(damaged)] += 1
            self._found.unreadable += not is_readable
            self._found.repair_bytes += is_readable * len(damaged) * planned.stripe.shard_bytes
        if is_readable and len(damaged) > len(planned.tasks):
            self.keep(planned, fleet)


class Survey:
    """Both walks together."""

    def __init__(self, read: ReadPage, clock: Clock) -> None:
        self._read = read
        self._lost: tuple[int, ...] = ()
        self._lost_disks = Walk(clock, counts=self._is_first_sight)
        self._damaged = Walk(clock, counts=lambda planned, _: not self._lost_of(planned))
        self._walks = (self._damaged, self._lost_disks)

    @property
    def shown(self) -> Found:
        """What there is to do; a stripe counts once."""
        return self._lost_disks.shown + self._damaged.shown

    @property
    def is_whole(self) -> bool:
        """Whether `shown` is of whole walks."""
        return all(walk.is_whole for walk in self._walks)

    @property
    def has_rows(self) -> bool:
        """Whether there is anything to take."""
        return any(any(walk.buckets.values()) for walk in self._walks)

    async def advance(self, fleet: Fleet, *, pages_max: int) -> None:
        """Go on by so many pages at most, of either walk. Raises StoreError."""
        lost = tuple(fleet.numbers("lost"))
        of_disks = [StripesOfDisk(disk=disk, limit=PAGE_STRIPES) for disk in lost]
        if lost != self._lost:
            self._lost = lost
            self._lost_disks.begin(of_disks, is_other=True)
        elif self._lost_disks.is_due():
            self._lost_disks.begin(of_disks)
        if self._damaged.is_due(patience_s=PATIENCE_S):
            self._damaged.begin([DamagedStripes(limit=PAGE_STRIPES)])
        pages = await self._damaged.advance(self._read, fleet, pages_max=pages_max // 2)
        await self._lost_disks.advance(self._read, fleet, pages_max=pages_max - pages)

    def take(self, count: int) -> list[int]:
        """Up to so many rows of the most urgent bucket; they are the caller's to deal with."""
        urgencies = [key for walk in self._walks for key, rows in walk.buckets.items() if rows]
        taken: list[int] = []
        for walk in self._walks:
            rows = walk.buckets.get(min(urgencies, default=(0, 0)), deque())
            while rows and len(taken) < count:
                taken.append(rows.popleft())
        return taken

    def put_back(self, planned: PlannedStripe, fleet: Fleet) -> None:
        """There was no room for it yet."""
        self._lost_disks.keep(planned, fleet)

    def _is_first_sight(self, planned: PlannedStripe, source: Source) -> bool:
        """Lost disks are walked by number."""
        assert isinstance(source, StripesOfDisk)
        return source.disk == min(self._lost_of(planned), default=0)

    def _lost_of(self, planned: PlannedStripe) -> set[int]:
        return {slot.disk for slot in planned.stripe.slots} & set(self._lost)


def _behind(source: Source, row: int) -> Source:
    if isinstance(source, StripesOfDisk):
        return StripesOfDisk(disk=source.disk, limit=source.limit, after_row=row)
    return DamagedStripes(limit=source.limit, after_row=row)
