"""Naming, sharing, judging and releasing stripes: SAFETY rules 1, 5, 7 and 9.

References to a stripe row are counted: one a segment, one a reserved dedup hit. The count
reaching zero makes the stripe dead for good; a dead stripe is never offered or revived.
"""

import struct
from collections.abc import Iterable, Sequence

from osscore.errors import (
    Conflict,
    CorruptCatalog,
    InvalidArgument,
    StaleStripe,
    UnderReplicated,
)
from osscore.model import (
    STRIPE_BYTES_MAX,
    Coding,
    CodingKind,
    Profile,
    Slot,
    SlotState,
    StripeDraft,
    pack_slots,
    reed_solomon,
    unpack_slots,
)
from osscore.names import STRIPE_ID_BYTES, StripeId, birth_ms
from osscore.quorum import acknowledged
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import StripeQuestion

_DIGEST_BYTES = 32
_DOMAIN_BYTES_MAX = 64


def name_stripe(tx: Transaction, draft: StripeDraft) -> int:
    """Give the draft a row, or map it onto the living healthy stripe of the same bytes.

    Answers the row, with one more reference. Refuses StaleStripe, Conflict (named before),
    UnderReplicated, InvalidArgument.
    """
    check_new(tx, draft)
    slots = settle_slots(tx, draft)
    if not healthy(tx, draft.coding, slots):
        raise UnderReplicated()
    twin = _offered_twin(tx, draft.profile, draft.domain, draft.digest, draft.plain_bytes)
    if not twin:
        return _insert(tx, draft, slots)
    add_references(tx, twin, 1)
    trash_shards(tx, draft.stripe, [s for s in slots if s.state == SlotState.GOOD])
    spend(tx, draft.stripe)
    return twin


def check_new(tx: Transaction, draft: StripeDraft) -> None:
    """Refuse what cannot be a new stripe: InvalidArgument, StaleStripe, Conflict (named before)."""
    _check_form(draft)
    _check_never_named(tx, draft.stripe)


def spend(tx: Transaction, stripe: bytes) -> None:
    """This id is never named again."""
    tx.db.execute("INSERT OR IGNORE INTO spent_stripes (stripe) VALUES (?)", (stripe,))


def reserve_twin(tx: Transaction, question: StripeQuestion) -> int:
    """The row of a healthy stripe with these bytes, with one more reference; 0: none."""
    twin = _offered_twin(
        tx, question.profile, question.domain, question.digest, question.plain_bytes
    )
    if twin:
        add_references(tx, twin, 1)
    return twin


def healthy(tx: Transaction, coding: Coding, slots: Iterable[Slot]) -> bool:
    """Whether the slots that are good on usable disks meet SAFETY rule 7."""
    disks = tx.disks()
    durable = []
    for slot in slots:
        disk = disks.get(slot.disk)
        if slot.state == SlotState.GOOD and disk is not None and disk.usable:
            durable.append((slot.index, disk.node))
    return acknowledged(coding, durable)


def require_healthy(tx: Transaction, row: int) -> int:
    """Check a living stripe before a new segment names it; answers its plain size.

    Refuses UnderReplicated (SAFETY rule 5: only a healthy stripe is accepted).
    """
    found = tx.db.execute(
        "SELECT coding_kind, coding_data, coding_parity, slots, plain_bytes FROM stripes"
        " WHERE row = ? AND dead_since_ms IS NULL",
        (row,),
    ).fetchone()
    if found is None:
        raise CorruptCatalog(f"Stripe row {row} is referenced but not alive.")
    if not healthy(tx, Coding(CodingKind(found[0]), found[1], found[2]), unpack_slots(found[3])):
        raise UnderReplicated()
    return int(found[4])


def add_references(tx: Transaction, row: int, count: int) -> None:
    """Take references on a living stripe."""
    tx.db.execute("UPDATE stripes SET refcount = refcount + ? WHERE row = ?", (count, row))


def release(tx: Transaction, row: int, count: int = 1) -> None:
    """Give references back; the last one makes the stripe dead from now on."""
    found = tx.db.execute("SELECT refcount FROM stripes WHERE row = ?", (row,)).fetchone()
    if found is None or found[0] < count:
        raise CorruptCatalog(f"Stripe row {row} has fewer references than are released.")
    if found[0] > count:
        tx.db.execute("UPDATE stripes SET refcount = refcount - ? WHERE row = ?", (count, row))
        return
    tx.db.execute(
        "UPDATE stripes SET refcount = 0, dead_since_ms = ?, offered = 0 WHERE row = ?",
        (tx.time_ms, row),
    )
    tx.meta.add("total_stripes", -1)
    tx.meta.add("total_dead_stripes", 1)


def trash_shards(
    tx: Transaction, stripe: bytes, slots: Iterable[Slot], *, delay_ms: int = 0
) -> int:
    """Order the deletion of these shards from `delay_ms` after now on; answers how many.

    A removed or never registered disk will not ask for its orders: none are written.
    """
    disks = tx.disks()
    rows = []
    for slot in slots:
        disk = disks.get(slot.disk)
        if disk is not None and disk.state != "removed":
            number = tx.meta.take("next_trash_row")
            due_ms = tx.time_ms + delay_ms
            rows.append((number, slot.disk, stripe, slot.index, slot.gen, due_ms))
    tx.db.executemany(
        "INSERT INTO trash (row, disk, stripe, shard_index, gen, not_before_ms)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        rows,
    )
    tx.meta.add("total_trash", len(rows))
    return len(rows)


def count_slots(
    tx: Transaction, slots: Iterable[Slot], shard_bytes: int, *, is_gone: bool = False
) -> None:
    """These slots of one stripe name their disks from now on, or no longer."""
    sign = -1 if is_gone else 1
    for slot in slots:
        tx.meta.count_slots(slot.disk, count=sign, size_bytes=sign * shard_bytes)


def list_on_disks(tx: Transaction, row: int, slots: Iterable[Slot]) -> None:
    """Note that the stripe has slots there."""
    tx.db.executemany(
        "INSERT INTO slots_by_disk (disk, stripe_row) VALUES (?, ?)",
        [(disk, row) for disk in sorted({slot.disk for slot in slots})],
    )


def unlist(tx: Transaction, row: int, slots: Iterable[Slot]) -> None:
    """It has none there any more."""
    tx.db.executemany(
        "DELETE FROM slots_by_disk WHERE disk = ? AND stripe_row = ?",
        [(slot.disk, row) for slot in slots],
    )


def offer_if_free(tx: Transaction, row: int) -> None:
    """Let a healthy living stripe hold its dedup key again unless another does."""
    tx.db.execute(
        "UPDATE stripes SET offered = 1 WHERE row = ?1 AND dead_since_ms IS NULL AND NOT EXISTS ("
        " SELECT 1 FROM stripes s, stripes t WHERE t.row = ?1 AND s.offered = 1"
        " AND s.digest = t.digest AND s.profile_data = t.profile_data"
        " AND s.profile_parity = t.profile_parity AND s.domain = t.domain"
        " AND s.plain_bytes = t.plain_bytes)",
        (row,),
    )


def withdraw(tx: Transaction, row: int) -> None:
    """Stop offering a stripe; its dedup key is free for another."""
    tx.db.execute("UPDATE stripes SET offered = 0 WHERE row = ?", (row,))


def row_cost(draft: StripeDraft) -> int:
    """Most rows that naming this draft writes (SAFETY rule 18)."""
    return 3 + len(draft.slots)


def pack_u32(numbers: Sequence[int]) -> bytes:
    """The column form of frame sizes and CRCs: 4 bytes each, little endian."""
    return struct.pack(f"<{len(numbers)}I", *numbers)


def unpack_u32(packed: bytes) -> tuple[int, ...]:
    """Inverse of pack_u32."""
    return struct.unpack(f"<{len(packed) // 4}I", packed)


def _check_form(draft: StripeDraft) -> None:
    """Refuse what no encoder produces, so that every stored row can be read back."""
    coding, profile = draft.coding, draft.profile
    count = coding.shard_count
    form_holds = (
        len(draft.stripe) == STRIPE_ID_BYTES
        and len(draft.digest) == _DIGEST_BYTES
        and len(draft.domain) <= _DOMAIN_BYTES_MAX
        and 1 <= profile.data_count <= 16
        and 1 <= profile.parity_count <= 8
        and 1 <= draft.plain_bytes <= STRIPE_BYTES_MAX
        and draft.stored_bytes >= 1
        and draft.shard_bytes >= 1
        and (coding == reed_solomon(profile) or _is_replica(coding))
        and len(draft.shard_crcs) == count
        and [slot.index for slot in draft.slots] == list(range(count))
        and all(slot.gen == 0 and slot.state != SlotState.BAD for slot in draft.slots)
    )
    if not form_holds:
        raise InvalidArgument("The stripe's sizes, coding and slots do not fit together.")


def _is_replica(coding: Coding) -> bool:
    return (
        coding.kind == CodingKind.REPLICA
        and coding.data_count == 1
        and 1 <= coding.parity_count <= 23
    )


def _check_never_named(tx: Transaction, stripe: StripeId) -> None:
    born_ms = birth_ms(stripe)
    if born_ms + tx.meta.number("gc_grace_ms") < tx.time_ms:
        raise StaleStripe()
    if born_ms < tx.meta.number("restored_at_ms"):
        raise StaleStripe("The stripe's birth lies before the catalog was restored.")
    if born_ms > tx.time_ms:
        raise StaleStripe("The stripe's birth lies ahead of catalog time; write it again.")
    named = tx.db.execute(
        "SELECT EXISTS (SELECT 1 FROM stripes WHERE stripe = ?1)"
        " OR EXISTS (SELECT 1 FROM spent_stripes WHERE stripe = ?1)",
        (stripe,),
    ).fetchone()[0]
    if named:
        raise Conflict("A stripe of this id was named before; write it again under a new id.")


def settle_slots(tx: Transaction, draft: StripeDraft) -> list[Slot]:
    """SAFETY rule 9: a slot on a disk that is gone or unknown is missing; rule 15: and where the
    disk became an older state of itself after it may have been stored."""
    born_ms = birth_ms(draft.stripe)
    disks = tx.disks()
    settled = []
    for slot in draft.slots:
        disk = disks.get(slot.disk)
        if slot.state == SlotState.GOOD and (disk is None or not disk.holds(born_ms)):
            slot = Slot(slot.index, slot.gen, slot.disk, SlotState.MISSING)
        settled.append(slot)
    return settled


def _offered_twin(
    tx: Transaction, profile: Profile, domain: bytes, digest: bytes, plain_bytes: int
) -> int:
    """The row that holds this dedup key if it may be shared, else 0 and the key is free."""
    found = tx.db.execute(
        "SELECT row, coding_kind, coding_data, coding_parity, slots FROM stripes"
        " WHERE digest = ? AND profile_data = ? AND profile_parity = ? AND domain = ?"
        " AND plain_bytes = ? AND offered = 1",
        (digest, profile.data_count, profile.parity_count, domain, plain_bytes),
    ).fetchone()
    if found is None:
        return 0
    row, kind, data_count, parity_count, slots = found
    coding = Coding(CodingKind(kind), data_count, parity_count)
    if healthy(tx, coding, unpack_slots(slots)):
        return int(row)
    # Its disks were lost since: the next healthy stripe of these bytes takes over the key.
    withdraw(tx, row)
    return 0


def _insert(tx: Transaction, draft: StripeDraft, slots: list[Slot]) -> int:
    row = tx.meta.take("next_stripe_row")
    coding, profile = draft.coding, draft.profile
    tx.db.execute(
        "INSERT INTO stripes (row, stripe, profile_data, profile_parity, domain, digest,"
        " plain_bytes, stored_bytes, stored_crc, frames, coding_kind, coding_data,"
        " coding_parity, shard_bytes, shard_crcs, slots, refcount, dead_since_ms, offered,"
        " missing_count, under_spread)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, NULL, 1, ?, ?)",
        (
            row,
            draft.stripe,
            profile.data_count,
            profile.parity_count,
            draft.domain,
            draft.digest,
            draft.plain_bytes,
            draft.stored_bytes,
            draft.stored_crc,
            pack_u32(draft.frames),
            int(coding.kind),
            coding.data_count,
            coding.parity_count,
            draft.shard_bytes,
            pack_u32(draft.shard_crcs),
            pack_slots(slots),
            sum(slot.state != SlotState.GOOD for slot in slots),
            int(under_spread(tx, coding, profile, slots)),
        ),
    )
    list_on_disks(tx, row, slots)
    count_slots(tx, slots, draft.shard_bytes)
    tx.meta.add("total_stripes", 1)
    tx.meta.add("total_stored_bytes", draft.shard_bytes * coding.shard_count)
    return row


def under_spread(tx: Transaction, coding: Coding, profile: Profile, slots: Sequence[Slot]) -> bool:
    """SAFETY rule 8: replicas, or several shards on a node, are spread again later."""
    disks = tx.disks()
    nodes = {disks[slot.disk].node for slot in slots if slot.disk in disks}
    return coding != reed_solomon(profile) or len(nodes) < coding.shard_count
