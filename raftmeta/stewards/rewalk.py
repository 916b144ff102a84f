"""One walk after another over the stripes that a job has still to do.

A walk reads ahead of what is opened, so that what is left is known early, and keeps row numbers
only: each is looked at again when its turn comes.
"""

from collections import Counter, deque
from collections.abc import Awaitable, Callable

from ossd.clock import Clock
from raftmeta.healing import ReencodeProgress
from raftmeta.reencoding import REPLICAS, FindReencodable, ReencodableFound

ROWS_MAX = 200_000
"""Kept at a time; the walk waits until some are dealt with."""
REST_S = 2.0
"""Between dealing with what one walk found and the next: what failed is not tried at once."""
CALM_REST_S = 5.0
"""After a walk that found nothing."""
SETTLE_MS = 6_000
"""So long after a job was begun, frontends may still write what they know of the bucket's profile
from before: a walk that began earlier does not end the job."""

Find = Callable[[FindReencodable], Awaitable[ReencodableFound]]


class Rewalk:
    """The walks of one job, or of REPLICAS."""

    def __init__(self, job: int, clock: Clock, *, begun_ms_ago: int = 0) -> None:
        self.job = job
        self._clock = clock
        # Never negative: the clock of the leader that wrote the row may have been ahead.
        age_s = max(0, begun_ms_ago) / 1000
        self._settled_at_s = clock.monotonic_s() + SETTLE_MS / 1000 - age_s
        self._rows: deque[int] = deque()
        self._after: int | None = 0
        self._began_s = clock.monotonic_s()
        self._rests_until_s: float | None = None
        self._found_stripes = self._found_bytes = self._kept = 0
        self._done_before = -1
        self._last: tuple[int, int, int, int] | None = None
        self._done = 0
        self._waits = ""

    @property
    def progress(self) -> ReencodeProgress:
        """What is left: found by the last whole walk, less what was done since it began."""
        now = (self._found_stripes, self._found_bytes, self._kept, max(self._done_before, 0))
        stripes, size_bytes, kept, done_before = self._last or now
        done = min(stripes, self._done - done_before) if stripes else 0
        left_bytes = size_bytes * (stripes - done) // stripes if stripes else 0
        return ReencodeProgress(
            job=self.job,
            is_surveyed=self._last is not None,
            left_stripes=stripes - done,
            left_bytes=left_bytes,
            kept_stripes=kept,
            waits=self._waits,
        )

    @property
    def is_clean(self) -> bool:
        """Whether a walk that began late enough has come to its end and found nothing."""
        is_whole = self._after is None and not self._found_stripes
        return is_whole and self._began_s >= self._settled_at_s

    async def advance(self, find: Find, *, done_stripes: int, pages_max: int) -> None:
        """Go on by so many pages at most. `done_stripes`: of the job so far. Raises StoreError."""
        self._done = done_stripes
        if self._done_before < 0:
            self._done_before = done_stripes
        if self._after is None and self._is_due():
            self._begin(done_stripes)
        pages = 0
        while self._after is not None and pages < pages_max and len(self._rows) < ROWS_MAX:
            page = await find(FindReencodable(job=self.job, after_row=self._after))
            self._rows.extend(each.row for each in page.stripes)
            self._found_stripes += len(page.stripes)
            self._found_bytes += sum(each.size_bytes for each in page.stripes)
            self._kept += page.kept_stripes
            self._after = page.next_row or None
            pages += 1
            if self._after is None:
                self._last = (
                    self._found_stripes,
                    self._found_bytes,
                    self._kept,
                    self._done_before,
                )

    def take(self, count: int) -> list[int]:
        """Up to so many rows; they are the caller's to deal with."""
        return [self._rows.popleft() for _ in range(min(count, len(self._rows)))]

    def put_back(self, row: int) -> None:
        """There was no room for it yet."""
        self._rows.append(row)

    def note_obstacles(self, obstacles: Counter[str]) -> None:
        """Why stripes just looked at cannot be encoded now."""
        if obstacles:
            self._waits = obstacles.most_common(1)[0][0]
        elif not self._found_stripes:
            self._waits = ""

    def _is_due(self) -> bool:
        if self._rows:
            return False
        now_s = self._clock.monotonic_s()
        if self._rests_until_s is None:
            calm = self.job == REPLICAS and not self._found_stripes
            self._rests_until_s = now_s + (CALM_REST_S if calm else REST_S)
        return now_s >= self._rests_until_s

    def _begin(self, done_stripes: int) -> None:
        self._after = 0
        self._began_s = self._clock.monotonic_s()
        self._rests_until_s = None
        self._found_stripes = self._found_bytes = self._kept = 0
        self._done_before = done_stripes
        self._waits = ""
