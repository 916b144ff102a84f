"""Concurrent small shards for one node travel as one request (SAFETY rule 29).

One fdatasync at the blob daemon then covers them all. While a batch is under way the next
one gathers; nobody waits for a timer.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from blobd.client import BlobClient
from blobd.wire import ShardPut
from osscore.errors import OutcomeUnknown, StoreError, from_code
from ossd.disk import Bytes

SMALL_SHARD_BYTES_MAX = 64 * 1024
_BATCH_BYTES_MAX = 4 * 1024 * 1024
_BATCH_COUNT_MAX = 256


@dataclass(slots=True, eq=False)
class _Waiting:
    put: ShardPut
    body: Bytes
    durable: asyncio.Future[None]


class ShardBatches:
    """Small shards on their way, by node. Use from one event loop; close it."""

    def __init__(self, blobs: BlobClient, *, deadline_s: float) -> None:
        self._blobs = blobs
        self._deadline_s = deadline_s
        self._queues: dict[str, deque[_Waiting]] = {}
        self._carriers: dict[str, asyncio.Task[None]] = {}

    async def put(self, url: str, put: ShardPut, body: Bytes) -> None:
        """Store one shard; durable on return. Raises as BlobClient.put_shard."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(put, body, loop.create_future())
        self._queues.setdefault(url, deque()).append(waiting)
        if url not in self._carriers:
            self._carriers[url] = loop.create_task(self._carry(url))
        await waiting.durable

    async def close(self) -> None:
        """Stop; shards that still wait fail."""
        carriers = list(self._carriers.values())
        for carrier in carriers:
            carrier.cancel()
        if carriers:
            await asyncio.wait(carriers)

    async def _carry(self, url: str) -> None:
        queue = self._queues[url]
        try:
            while queue:
                # One turn, so that whoever is about to add to this batch can.
                await asyncio.sleep(0)
                if batch := _next_batch(queue):
                    await self._send(url, batch)
        finally:
            del self._carriers[url]
            del self._queues[url]
            for waiting in queue:
                _fail(waiting, OutcomeUnknown("The frontend is stopping."))

    async def _send(self, url: str, batch: list[_Waiting]) -> None:
        try:
            outcomes = await self._blobs.put_batch(
                url,
                [(waiting.put, bytes(waiting.body)) for waiting in batch],
                deadline_s=self._deadline_s,
            )
        except StoreError as error:
            for waiting in batch:
                _fail(waiting, error)
            return
        except asyncio.CancelledError:
            for waiting in batch:
                _fail(waiting, OutcomeUnknown("The frontend is stopping."))
            raise
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if outcome.error:
                _fail(waiting, from_code(outcome.error, outcome.message))
            elif not waiting.durable.done():
                waiting.durable.set_result(None)


def _next_batch(queue: deque[_Waiting]) -> list[_Waiting]:
    batch: list[_Waiting] = []
    size_bytes = 0
    while queue and len(batch) < _BATCH_COUNT_MAX:
        waiting = queue[0]
        if waiting.durable.done():  # its flow has gone
            queue.popleft()
            continue
        size_bytes += waiting.put.size_bytes
        if batch and size_bytes > _BATCH_BYTES_MAX:
            break
        batch.append(queue.popleft())
    return batch


def _fail(waiting: _Waiting, error: StoreError) -> None:
    if not waiting.durable.done():
        waiting.durable.set_exception(error)
