"""An older state of a disk is compared with the catalog and readmitted (SAFETY rule 15).

What holds at the grant: every good slot there was found there under this very claim. Rows
named before the claim were compared one by one; what is named, moved or marked while it stands
does not become good there. A claim ends with any grant of the disk, and does not stand while
the disk belongs to another daemon that is not lost.
"""

from dataclasses import dataclass

from osscore.errors import CommandTooLarge, Conflict, InvalidArgument, NoSuchNode
from raftmeta.catalog.apply_nodes import to_bad
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import DiskGrant, Done, NodeRegistered
from raftmeta.rejoining import ABSENT_AT_ONCE, BeginRejoin, CompareSlots, FinishRejoin

EPOCH_LEAP = 1_000_000
"""An original that comes back must stay below: it raises its epoch by one with each attempt to
register of which it does not know the outcome."""
_CLAIM_BYTES = 16


@dataclass(frozen=True, slots=True)
class _Claim:
    """A row of rejoins beside its disk's."""

    uuid: bytes
    node: str
    url: str
    epoch: int
    after_row: int
    upto_row: int


def begin_rejoin(tx: Transaction, command: BeginRejoin) -> Done:
    """Claim the comparison. Refuses NoSuchNode, Conflict, InvalidArgument."""
    if len(command.claim) != _CLAIM_BYTES:
        raise InvalidArgument(f"A claim has {_CLAIM_BYTES} bytes.")
    _require_generation(tx, command.generation)
    found = tx.db.execute(
        "SELECT disk, epoch FROM disks WHERE uuid = ?", (command.uuid,)
    ).fetchone()
    if found is None:
        raise NoSuchNode("The catalog does not know the disk.")
    disk, epoch = found
    if command.epoch >= epoch:
        raise Conflict("The disk is no older state of itself: its daemon must register it again.")
    _require_owner(tx, disk, command.node, command.url)
    tx.db.execute(
        "INSERT OR REPLACE INTO rejoins (disk, claim, node, url, epoch, after_row, upto_row,"
        " slot_count, begun_at_ms) VALUES (?, ?, ?, ?, ?, 0, ?, 0, ?)",
        (
            disk,
            command.claim,
            command.node,
            command.url,
            epoch,
            tx.meta.number("next_stripe_row") - 1,
            tx.time_ms,
        ),
    )
    tx.forget_disks()
    return Done()


def compare_slots(tx: Transaction, command: CompareSlots) -> Done:
    """Take note of a page. Refuses CommandTooLarge, Conflict."""
    if len(command.absent) > ABSENT_AT_ONCE:
        raise CommandTooLarge(f"At most {ABSENT_AT_ONCE} shards are absent at once.")
    claim = _standing(tx, command.disk, command.claim, command.generation)
    if command.after_row != claim.after_row or command.through_row < command.after_row:
        raise Conflict(f"The last page ended at row {claim.after_row}.")
    for identity in command.absent:
        to_bad(tx, identity, command.disk)
    tx.db.execute(
        "UPDATE rejoins SET after_row = ?, slot_count = slot_count + ? WHERE disk = ?",
        (command.through_row, command.slot_count, command.disk),
    )
    return Done()


def finish_rejoin(tx: Transaction, command: FinishRejoin) -> NodeRegistered:
    """Grant the epoch. Refuses Conflict."""
    claim = _standing(tx, command.disk, command.claim, command.generation)
    left = tx.db.execute(
        "SELECT 1 FROM slots_by_disk WHERE disk = ? AND stripe_row > ? AND stripe_row <= ? LIMIT 1",
        (command.disk, claim.after_row, claim.upto_row),
    ).fetchone()
    if left is not None:
        raise Conflict("Not all slots of the disk were compared.")
    epoch = claim.epoch + EPOCH_LEAP
    # Lost was the original: left so, it might claim what is this daemon's from here on.
    tx.db.execute(
        "UPDATE disks SET node = ?, url = ?, epoch = ?, sure_from_ms = ?, state = CASE"
        " WHEN state != 'lost' THEN state WHEN drains THEN 'draining' ELSE 'in' END WHERE disk = ?",
        (claim.node, claim.url, epoch, tx.time_ms, command.disk),
    )
    tx.db.execute("DELETE FROM rejoins WHERE disk = ?", (command.disk,))
    # What another state of it was found to hold says nothing of this one (SAFETY rule 16).
    tx.db.execute("DELETE FROM censuses WHERE disk = ?", (command.disk,))
    tx.forget_disks()
    grant = DiskGrant(uuid=claim.uuid, disk=command.disk, epoch=epoch)
    return NodeRegistered(granted=(grant,), refused={})


def _standing(tx: Transaction, disk: int, token: bytes, generation: int) -> _Claim:
    """The claim, if it still is the disk's. Raises Conflict."""
    _require_generation(tx, generation)
    found = tx.db.execute(
        "SELECT d.uuid, r.node, r.url, r.epoch, r.after_row, r.upto_row FROM rejoins r"
        " JOIN disks d ON d.disk = r.disk WHERE r.disk = ? AND r.claim = ? AND r.epoch = d.epoch",
        (disk, token),
    ).fetchone()
    if found is None:
        raise Conflict("The claim to compare the disk no longer stands.")
    claim = _Claim(*found)
    _require_owner(tx, disk, claim.node, claim.url)
    return claim


def _require_owner(tx: Transaction, disk: int, node: str, url: str) -> None:
    """Raises Conflict where another than this daemon may be serving the disk."""
    (state, *owner) = tx.db.execute(
        "SELECT state, node, url FROM disks WHERE disk = ?", (disk,)
    ).fetchone()
    if state == "removed":
        raise Conflict("The disk was removed from the cluster.")
    if owner != [node, url] and state != "lost":
        raise Conflict(
            f"The disk belongs to {owner[0]} at {owner[1]}, which is not judged lost: empty this"
            " folder to use it as a new disk."
        )


def _require_generation(tx: Transaction, generation: int) -> None:
    now = tx.meta.number("generation")
    if generation != now:
        raise Conflict(f"The catalog's generation is {now}, not {generation}.")
