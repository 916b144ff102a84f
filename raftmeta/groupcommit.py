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
from raftmeta.admission import rows_of
from raftmeta.engine import Applied
from raftmeta.entries import AnyResult, Entry

COMMANDS_MAX = 512
BATCH_BYTES_MAX = 1024 * 1024
BATCH_ROWS_MAX = 3200
"""By `rows_of`, an upper bound: about 50 ms of apply, during which nobody reads the newest
state and no heartbeat is answered (SAFETY rule 18)."""
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


_Outcome = tuple[int, list[AnyResult]] | StoreError


@dataclass(slots=True)
class _Submission:
    entries: tuple[msgspec.Raw, ...]
    size_bytes: int
    row_count: int
    answer: asyncio.Future[_Outcome]


@dataclass(slots=True)
class _Batch:
    submissions: list[_Submission] = field(default_factory=list)
    command_count: int = 0
    size_bytes: int = 0
    row_count: int = 0

    def has_room(self, more: _Submission) -> bool:
        return not self.submissions or (
            self.command_count + len(more.entries) <= COMMANDS_MAX
            and self.size_bytes + more.size_bytes <= BATCH_BYTES_MAX
            and self.row_count + more.row_count <= BATCH_ROWS_MAX
        )

    def add(self, more: _Submission) -> None:
        self.submissions.append(more)
        self.command_count += len(more.entries)
        self.size_bytes += more.size_bytes
        self.row_count += more.row_count


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
        """Apply these commands in order; answers the index of the last log entry they needed
        and their results. A caller that is cancelled changes nothing of what happens to them.

        Raises NotLeader, NotReady, Overloaded: none was applied. OutcomeUnknown: some or
        all may be, now or later; send the same request ids again.
        """
        parts = [self._submission(part) for part in _in_parts(entries)]
        if self._waiting_bytes + sum(part.size_bytes for part in parts) > WAITING_BYTES_MAX:
            raise Overloaded("Too many changes wait to be logged.")
        for part in parts:
            self._waiting.append(part)
            self._waiting_bytes += part.size_bytes
        self._send()
        return _joined([await part.answer for part in parts])

    def _submission(self, entries: Sequence[Entry]) -> _Submission:
        raw = tuple(msgspec.Raw(self._encoder.encode(entry)) for entry in entries)
        return _Submission(
            entries=raw,
            size_bytes=sum(len(bytes(item)) for item in raw),
            row_count=sum(rows_of(entry.command) for entry in entries),
            answer=asyncio.get_running_loop().create_future(),
        )

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


def _in_parts(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Cut so that each part fits a batch by rows; a command too large by itself is alone."""
    parts: list[list[Entry]] = [[]]
    row_count = 0
    for entry in entries:
        rows = rows_of(entry.command)
        if parts[-1] and row_count + rows > BATCH_ROWS_MAX:
            parts.append([])
            row_count = 0
        parts[-1].append(entry)
        row_count += rows
    return parts


def _joined(outcomes: Sequence[_Outcome]) -> tuple[int, list[AnyResult]]:
    """All results in order. Raises OutcomeUnknown if only some parts surely failed."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, StoreError)]
    if failures and len(failures) < len(outcomes):
        raise OutcomeUnknown("Only a part of these commands was applied so far.")
    if failures:
        unsure = [error for error in failures if isinstance(error, OutcomeUnknown)]
        raise (unsure or failures)[0]
    applied = [outcome for outcome in outcomes if not isinstance(outcome, StoreError)]
    return applied[-1][0], [result for _, results in applied for result in results]
