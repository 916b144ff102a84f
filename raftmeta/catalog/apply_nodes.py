"""Nodes, disks and the state of single slots (SAFETY rules 9, 11, 15)."""

from collections import Counter
from collections.abc import Callable

from osscore.errors import Conflict, InvalidArgument, NoSuchNode, NotReady
from osscore.model import (
    Coding,
    CodingKind,
    ShardIdentity,
    Slot,
    SlotState,
    pack_slots,
    unpack_slots,
)
from raftmeta.catalog import stripes
from raftmeta.catalog.apply_moves import is_target
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import (
    DiskGrant,
    DiskReport,
    Done,
    MarkBad,
    MarkGood,
    NodeRegistered,
    RegisterNode,
    SetDiskState,
)

DISK_STATES = ("in", "draining", "lost", "removed")
_DISKS_MAX = 256


def register_node(tx: Transaction, command: RegisterNode) -> NodeRegistered:
    """Store a node and judge its disks. Refuses NotReady, InvalidArgument.

    A disk of another cluster, behind its epoch, removed, or listed twice is not granted.
    """
    if not command.node or len(command.disks) > _DISKS_MAX:
        raise InvalidArgument(f"A node has a name and at most {_DISKS_MAX} disks.")
    if not tx.meta.blob("cluster_id"):
        raise NotReady("The cluster is not formed yet.")
    if command.cluster_id != tx.meta.blob("cluster_id"):
        reason = "The disk belongs to another cluster."
        return NodeRegistered(granted=(), refused={d.uuid.hex(): reason for d in command.disks})
    tx.db.execute(
        "INSERT OR REPLACE INTO nodes (node, url, zone, registered_at_ms) VALUES (?, ?, ?, ?)",
        (command.node, command.url, command.zone, tx.time_ms),
    )
    times_listed = Counter(report.uuid for report in command.disks)
    granted, refused = [], {}
    for report in command.disks:
        if times_listed[report.uuid] > 1:
            refused[report.uuid.hex()] = "Two data folders carry this disk's uuid: one is a copy."
            continue
        outcome = _grant(tx, command.node, command.url, report)
        if isinstance(outcome, DiskGrant):
            granted.append(outcome)
        else:
            refused[report.uuid.hex()] = outcome
    tx.forget_disks()
    return NodeRegistered(granted=tuple(granted), refused=refused)


def set_disk_state(tx: Transaction, command: SetDiskState) -> Done:
    """Change a disk's state. Refuses NoSuchNode, InvalidArgument, Conflict.

    'removed' is final and needs a disk without slots. Slots are not rewritten when a disk
    is lost: whoever judges a slot looks at its disk too (SAFETY rule 9).
    """
    if command.state not in DISK_STATES:
        raise InvalidArgument(f"A disk is {', '.join(DISK_STATES)}; not {command.state[:20]!r}.")
    disk = tx.disks().get(command.disk)
    if disk is None:
        raise NoSuchNode(f"There is no disk {command.disk}.")
    if disk.state == "removed" and command.state != "removed":
        raise Conflict("The disk was removed; format its folder to use it again.")
    if command.state == "removed" and _has_slots(tx, command.disk):
        count, size_bytes = tx.meta.slots_on(command.disk)
        raise Conflict(
            f"{count} shards of {size_bytes} bytes are on disk {command.disk} still: drain it"
            " first. Those of deleted objects go after the collection grace."
        )
    if command.state == "removed" and is_target(tx, command.disk):
        raise Conflict("Shards are being written to the disk: try again in a moment.")
    # Whether it drains outlives its being lost.
    tx.db.execute(
        "UPDATE disks SET state = ?1, drains = CASE ?1 WHEN 'draining' THEN 1"
        " WHEN 'lost' THEN drains ELSE 0 END WHERE disk = ?2",
        (command.state, command.disk),
    )
    tx.db.execute("DELETE FROM rejoins WHERE disk = ?", (command.disk,))
    tx.forget_disks()
    return Done()


def mark_bad(tx: Transaction, command: MarkBad) -> Done:
    """A GOOD slot of exactly (index, gen, disk) becomes BAD; anything else is left alone."""
    return _mark(tx, command.identity, command.disk, _to_bad)


def mark_good(tx: Transaction, command: MarkGood) -> Done:
    """A MISSING or BAD slot of exactly (index, gen, disk) becomes GOOD; none of a disk that is
    compared: who says so may be another state of it (SAFETY rule 15)."""
    disk = tx.disks().get(command.disk)
    if disk is not None and disk.is_compared:
        return Done()
    return _mark(tx, command.identity, command.disk, _to_good)


def to_bad(tx: Transaction, identity: ShardIdentity, disk: int) -> None:
    """A GOOD slot of exactly (index, gen, disk) becomes BAD."""
    _mark(tx, identity, disk, _to_bad)


def _to_bad(state: SlotState) -> SlotState:
    return SlotState.BAD if state == SlotState.GOOD else state


def _to_good(_: SlotState) -> SlotState:
    return SlotState.GOOD


def _mark(
    tx: Transaction,
    identity: ShardIdentity,
    disk: int,
    change: Callable[[SlotState], SlotState],
) -> Done:
    found = tx.db.execute(
        "SELECT row, coding_kind, coding_data, coding_parity, slots FROM stripes"
        " WHERE stripe = ? AND dead_since_ms IS NULL",
        (identity.stripe,),
    ).fetchone()
    if found is None:
        return Done()
    row, kind, data_count, parity_count, packed = found
    before = unpack_slots(packed)
    exact = (identity.index, identity.gen, disk)
    after = [
        Slot(s.index, s.gen, s.disk, change(s.state)) if (s.index, s.gen, s.disk) == exact else s
        for s in before
    ]
    if tuple(after) == before:
        return Done()
    tx.db.execute(
        "UPDATE stripes SET slots = ?, missing_count = ? WHERE row = ?",
        (pack_slots(after), sum(s.state != SlotState.GOOD for s in after), row),
    )
    if stripes.healthy(tx, Coding(CodingKind(kind), data_count, parity_count), after):
        stripes.offer_if_free(tx, row)
    else:
        stripes.withdraw(tx, row)
    return Done()


def _grant(tx: Transaction, node: str, url: str, report: DiskReport) -> DiskGrant | str:
    """The disk's number and next epoch, or why it stays read-only.

    A reported epoch above ours is one the daemon noted before a grant it never saw, or one
    of a catalog restored since: the disk is ahead, not rolled back.
    """
    found = tx.db.execute(
        "SELECT disk, state, epoch, drains, sure_from_ms FROM disks WHERE uuid = ?", (report.uuid,)
    ).fetchone()
    disk, state, epoch, drains, sure_from_ms = found or (0, "in", 0, 0, 0)
    if state == "removed":
        return "The disk was removed from the cluster."
    if report.epoch < epoch:
        return f"The disk is an older copy: epoch {report.epoch}, the catalog has {epoch}."
    new_epoch = report.epoch + 1
    if not disk:
        disk = tx.meta.take("next_disk")
    tx.db.execute(
        "INSERT OR REPLACE INTO disks (disk, uuid, node, url, state, epoch, capacity_bytes,"
        " drains, sure_from_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            disk,
            report.uuid,
            node,
            url,
            state,
            new_epoch,
            report.capacity_bytes,
            drains,
            sure_from_ms,
        ),
    )
    tx.db.execute("DELETE FROM rejoins WHERE disk = ?", (disk,))  # the newest state is back
    return DiskGrant(uuid=report.uuid, disk=disk, epoch=new_epoch)


def _has_slots(tx: Transaction, disk: int) -> bool:
    found = tx.db.execute("SELECT 1 FROM slots_by_disk WHERE disk = ? LIMIT 1", (disk,))
    return found.fetchone() is not None
