"""Finds whoever leads the metanodes and posts to it, one attempt at a time."""

from collections.abc import Sequence

from osscore.errors import (
    DeadlineExceeded,
    NotLeader,
    OutcomeUnknown,
    RequestError,
    StoreError,
    Unavailable,
)
from ossd.clock import Clock, RandomBytes
from ossd.rpc import Rpc, check

PAUSE_S_MIN = 0.05
PAUSE_S_MAX = 0.5
PAUSE_PER_OUTAGE = 0.1
"""Wait a tenth of the outage so far: a short election is noticed within 100 ms, a long
outage is not hammered."""
ATTEMPT_S_MIN = 2.0
ATTEMPT_S_MAX = 16.0


def is_permanent(error: StoreError) -> bool:
    """Whether asking again, here or elsewhere, would give the same error."""
    return isinstance(error, RequestError)


def is_surely_unprocessed(error: StoreError) -> bool:
    """Whether a request that failed so was certainly not acted upon, now or later."""
    if isinstance(error, OutcomeUnknown | DeadlineExceeded):
        return False
    # A bare Unavailable is a 503 of unknown origin: it proves nothing.
    return isinstance(error, RequestError | Unavailable) and type(error) is not Unavailable


class LeaderSeeker:
    """Remembers who leads; after a failure moves on to the hint, else to the next in turn."""

    def __init__(self, rpc: Rpc, urls: Sequence[str], *, clock: Clock, random: RandomBytes) -> None:
        if not urls:
            raise ValueError("at least one metanode URL is needed")
        self._rpc = rpc
        self._seeds = self._urls = tuple(url.rstrip("/") for url in urls)
        self._followed_index = -1
        self._clock = clock
        self._random = random
        self._guess = self._urls[random(1)[0] % len(self._urls)]
        self._tried: set[str] = set()
        self._failing_since_s: float | None = None
        self._attempt_s = ATTEMPT_S_MIN

    @property
    def urls(self) -> tuple[str, ...]:
        """Every metanode that counts, as far as this knows."""
        return self._urls

    def follow(self, members_index: int, urls: Sequence[str]) -> None:
        """These are the metanodes as of that log entry; older news changes nothing."""
        if urls and members_index > self._followed_index:
            self._followed_index = members_index
            self._urls = tuple(url.rstrip("/") for url in urls)

    async def post(self, path: str, body: bytes) -> bytes:
        """Post to the presumed leader once and answer the reply's body.

        Raises the StoreError that came back or that describes the failure; before it does
        it has chosen whom to ask next, and waited where an immediate retry would be noise.
        """
        url = self._guess
        try:
            reply = check(
                await self._rpc.call("POST", url + path, body=body, deadline_s=self._attempt_s)
            )
        except StoreError as error:
            if not is_permanent(error):
                await self._clock.sleep(self._note_failure(url, error))
            raise
        self._note_success(url)
        return reply.body

    def _note_success(self, url: str) -> None:
        self._guess = url
        self._tried.clear()
        self._failing_since_s = None
        self._attempt_s = ATTEMPT_S_MIN

    def _note_failure(self, url: str, error: StoreError) -> float:
        """Choose whom to ask next; answers how long to wait before asking, in seconds."""
        if isinstance(error, DeadlineExceeded):
            # Perhaps it is slow and not gone: give the next attempts more time.
            self._attempt_s = min(self._attempt_s * 2, ATTEMPT_S_MAX)
        if url != self._guess:
            return 0.0  # another flight has moved on already
        now_s = self._clock.monotonic_s()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        self._tried.add(url)
        hint = error.leader_url if isinstance(error, NotLeader) else None
        if hint and hint.rstrip("/") not in self._tried:
            self._guess = hint.rstrip("/")
            return 0.0
        fresh = [other for other in self._after(url) if other not in self._tried]
        if fresh:
            self._guess = fresh[0]
            return 0.0
        self._tried.clear()
        self._guess = self._after(url)[0]
        return self._pause_s(now_s - self._failing_since_s)

    def _after(self, url: str) -> tuple[str, ...]:
        """All metanodes in turn, beginning behind `url`."""
        start = self._urls.index(url) + 1 if url in self._urls else 0
        # Where this began comes last: should all of them be gone, somebody may be there yet.
        rest = tuple(seed for seed in self._seeds if seed not in self._urls)
        return self._urls[start:] + self._urls[:start] + rest

    def _pause_s(self, outage_s: float) -> float:
        pause_s = min(max(outage_s * PAUSE_PER_OUTAGE, PAUSE_S_MIN), PAUSE_S_MAX)
        # Between half and all of it, so that many clients do not knock together.
        return pause_s * (0.5 + self._random(1)[0] / 510)
