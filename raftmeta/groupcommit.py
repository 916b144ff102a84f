"""Many requests, one log entry: commands that arrive while batches are in flight wait and
form the next one, so the busier the store, the larger its batches.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from osscore.errors import OutcomeUnknown, Overloaded, StoreError
from ossd.clock import Clock
from raftmeta.commands import AnyResult, Entry
from raftmeta.engine import Applied

COMMANDS_MAX = 512
BATCH_BYTES_MAX = 1024 * 1024
IN_FLIGHT_MAX = 2
WAITING_BYTES_MAX = 64 * 1024 * 1024


class Proposer(Protocol):
    """The replica, as group commit needs it."""

    async def propose_entry(self, blob: bytes) -> Applied:
        """Replicate and apply one batch."""


class _RawBatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`raftmeta.commands.Batch` whose entries are encoded already."""

    format: int = 1
    time_ms: int
    entries: tuple[msgspec.Raw, ...]


@dataclass(slots=True)
class _Submission:
    entries: tuple[msgspec.Raw, ...]
    size_bytes: int
    answer: asyncio.Future[tuple[int, list[AnyResult]] | StoreError]


@dataclass(slots=True)
class _Batch:
    submissions: list[_Submission] = field(default_factory=list)
    command_count: int = 0
    size_bytes: int = 0

    def has_room(self, more: _Submission) -> bool:
        return not self.submissions or (
            self.command_count + len(more.entries) <= COMMANDS_MAX
            and self.size_bytes + more.size_bytes <= BATCH_BYTES_MAX
        )

    def add(self, more: _Submission) -> None:
        self.submissions.append(more)
        self.command_count += len(more.entries)
        self.size_bytes += more.size_bytes


class GroupCommit:
    """Belongs to one asyncio loop; owns the tasks of its batches in flight."""

    def __init__(self, replica: Proposer, clock: Clock) -> None:
        self._replica = replica
        self._clock = clock
        self._encoder = msgspec.msgpack.Encoder()
        self._waiting: deque[_Submission] = deque()
        self._waiting_bytes = 0
        self._in_flight: set[asyncio.Task[None]] = set()

    async def submit(self, entries: Sequence[Entry]) -> tuple[int, list[AnyResult]]:
        """Apply these commands in order within one log entry; answers its index and their
        results. A caller that is cancelled changes nothing of what happens to them.

        Raises NotLeader, NotReady, Overloaded: none was applied. OutcomeUnknown: some or
        all may be, now or later; send the same request ids again.
        """
        raw = tuple(msgspec.Raw(self._encoder.encode(entry)) for entry in entries)
        size_bytes = sum(len(bytes(item)) for item in raw)
        if self._waiting_bytes + size_bytes > WAITING_BYTES_MAX:
            raise Overloaded("Too many changes wait to be logged.")
        answer: asyncio.Future[tuple[int, list[AnyResult]] | StoreError]
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Submission(raw, size_bytes, answer))
        self._waiting_bytes += size_bytes
        self._send()
        outcome = await answer
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    def _send(self) -> None:
        while self._waiting and len(self._in_flight) < IN_FLIGHT_MAX:
            batch = _Batch()
            while self._waiting and batch.has_room(self._waiting[0]):
                submission = self._waiting.popleft()
                self._waiting_bytes -= submission.size_bytes
                batch.add(submission)
            task = asyncio.get_running_loop().create_task(self._commit(batch))
            self._in_flight.add(task)
            task.add_done_callback(self._committed)

    def _committed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._send()

    async def _commit(self, batch: _Batch) -> None:
        entries = tuple(raw for submission in batch.submissions for raw in submission.entries)
        blob = self._encoder.encode(_RawBatch(time_ms=self._clock.now_ms(), entries=entries))
        try:
            applied = await self._replica.propose_entry(blob)
        except StoreError as error:
            _answer_all(batch, error)
            return
        except BaseException:
            # The loop is going down with the batch on its way.
            _answer_all(batch, OutcomeUnknown())
            raise
        at = 0
        for submission in batch.submissions:
            results = applied.results[at : at + len(submission.entries)]
            at += len(submission.entries)
            if not submission.answer.done():
                submission.answer.set_result((applied.index, results))


def _answer_all(batch: _Batch, error: StoreError) -> None:
    for submission in batch.submissions:
        if not submission.answer.done():
            submission.answer.set_result(error)
