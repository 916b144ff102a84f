"""Group commit: all who wait for one disk share one write and one sync.

While a batch is being written in the disk's writing thread, the next one gathers.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from blobd.commit import Operation, Outcome
from osscore.errors import NotReady


class _Ticket(NamedTuple):
    operations: Sequence[Operation]
    size_bytes: int
    done: asyncio.Future[list[Outcome]]


class GroupCommit:
    """The queue in front of one disk's writing thread. Used from one event loop."""

    def __init__(
        self,
        commit: Callable[[Sequence[Operation]], list[Outcome]],
        *,
        batch_bytes_max: int,
        after_batch: Callable[[], None],
    ) -> None:
        self._commit = commit
        self._batch_bytes_max = batch_bytes_max
        self._after_batch = after_batch
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="volume-writer")
        self._queue: deque[_Ticket] = deque()
        self._drainer: asyncio.Task[None] | None = None
        self._closed = False

    def submit(self, operations: Sequence[Operation]) -> asyncio.Future[list[Outcome]]:
        """Do these in one batch; their records are durable once the future is done.

        Bodies must stay as they are until then, even if the future is cancelled. Raises
        NotReady once closed; the future, what `commit` raises.
        """
        if self._closed:
            raise NotReady("The disk is closed.")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[Outcome]] = loop.create_future()
        size_bytes = 0
        for operation in operations:
            size_bytes += operation.size_bytes
        self._queue.append(_Ticket(operations, size_bytes, done))
        if self._drainer is None or self._drainer.done():
            self._drainer = loop.create_task(self._drain())
        return done

    async def close(self) -> None:
        """Finish what was submitted, then let the thread go."""
        self._closed = True
        if self._drainer is not None:
            await self._drainer
        self._writer.shutdown()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            batch = self._take()
            operations = [op for ticket in batch for op in ticket.operations]
            try:
                outcomes = await loop.run_in_executor(self._writer, self._commit, operations)
            except Exception as error:  # noqa: BLE001 - each waiter gets it, none may hang
                self._fail(batch, error)
            except BaseException as error:
                self._fail(batch, error)
                raise
            else:
                self._answer(batch, outcomes)
            self._after_batch()

    def _take(self) -> list[_Ticket]:
        batch: list[_Ticket] = []
        size_bytes = 0
        while self._queue and (not batch or size_bytes < self._batch_bytes_max):
            ticket = self._queue.popleft()
            if ticket.done.done():  # its waiter was cancelled before anything was written
                continue
            size_bytes += ticket.size_bytes
            batch.append(ticket)
        return batch

    def _answer(self, batch: Sequence[_Ticket], outcomes: list[Outcome]) -> None:
        at = 0
        for ticket in batch:
            end = at + len(ticket.operations)
            if not ticket.done.done():
                ticket.done.set_result(outcomes[at:end])
            at = end

    def _fail(self, batch: Sequence[_Ticket], error: BaseException) -> None:
        for ticket in batch:
            if not ticket.done.done():
                ticket.done.set_exception(error)
