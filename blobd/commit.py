"""What becomes of a batch of puts, deletes and moves: decided, written, synced, published.

Runs in the disk's one writing thread, so each decision sees all earlier ones. Lookups see a
record only after its sync.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from blobd.appender import Appender
from blobd.index import Change, Index, IndexUnusable, Location, State, VolumeRow
from blobd.reading import read_record
from blobd.record import (
    Header,
    RecordType,
    encode,
    entry_of,
    pack_entry,
    record_bytes,
    tombstone,
    with_since,
)
from blobd.room import Room
from blobd.volume import body_intact
from blobd.volumefiles import VolumeFiles, VolumeGone, VolumeInfo
from osscore.errors import DiskFailing, DiskFull, ShardConflict, StoreError
from osscore.model import Coding
from ossd.clock import Clock
from ossd.disk import Bytes

FRESH_ROWS_MAX = 200_000
"""Rows the index may hold unflushed; beyond, its file cannot be written and PUT is refused."""


class Put(NamedTuple):
    """Store a shard, or what `type` says; `crc`, `block_crcs` are known to be those of `body`."""

    key: bytes
    coding: Coding
    body: Bytes
    crc: int
    block_crcs: tuple[int, ...]
    type: RecordType = RecordType.SHARD

    @property
    def size_bytes(self) -> int:
        """What the record takes."""
        return record_bytes(len(self.body))


class Delete(NamedTuple):
    """Delete an identity, and remember that it never returns, known or not."""

    key: bytes

    @property
    def size_bytes(self) -> int:
        """What the record takes."""
        return record_bytes(0)


class Move(NamedTuple):
    """Copy a record to the end, unless `key` has left the place `was` meanwhile."""

    key: bytes
    was: Location
    header: Header
    body: bytes

    @property
    def size_bytes(self) -> int:
        """What the record takes."""
        return record_bytes(len(self.body))


class Roll(NamedTuple):
    """Seal the active volume if it is `number`."""

    number: int

    @property
    def size_bytes(self) -> int:
        """Nothing, as far as a batch is concerned."""
        return 0


Record = Put | Delete | Move
Operation = Record | Roll
Outcome = bool | StoreError


@dataclass(slots=True)
class _Batch:
    """What one write will hold."""

    volume: VolumeInfo
    number: int
    offset: int
    room_bytes: int
    now_ms: int
    pieces: list[Bytes] = field(default_factory=list)
    table: bytearray = field(default_factory=bytearray)
    record_count: int = 0
    known: Mapping[bytes, Location] = field(default_factory=dict)
    changes: dict[bytes, Change] = field(default_factory=dict)

    def add(
        self, header: Header, body: Bytes, *, old: Location | None, state: State = State.LIVE
    ) -> None:
        """Append a record that takes the place of `old`."""
        key, size_bytes = header.key, header.body_bytes
        # By position, for speed: volume, offset, size, CRC, state, since, target.
        new = Location(
            self.number,
            self.offset,
            size_bytes,
            header.body_crc,
            state,
            header.since,
            header.target,
        )
        first = self.changes.get(key)
        self.changes[key] = Change(key, first.old if first else old, new)
        self.pieces += encode(header, body, self.volume.name.salt)
        self.table += pack_entry(entry_of(header, self.offset, damaged=state == State.DAMAGED))
        self.record_count += 1
        self.offset += record_bytes(size_bytes)


class Committer:
    """Carries out operations against the active volume and the index."""

    def __init__(
        self, files: VolumeFiles, index: Index, appender: Appender, *, room: Room, clock: Clock
    ) -> None:
        self._files = files
        self._index = index
        self._appender = appender
        self._room = room
        self._clock = clock

    def commit(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Do all of them with one write and one sync; `outcomes[i]` is of operation i.

        True: a Put stored, a Delete removed, a Move moved. False: there was nothing to do.
        """
        try:
            return self._commit(operations)
        except DiskFull as error:
            return self._commit_small(operations, error)
        except StoreError as error:
            return [error] * len(operations)
        except IndexUnusable as error:  # found before anything was written
            return [self._appender.stop(f"its index is unreadable: {error}")] * len(operations)

    def _commit_small(self, operations: Sequence[Operation], error: DiskFull) -> list[Outcome]:
        """After the disk was full for all of it: what frees space may still fit."""
        rest = [operation for operation in operations if not isinstance(operation, Put)]
        if not rest or len(rest) == len(operations):
            return [error] * len(operations)
        outcomes = iter(self.commit(rest))
        return [error if isinstance(op, Put) else next(outcomes) for op in operations]

    def _commit(self, operations: Sequence[Operation]) -> list[Outcome]:
        records = [operation for operation in operations if not isinstance(operation, Roll)]
        if len(records) < len(operations):
            return self._commit_rolls(operations, records)
        if not operations:
            return []
        batch = self._begin()
        batch.known = self._index.find_many([record.key for record in records])
        outcomes = [self._decide(record, batch) for record in records]
        if batch.pieces:
            self._appender.append(batch.pieces, batch.table, batch.record_count)
            self._index.publish(batch.changes.values(), _row(batch.volume))
        return outcomes

    def _commit_rolls(
        self, operations: Sequence[Operation], records: Sequence[Record]
    ) -> list[Outcome]:
        """Rolls first: none may seal the volume that a batch is being laid out for."""
        rolled = {id(op): self._roll(op) for op in operations if isinstance(op, Roll)}
        rest = iter(self.commit(records))
        return [rolled[id(op)] if isinstance(op, Roll) else next(rest) for op in operations]

    def _begin(self) -> _Batch:
        before = self._appender.active
        try:
            room_bytes = self._room.writable_bytes()
        except OSError as error:
            raise self._appender.fail("its room could not be asked for", error) from error
        volume = self._appender.prepare()
        if before is not None and before is not volume:
            self._index.publish((), _row(before))
        return _Batch(
            volume, volume.name.number, volume.size_bytes, room_bytes, self._clock.now_ms()
        )

    def _roll(self, roll: Roll) -> bool:
        active = self._appender.active
        if active is None or active.name.number != roll.number:
            return False
        self._appender.roll()
        self._index.publish((), _row(active))
        return True

    def _decide(self, record: Record, batch: _Batch) -> Outcome:
        if isinstance(record, Put):
            return self._put(record, batch)
        if isinstance(record, Delete):
            return self._delete(record.key, batch)
        return self._move(record, batch)

    def _put(self, put: Put, batch: _Batch) -> Outcome:
        old = self._current(put.key, batch)
        since = batch.number
        if old is not None:
            if old.state == State.DELETED:
                return ShardConflict("This shard was deleted; a deleted identity never returns.")
            if self._is_intact(put.key, old, batch):
                if old.crc == put.crc and old.size_bytes == len(put.body):
                    return False
                return ShardConflict("Another shard of the same identity is stored here.")
            since = min(old.since, old.volume)
        batch.room_bytes -= put.size_bytes
        if batch.room_bytes < 0:
            return DiskFull("The disk has no room outside its reserve.")
        if self._index.fresh_count > FRESH_ROWS_MAX:
            return DiskFailing("The index of this disk cannot be written.")
        header = Header(
            type=put.type,
            key=put.key,
            coding=put.coding,
            body_bytes=len(put.body),
            body_crc=put.crc,
            block_crcs=put.block_crcs,
            written_at_ms=batch.now_ms,
            since=since,
        )
        batch.add(header, put.body, old=old)
        return True

    def _delete(self, key: bytes, batch: _Batch) -> bool:
        old = self._current(key, batch)
        if old is not None and old.state == State.DELETED:
            return False
        since = target = 0
        if old is not None:
            target = old.volume
            since = self._files.first_within(min(old.since, target), target) or target
        header = tombstone(key, written_at_ms=batch.now_ms, since=since, target=target)
        batch.add(header, b"", old=old, state=State.DELETED)
        return old is not None

    def _move(self, move: Move, batch: _Batch) -> bool:
        old = self._current(move.key, batch)
        if old != move.was:
            return False
        last = old.target if old.state == State.DELETED else old.volume
        since = self._files.first_within(old.since, last) or last
        batch.add(with_since(move.header, since), move.body, old=old, state=State(old.state))
        return True

    def _current(self, key: bytes, batch: _Batch) -> Location | None:
        change = batch.changes.get(key)
        return change.new if change is not None else batch.known.get(key)

    def _is_intact(self, key: bytes, stored: Location, batch: _Batch) -> bool:
        """Whether a stored shard still meets its checksum; read again to know."""
        if stored.state == State.DAMAGED:
            return False
        if key in batch.changes:
            return True
        try:
            with self._files.reading(stored.volume) as (file, salt):
                found = read_record(file, salt, key=key, location=stored)
        except (OSError, VolumeGone):
            return False
        return found is not None and body_intact(*found)


def _row(info: VolumeInfo) -> VolumeRow:
    """All of that volume so far is synced and in the index."""
    return VolumeRow(info.name.number, info.name.salt, info.size_bytes, info.sealed, info.foreign)
