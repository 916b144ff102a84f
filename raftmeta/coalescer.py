"""Gathers what concurrent callers want into few, bounded requests.

A `Lane` holds waiting items and a few flights. Each flight takes a batch, tries to have it
answered, and puts back what must be tried again. It knows nothing of what travels.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from osscore.errors import NotReady, StoreError


class Waiting(Protocol):
    """One caller's wish: its encoded size and the future its caller awaits."""

    @property
    def size_bytes(self) -> int:
        """Bytes it adds to a request."""

    @property
    def is_settled(self) -> bool:
        """Whether the caller has its answer, or has gone away."""

    def fail(self, error: Exception) -> None:
        """Give the caller this error; no change once settled."""


Item = TypeVar("Item", bound=Waiting)


@dataclass(frozen=True, slots=True)
class LaneBounds:
    """How much travels at once. A single item over `bytes_max` travels alone."""

    count_max: int
    bytes_max: int
    flights_max: int = 2


class Lane(Generic[Item]):
    """A queue of wishes and the flights that carry them.

    `attempt` carries one batch: it settles what it can and answers the items to try again,
    after waiting as long as seems wise. Whatever it raises is its batch's failure.
    """

    def __init__(
        self, attempt: Callable[[list[Item]], Awaitable[list[Item]]], *, bounds: LaneBounds
    ) -> None:
        self._attempt = attempt
        self._bounds = bounds
        self._queue: deque[Item] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._flying_count = 0
        self._closed = False

    def put(self, item: Item) -> None:
        """Let `item` travel with the next batch. Raises NotReady after `close`."""
        if self._closed:
            raise NotReady("This client is closed.")
        self._queue.append(item)
        self._launch()

    async def close(self) -> None:
        """Stop all flights; whoever still waits gets NotReady."""
        self._closed = True
        flights = list(self._flights)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        for item in self._queue:
            item.fail(NotReady("This client is closed."))
        self._queue.clear()

    def _launch(self) -> None:
        if self._flying_count >= self._bounds.flights_max:
            return
        # Counted here and not by the set of tasks: a flight that has just found the queue
        # empty is still in the set, and must not be mistaken for one that will look again.
        self._flying_count += 1
        flight = asyncio.get_running_loop().create_task(self._fly())
        self._flights.add(flight)
        flight.add_done_callback(self._flights.discard)

    async def _fly(self) -> None:
        # A task begins in the next turn of the loop, so callers of one turn share a batch.
        try:
            while batch := self._take():
                again = await self._carry(batch)
                self._queue.extendleft(reversed(again))
        finally:
            self._flying_count -= 1

    async def _carry(self, batch: list[Item]) -> list[Item]:
        try:
            return await self._attempt(batch)
        except asyncio.CancelledError:
            for item in batch:
                item.fail(NotReady("This client is closed."))
            raise
        except Exception as error:  # noqa: BLE001 - a bug must reach the callers, not hang them
            failure = error if isinstance(error, StoreError) else StoreError(f"bug: {error!r}")
            failure.__cause__ = error if failure is not error else error.__cause__
            for item in batch:
                item.fail(failure)
            return []

    def _take(self) -> list[Item]:
        """The next batch in order of arrival, without those whose callers have gone."""
        batch: list[Item] = []
        size_bytes = 0
        while self._queue and len(batch) < self._bounds.count_max:
            item = self._queue[0]
            if not item.is_settled:
                if batch and size_bytes + item.size_bytes > self._bounds.bytes_max:
                    break
                batch.append(item)
                size_bytes += item.size_bytes
            self._queue.popleft()
        return batch
