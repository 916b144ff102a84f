"""A stripe takes another coding, all at once, and keeps its row (SAFETY rules 1, 3, 7, 8, 18).

What refers to a stripe names its row, so whoever shares it is served from the new shards from
here on, and one command of a bounded size suffices however many they are. The new coding lies
under an id that was never named before: no reader of the former manifest can mistake a shard of
the one for a shard of the other, and finds its own until their time in trash has passed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from osscore.errors import CommandTooLarge
from osscore.model import (
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
from osscore.quorum import losses_survived
from raftmeta.catalog import apply_moves, sharing, stripes
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import Done
from raftmeta.reencoding import (
    REPLICAS,
    RUNNING,
    TASKS_AT_ONCE,
    CloseReencodes,
    OpenReencodes,
    Reencode,
    Reencoded,
    ReencodeDraft,
    ReencodesOpened,
)


@dataclass(frozen=True, slots=True)
class _Wish:
    """That the stripe of `row` be encoded for `profile`."""

    row: int
    job: int
    profile: Profile


@dataclass(frozen=True, slots=True)
class _Former:
    """A living stripe as it is before."""

    row: int
    stripe: bytes
    profile: Profile
    coding: Coding
    shard_bytes: int
    slots: tuple[Slot, ...]
    plain: tuple[object, ...]
    """What no coding changes, in the order of `_plain_of`."""
    plain_bytes: int


def open_reencodes(tx: Transaction, command: OpenReencodes) -> ReencodesOpened:
    """Open what fits. Refuses CommandTooLarge."""
    if len(command.tasks) > TASKS_AT_ONCE:
        raise CommandTooLarge(f"At most {TASKS_AT_ONCE} tasks are opened at once.")
    return ReencodesOpened(opened=sum(_open(tx, draft) for draft in command.tasks))


def close_reencodes(tx: Transaction, command: CloseReencodes) -> Done:
    """Give tasks up. Refuses CommandTooLarge."""
    if len(command.tasks) > TASKS_AT_ONCE:
        raise CommandTooLarge(f"At most {TASKS_AT_ONCE} tasks are closed at once.")
    for task in command.tasks:
        tx.db.execute("DELETE FROM reencode_tasks WHERE task = ?", (task,))
    return Done()


def close_reencode_of(tx: Transaction, row: int) -> int:
    """Give up the task of a stripe that is about to be forgotten; answers how many."""
    return tx.db.execute("DELETE FROM reencode_tasks WHERE stripe_row = ?", (row,)).rowcount


def reencode(tx: Transaction, command: Reencode) -> Reencoded:
    """End a task whose shards are stored. Refuses InvalidArgument, Conflict, StaleStripe."""
    draft = command.draft
    stripes.check_new(tx, draft)
    wish = _take(tx, command.task)
    former = _living(tx, wish.row) if wish else None
    slots = stripes.settle_slots(tx, draft)
    why = "The task was closed."
    if wish is not None:
        why = "The stripe is dead." if former is None else _obstacle(tx, wish, former, draft, slots)
    if wish is None or former is None or why:
        # Missing ones, too: a shard may arrive after its writer stopped waiting.
        stripes.trash_shards(tx, draft.stripe, slots)
        stripes.spend(tx, draft.stripe)
        return Reencoded(done=False, why=why)
    _swap(tx, former, draft, slots)
    _count(tx, wish.job, former.plain_bytes)
    return Reencoded(done=True)


def _open(tx: Transaction, draft: ReencodeDraft) -> bool:
    former = _living(tx, draft.row)
    worker = tx.disks().get(draft.worker)
    is_open = tx.db.execute(
        "SELECT 1 FROM reencode_tasks WHERE stripe_row = ?", (draft.row,)
    ).fetchone()
    if former is None or former.stripe != draft.stripe or is_open:
        return False
    if worker is None or worker.state != "in":
        return False
    wish = _Wish(draft.row, draft.job, draft.profile)
    if _why_not(tx, wish, former):
        return False
    tx.db.execute(
        "INSERT INTO reencode_tasks (task, stripe_row, worker, job, profile_data,"
        " profile_parity, opened_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            tx.meta.take("next_task"),
            draft.row,
            draft.worker,
            draft.job,
            draft.profile.data_count,
            draft.profile.parity_count,
            tx.time_ms,
        ),
    )
    return True


def _obstacle(
    tx: Transaction, wish: _Wish, former: _Former, draft: StripeDraft, slots: list[Slot]
) -> str:
    """Why the stripe must not take this coding; empty: nothing is in the way."""
    if draft.profile != wish.profile or draft.coding != reed_solomon(wish.profile):
        return "It was encoded for another profile."
    if former.plain != _plain_of(draft):
        return "These are other bytes."
    if any(slot.state is not SlotState.GOOD for slot in slots):
        return "A shard is missing."
    if not stripes.healthy(tx, draft.coding, slots):
        return "One node would hold too many shards."
    survives = _losses_survived(tx, draft.coding, slots)
    if survives < min(_losses_survived(tx, former.coding, former.slots), wish.profile.parity_count):
        return "The stripe would survive less than now."
    return _why_not(tx, wish, former)


def _why_not(tx: Transaction, wish: _Wish, former: _Former) -> str:
    """Why it is not wanted, whatever becomes of its shards; empty: it is."""
    if former.coding == reed_solomon(wish.profile):
        return "The stripe has this coding."
    if wish.job == REPLICAS:
        is_replica = former.coding.kind is CodingKind.REPLICA
        return "" if is_replica and wish.profile == former.profile else "It is not replicas."
    found = tx.db.execute(
        "SELECT profile_data, profile_parity FROM reencode_jobs WHERE job = ? AND state = ?",
        (wish.job, RUNNING),
    ).fetchone()
    if found is None or Profile(*found) != wish.profile:
        return "The job has ended."
    if former.profile.asks_more_than(wish.profile) and sharing.others_ask_for_more(
        tx.db, wish.row, wish.profile
    ):
        return "Others who share the stripe ask for more."
    return ""


def _losses_survived(tx: Transaction, coding: Coding, slots: Iterable[Slot]) -> int:
    """How many nodes may be lost."""
    disks = tx.disks()
    durable = [
        (slot.index, disks[slot.disk].node)
        for slot in slots
        if slot.state is SlotState.GOOD and slot.disk in disks and disks[slot.disk].usable
    ]
    return losses_survived(coding, durable)


def _swap(tx: Transaction, former: _Former, draft: StripeDraft, slots: list[Slot]) -> None:
    apply_moves.close_tasks_of(tx, former.row)  # they know it by its former id
    delay_ms = min(apply_moves.READERS_MS, tx.meta.number("gc_grace_ms"))
    stripes.trash_shards(tx, former.stripe, former.slots, delay_ms=delay_ms)
    stripes.spend(tx, former.stripe)
    coding, profile = draft.coding, draft.profile
    tx.db.execute(
        "UPDATE stripes SET stripe = ?, profile_data = ?, profile_parity = ?, coding_kind = ?,"
        " coding_data = ?, coding_parity = ?, shard_bytes = ?, shard_crcs = ?, slots = ?,"
        " missing_count = 0, under_spread = ?, offered = 0 WHERE row = ?",
        (
            draft.stripe,
            profile.data_count,
            profile.parity_count,
            int(coding.kind),
            coding.data_count,
            coding.parity_count,
            draft.shard_bytes,
            stripes.pack_u32(draft.shard_crcs),
            pack_slots(slots),
            int(stripes.under_spread(tx, coding, profile, slots)),
            former.row,
        ),
    )
    stripes.unlist(tx, former.row, former.slots)
    stripes.list_on_disks(tx, former.row, slots)
    stripes.count_slots(tx, former.slots, former.shard_bytes, is_gone=True)
    stripes.count_slots(tx, slots, draft.shard_bytes)
    stored_bytes = draft.shard_bytes * len(slots) - former.shard_bytes * len(former.slots)
    tx.meta.add("total_stored_bytes", stored_bytes)
    # Where another stripe of these bytes and this profile is offered, both stay.
    stripes.offer_if_free(tx, former.row)


def _count(tx: Transaction, job: int, size_bytes: int) -> None:
    tx.meta.add("reencoded_stripes", 1)
    tx.meta.add("reencoded_bytes", size_bytes)
    tx.db.execute(
        "UPDATE reencode_jobs SET stripes = stripes + 1, size_bytes = size_bytes + ? WHERE job = ?",
        (size_bytes, job),
    )


def _take(tx: Transaction, task: int) -> _Wish | None:
    """An open task, which ends."""
    found = tx.db.execute(
        "SELECT stripe_row, job, profile_data, profile_parity FROM reencode_tasks WHERE task = ?",
        (task,),
    ).fetchone()
    if found is None:
        return None
    tx.db.execute("DELETE FROM reencode_tasks WHERE task = ?", (task,))
    row, job, data_count, parity_count = found
    return _Wish(row, job, Profile(data_count, parity_count))


def _plain_of(draft: StripeDraft) -> tuple[object, ...]:
    return (
        draft.domain,
        draft.digest,
        draft.plain_bytes,
        draft.stored_bytes,
        draft.stored_crc,
        stripes.pack_u32(draft.frames),
    )


def _living(tx: Transaction, row: int) -> _Former | None:
    found = tx.db.execute(
        "SELECT stripe, profile_data, profile_parity, coding_kind, coding_data, coding_parity,"
        " shard_bytes, slots, domain, digest, plain_bytes, stored_bytes, stored_crc, frames"
        " FROM stripes WHERE row = ? AND dead_since_ms IS NULL",
        (row,),
    ).fetchone()
    if found is None:
        return None
    stripe, profile_data, profile_parity, kind, data_count, parity_count = found[:6]
    shard_bytes, packed, *plain = found[6:]
    return _Former(
        row=row,
        stripe=stripe,
        profile=Profile(profile_data, profile_parity),
        coding=Coding(CodingKind(kind), data_count, parity_count),
        shard_bytes=shard_bytes,
        slots=unpack_slots(packed),
        plain=tuple(plain),
        plain_bytes=plain[2],
    )
