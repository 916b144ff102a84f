"""Giving space back: copy what lives out of a mostly dead volume, then unlink it.

In bounded steps, safe at any crash: copies are synced, then the index, then the volume
goes. A crash in between leaves the same record twice, which the index merges. A tombstone
goes with its volume once no other volume can hold a record it speaks of (SAFETY rule 2).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from blobd.commit import Move
from blobd.index import Change, Index, IndexUnusable, Location, State
from blobd.reading import describes, read_record
from blobd.record import ENTRY_BYTES, LIVE_TYPES, RecordType, record_bytes
from blobd.room import Room, StoreSettings
from blobd.volume import body_intact, lists, read_contents, read_header
from blobd.volumefiles import VolumeFiles, VolumeGone, VolumeInfo
from osscore.errors import StoreError

log = logging.getLogger(__name__)

ROWS_MAX = 2048
"""Most rows looked at in one step."""
_SMALL_DIVISOR = 64
"""An active volume is rolled for compaction only beyond this part of its full size."""
_WASTE_BYTES_MIN = 4096
"""Less than this is never worth a rewrite."""

NoteDamage = Callable[[bytes, Location], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step does to `volume`: records to copy, rows to drop; `last`: then unlink."""

    volume: int
    moves: tuple[Move, ...]
    drops: tuple[Change, ...]
    last: bool


class Compactor:
    """Chooses and plans; all methods block and change no record themselves."""

    def __init__(
        self,
        files: VolumeFiles,
        index: Index,
        *,
        room: Room,
        settings: StoreSettings,
        note_damage: NoteDamage,
    ) -> None:
        self._files = files
        self._index = index
        self._room = room
        self._settings = settings
        self._note_damage = note_damage
        self._in_force: dict[int, tuple[int, int, int]] = {}
        self._removed_count = 0
        self._stuck: set[int] = set()
        # Shards dropped because their header was lost; few, and each has been reported.
        self._lost: set[bytes] = set()

    def victim(self, active: VolumeInfo | None) -> VolumeInfo | None:
        """The volume most worth rewriting, or None. It may be the active one: roll it."""
        best: tuple[float, int] | None = None
        for number, info in list(self._files.infos.items()):
            is_active = active is not None and number == active.name.number
            smallest = self._room.volume_bytes // _SMALL_DIVISOR if is_active else 0
            if info.foreign or number in self._stuck or info.size_bytes < smallest:
                continue
            fraction = self._live_fraction(info)
            if fraction is not None and (best is None or (fraction, number) < best):
                best = (fraction, number)
        return self._files.infos.get(best[1]) if best is not None else None

    def plan(self, volume: int, bytes_max: int) -> Plan:
        """The next step for a sealed volume. Raises IndexUnusable."""
        self._index.flush()
        rows = self._index.in_volume(volume, behind=-1, limit=ROWS_MAX)
        moves: list[Move] = []
        drops: list[Change] = []
        size_bytes = looked = 0
        for key, location in rows:
            if size_bytes >= bytes_max:
                break
            looked += 1
            if location.state == State.DELETED and not self._is_in_force(volume, location):
                drops.append(Change(key, location, None))
                continue
            move = self._read(key, location)
            if move is None:
                drops.append(Change(key, self._index.find(key), None))
            else:
                moves.append(move)
                size_bytes += move.size_bytes
        last = looked == len(rows) < ROWS_MAX
        return Plan(volume, tuple(moves), tuple(drops), last)

    def finish(self, plan: Plan) -> bool:
        """After the copies: drop rows, and unlink the volume if nothing points into it now.

        Raises OSError; IndexUnusable, also if the volumes themselves contradict the index.
        """
        for change in plan.drops:
            self._index.swap(*change)
        self._index.flush()
        if not plan.last or self._index.in_volume(plan.volume, behind=-1, limit=1):
            return False
        self._confirm_dead(plan.volume)
        self._files.remove(plan.volume)
        self._removed_count += 1
        self._in_force.pop(plan.volume, None)
        self._index.forget_volume(plan.volume)
        self._index.flush()
        return True

    def give_up(self, volume: int, error: OSError | StoreError) -> None:
        """Leave a volume that cannot be read or written out alone until the next start."""
        self._stuck.add(volume)
        log.error("volume_not_compacted", extra={"volume": volume, "reason": str(error)})

    def _confirm_dead(self, volume: int) -> None:
        """Ask the volumes, not the index alone, before bytes are given up.

        Each record listed must have a record elsewhere: a copy, a replacement or a tombstone.
        """
        with self._files.reading(volume) as (file, salt):
            entries = read_contents(file, salt).entries
        gone = {entry.key for entry in entries if entry.type == RecordType.TOMBSTONE}
        gone |= self._lost
        for entry in entries:
            if entry.type not in LIVE_TYPES or entry.key in gone:
                continue
            location = self._index.find(entry.key)
            if location is None or not self._is_there(entry.key, location):
                raise IndexUnusable(f"volume {volume} holds a shard it does not know")

    def _is_there(self, key: bytes, location: Location) -> bool:
        try:
            with self._files.reading(location.volume) as (file, salt):
                header = read_header(file, location.offset, salt)
        except VolumeGone:
            return False
        if header is None or not describes(header, key, location):
            return False
        return (header.type == RecordType.TOMBSTONE) == (location.state == State.DELETED)

    def _live_fraction(self, info: VolumeInfo) -> float | None:
        """The live part of a volume, or None if it is not worth a rewrite."""
        number = info.name.number
        use = self._index.use.get(number)
        if use is None or (use.live_count == 0 and use.tombstone_count == 0):
            return 0.0
        limit = self._settings.live_fraction_min * info.size_bytes
        live_bytes = use.live_bytes + use.live_count * ENTRY_BYTES
        if live_bytes >= limit:
            return None
        if use.tombstone_count:
            in_force = self._in_force_count(number, use.tombstone_count)
            live_bytes += in_force * (record_bytes(0) + ENTRY_BYTES)
        if live_bytes >= limit or (live_bytes and info.size_bytes - live_bytes < _WASTE_BYTES_MIN):
            return None
        return live_bytes / max(info.size_bytes, 1)

    def _in_force_count(self, number: int, tombstone_count: int) -> int:
        """How many tombstones of a volume must stay; counted anew when volumes went."""
        known = self._in_force.get(number)
        if known is not None and known[:2] == (self._removed_count, tombstone_count):
            return known[2]
        self._index.flush()
        count, behind = 0, -1
        while rows := self._index.in_volume(number, behind=behind, limit=ROWS_MAX):
            behind = rows[-1][1].offset
            count += sum(
                1
                for _, location in rows
                if location.state == State.DELETED and self._is_in_force(number, location)
            )
        self._in_force[number] = (self._removed_count, tombstone_count, count)
        return count

    def _is_in_force(self, volume: int, location: Location) -> bool:
        return self._files.any_within(location.since, location.target, but=volume)

    def _read(self, key: bytes, location: Location) -> Move | None:
        """The record as it lies there, damaged bodies too; None if its header is lost."""
        with self._files.reading(location.volume) as (file, salt):
            found = read_record(file, salt, key=key, location=location)
            if found is None and not lists(file, salt, key, location.offset):
                raise IndexUnusable("it names a place where its shard is not")
        if found is None:
            self._note_damage(key, location)
            self._lost.add(key)
            return None
        header, body = found
        if location.state == State.LIVE and not body_intact(header, body):
            # Marked and copied as it is: good blocks of it can still help to decode.
            self._note_damage(key, location)
            location = location._replace(state=State.DAMAGED)
        return Move(key, location, header, body)
