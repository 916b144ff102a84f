"""What a blob daemon asks about its disks: what to delete, what may go, what is expected."""

from osscore.errors import CommandTooLarge
from osscore.model import ShardIdentity, Slot, unpack_slots
from osscore.names import StripeId, birth_ms
from raftmeta.catalog.reading import Reading
from raftmeta.catalog.stripes import unpack_u32
from raftmeta.queries import (
    ExpectedSlot,
    ExpectedSlots,
    FindUnwanted,
    ReadTrash,
    SlotsExpected,
    TrashRead,
    TrashRow,
    Unwanted,
)

_ROWS_MAX = 10_000


def read_trash(reading: Reading, query: ReadTrash) -> TrashRead:
    """Deletions due on a disk, the longest due first."""
    rows = reading.db.execute(
        "SELECT row, stripe, shard_index, gen FROM trash"
        " WHERE disk = ? AND not_before_ms <= ? ORDER BY not_before_ms, row LIMIT ?",
        (query.disk, reading.number("catalog_time_ms"), max(0, min(query.limit, _ROWS_MAX))),
    )
    return TrashRead(
        rows=tuple(
            TrashRow(row, ShardIdentity(StripeId(stripe), index, gen))
            for row, stripe, index, gen in rows
        )
    )


def find_unwanted(reading: Reading, query: FindUnwanted) -> Unwanted:
    """The shards that no command can name any more (SAFETY rule 1). Refuses CommandTooLarge."""
    if len(query.identities) > _ROWS_MAX:
        raise CommandTooLarge(f"At most {_ROWS_MAX} shards are judged at once.")
    grace_ms = max(query.grace_ms, reading.number("gc_grace_ms"))
    nameable_from_ms = reading.number("catalog_time_ms") - grace_ms
    unwanted = [
        identity
        for identity in query.identities
        if birth_ms(identity.stripe) < nameable_from_ms
        and not _is_kept(reading, identity, query.disk)
    ]
    return Unwanted(identities=tuple(unwanted))


def expected_slots(reading: Reading, query: ExpectedSlots) -> SlotsExpected:
    """A page of a disk's slots; a stripe's slots on the disk are never split over pages."""
    limit = max(1, min(query.limit, _ROWS_MAX))
    found = reading.db.execute(
        "SELECT s.row, s.stripe, s.shard_crcs, s.slots FROM slots_by_disk d"
        " JOIN stripes s ON s.row = d.stripe_row"
        " WHERE d.disk = ? AND d.stripe_row > ? ORDER BY d.stripe_row LIMIT ?",
        (query.disk, query.after_row, limit),
    ).fetchall()
    slots = [
        _expected(row, StripeId(stripe), slot, unpack_u32(crcs))
        for row, stripe, crcs, packed in found
        for slot in unpack_slots(packed)
        if slot.disk == query.disk
    ]
    return SlotsExpected(slots=tuple(slots), next_row=found[-1][0] if len(found) == limit else 0)


def _is_kept(reading: Reading, identity: ShardIdentity, disk: int) -> bool:
    """Whether it is a slot, or a surplus shard that its damaged stripe may adopt (rule 3)."""
    found = reading.db.execute(
        "SELECT slots, missing_count, dead_since_ms FROM stripes WHERE stripe = ?",
        (identity.stripe,),
    ).fetchone()
    if found is None:
        return False
    packed, missing_count, dead_since_ms = found
    if missing_count and dead_since_ms is None:
        return True
    exact = (identity.index, identity.gen, disk)
    return any((s.index, s.gen, s.disk) == exact for s in unpack_slots(packed))


def _expected(row: int, stripe: StripeId, slot: Slot, crcs: tuple[int, ...]) -> ExpectedSlot:
    identity = ShardIdentity(stripe, slot.index, slot.gen)
    return ExpectedSlot(row=row, identity=identity, state=slot.state, crc=crcs[slot.index])
