"""What a blob daemon asks about its disks: what to delete, what may go, what is expected."""

from osscore.errors import CommandTooLarge
from osscore.model import ShardIdentity, unpack_slots
from osscore.names import StripeId, birth_ms
from raftmeta.catalog.reading import Reading
from raftmeta.catalog.stripes import unpack_u32
from raftmeta.queries import (
    CountDisk,
    DiskCounted,
    ExpectedSlot,
    ExpectedSlots,
    FindStrays,
    FindUnwanted,
    ReadTrash,
    SlotsExpected,
    StraysFound,
    TrashRead,
    TrashRow,
    Unwanted,
)

_ROWS_MAX = 10_000
_COUNTED_MAX = 1_000_000


def read_trash(reading: Reading, query: ReadTrash) -> TrashRead:
    """Deletions due on a disk, the longest due first; none while deletion is frozen."""
    if reading.number("frozen"):
        return TrashRead(rows=())
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
    """The shards that no command can name any more (SAFETY rule 1) and no reader of what was
    moved may still want (rule 3); none while deletion is frozen (rule 16). Refuses
    CommandTooLarge."""
    if len(query.identities) > _ROWS_MAX:
        raise CommandTooLarge(f"At most {_ROWS_MAX} shards are judged at once.")
    grace_ms = max(query.grace_ms, reading.number("gc_grace_ms"))
    nameable_from_ms = reading.number("catalog_time_ms") - grace_ms
    unwanted = [
        identity
        for identity in query.identities
        if not reading.number("frozen")
        and birth_ms(identity.stripe) < nameable_from_ms
        and not _is_kept(reading, identity, query.disk)
    ]
    if unwanted:
        being_read = _kept_for_readers(reading, query.disk)
        unwanted = [identity for identity in unwanted if identity not in being_read]
    shared: list[ShardIdentity] = []
    if query.tells_shared:
        gone = set(unwanted)
        kept = [identity for identity in query.identities if identity not in gone]
        shared = [identity for identity in kept if _is_shared(reading, identity)]
    return Unwanted(identities=tuple(unwanted), shared=tuple(shared))


def expected_slots(reading: Reading, query: ExpectedSlots) -> SlotsExpected:
    """A page of a disk's slots; a stripe's slots on the disk are never split over pages."""
    limit = max(1, min(query.limit, _ROWS_MAX))
    found = reading.db.execute(
        "SELECT s.row, s.stripe, s.shard_crcs, s.shard_bytes, s.dead_since_ms, s.slots"
        " FROM slots_by_disk d"
        " JOIN stripes s ON s.row = d.stripe_row"
        " WHERE d.disk = ? AND d.stripe_row > ? ORDER BY d.stripe_row LIMIT ?",
        (query.disk, query.after_row, limit),
    ).fetchall()
    slots = [
        ExpectedSlot(
            row=row,
            identity=ShardIdentity(StripeId(stripe), slot.index, slot.gen),
            state=slot.state,
            crc=unpack_u32(crcs)[slot.index],
            size_bytes=shard_bytes,
            is_needed=dead_since_ms is None,
        )
        for row, stripe, crcs, shard_bytes, dead_since_ms, packed in found
        for slot in unpack_slots(packed)
        if slot.disk == query.disk
    ]
    return SlotsExpected(slots=tuple(slots), next_row=found[-1][0] if len(found) == limit else 0)


def count_disk(reading: Reading, query: CountDisk) -> DiskCounted:
    """How many stripes have a slot on a disk, up to a bound."""
    limit = max(1, min(query.limit, _COUNTED_MAX))
    (stripes,) = reading.db.execute(
        "SELECT COUNT(*) FROM (SELECT 1 FROM slots_by_disk WHERE disk = ? LIMIT ?)",
        (query.disk, limit + 1),
    ).fetchone()
    return DiskCounted(stripes=min(stripes, limit), is_more=stripes > limit)


def find_strays(reading: Reading, query: FindStrays) -> StraysFound:
    """The shards that are no slot of the disk and no open task's. Refuses CommandTooLarge."""
    if len(query.identities) > _ROWS_MAX:
        raise CommandTooLarge(f"At most {_ROWS_MAX} shards are judged at once.")
    return StraysFound(
        identities=tuple(
            identity
            for identity in query.identities
            if not _is_slot(reading, identity, query.disk)
            and not _is_being_written(reading, identity, query.disk)
        )
    )


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
    if _is_being_written(reading, identity, disk):
        return True
    return _names(packed, identity, disk)


def _kept_for_readers(reading: Reading, disk: int) -> set[ShardIdentity]:
    """What was moved away from the disk lately: its deletion is ordered and not due (rule 3)."""
    rows = reading.db.execute(
        "SELECT stripe, shard_index, gen FROM trash WHERE disk = ? AND not_before_ms > ?",
        (disk, reading.number("catalog_time_ms")),
    )
    return {ShardIdentity(StripeId(stripe), index, gen) for stripe, index, gen in rows}


def _is_slot(reading: Reading, identity: ShardIdentity, disk: int) -> bool:
    """Whether a stripe, living or dead, has that slot."""
    found = reading.db.execute(
        "SELECT slots FROM stripes WHERE stripe = ?", (identity.stripe,)
    ).fetchone()
    return found is not None and _names(found[0], identity, disk)


def _names(packed: bytes, identity: ShardIdentity, disk: int) -> bool:
    exact = (identity.index, identity.gen, disk)
    return any((s.index, s.gen, s.disk) == exact for s in unpack_slots(packed))


def _is_being_written(reading: Reading, identity: ShardIdentity, disk: int) -> bool:
    """Whether an open task names it: its number is the shard's generation."""
    found = reading.db.execute(
        "SELECT 1 FROM tasks t JOIN stripes s ON s.row = t.stripe_row WHERE t.task = ?"
        " AND t.target = ? AND t.shard_index = ? AND s.stripe = ?",
        (identity.gen, disk, identity.index, identity.stripe),
    ).fetchone()
    return found is not None


def _is_shared(reading: Reading, identity: ShardIdentity) -> bool:
    """Whether its stripe is part of several manifests, or of one that several versions share."""
    found = reading.db.execute(
        "SELECT row, refcount FROM stripes WHERE stripe = ?", (identity.stripe,)
    ).fetchone()
    if found is None or found[1] == 0:
        return False
    row, refcount = found
    shared = reading.db.execute(
        "SELECT 1 FROM segments g JOIN manifests m ON m.manifest = g.manifest"
        " WHERE g.stripe_row = ? AND m.refcount > 1 LIMIT 1",
        (row,),
    ).fetchone()
    return refcount > 1 or shared is not None
